"""What a fit says of the rows that taught it: which expectations they do not meet, and which tables they joined.

An expectation is about what the steps make, so it can be looked at only once all is learned: in one more pass. Rows
that break one have taught by then. To keep rows from teaching, put the rule into the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.checks import checked, repeats, without_failing
from etl.errors import TransformError
from etl.expectations import RowExpectation, unique_columns
from etl.given import as_table
from etl.keys import key_column
from etl.ops.lookup import LookupJoin, content_sha256
from etl.runs.receipt import Tally
from etl.tallies import tally
from etl.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from etl.expectations import AnyExpectation
    from etl.frame import Frame
    from etl.spec import Spec

__all__ = ["Found", "countable", "joined_tables", "told"]


class Found:
    """How often expectations were broken by some rows."""

    def __init__(self) -> None:
        """Start empty."""
        self.tallies: dict[str, Tally] = {}
        self.keys: dict[str, list[pa.Table]] = {}
        """Keys of the rows by the id of a `unique`: only where all rows are in memory."""

    def update(self, spec: Spec, expectations: Sequence[AnyExpectation], frame: Frame) -> None:
        """Take in a batch behind the last step of a fitted spec, as `etl.checks.check` counts it."""
        for index, output in enumerate(spec.outputs.tensors):
            tensor_of(frame, output, f"/outputs/tensors/{index}")  # it may reject rows, which then count nowhere
        found = Found()
        found.tallies = tally(tuple(map(without_failing, expectations)), spec.steps, frame)
        kept = pa.array(np.flatnonzero(~frame.gone))
        for name, columns in unique_columns(expectations).items():
            keys = {str(place): key_column(frame, column).take(kept) for place, column in enumerate(columns)}
            found.keys[name] = [pa.table(keys)]
        self.merge(found)

    def merge(self, later: Found) -> None:
        """Take in what was found in rows that come later."""
        for name, found in later.tallies.items():
            self.tallies[name] = self.tallies.get(name, Tally()) + found
        for name, keys in later.keys.items():
            self.keys.setdefault(name, []).extend(keys)


def countable(expectations: Sequence[AnyExpectation], *, in_memory: bool) -> tuple[AnyExpectation, ...]:
    """Those that a fit can count: `unique` only where all rows are in memory."""
    unique: Collection[str] = () if in_memory else unique_columns(expectations)
    return tuple(expectation for expectation in expectations if expectation.id not in unique)


_TAUGHT = "; they taught, too: put the rule into the contract to keep them out"
_UNCOUNTED = "is not counted, for the rows are not in memory; etl.checks.check counts it over a table"


def told(expectations: Sequence[AnyExpectation], found: Found, *, in_memory: bool) -> str:
    """What was found, a line an expectation.

    Raises:
        TransformError: the rows do not meet one of severity `fail`; with all of these.
    """
    tallies = {**found.tallies, **{name: repeats(pa.concat_tables(keys)) for name, keys in found.keys.items()}}
    lines, failed = [], []
    for index, (expectation, result) in enumerate(zip(expectations, checked(expectations, tallies), strict=True)):
        if not in_memory and expectation.id in unique_columns(expectations):
            lines.append(f"expectation {expectation.id!r} {_UNCOUNTED}")
            continue
        taught = _TAUGHT if isinstance(expectation, RowExpectation) and not result.holds else ""
        lines.append(f"{result}{taught}")
        if not result.holds and expectation.severity == "fail":
            failed.append(f"/expectations/{index}: over the training rows, {result}; the spec says fail.")
    if failed:
        raise TransformError("\n".join(failed))
    return "\n".join(lines)


def joined_tables(recipe: Spec, references: Mapping[str, Any]) -> dict[str, str]:
    """The note `references`: the SHA-256 of what each join takes, as `sha256` of the step pins it."""
    lines = []
    for step in recipe.relational:
        if isinstance(step, LookupJoin):
            name = step.params.reference
            table = as_table(references[name], f"reference {name!r}")
            sha256 = step.params.sha256 or content_sha256(step, table, f"reference {name!r}")
            lines.append(f"{name}, by step {step.id!r}: sha256 {sha256}")
    return {"references": "\n".join(lines)} if lines else {}
