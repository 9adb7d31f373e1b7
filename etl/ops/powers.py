"""Power transforms, which bring a skewed column of numbers closer to a normal distribution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat

from etl.ops.base import Params
from etl.ops.functions import DomainParams, DomainStep
from etl.ops.numbers import NumberStep

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["BoxCox", "BoxCoxParams", "PowerStep", "YeoJohnson", "YeoJohnsonParams"]

_EPSILON = float(np.finfo(np.float64).eps)
_LEAST_LAMBDA = 1e-19
"""Below it λ ln x is too small for any x to change e to its power, which is then ln x."""
_LARGEST_EXPONENT = 709.78
"""e to a larger power overflows."""


class YeoJohnsonParams(Params):
    """Which power."""

    lambda_: FiniteFloat = Field(alias="lambda", description="The power; 1 leaves numbers as they are.")


class YeoJohnson(NumberStep):
    """The transform of Yeo and Johnson (2000) for numbers of both signs: of x ≥ 0 it is ((1 + x)^λ − 1) ÷ λ, or
    ln (1 + x) where λ is 0; of x < 0 it is −((1 − x)^(2 − λ) − 1) ÷ (2 − λ), or −ln (1 − x) where λ is 2. It is
    computed by expm1 and log1p, and a λ nearer than 2^−52 to 0 or 2 is that. −0.0 stays −0.0 and missing stays missing.
    Of inf it is inf, or −1 ÷ λ where λ is below 0; of −inf it is −inf, or 1 ÷ (2 − λ) where λ is above 2.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["yeo_johnson"]
    params: YeoJohnsonParams
    transcendental = True

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Each sign by itself."""
        values, power = frame.float64(self.inputs[0]), self.params.lambda_
        result = np.empty_like(values)
        above = values >= 0
        with np.errstate(all="ignore"):
            result[above] = _raised(np.log1p(values[above]), power)
            result[~above] = -_raised(np.log1p(-values[~above]), 2 - power)
        return (result,)


def _raised(logarithms: npt.NDArray[Any], power: float) -> npt.NDArray[Any]:
    return logarithms if abs(power) < _EPSILON else np.expm1(power * logarithms) / power


class BoxCoxParams(DomainParams):
    """Which power."""

    lambda_: FiniteFloat = Field(alias="lambda", description="The power; 0 is the natural logarithm.")


class BoxCox(DomainStep):
    """The transform of Box and Cox (1964) for numbers above 0: (x^λ − 1) ÷ λ, or ln x where λ is below 1e-19 in
    magnitude. It is computed by expm1, and where x^λ is too large but the result is not, without it. Of inf it is inf,
    or −1 ÷ λ where λ is below 0. Missing stays missing. 0.0, −0.0, negative numbers and −inf are outside the domain:
    `on_domain`.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["box_cox"]
    params: BoxCoxParams
    transcendental = True
    domain = "above 0"

    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return values > 0

    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        power, logarithms = self.params.lambda_, np.log(values)
        if abs(power) < _LEAST_LAMBDA:
            return logarithms
        exponents = power * logarithms
        result: npt.NDArray[np.float64] = np.expm1(exponents) / power
        # As SciPy's boxcox has it.
        large = exponents >= _LARGEST_EXPONENT
        result[large] = math.copysign(1.0, power) * np.exp(exponents[large] - math.log(abs(power))) - 1 / power
        return result


PowerStep: TypeAlias = BoxCox | YeoJohnson
