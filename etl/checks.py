"""What became of a spec's expectations: over a table, or over the tallies of a job's workers."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from etl.arrivals import check_entry
from etl.documents import Strict
from etl.expectations import BatchExpectation, RowExpectation, RowShare, Unique, unique_columns
from etl.keys import key_column
from etl.pipeline import Pipeline
from etl.relational import behind_table
from etl.runs.receipt import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etl.expectations import AnyExpectation
    from etl.frame import Frame
    from etl.spec import Spec

__all__ = ["Checked", "check", "checked", "repeats", "without_failing"]

_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


class Checked(Strict):
    """One expectation, and what was found."""

    id: str = Field(description="Name of the expectation.")
    what: str = Field(description="What was counted, in words: `null_share of income`, `rows do not meet it`.")
    severity: Literal["warn", "quarantine", "fail"]
    hits: int = Field(ge=0, description="Rows that break a row expectation; what counts in a share, for a share.")
    rows: int = Field(ge=0, description="Rows that were looked at; of oov_share, ids.")
    share: float | None = Field(description="hits ÷ rows; None of no rows.")
    bound: str = Field(description="What hits or share should be: `0 rows`, `<= 0.2`.")
    holds: bool = Field(description="Whether it is so; over no rows it always is.")
    query: str | None = Field(default=None, description="SQL that lists the keys that repeat, for `unique`.")

    def __str__(self) -> str:
        """One sentence without a full stop."""
        found = f"{self.hits:,} of {self.rows:,}"
        if self.bound == _NO_ROWS:
            query = f" (to list them: {self.query})" if self.query and self.hits else ""
            return f"expectation {self.id!r}: {found} {self.what}{query}"
        share = found if self.share is None else f"{self.share:.6g} ({found})"
        verdict = "as it should be" if self.holds else "not"
        return f"expectation {self.id!r}: {self.what} is {share}, {verdict} {self.bound}"


_NO_ROWS = "0 rows"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(spec: Spec, data: Any, references: Mapping[str, pa.Table] | None = None) -> tuple[Checked, ...]:
    """What becomes of every expectation of a fitted spec over an Arrow table or batch, or a pandas frame.

    Nothing fails because an expectation is broken: `holds` tells. Rows that the contract or a step rejects, or that a
    filter leaves out, count in none, and rows that break one of severity `quarantine` in no later one, as in a job.
    Where relational steps run on the whole table, a table or frame is prepared first, and what was prepared is taken as
    it is, as `etl.transforming.transform` does.

    Raises:
        TypeError: the data is of no kind that is known.
        SpecError: the spec is a recipe, or does not mean here what it meant where it was fitted.
        ContractError: the data lacks a column, has one that a step on the table makes and was not prepared, or was
            prepared for another spec; or a value breaks a rule that says `fail`.
        TransformError: a value breaks a step that says `fail`.
    """
    table = behind_table(data, spec, references).table
    check_entry(spec, table.schema, "the table")
    lenient = spec.model_copy(update={"expectations": tuple(map(without_failing, spec.expectations))})
    pipeline = Pipeline(lenient, references or {})
    frame = pipeline.contract(table, "the table")
    tallies = pipeline.transform(frame).tallies
    tallies.update((name, _repeats(frame, columns)) for name, columns in unique_columns(spec.expectations).items())
    return checked(spec.expectations, tallies)


def without_failing(expectation: AnyExpectation) -> AnyExpectation:
    """The same, but that a row that breaks it is only counted where it would end the run."""
    is_fatal = isinstance(expectation, RowExpectation) and expectation.severity == "fail"
    return expectation.model_copy(update={"severity": "warn"}) if is_fatal else expectation


def checked(expectations: Sequence[AnyExpectation], tallies: Mapping[str, Tally]) -> tuple[Checked, ...]:
    """Each expectation beside its tally over all rows; one without a tally met no row that could break it."""
    return tuple(_checked(expectation, tallies.get(expectation.id, Tally())) for expectation in expectations)


def _checked(expectation: AnyExpectation, found: Tally) -> Checked:
    share = found.hits / found.rows if found.rows else None
    what, bound, holds, query = "rows do not meet it", _NO_ROWS, found.hits == 0, None
    if isinstance(expectation, BatchExpectation) and isinstance(expectation.batch, Unique):
        what, query = f"rows repeat {', '.join(expectation.batch.unique)} of another", _query(expectation.batch.unique)
    elif isinstance(expectation, BatchExpectation):
        key = next(iter(type(expectation.batch).model_fields))
        first, *_, symbol, limit = getattr(expectation.batch, key)
        named = "its condition" if isinstance(expectation.batch, RowShare) else first
        what, bound = f"{key} of {named}", f"{symbol} {limit!r}"
        holds = share is None or bool(_COMPARE[symbol](share, limit))
    return Checked(
        id=expectation.id,
        what=what,
        severity=expectation.severity,
        hits=found.hits,
        rows=found.rows,
        share=share,
        bound=bound,
        holds=holds,
        query=query,
    )


def _query(columns: Sequence[str]) -> str:
    """SQL that lists each key that repeats, of a table or view `input`."""
    # Plain names stay plain, because to Spark what stands in double quotes is a text.
    names = ", ".join(name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"' for name in columns)
    return f"SELECT {names}, count(*) FROM input GROUP BY {names} HAVING count(*) > 1"  # noqa: S608  to be read


def _repeats(frame: Frame, names: Sequence[str]) -> Tally:
    """Rows that repeat an earlier one in these columns, of those that are neither rejected nor filtered."""
    kept = np.flatnonzero(~frame.gone)
    return repeats(
        pa.table({str(place): key_column(frame, name).take(pa.array(kept)) for place, name in enumerate(names)})
    )


def repeats(keys: pa.Table) -> Tally:
    """Rows whose key, the values of all columns of `etl.keys.key_column`, is that of an earlier row."""
    distinct = keys.group_by(keys.column_names).aggregate([]).num_rows if keys.num_rows else 0
    return Tally(hits=keys.num_rows - distinct, rows=keys.num_rows)
