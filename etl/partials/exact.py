"""float64 taken apart into integers, and quotients of integers rounded once.

A finite float64 is ± mantissa · 2^place · 2^−1074 with a mantissa below 2^53 and a place from 0 to 2045, so sums of
them are sums of integers: no rounding, hence no dependence on the order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["UNIT", "Parts", "parts", "root_of_quotient"]

UNIT = 1074
"""A float64 is an integer divided by 2 to this power."""

_FRACTION_BITS = np.uint64(52)
_FRACTION = np.uint64(2**52 - 1)
_EXPONENT = 2047
_ROOT_BITS = 64
"""Bits of a root before it is rounded to 53: enough, given one more bit that says whether something is left over."""


class Parts(NamedTuple):
    """Values taken apart. Of ±inf the place is 2046, and the mantissa means nothing."""

    mantissas: npt.NDArray[np.uint64]
    """Below 2^53, without sign."""
    exponents: npt.NDArray[np.int64]
    """As IEEE 754 stores them, with the sign above: 0 to 4095. The place is one below max(exponent & 2047, 1)."""


def parts(values: npt.NDArray[np.float64]) -> Parts:
    """Take values apart."""
    bits = values.view(np.uint64)
    exponents = (bits >> _FRACTION_BITS).view(np.int64)
    mantissas = bits & _FRACTION
    # Subnormal numbers have no leading one.
    mantissas |= ((exponents & _EXPONENT) != 0).astype(np.uint64) << _FRACTION_BITS
    return Parts(mantissas, exponents)


def root_of_quotient(radicand: int, divisor: int, unit: int) -> float:
    """√radicand ÷ divisor · 2^−unit, correctly rounded (half to even)."""
    spare = max(0, _ROOT_BITS + divisor.bit_length() - radicand.bit_length() // 2)
    scaled, square = radicand << (2 * spare), divisor * divisor
    root = math.isqrt(scaled // square)
    left_over = root * root * square != scaled
    # Python divides integers with one rounding, subnormal results included.
    return (2 * root + left_over) / (1 << (unit + spare + 1))
