"""Conditions on rows, for `filter`, `if` and expectations: a closed grammar, each condition a mapping of one key.

A condition is true or false for every row, never unknown: a comparison with a missing value is false, `not` of it is
true. Numbers compare as numbers, exactly (integers too); texts by their UTF-8 bytes; dates and timestamps with a text
such as `2024-02-01` or `2024-02-01T00:00:00Z`. NaN, missing or a value, compares as false with everything.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag

from etl.documents import Strict
from etl.errors import Misfit
from etl.format.problems import Problem, listed, nearest
from etl.ops.base import ColumnName
from etl.ops.comparing import (
    Literal_,
    Operator,
    compare,
    compare_columns,
    comparison_misfit,
    is_ordered,
    listing,
    literal_misfit,
    positions,
)
from etl.patterns import Pattern, matches
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from etl.frame import Frame
    from etl.types import Schema

__all__ = ["AnyCondition", "Condition", "Literal_", "Operator", "need_fitting"]


_COMPARISON = BeforeValidator(listing("column", "operator", "value"))
_COMPARISON_OF_COLUMNS = BeforeValidator(listing("column", "operator", "column"))
_INTERVAL = BeforeValidator(listing("column", "lowest", "highest"))
_MEMBERSHIP = BeforeValidator(listing("column", "[values]"))
_MATCH = BeforeValidator(listing("column", "pattern"))


class Condition(Strict):
    """One condition."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads, each once, in the order in which they stand."""

    @abstractmethod
    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """Whether it is true, for each row; shape (rows,). Not to be written to."""

    @abstractmethod
    def problems(self, schema: Schema) -> list[Problem]:
        """What does not fit the columns and their types, with pointers from the condition on."""


class _OfOne(Condition):
    """A condition on one column."""

    place: ClassVar[str]
    """Where the column's name stands, from the condition on."""

    @property
    @abstractmethod
    def column(self) -> str:
        """The column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def problems(self, schema: Schema) -> list[Problem]:
        """The column is there and has a type that fits."""
        if self.column not in schema:
            return [_absent(self.place, self.column, schema)]
        return [
            Problem(place, f"column {self.column!r} {problem}.") for place, problem in self.misfits(schema[self.column])
        ]

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """Why the column's type does not fit, each behind the place of what does not."""
        return () if found.is_scalar else ((self.place, f"is {found}, and a condition takes scalars"),)


class All(Condition):
    """True where every part is; of no parts, everywhere."""

    all: tuple[AnyCondition, ...] = Field(description="The parts.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.all for name in part.columns))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By and."""
        mask = np.ones(frame.rows, dtype=bool)
        for part in self.all:
            mask &= part.holds(frame)
        return mask

    def problems(self, schema: Schema) -> list[Problem]:
        """Those of the parts."""
        return _problems_within(self.all, "/all", schema)


class AnyOf(Condition):
    """True where a part is; of no parts, nowhere."""

    any: tuple[AnyCondition, ...] = Field(description="The parts.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.any for name in part.columns))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By or."""
        mask = np.zeros(frame.rows, dtype=bool)
        for part in self.any:
            mask |= part.holds(frame)
        return mask

    def problems(self, schema: Schema) -> list[Problem]:
        """Those of the parts."""
        return _problems_within(self.any, "/any", schema)


class Not(Condition):
    """True where its part is false, and so where a comparison has a missing value."""

    negated: AnyCondition = Field(alias="not", description="The part.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the part."""
        return self.negated.columns

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """The opposite."""
        return ~self.negated.holds(frame)

    def problems(self, schema: Schema) -> list[Problem]:
        """Those of the part."""
        return _below("/not", self.negated.problems(schema))


class Compare(_OfOne):
    """`[column, operator, value]`; false where the column is missing or NaN, for `!=` too."""

    cmp: Annotated[tuple[ColumnName, Operator, Literal_], _COMPARISON] = Field(description="Column, operator, value.")
    place = "/cmp/0"

    @property
    def column(self) -> str:
        """The column."""
        return self.cmp[0]

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """The value is one of the column's type, and bools and vectors have no order."""
        _, operator, value = self.cmp
        if not found.is_scalar:
            yield from super().misfits(found)
        elif problem := literal_misfit(found, value):
            yield "/cmp/2", problem
        elif found.kind == "bool" and operator[0] in "<>":
            yield "/cmp/1", f"is bool and has no order, found {operator}"

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By whole columns."""
        name, operator, value = self.cmp
        return compare(frame, name, operator, value=value)


class CompareColumns(Condition):
    """`[column, operator, column]` of two numbers (a bool is 0 or 1), two texts, or dates and timestamps (a date is its
    midnight); false where either is missing or NaN, for `!=` too.
    """  # noqa: D205  the semantics are one sentence

    cmp_columns: Annotated[tuple[ColumnName, Operator, ColumnName], _COMPARISON_OF_COLUMNS] = Field(
        description="Column, operator, column."
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return tuple(dict.fromkeys((self.cmp_columns[0], self.cmp_columns[2])))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By whole columns."""
        left, operator, right = self.cmp_columns
        return compare_columns(frame, left, operator, right=right)

    def problems(self, schema: Schema) -> list[Problem]:
        """Both are there and of one kind."""
        left, _, right = self.cmp_columns
        places = (("/cmp_columns/0", left), ("/cmp_columns/2", right))
        found = [_absent(place, name, schema) for place, name in places if name not in schema]
        misfit = None if found else comparison_misfit(schema[left], schema[right])
        return [Problem("/cmp_columns", f"cmp_columns {misfit}.")] if misfit else found


class Between(_OfOne):
    """`[column, lowest, highest]`, both included; false where the column is missing or NaN."""

    between: Annotated[tuple[ColumnName, Literal_, Literal_], _INTERVAL] = Field(description="Column, lowest, highest.")
    place = "/between/0"

    @property
    def column(self) -> str:
        """The column."""
        return self.between[0]

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """Both edges are values of the column's type, which has an order, and not the wrong way round."""
        _, low, high = self.between
        if not found.is_scalar:
            return super().misfits(found)
        if problems := _literal_misfits(found, (low, high), "/between", first=1):
            return problems
        if found.kind == "bool":
            return ((self.place, "is bool and has no order"),)
        is_fitting = is_ordered(found, low, high)
        return () if is_fitting else (("/between", f"is never between {low!r:.30} and {high!r:.30}"),)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """Two comparisons."""
        name, low, high = self.between
        return compare(frame, name, ">=", value=low) & compare(frame, name, "<=", value=high)


class In(_OfOne):
    """`[column, [values]]`; false where the column is missing."""

    in_: Annotated[tuple[ColumnName, tuple[Literal_, ...]], _MEMBERSHIP] = Field(
        alias="in", description="Column, values."
    )
    place = "/in/0"

    @property
    def column(self) -> str:
        """The column."""
        return self.in_[0]

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """The values are of the column's type."""
        return _literal_misfits(found, self.in_[1], "/in/1") if found.is_scalar else super().misfits(found)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By a hash table for texts, else by sorting."""
        return positions(frame, *self.in_) >= 0


class IsNull(_OfOne):
    """True where the column is missing: null, or NaN of a float unless NaN is a value of its field."""

    is_null: ColumnName = Field(description="Column.")
    place = "/is_null"

    @property
    def column(self) -> str:
        """The column."""
        return self.is_null

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:  # noqa: ARG002  any type has missing values
        """Any column fits."""
        return ()

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """The frame's own mask."""
        return frame.missing(self.is_null)


class IsNan(_OfOne):
    """True where a float column holds NaN, whether that is missing or a value."""

    is_nan: ColumnName = Field(description="Column.")
    place = "/is_nan"

    @property
    def column(self) -> str:
        """The column."""
        return self.is_nan

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """Only floats have NaN."""
        return () if found.is_float else ((self.place, f"is {found}, and is_nan takes floats"),)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """A null is no NaN."""
        column = frame[self.is_nan]
        if isinstance(column, np.ndarray):
            return np.isnan(column)
        return np.asarray(kernels.is_nan(column).fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own


class RegexFullMatch(_OfOne):
    """`[column, pattern]`: true where the whole text matches; false where it is missing."""

    regex_full_match: Annotated[tuple[ColumnName, Pattern], _MATCH] = Field(description="Column, RE2 pattern.")
    place = "/regex_full_match/0"

    @property
    def column(self) -> str:
        """The column."""
        return self.regex_full_match[0]

    def misfits(self, found: ColumnType) -> Iterable[tuple[str, str]]:
        """Only text matches."""
        return () if found.kind == "string" else ((self.place, f"is {found}, and regex_full_match takes string"),)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By RE2."""
        name, pattern = self.regex_full_match
        return matches(frame.arrow(name), pattern)


def need_fitting(condition: Condition, key: str, schema: Schema) -> None:
    """Refuse a condition that does not fit the columns and their types; `key` is that of the parameter.

    Raises:
        Misfit: with every problem, by its place in the step.
    """
    if problems := condition.problems(schema):
        problems = _below(f"/{key}", problems)
        told = listed([f"{problem.pointer}: {problem.message}" for problem in problems])
        misfit = Misfit(f"has a condition that does not fit: {told.removesuffix('.')}")
        misfit.problems = problems
        raise misfit


def _absent(place: str, name: str, schema: Schema) -> Problem:
    return Problem(place, f"column {name!r} is not there.{nearest(name, schema)}", "E-NO-COLUMN")


def _below(place: str, problems: Iterable[Problem]) -> list[Problem]:
    return [problem._replace(pointer=f"{place}{problem.pointer}") for problem in problems]


def _problems_within(parts: Sequence[Condition], key: str, schema: Schema) -> list[Problem]:
    return [found for index, part in enumerate(parts) for found in _below(f"{key}/{index}", part.problems(schema))]


def _literal_misfits(found: ColumnType, values: Sequence[Any], key: str, *, first: int = 0) -> list[tuple[str, str]]:
    """Why values are none of a column's type, each behind its place."""
    pairs = ((f"{key}/{place}", literal_misfit(found, value)) for place, value in enumerate(values, first))
    return [(place, problem) for place, problem in pairs if problem]


def _tag(value: Any) -> str:
    """Which condition a value is meant to be, by its one key; else what stands in place of it, for the error."""
    if isinstance(value, dict):
        keys = " and ".join(value)
        return f"{keys}{_TAG}" if keys in _CONDITIONS else keys.strip()
    return next((f"{key}{_TAG}" for key, kind in _CONDITIONS.items() if isinstance(value, kind)), "")


_TAG = " "
"""Behind each key: pydantic puts the tag into the place of an error, where it must not be taken for a key."""

_CONDITIONS: dict[str, type[Condition]] = {
    "all": All,
    "any": AnyOf,
    "not": Not,
    "cmp": Compare,
    "cmp_columns": CompareColumns,
    "between": Between,
    "in": In,
    "is_null": IsNull,
    "is_nan": IsNan,
    "regex_full_match": RegexFullMatch,
}

AnyCondition = Annotated[
    Annotated[All, Tag(f"all{_TAG}")]
    | Annotated[AnyOf, Tag(f"any{_TAG}")]
    | Annotated[Not, Tag(f"not{_TAG}")]
    | Annotated[Compare, Tag(f"cmp{_TAG}")]
    | Annotated[CompareColumns, Tag(f"cmp_columns{_TAG}")]
    | Annotated[Between, Tag(f"between{_TAG}")]
    | Annotated[In, Tag(f"in{_TAG}")]
    | Annotated[IsNull, Tag(f"is_null{_TAG}")]
    | Annotated[IsNan, Tag(f"is_nan{_TAG}")]
    | Annotated[RegexFullMatch, Tag(f"regex_full_match{_TAG}")],
    Discriminator(_tag),
]
"""Any condition."""

for _kind in (All, AnyOf, Not):
    _kind.model_rebuild()
