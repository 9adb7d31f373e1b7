"""What a contract says of the values of a field, and what happens to one that breaks a rule: PMML's treatments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, FiniteFloat, PlainSerializer, Tag, WrapValidator, model_validator

from etl.documents import Strict
from etl.ops.base import Name
from etl.types import INTEGER_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.types import ColumnType

__all__ = [
    "AsValue",
    "Bound",
    "Closure",
    "Flag",
    "Outlier",
    "OutlierTreatment",
    "Range",
    "Treatment",
    "bound_problem",
    "fits",
]


class AsValue(Strict):
    """Replace the value."""

    as_value: bool | int | FiniteFloat | str = Field(description="A value of the field's type.")


class Flag(Strict):
    """Keep the value, and tell in a column of its own where the rule was broken."""

    flag: Name = Field(
        description="A new bool column, never missing: true where the rule was broken, false elsewhere. A value that "
        "the type cannot hold has no form to be kept in and becomes missing."
    )


def _form(value: Any) -> str:
    """Which kind of treatment a value is meant to be."""
    if isinstance(value, dict):
        return "a column" if "flag" in value else "a value"
    if isinstance(value, Flag):
        return "a column"
    return "a value" if isinstance(value, AsValue) else "a word"


Treatment = Annotated[
    Annotated[Literal["as_is", "as_missing", "reject", "fail"], Tag("a word")]
    | Annotated[AsValue, Tag("a value")]
    | Annotated[Flag, Tag("a column")],
    Discriminator(_form),
]
"""What happens to a value that breaks a rule: kept, made missing, its row quarantined, the run failed, the value
replaced, or kept with a flag."""

OutlierTreatment = Annotated[
    Annotated[Literal["as_is", "as_missing", "as_extreme", "reject", "fail"], Tag("a word")]
    | Annotated[AsValue, Tag("a value")]
    | Annotated[Flag, Tag("a column")],
    Discriminator(_form),
]
"""As `Treatment`; `as_extreme` replaces the value by the bound that it lies beyond."""


def _unrounded(value: Any, read: Callable[[Any], float]) -> float:
    """A float; a whole number that no float64 equals stays an integer."""
    number = read(value)
    return value if isinstance(value, int) and number != value else number


Bound = Annotated[FiniteFloat, WrapValidator(_unrounded), PlainSerializer(lambda bound: bound)]
"""A number that values are compared with, never rounded: an integer where no float64 equals it, else a float."""

Closure = Literal["closed", "open", "open_closed", "closed_open"]
"""Whether the ends of an interval are valid: both, neither, the upper one, the lower one."""


class Range(Strict):
    """Interval of valid numbers."""

    min: Bound | None = Field(default=None, description="Smallest valid number, or with an open end its bound.")
    max: Bound | None = Field(default=None, description="Largest valid number, or with an open end its bound.")
    closure: Closure = Field(
        default="closed",
        description="PMML's closedClosed, openOpen, openClosed (min itself is invalid) or closedOpen (max is).",
    )

    @model_validator(mode="after")
    def _is_an_interval(self) -> Range:
        if self.min is None and self.max is None:
            message = "give min, max or both"
            raise ValueError(message)
        if self.min is not None and self.max is not None:
            if self.min > self.max:
                message = f"min {self.min!r} is above max {self.max!r}"
                raise ValueError(message)
            if self.min == self.max and self.closure != "closed":
                message = f"min {self.min!r} is max, and no number lies in an interval that is {self.closure}"
                raise ValueError(message)
        return self

    @property
    def holds_min(self) -> bool:
        """Whether `min` itself is valid."""
        return self.closure.startswith("closed")

    @property
    def holds_max(self) -> bool:
        """Whether `max` itself is valid."""
        return self.closure.endswith("closed")


class Outlier(Strict):
    """Bounds beyond which a valid number is an outlier; the bounds themselves are none."""

    low: Bound | None = Field(default=None, description="Smaller numbers are outliers.")
    high: Bound | None = Field(default=None, description="Larger numbers are outliers.")

    @model_validator(mode="after")
    def _is_an_interval(self) -> Outlier:
        if self.low is None and self.high is None:
            message = "give low, high or both"
            raise ValueError(message)
        if self.low is not None and self.high is not None and self.low > self.high:
            message = f"low {self.low!r} is above high {self.high!r}"
            raise ValueError(message)
        return self

    @property
    def range(self) -> Range:
        """The numbers that are no outliers."""
        return Range(min=self.low, max=self.high)


def fits(value: Any, kind: ColumnType, *, only: tuple[type, ...] = (bool, int, float, str)) -> bool:
    """Whether a literal of the spec is a value of a type; dates, timestamps, lists and structs have no literal."""
    if not isinstance(value, only):
        return False
    if kind.kind == "string" or isinstance(value, str):
        return kind.kind == "string" and isinstance(value, str)
    if kind.kind == "bool" or isinstance(value, bool):
        return kind.kind == "bool" and isinstance(value, bool)
    if kind.is_integer:
        low, high = INTEGER_BOUNDS[kind.kind]
        return isinstance(value, int) and low <= value <= high
    limit = float(np.finfo(kind.kind).max) if kind.is_float and float in only else -1.0
    return isinstance(value, int | float) and -limit <= value <= limit


def bound_problem(kind: ColumnType, edge: float) -> str | None:
    """Why values of a numeric type are not compared with a bound; None where they are."""
    if kind.is_integer:
        low, high = INTEGER_BOUNDS[kind.kind]
        return None if low <= edge <= high else f"should be within {kind}, which is from {low} to {high}"
    if isinstance(edge, int):
        return f"should be a number that float64 holds, such as {float(edge)!r}, since the field is {kind}"
    return None
