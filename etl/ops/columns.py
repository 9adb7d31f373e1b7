"""Ops on columns as such: their names, their type, and their being side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from etl.ops.base import Name, Params, RowStep
from etl.ops.casting import CASTS
from etl.ops.comparing import Literal_, scalar_of, value_misfit
from etl.ops.failures import OnError, treat_failures
from etl.tensors import stack
from etl.types import ColumnType, TypeName, kernels, width_of

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = [
    "Assemble",
    "Cast",
    "CastParams",
    "ColumnStep",
    "Constant",
    "ConstantParams",
    "Copy",
    "Drop",
    "Rename",
    "StructGet",
    "StructGetParams",
]


class Copy(RowStep):
    """The same columns once more, each under the name that stands in its place in `out`: same types, same values. NaN
    of a field with `nan_is_value` stays a value.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["copy"]
    arity = (None, None)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Any types, and as many columns out as in."""
        return _one_for_one(self, types)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """The columns themselves, since none is ever changed."""
        return _under_new_names(self, frame)


class _Forgetting(RowStep):
    """A step behind which the columns that it reads are no part of the schema."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """All that it reads."""
        return self.inputs


class Rename(_Forgetting):
    """The same columns, each under the name that stands in its place in `out`; no later step, tensor or passthrough can
    have them by their old names. NaN of a field with `nan_is_value` stays a value.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["rename"]
    arity = (None, None)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Any types, and as many columns out as in."""
        return _one_for_one(self, types)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """The columns themselves."""
        return _under_new_names(self, frame)


class Drop(_Forgetting):
    """No later step, tensor or passthrough can have the columns. To keep some and drop the rest, name the rest; what no
    tensor and no passthrough names is not handed on anyway.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["drop"]
    outputs: tuple[Name, ...] = Field(default=(), alias="out", max_length=0, description="Empty: no column is made.")
    arity = (None, 0)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:  # noqa: ARG002  any types
        """Nothing is made."""
        return ()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """No column; which are dropped is known from the schema."""
        return ()


class ConstantParams(Params):
    """A value and its type."""

    value: Literal_ = Field(
        description="A number, a text, true or false; a date such as 2024-02-29, a timestamp such as "
        "2024-02-29T23:59:58Z (without a zone: UTC)."
    )
    type: TypeName = Field(description="A scalar type that can hold the value; a float32 is the nearest to it.")

    @model_validator(mode="after")
    def _value_is_of_the_type(self) -> ConstantParams:
        if problem := value_misfit(self.type, self.value):
            message = f"type {problem}"
            raise ValueError(message)
        return self


class Constant(RowStep):
    """The same value in every row."""

    op: Literal["constant"]
    inputs: tuple[Name, ...] = Field(default=(), alias="in", max_length=0, description="Empty: no column is read.")
    params: ConstantParams
    arity = (0, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:  # noqa: ARG002  there are none
        """Nothing in, the type that is named out."""
        return (self.params.type,)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """As ops keep a column that is never missing."""
        kind, value = self.params.type.kind, self.params.value
        if kind in {"float32", "float64", "int64"}:
            return (np.full(frame.rows, value, dtype=kind),)
        return (pa.repeat(scalar_of(kind, value), frame.rows),)


class StructGetParams(Params):
    """Which part of a struct."""

    field: Name = Field(description="Name of the field.")


class StructGet(RowStep):
    """One field of a struct, in its own type: missing where the struct is or the field is, NaN of a float too."""

    op: Literal["struct_get"]
    params: StructGetParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A struct in, the scalar of its field out."""
        fields = dict(types[0].fields)
        if types[0].kind != "struct":
            message = f"takes a struct, found {types[0]}"
            raise ValueError(message)
        if self.params.field not in fields:
            message = f"takes a struct with a field {self.params.field!r:.60}, found {types[0]}"
            raise ValueError(message)
        return (ColumnType(fields[self.params.field]),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By Arrow, which knows where a struct is null."""
        column = frame.arrow(self.inputs[0])
        return (kernels.struct_field(column, column.type.get_field_index(self.params.field)),)


class Assemble(RowStep):
    """The columns side by side as one float32 vector, in their order; each value is rounded once, from float64 to the
    nearest float32, beyond its range to ±inf, and missing is NaN.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["assemble"]
    arity = (None, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Numbers and vectors in, one vector out."""
        for found in types:
            if not (found.is_numeric or found.kind == "vector"):
                message = f"takes numbers and vectors, found {found}"
                raise ValueError(message)
        return (ColumnType("vector", width_of(types)),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """As a tensor is made."""
        return (stack(frame, self.inputs, np.dtype(np.float32)),)


class CastParams(Params):
    """To which type, and what happens to a value that is none of it."""

    to: TypeName = Field(description="A scalar type.")
    on_error: OnError = Field(default="reject", description="Missing, the row is quarantined, or the run fails.")

    @field_validator("to")
    @classmethod
    def _is_a_scalar(cls, to: ColumnType) -> ColumnType:
        if not to.is_scalar:
            message = "is a scalar type; vectors are made by assemble and list_pad"
            raise ValueError(message)
        return to


class Cast(RowStep):
    """The same value in another type, never another value: 1.5 is no integer, 2 no bool, 2^53 + 1 no float64 (but
    float64 → float32 rounds to nearest). Missing stays missing; what has no counterpart goes by `on_error`.

    Text of a number is digits with at most one point, before them a sign and behind them `e`, a sign and digits where
    wanted, within the type's range (an integer with point or `e` is read as float64, and below 2^53 in magnitude); of a
    bool `true` or `false` in any ASCII case, `1` or `0`; of a date `YYYY-MM-DD`, from year 1; of a timestamp a date, or
    a date, `T` or a space, `hh:mm[:ss[.f…]]` and optionally `Z` or `±hh:mm` (without: UTC; digits of a second behind
    the sixth are cut off). Spaces (U+0020) around it do not count.
    A whole number below 2^53 in magnitude becomes text without a point (`3`; −0 is `0`), another finite float the
    shortest text that reads back as the same number of its type.
    A date becomes its midnight, a timestamp its day in UTC, and a timestamp's int64 is µs since 1970, either way.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["cast"]
    params: CastParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Any pair of types that the class names."""
        found, to = types[0], self.params.to
        targets = [target for source, target in CASTS if source == found.kind]
        if to.kind not in targets:
            made = f"makes of {found} only {', '.join(targets)}" if targets else f"makes nothing of {found}"
            message = f"{made}, found to: {to}"
            raise ValueError(message)
        return (to,)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """By whole columns; a failed value is missing in the result whatever happens to its row."""
        name = self.inputs[0]
        column, failed = CASTS[frame.kind(name), self.params.to.kind](frame, name)
        if failed.any():
            treat_failures(
                self,
                frame,
                failed,
                on_error=self.params.on_error,
                code="NOT_CASTABLE",
                pointer=f"{pointer}/params/on_error",
                message=f"{name} has a value that is no {self.params.to}",
            )
        return (column,)


def _one_for_one(step: RowStep, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
    if len(step.outputs) != len(types):
        message = f"takes as many columns in `out` as in `in`, found {len(step.outputs)} and {len(types)}"
        raise ValueError(message)
    return types


def _under_new_names(step: RowStep, frame: Frame) -> tuple[Column, ...]:
    """The columns, with what the frame knows of them."""
    for name, new in zip(step.inputs, step.outputs, strict=True):
        if name in frame.nan_is_value:
            frame.nan_is_value |= {new}
        if name in frame.absent:
            frame.absent[new] = frame.absent[name]
    return tuple(frame[name] for name in step.inputs)


ColumnStep: TypeAlias = Assemble | Cast | Constant | Copy | Drop | Rename | StructGet
