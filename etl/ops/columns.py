"""Ops on columns as such: their type, and their being side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, field_validator

from etl.errors import TransformError
from etl.ops.base import Params, RowStep
from etl.ops.casting import CASTS
from etl.tensors import stack
from etl.types import ColumnType, TypeName

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["Assemble", "Cast", "CastParams", "ColumnStep"]


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
        return (ColumnType("vector", sum(found.width for found in types)),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """As a tensor is made."""
        return (stack(frame, self.inputs, np.dtype(np.float32)),)


class CastParams(Params):
    """To which type, and what happens to a value that is none of it."""

    to: TypeName = Field(description="A scalar type.")
    on_error: Literal["as_missing", "reject", "fail"] = Field(
        default="reject", description="Missing, the row is quarantined, or the run fails."
    )

    @field_validator("to")
    @classmethod
    def _is_a_scalar(cls, to: ColumnType) -> ColumnType:
        if to.kind == "vector":
            message = "is a scalar type; vectors are made by assemble"
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
            message = f"makes of {found} only {', '.join(targets) or 'nothing'}, found to: {to}"
            raise ValueError(message)
        return (to,)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """By whole columns; a failed value is missing in the result whatever happens to its row."""
        name = self.inputs[0]
        column, failed = CASTS[frame.kind(name), self.params.to.kind](frame, name)
        if failed.any():
            self._treat(frame, failed, f"{pointer}/params/on_error")
        return (column,)

    def _treat(self, frame: Frame, failed: npt.NDArray[np.bool_], pointer: str) -> None:
        message = f"{self.inputs[0]} has a value that is no {self.params.to}"
        if self.params.on_error == "reject":
            frame.reject(failed, code="NOT_CASTABLE", pointer=pointer, column=self.inputs[0], message=message)
        elif self.params.on_error == "fail":
            rows = failed & ~frame.gone
            if rows.any():
                found: Any = f"in {rows.sum()} rows of the batch, the first at {np.argmax(rows)}"
                message = f"{pointer}: step {self.id!r}: column {message} {found}; the spec says fail."
                raise TransformError(message)


ColumnStep: TypeAlias = Assemble | Cast
