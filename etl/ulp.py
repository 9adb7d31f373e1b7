"""How far apart two floating-point numbers are, in units in the last place."""

from __future__ import annotations

import numpy as np

__all__ = ["ulp_distance"]


_INTEGERS: dict[int, type[np.signedinteger]] = {2: np.int16, 4: np.int32, 8: np.int64}
"""By the bytes of a float."""


def ulp_distance(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Steps between representable numbers; NaN equals NaN alone. Values that are no floats are equal or far apart."""
    far = np.iinfo(np.int32).max
    if not np.issubdtype(found.dtype, np.floating):
        return np.where(found == wanted, 0, far)
    integer = _INTEGERS[found.dtype.itemsize]
    ordered = []
    for values in (found, wanted.astype(found.dtype, copy=False)):
        # The bits as an integer, made monotonic over the sign.
        bits = values.view(integer).astype(object if integer is np.int64 else np.int64)
        ordered.append(np.where(bits < 0, np.iinfo(integer).min - bits, bits))
    distance = np.abs(ordered[0] - ordered[1])
    missing = np.isnan(found), np.isnan(wanted)
    return np.where(missing[0] | missing[1], np.where(missing[0] & missing[1], 0, far), distance)
