"""Arithmetic on numbers, in float64. Every result is IEEE 754's, to the bit, on any platform."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.base import AsNumber, Params
from etl.ops.numbers import ElementStep, NumberStep, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "Abs",
    "Arith",
    "ArithParams",
    "ArithmeticStep",
    "Binarize",
    "BinarizeParams",
    "Neg",
    "Poly",
    "PolyParams",
    "Ratio",
    "RatioParams",
    "Round",
    "RoundParams",
    "Sign",
    "horner",
    "signs",
]

Operand: TypeAlias = "npt.NDArray[np.float64] | np.float64"
"""A column, or a constant."""


class RatioParams(Params):
    """What a denominator of zero gives."""

    on_zero: Literal["as_missing"] | AsNumber = Field(
        default="as_missing", description="The result where the denominator is 0 or -0, whatever the numerator is."
    )


class Ratio(NumberStep):
    """First input ÷ second in float64. Missing where either is missing, and then `on_zero` has no say. ±inf is divided
    as IEEE 754 says: inf ÷ inf is missing, a number ÷ ±inf is 0.0 or −0.0.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["ratio"]
    params: RatioParams = RatioParams()
    arity = (2, 1)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Division of all rows, then repair of those that divided by zero."""
        numerator, denominator = frame.float64(self.inputs[0]), frame.float64(self.inputs[1])
        with np.errstate(all="ignore"):
            quotient = numerator / denominator
        on_zero = self.params.on_zero
        by_zero = (denominator == 0) & ~np.isnan(numerator)
        quotient[by_zero] = on_zero.as_value if isinstance(on_zero, AsNumber) else np.nan
        return (quotient,)


class ArithParams(Params):
    """An operator, and a constant operand where there is one."""

    operator: Literal["add", "sub", "mul", "div", "mod", "min", "max"] = Field(
        description="mod is the remainder of a division that truncates; min and max are the least and the largest."
    )
    left: FiniteFloat | None = Field(default=None, description="With one input: the constant before the operator.")
    right: FiniteFloat | None = Field(default=None, description="With one input: the constant behind the operator.")
    on_zero: Literal["as_missing", "as_is", "reject"] | AsNumber = Field(
        default="as_missing",
        description="With div and mod: the result where the divisor is 0 or -0, whatever the dividend is. `as_is` is "
        "what IEEE 754 says: ±inf of div, missing of 0 div 0 and of mod.",
    )

    @model_validator(mode="after")
    def _on_zero_goes_with_division(self) -> ArithParams:
        if "on_zero" in self.model_fields_set and self.operator not in {"div", "mod"}:
            message = f"`on_zero` goes with operators div and mod, not with {self.operator}"
            raise ValueError(message)
        return self


class Arith(ElementStep):
    """The operator between the inputs, or between the one input and a constant, in float64. Of add, mul, min and max
    there may be more than two inputs, taken from the first to the last. Missing where any is missing.

    As IEEE 754 says, ∞ − ∞, 0 × ∞ and ∞ ÷ ∞ are missing, and what is too large is ±inf. `mod` is exact and has the sign
    of the dividend (−7 mod 3 is −1): ±inf mod x is missing, x mod ±inf is x. Of min and max −0.0 is below 0.0. By zero
    goes by `on_zero`, unless the dividend is missing. With a constant, a vector may be the input (x ÷ 255 of an image):
    the result is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["arith"]
    params: ArithParams
    arity = (None, 1)

    @model_validator(mode="after")
    def _has_its_operands(self) -> Arith:
        constants = [self.params.left, self.params.right]
        if (len(self.inputs) == 1) != (constants.count(None) == 1):
            message = "give two inputs, or one input and one of `left` and `right`"
            raise ValueError(message)
        if len(self.inputs) > 2 and self.params.operator in {"sub", "div", "mod"}:  # noqa: PLR2004  operands
            message = f"operator {self.params.operator} takes two inputs, found {len(self.inputs)}"
            raise ValueError(message)
        return self

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """From the left to the right; then repair of rows that divided by zero."""
        operands: list[Operand] = [frame.float64(name) for name in self.inputs]
        if self.params.left is not None:
            operands.insert(0, np.float64(self.params.left))
        if self.params.right is not None:
            operands.append(np.float64(self.params.right))
        with np.errstate(all="ignore"):
            result: npt.NDArray[np.float64] = reduce(_OPERATORS[self.params.operator], operands)  # type: ignore[arg-type]
        if self.params.operator in {"div", "mod"}:
            self._settle_by_zero(frame, f"{pointer}/params/on_zero", result=result, operands=operands)
        return (self._column(frame, result),)

    def _settle_by_zero(
        self, frame: Frame, pointer: str, *, result: npt.NDArray[np.float64], operands: list[Operand]
    ) -> None:
        dividend, divisor = operands
        on_zero = self.params.on_zero
        by_zero = np.broadcast_to((divisor == 0) & ~np.isnan(dividend), result.shape)
        if on_zero == "as_is" or not by_zero.any():
            return
        result[by_zero] = on_zero.as_value if isinstance(on_zero, AsNumber) else np.nan
        if on_zero == "reject":
            column = self.inputs[-1]
            message = f"{column} is divided by 0" if self.params.right is not None else f"{column}, the divisor, is 0"
            frame.reject(rows_of(by_zero), code="OUT_OF_DOMAIN", pointer=pointer, column=column, message=message)


def _least(left: Operand, right: Operand) -> Operand:
    """The lesser: numpy's minimum may give either zero, by the length of the batch."""
    takes_right = (right < left) | ((right == left) & np.signbit(right)) | np.isnan(right)
    return np.where(takes_right & ~np.isnan(left), right, left)


def _largest(left: Operand, right: Operand) -> Operand:
    """The greater, as above."""
    takes_right = (right > left) | ((right == left) & np.signbit(left)) | np.isnan(right)
    return np.where(takes_right & ~np.isnan(left), right, left)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "mod": np.fmod,
    "min": _least,
    "max": _largest,
}


class PolyParams(Params):
    """The polynomial."""

    coefficients: Annotated[tuple[FiniteFloat, ...], Field(min_length=2, max_length=100)] = Field(
        description="The constant first, then the factor of x, of x², and so on."
    )


class Poly(ElementStep):
    """The polynomial's value in float64, by Horner's scheme: c₀ + x (c₁ + x (c₂ + …)), each operation rounded by
    itself. Missing stays missing. ±inf goes as IEEE 754 says: 0 × inf and inf − inf are missing. Of a vector it is that
    of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["poly"]
    params: PolyParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One temporary."""
        with np.errstate(all="ignore"):
            return (self._column(frame, horner(self.params.coefficients, frame.float64(self.inputs[0]))),)


def horner(coefficients: tuple[float, ...], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The value of a polynomial of degree 1 or more, the constant first."""
    *lower, total = coefficients
    result = values * total
    for coefficient in lower[:0:-1]:
        result += coefficient
        result *= values
    result += lower[0]
    return result


class RoundParams(Params):
    """To what, and where halves go."""

    mode: Literal["half_up", "half_even"] = Field(
        description="A half goes away from zero (2.5 to 3, -2.5 to -3), or to the even neighbour (2.5 to 2, 3.5 to 4)."
    )
    digits: int = Field(
        default=0,
        ge=-22,
        le=22,
        description="Decimals that are kept; -2 rounds to hundreds. 10^22 is exact in float64.",
    )


class Round(ElementStep):
    """x × 10^digits in float64, taken to the whole number by `mode`, ÷ 10^digits. Where digits is below 0 it is first
    divided, then multiplied by 10^−digits. So it is the product in float64 that is a half or not: 1.005 × 100 is
    100.49999999999999, and half_up to two digits gives 1.0. Where the product is 2^52 or more in magnitude it has no
    fraction, and x stays as it is, ±inf too. Missing stays missing; −0.0, and what rounds to 0 from below, is −0.0.
    Of a vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["round"]
    params: RoundParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Without adding 0.5, because 0.49999999999999994 + 0.5 is 1."""
        values = frame.float64(self.inputs[0])
        scale = 10.0 ** abs(self.params.digits)
        with np.errstate(all="ignore"):
            product = values * scale if self.params.digits >= 0 else values / scale
            whole = np.rint(product) if self.params.mode == "half_even" else _half_up(product)
            result = whole / scale if self.params.digits >= 0 else whole * scale
        return (self._column(frame, np.where(np.abs(product) < _WHOLE, result, values)),)


_WHOLE = 2.0**52
"""From here on a float64 has no fraction."""


def _half_up(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    whole = np.trunc(values)
    whole += np.copysign(np.abs(values - whole) >= 0.5, values)  # noqa: PLR2004  a half
    return whole


class BinarizeParams(Params):
    """What is 1."""

    threshold: FiniteFloat = Field(description="The value to compare with.")
    operator: Literal[">", ">="] = Field(default=">", description="Whether the threshold itself gives 0 or 1.")


class Binarize(ElementStep):
    """1.0 where x is above the threshold (with `>=`: or equal to it), else 0.0. inf is above and −inf below every
    threshold, −0.0 equals 0.0, missing stays missing. Of a vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["binarize"]
    params: BinarizeParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One comparison."""
        values, threshold = frame.float64(self.inputs[0]), self.params.threshold
        above = values > threshold if self.params.operator == ">" else values >= threshold
        result = above.astype(np.float64)
        result[np.isnan(values)] = np.nan
        return (self._column(frame, result),)


class Abs(ElementStep):
    """The magnitude: −0.0 becomes 0.0, ±inf becomes inf, missing stays missing. Of a vector it is that of each element,
    rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["abs"]

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Without the sign bit."""
        return (self._column(frame, np.abs(frame.float64(self.inputs[0]))),)


class Neg(ElementStep):
    """The opposite number: 0.0 becomes −0.0 and the other way round, ±inf becomes ∓inf, missing stays missing. Of a
    vector it is that of each element, rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["neg"]

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """With the other sign bit."""
        return (self._column(frame, np.negative(frame.float64(self.inputs[0]))),)


class Sign(ElementStep):
    """1.0 of numbers above 0, −1.0 of those below, ±inf too; 0.0 stays 0.0, −0.0 stays −0.0, missing stays missing.
    Of a vector it is that of each element.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["sign"]

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """As `signs`."""
        return (self._column(frame, signs(frame.float64(self.inputs[0]))),)


def signs(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """±1 with the sign of each value; zeros and NaN are themselves."""
    # numpy's sign makes 0.0 of −0.0.
    return np.where(values == 0, values, np.sign(values))


ArithmeticStep: TypeAlias = Abs | Arith | Binarize | Neg | Poly | Ratio | Round | Sign
