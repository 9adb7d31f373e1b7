"""bfloat16 without a type of its own: numpy and Arrow have none, so it is carried as its bits, in uint16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MOST", "bits_of", "floats_of"]

MOST = float.fromhex("0x1.FEp127")
"""The largest finite bfloat16."""

_QUIET_NAN = np.uint16(0x7FC0)
_SIGN = np.uint16(0x8000)
_HALF = np.uint32(0x8000)
_LOW = np.uint32(0xFFFF)


def bits_of(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 of each number, ties to even, as its bits; beyond its range ±inf, and each NaN a quiet one.

    The upper half of a float32 is a bfloat16 (the sum that rounds is that of Eigen's and PyTorch's conversions). A
    float64 is rounded once: where its way through float32 ends on a tie that it was not on, it is put back to the side
    that it came from.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.ascontiguousarray(values).astype(np.float32)
    bits = single.view(np.uint32)
    if values.dtype == np.float64:
        # Only what is not a float32 itself, and became one halfway between two bfloat16.
        tied = np.flatnonzero((bits & _LOW) == _HALF)
        if tied.size:
            exact = np.abs(np.ascontiguousarray(values).reshape(-1)[tied])
            rounded = np.abs(single.reshape(-1)[tied]).astype(np.float64)
            step = (exact > rounded).astype(np.int64) - (exact < rounded).astype(np.int64)
            flat = bits.reshape(-1)
            flat[tied] = (flat[tied].astype(np.int64) + step).astype(np.uint32)
            bits = flat.reshape(values.shape)
    upper = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    nan = np.isnan(single)
    return np.where(nan, (upper & _SIGN) | _QUIET_NAN, upper) if nan.any() else upper


def floats_of(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 that equals each bfloat16."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
