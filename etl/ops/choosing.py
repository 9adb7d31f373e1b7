"""Ops that choose between values of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Discriminator, Field, Tag, model_validator

from etl.documents import Strict
from etl.ops.base import ColumnName, Name, Params, RowStep
from etl.ops.comparing import Literal_, scalar_of, value_misfit
from etl.ops.conditions import AnyCondition, need_fitting
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["AsColumn", "AsLiteral", "ChoosingStep", "Coalesce", "If", "IfParams"]


class AsColumn(Strict):
    """The value of a column."""

    column: ColumnName = Field(description="Its name.")


class AsLiteral(Strict):
    """The same value for every row."""

    as_value: Literal_ = Field(description="A number, a text, true or false; a date or an instant where a column is.")


def _form(value: Any) -> str:
    if isinstance(value, dict):
        return "a column" if "column" in value else "a value"
    return "a column" if isinstance(value, AsColumn) else "a value" if isinstance(value, AsLiteral) else "a word"


Choice = Annotated[
    Annotated[Literal["as_missing"], Tag("a word")]
    | Annotated[AsLiteral, Tag("a value")]
    | Annotated[AsColumn, Tag("a column")],
    Discriminator(_form),
]
"""What a row gets: `as_missing`, `{"as_value": …}` or `{"column": …}`."""


class IfParams(Params):
    """A condition and what it chooses between."""

    condition: AnyCondition = Field(description="True or false for every row; a missing value compares as false.")
    then: Choice = Field(description="What a row gets where the condition is true.")
    otherwise: Choice = Field(alias="else", description="What a row gets where the condition is false.")

    @model_validator(mode="after")
    def _is_something(self) -> IfParams:
        if self.then == self.otherwise == "as_missing":
            message = "then and else are both as_missing, which has no type; one of them is a column or a value"
            raise ValueError(message)
        return self


class If(RowStep):
    """`then` where the condition is true, `else` where it is false: a column, a value, or missing. A missing value of
    the column that is chosen stays missing; the other one has no say.

    The two are of one type, and so is the result; two types of numbers give float64 (and then a row with an integer
    beyond ±2^53 is rejected), as does a number that the column's type cannot hold. Two values alone are bool, string or
    float64. −0.0 and ±inf are handed on; NaN of a float is missing in the result.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["if"]
    inputs: tuple[Name, ...] = Field(default=(), alias="in", max_length=0, description="Empty: see `params`.")
    params: IfParams
    arity = (0, 1)

    @property
    def reads(self) -> tuple[str, ...]:
        """What is chosen between, then what the condition is about."""
        return tuple(dict.fromkeys((*self._columns, *self.params.condition.columns)))

    @property
    def _columns(self) -> list[str]:
        return [choice.column for choice in self._choices if isinstance(choice, AsColumn)]

    @property
    def _choices(self) -> tuple[Choice, Choice]:
        return (self.params.then, self.params.otherwise)

    @property
    def _literals(self) -> list[Any]:
        return [choice.as_value for choice in self._choices if isinstance(choice, AsLiteral)]

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """The type that both have, or float64."""
        schema = dict(zip(self.reads, types, strict=True))
        need_fitting(self.params.condition, "params/condition", schema)
        found = _common([schema[name] for name in self._columns], self._literals)
        if not found.may_be_missing and "as_missing" in self._choices:
            message = f"takes no as_missing beside {found}, which is never missing"
            raise ValueError(message)
        return (found,)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Both sides, then one choice for the whole column."""
        kind = _common([ColumnType(frame.kind(name)) for name in self._columns], self._literals).kind
        then, otherwise = (_side(frame, choice, kind) for choice in self._choices)
        return (_picked(self.params.condition.holds(frame), then, otherwise).written(frame, self.outputs[0]),)


class Coalesce(RowStep):
    """The first of the inputs, in their order, that is not missing; missing where all are. NaN of a field with
    `nan_is_value` is not missing, and so it is chosen, but what is made of it is.

    The inputs are of one type, and so is the result; different types of numbers give float64, and then a row with an
    integer beyond ±2^53 is rejected.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["coalesce"]
    arity = (None, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """The type that all have, or float64."""
        return (_common(types, []),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """From the last to the first, each where it is there."""
        kind = _common([ColumnType(frame.kind(name)) for name in self.inputs], []).kind
        *names, last = self.inputs
        found = _side(frame, AsColumn(column=last), kind)
        for name in reversed(names):
            found = _picked(~frame.missing(name), _side(frame, AsColumn(column=name), kind), found)
        return (found.written(frame, self.outputs[0]),)


_FLOATS = {"float32", "float64"}


class _Side(NamedTuple):
    """What some rows get."""

    values: Any
    """A column, or a scalar for every row; numpy for floats and vectors, else Arrow. None is missing."""
    absent: Any = np.False_
    """Rows of a vector that have none."""

    def written(self, frame: Frame, name: str) -> Column:
        """The column, with what the frame is to know of it."""
        if self.absent.any():
            frame.absent[name] = self.absent
        column: Column = self.values
        return column


def _side(frame: Frame, choice: Choice, kind: str) -> _Side:
    if isinstance(choice, AsLiteral):
        scalar = np.dtype(kind).type(choice.as_value) if kind in _FLOATS else scalar_of(kind, choice.as_value)
        return _Side(scalar)
    if not isinstance(choice, AsColumn):
        return _Side(None, np.True_)
    name = choice.column
    if kind == "vector":
        return _Side(frame[name], frame.absent.get(name, np.False_))
    if kind not in _FLOATS:
        return _Side(frame.arrow(name))
    return _Side(frame.float64(name).astype(kind, copy=False))


def _picked(mask: npt.NDArray[np.bool_], first: _Side, second: _Side) -> _Side:
    """The first where the mask is true, else the second."""
    sides = (first.values, second.values)
    known = sides[1] if sides[0] is None else sides[0]
    if isinstance(known, pa.Array | pa.Scalar):
        nothing = pa.scalar(None, known.type)
        return _Side(kernels.if_else(pa.array(mask), *(nothing if side is None else side for side in sides)))
    if known.ndim <= 1:
        return _Side(np.where(mask, *(known.dtype.type(np.nan) if side is None else side for side in sides)))
    vectors = np.where(mask[:, None], *(known.dtype.type(np.nan) if side is None else side for side in sides))
    return _Side(vectors, np.where(mask, first.absent, second.absent))


def _common(types: Sequence[ColumnType], literals: Sequence[Any]) -> ColumnType:
    """The one type of columns and values, or float64 where they are numbers of several.

    Raises:
        ValueError: they have no type in common.
    """
    found = set(types) or {ColumnType(_LITERALS[type(value)]) for value in literals}
    common = found.pop()
    if found:
        if not all(other.is_numeric and other.kind != "bool" for other in (common, *found)):
            message = f"chooses between values of one type, found {' and '.join(sorted(map(str, (common, *found))))}"
            raise ValueError(message)
        common = ColumnType("float64")
    is_number = common.is_numeric and common.kind != "bool"
    if is_number and any(value_misfit(common, value) for value in literals):
        common = ColumnType("float64")
    for value in literals:
        if problem := value_misfit(common, value):
            message = f"chooses between values of one type: one {problem}"
            raise ValueError(message)
    return common


_LITERALS = {bool: "bool", str: "string", int: "float64", float: "float64"}


ChoosingStep: TypeAlias = Coalesce | If
