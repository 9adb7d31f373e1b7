"""Run a fitted spec over batches: contract, relational steps, row steps, tensors.

Relational steps that run on the whole table are not run here: what they made arrives with the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from etl.arrivals import arrivals, entered, unmatched
from etl.errors import SpecError
from etl.frame import once
from etl.given import as_table
from etl.golden import replay
from etl.ops.filtering import Filter
from etl.ops.lookup import LookupJoin, ReferenceTable
from etl.ops.relations import joins, on_table
from etl.tallies import tally
from etl.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt
    import pyarrow as pa

    from etl.frame import Frame, Rejection
    from etl.runs.receipt import Tally
    from etl.spec import Spec

__all__ = ["Features", "Pipeline", "index_references", "run_relational"]


class Features(NamedTuple):
    """What a batch became."""

    tensors: dict[str, Any]
    """By the name of the model input that they feed: numpy arrays whose first axis is the kept rows, and an
    `etl.ragged.Ragged` of as many of each output that is padded as a model is fed."""
    kept: npt.NDArray[np.int64] | None
    """Positions in the batch that the tensors' rows stand for; None when every row was kept."""
    rejections: list[Rejection]
    """Rows that the contract (pointers below `/input`), a step or an expectation sent to quarantine, each under the
    first rule that it broke."""
    filtered: npt.NDArray[np.int64]
    """Positions that a filter left out: kept rows, rejected ones and these add up to the batch."""
    tallies: dict[str, Tally]
    """Counts of the spec's expectations, by their ids; see `etl.tallies`."""


class Pipeline:
    """A fitted spec with its reference tables indexed; made once per worker."""

    def __init__(self, spec: Spec, references: Mapping[str, Any], *, moved: Collection[str] = ()) -> None:
        """Replay the spec's golden rows, and bind it to its reference tables, by the name each `lookup_join` gives.

        `moved` are ids of joins that were run on the table, because their reference table is too large for a worker.

        Raises:
            SpecError: the spec is not fitted, makes something else of its golden rows, or a reference is not given.
            ContractError: a reference table is not as the spec declares it.
        """
        if not spec.is_fitted:
            message = f"spec {spec.spec_id} is a recipe: run `batchscore fit` to learn its state"
            raise SpecError(message)
        replay(spec)
        self.spec = spec
        self.moved = frozenset(moved)
        self._made = arrivals(spec, moved)
        self._tables = index_references(spec, joins(spec.relational, moved)[1], references)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a batch must have: the fields of the contract, and what steps on the table made."""
        return tuple(dict.fromkeys((*(field.name for field in self.spec.input.fields), *self._made)))

    def contract(self, batch: pa.RecordBatch | pa.Table, where: str) -> Frame:
        """Check the input contract; see `etl.arrivals.entered`."""
        return entered(self.spec.input, self._made, batch, where=where)

    def transform(self, frame: Frame) -> Features:
        """Every step in order, then the tensors of the rows that no rule and no expectation rejected.

        Raises:
            TransformError: a value breaks a step, or a row an expectation, that says `fail`.
        """
        self.run_steps(frame)
        tensors = {
            output.model_input: tensor_of(frame, output, f"/outputs/tensors/{index}")
            for index, output in enumerate(self.spec.outputs.tensors)
        }
        tallies = tally(self.spec.expectations, self.spec.steps, frame)
        if not frame.rejections and frame.filtered is None:
            return Features(tensors, None, [], _NO_ROWS, tallies)
        kept = np.flatnonzero(~frame.gone)
        filtered = _NO_ROWS if frame.filtered is None else np.flatnonzero(frame.filtered)
        rejections = once(frame.rejections, frame.rows)
        return Features({name: tensor[kept] for name, tensor in tensors.items()}, kept, rejections, filtered, tallies)

    def run_steps(self, frame: Frame) -> None:
        """Write every step's columns into the frame."""
        run_relational(self.spec, self._tables, frame, moved=self.moved)
        for index, step in enumerate(self.spec.steps):
            step.run(frame, f"/steps/{index}")


_NO_ROWS = np.empty(0, dtype=np.int64)


def index_references(spec: Spec, which: Collection[str], references: Mapping[str, Any]) -> dict[str, ReferenceTable]:
    """The indexed table of some joins, by the step's id.

    Raises:
        SpecError: a reference is not given.
        ContractError: a reference table is not as the spec declares it.
    """
    tables: dict[str, ReferenceTable] = {}
    for index, step in enumerate(spec.relational):
        if not isinstance(step, LookupJoin) or step.id not in which:
            continue
        name = step.params.reference
        if name not in references:
            place = f"/relational/{index}/params/reference"
            given = f"the job names it under `references`, in Python transform(table, {{{name!r}: …}})"
            message = f"{place}: reference table {name!r} is not given; {given}"
            raise SpecError(message)
        where = f"reference {name!r}"
        tables[step.id] = ReferenceTable.index(step, as_table(references[name], where), where)
    return tables


def run_relational(
    spec: Spec, tables: Mapping[str, ReferenceTable], frame: Frame, *, moved: Collection[str] = ()
) -> None:
    """Join the reference tables of the worker, and filter, in the order of the steps."""
    part = on_table(spec.relational)
    for index, step in enumerate(spec.relational[part:], part):
        pointer = f"/relational/{index}"
        if isinstance(step, Filter):
            step.run(frame, pointer)
        elif isinstance(step, LookupJoin) and step.id not in moved:
            for name, column in zip(step.outputs, step.join(frame, tables[step.id], pointer), strict=True):
                frame[name] = column
        elif isinstance(step, LookupJoin) and step.params.on_no_match == "reject":
            step.reject(frame, frame.arrow(unmatched(step.id)).to_numpy(zero_copy_only=False), pointer)
