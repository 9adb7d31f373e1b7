"""Functions of one number, in float64: logarithms, roots, powers and the functions of a calculator."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from etl.ops.arithmetic import signs
from etl.ops.base import AsNumber, Params
from etl.ops.numbers import ElementStep, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "DomainParams",
    "DomainStep",
    "Exp",
    "FunctionStep",
    "Log",
    "Log1p",
    "LogParams",
    "Math",
    "MathParams",
    "Power",
    "PowerParams",
    "SignedLog1p",
    "Sqrt",
]


class DomainParams(Params):
    """What becomes of a number for which the function is not defined."""

    on_domain: Literal["as_missing", "as_is", "reject"] | AsNumber = Field(
        default="as_missing",
        description="Of a number outside the function's domain: missing, what IEEE 754 has, the row is quarantined, or "
        "a number.",
    )


class DomainStep(ElementStep):
    """A function that some numbers are outside the domain of."""

    params: DomainParams = DomainParams()

    domain: ClassVar[str]
    """Where the function is defined, for the message of a rejection."""

    @abstractmethod
    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which values the function is defined for; of NaN either."""

    @abstractmethod
    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The function's values, in a new array; NaN of NaN, and anything outside the domain."""

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """Of all rows, then repair of those outside the domain."""
        values = frame.float64(self.inputs[0])
        with np.errstate(all="ignore"):
            result = self._of(values)
            outside = ~(self._inside(values) | np.isnan(values))
        on_domain = self.params.on_domain
        if on_domain != "as_is" and outside.any():
            result[outside] = on_domain.as_value if isinstance(on_domain, AsNumber) else np.nan
            if on_domain == "reject":
                column = self.inputs[0]
                frame.reject(
                    rows_of(outside),
                    code="OUT_OF_DOMAIN",
                    pointer=f"{pointer}/params/on_domain",
                    column=column,
                    message=f"{column} is not {self.domain}, as op {self.op} needs",
                )
        return (self._column(frame, result),)


class LogParams(DomainParams):
    """To which base."""

    base: Literal["e"] | FiniteFloat = Field(default="e", description="e, or a number above 0 that is not 1.")

    @field_validator("base")
    @classmethod
    def _is_a_base(cls, base: float | Literal["e"]) -> float | Literal["e"]:
        if base != "e" and (base <= 0 or base == 1):
            message = "the base of a logarithm is e, or a number above 0 that is not 1"
            raise ValueError(message)
        return base


class Log(DomainStep):
    """Logarithm of x to the base; to another base than e, 2 and 10 it is ln x ÷ ln base. Of inf it is inf, and −inf for
    a base below 1. Missing stays missing. 0.0, −0.0, negative numbers and −inf are outside the domain: `on_domain`.
    `as_is` makes −inf of 0.0 and −0.0 (inf to a base below 1), and missing of the others. Of a vector it is that of
    each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["log"]
    params: LogParams = LogParams()
    transcendental = True
    domain = "above 0"

    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return values > 0

    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        base = self.params.base
        if base == "e":
            return np.log(values)
        if base in _LOGARITHMS:
            return _LOGARITHMS[base](values)
        return np.log(values) / math.log(base)


_LOGARITHMS: dict[float, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {2.0: np.log2, 10.0: np.log10}


class Log1p(DomainStep):
    """ln (1 + x), exact for small x too. Of inf it is inf, of −0.0 it is −0.0, missing stays missing. −1 and numbers
    below it are outside the domain: `on_domain`. `as_is` makes −inf of −1, and missing of the others. Of a vector it is
    that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["log1p"]
    transcendental = True
    domain = "above -1"

    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return values > -1

    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.log1p(values)


class Sqrt(DomainStep):
    """Square root, correctly rounded. Of inf it is inf, of −0.0 it is −0.0, missing stays missing. Negative numbers and
    −inf are outside the domain: `on_domain`. `as_is` makes missing of them. Of a vector it is that of each element,
    rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["sqrt"]
    domain = "0 or above"

    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return values >= 0

    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.sqrt(values)


class PowerParams(DomainParams):
    """To which power."""

    exponent: FiniteFloat = Field(description="The exponent, whole or not.")


class Power(DomainStep):
    """x to the power of the exponent. With exponent 0 it is 1.0, of ±inf too; missing stays missing. Of ±inf it is what
    IEEE 754 says, e.g. (−inf)³ is −inf and inf to a negative power is 0.0; −0.0 to an odd power is −0.0, to any other
    0.0. A negative number or −inf to a power that is not whole, and 0.0 or −0.0 to a negative power, are outside the
    domain: `on_domain`. `as_is` makes missing of a negative number, inf of −inf (0.0 to a negative power), and inf of
    0.0 and −0.0 (−inf of −0.0 to an odd power). Of a vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["power"]
    params: PowerParams
    transcendental = True
    domain = "where this power is defined"

    def _inside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        exponent = self.params.exponent
        if not exponent.is_integer():
            return values > 0 if exponent < 0 else values >= 0
        return values != 0 if exponent < 0 else np.ones(values.shape, dtype=bool)

    def _of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        exponent = self.params.exponent
        # Where numpy takes a square root for the exponent 0.5, which it does not always, −0.0 would stay −0.0.
        result = np.power(values if exponent % 2 == 1 else values + 0.0, exponent)
        if exponent == 0.5:  # noqa: PLR2004  numpy may take the square root, of which −inf has none
            result[values == -np.inf] = np.inf
        if exponent == 0:
            # NaN to the power of 0 is 1 to IEEE 754.
            result[np.isnan(values)] = np.nan
        return result


class Exp(ElementStep):
    """e to the power of x. Of inf and of numbers that are too large it is inf, of −inf 0.0; missing stays missing. Of a
    vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["exp"]
    transcendental = True

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Of all rows."""
        with np.errstate(all="ignore"):
            return (self._column(frame, np.exp(frame.float64(self.inputs[0]))),)


class SignedLog1p(ElementStep):
    """ln (1 + |x|) with the sign of x: a logarithm for numbers of both signs. ±inf stays ±inf, −0.0 stays −0.0, missing
    stays missing. Of a vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["signed_log1p"]
    transcendental = True

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Of the magnitude, then the sign."""
        values = frame.float64(self.inputs[0])
        result = np.log1p(np.abs(values))
        return (self._column(frame, np.copysign(result, values, out=result)),)


class MathParams(Params):
    """Which function."""

    function: Literal[
        "abs",
        "acos",
        "asin",
        "atan",
        "ceil",
        "cos",
        "cosh",
        "exp",
        "floor",
        "log",
        "log10",
        "signum",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
    ] = Field(description="Angles are in radians; ceil, floor and trunc go up, down and towards 0.")


class Math(ElementStep):
    """The function of x as IEEE 754, C and Java have it: log and log10 of 0.0 and −0.0 are −inf, what is too large is
    ±inf, −0.0 keeps its sign wherever the function goes through 0 (and ceil and trunc of −0.5 are −0.0). Missing stays
    missing, and what is outside the domain becomes missing: log, log10 and sqrt of negative numbers, acos and asin
    beyond ±1, sin, cos and tan of ±inf. abs, ceil, floor, signum, sqrt and trunc are equal to the bit on all platforms;
    the others are transcendental. Of a vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["math"]
    params: MathParams

    @property
    def transcendental(self) -> bool:  # type: ignore[override]
        """Not of the functions that IEEE 754 settles to the bit."""
        return self.params.function not in _EXACT

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Of all rows."""
        with np.errstate(all="ignore"):
            return (self._column(frame, _FUNCTIONS[self.params.function](frame.float64(self.inputs[0]))),)


_EXACT = {"abs", "ceil", "floor", "signum", "sqrt", "trunc"}

_FUNCTIONS: dict[str, Callable[[npt.NDArray[np.float64]], Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "log10": np.log10,
    "signum": signs,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
}


FunctionStep: TypeAlias = Exp | Log | Log1p | Math | Power | SignedLog1p | Sqrt
