"""What a contract says of the values of a field, and what happens to one that breaks a rule: PMML's treatments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from etl.documents import Strict
from etl.ops.base import Name
from etl.types import INTEGER_BOUNDS

if TYPE_CHECKING:
    from etl.types import ColumnType

__all__ = ["AsValue", "Closure", "Flag", "Outlier", "OutlierTreatment", "Range", "Treatment", "covers", "fits"]


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

Closure = Literal["closed", "open", "open_closed", "closed_open"]
"""Whether the ends of an interval are valid: both, neither, the upper one, the lower one."""


class Range(Strict):
    """Interval of valid numbers."""

    min: FiniteFloat | None = Field(default=None, description="Smallest valid number, or with an open end its bound.")
    max: FiniteFloat | None = Field(default=None, description="Largest valid number, or with an open end its bound.")
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

    low: FiniteFloat | None = Field(default=None, description="Smaller numbers are outliers.")
    high: FiniteFloat | None = Field(default=None, description="Larger numbers are outliers.")

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


def covers(kind: ColumnType, valid: Range) -> bool:
    """Whether a type is numeric, and the bounds of a range within it."""
    if not kind.is_integer:
        return kind.is_float
    low, high = INTEGER_BOUNDS[kind.kind]
    return all(edge is None or low <= edge <= high for edge in (valid.min, valid.max))
