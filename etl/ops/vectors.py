"""Ops on vectors, such as the counts of a text's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from etl.ops.base import Params, RowStep

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.types import ColumnType

__all__ = ["Weigh", "WeighParams"]


class WeighParams(Params):
    """What becomes of each element, and of each row."""

    elements: Literal["as_is", "log", "presence"] = Field(
        default="as_is", description="Each element other than 0 is itself, 1 + ln of itself, or 1."
    )
    weights: Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=1_000_000)] | None = Field(
        default=None, description="A factor for each element; without, 1 of each."
    )
    norm: Literal["none", "l1", "l2"] = Field(
        default="none", description="Whether a row is divided by the sum of magnitudes, or the root of that of squares."
    )


class Weigh(RowStep):
    """A vector with each element by `elements`, times its weight, then divided by the norm of the row; in float64, a
    sum from the first element to the last, and rounded once to float32. So counts of terms become what scikit-learn's
    TfidfTransformer makes of them.

    An element that is 0.0 or −0.0 becomes 0.0, whatever its weight, and a row of these alone stays so. ±inf goes as
    IEEE 754 says, so inf ÷ inf is missing; so is ln of a negative element. A vector with a missing element is missing
    throughout. With `log` it is transcendental.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["weigh"]
    params: WeighParams = WeighParams()

    @property
    def transcendental(self) -> bool:  # type: ignore[override]
        """Only with a logarithm."""
        return self.params.elements == "log"

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A vector of floats in, one of equal width out."""
        found, weights = types[0], self.params.weights
        if found.kind != "vector" or found.item != "float32":
            message = f"takes a vector of float32, found {found}"
            raise ValueError(message)
        if weights is not None and found.width not in {0, len(weights)}:
            message = f"takes a vector of {len(weights)}, for its weights, found {found}"
            raise ValueError(message)
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Of elements other than 0 alone, since most counts of terms are 0."""
        given: Any = frame[self.inputs[0]]
        rows, places = np.nonzero(given)
        with np.errstate(all="ignore"):
            values = given[rows, places].astype(np.float64)
            if self.params.elements == "log":
                values = np.log(values) + 1
            elif self.params.elements == "presence":
                values = np.ones_like(values)
            if self.params.weights is not None:
                values *= np.array(self.params.weights)[places]
            if self.params.norm != "none":
                terms = np.abs(values) if self.params.norm == "l1" else values * values
                norms = np.bincount(rows, weights=terms, minlength=len(given))
                values /= (norms if self.params.norm == "l1" else np.sqrt(norms))[rows]
            result = np.zeros_like(given)
            result[rows, places] = values
        result[frame.missing(self.inputs[0])] = np.nan
        return (result,)
