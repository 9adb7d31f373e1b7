"""bfloat16 as bits, against every bfloat16 that there is."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.bfloat16 import MOST, bits_of, floats_of
from etl.outputs import TensorOutput
from etl.tensors import tensor_of
from tests.etl.nasty import FLOATS, INF, NAN, frame_of

ALL = [struct.unpack("<f", struct.pack("<I", number << 16))[0] for number in range(0x7F81)]
"""Each bfloat16 from 0 to ∞, by its bits."""

STEPS = np.array([*ALL[:-1], 2.0**128])
"""The same with what would follow the largest finite one in place of ∞."""


def nearest(number):
    """The bits of the nearest bfloat16 of a float64, by search, ties to even bits."""
    if np.isnan(number):
        return 0x7FC0 | (0x8000 if np.signbit(number) else 0)
    magnitude, sign = abs(number), 0x8000 if np.signbit(number) else 0
    above = int(np.searchsorted(STEPS, magnitude))
    if above == len(STEPS) or STEPS[above] == magnitude:
        return sign | min(above, 0x7F80)
    # All of these have so few bits that float64 holds the middle of two exactly.
    middle = (STEPS[above - 1] + STEPS[above]) / 2
    below = magnitude < middle or (magnitude == middle and (above - 1) % 2 == 0)
    return sign | (above - 1 if below else above)


def ties():
    """Numbers halfway between two bfloat16, and their neighbours in float64 and float32, of either sign."""
    places = st.integers(0, 0x7F7F)
    middles = places.map(lambda place: (STEPS[place] + STEPS[place + 1]) / 2)
    near = st.tuples(middles, st.sampled_from([0.0, INF, -INF]), st.sampled_from([1.0, -1.0]))
    return near.map(lambda drawn: drawn[2] * (np.nextafter(drawn[0], drawn[1]) if drawn[1] else drawn[0]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.floats(), ties(), st.sampled_from([MOST, -MOST, 2.0**128, 1e-45, 9e-41])), max_size=20))
def test_a_number_becomes_the_nearest_bfloat16(numbers):
    """float64 and float32 are rounded once to the nearest bfloat16, ties to even, to ±inf beyond, and NaN stays NaN."""
    values = np.array(numbers, np.float64)
    assert bits_of(values).tolist() == [nearest(value) for value in values]
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    assert bits_of(single).tolist() == [nearest(np.float64(value)) for value in single]


def test_every_bfloat16_is_itself():
    """Each of the 65,536 patterns is the number that it stands for and comes back, NaN as a quiet one."""
    patterns = np.arange(2**16).astype(np.uint16)
    floats = floats_of(patterns)
    assert np.array_equal(floats[: len(ALL)], np.array(ALL, np.float32))
    wanted = np.where(np.isnan(floats), (patterns & 0x8000) | 0x7FC0, patterns)
    assert bits_of(floats.reshape(256, 256)).reshape(-1).tolist() == wanted.tolist()


def test_a_bfloat16_tensor_has_the_bits_of_its_columns():
    """Columns of all kinds are side by side in a bfloat16 tensor, each rounded once from what it is; missing is NaN."""
    values = [*FLOATS, 1.00390625 + 2**-40]
    rows = len(values)
    frame = frame_of(
        d=("float64", values),
        f=("float32", [0.1] * rows),
        i=("int64", [257] * rows),
        b=("bool", [True] * rows),
        h=("float16[2]", [[0.1, NAN]] * rows),
    )
    output = TensorOutput.model_validate({"tensor": "x", "dtype": "bfloat16", "from": ["d", "f", "i", "b", "h"]})
    found: Any = tensor_of(frame, output, "/outputs/tensors/0")
    assert found.dtype == np.uint16
    half, single = np.float64(np.float16(0.1)), np.float64(np.float32(0.1))
    others = [nearest(value) for value in (single, 257.0, 1.0, half, NAN)]
    wanted = [[nearest(NAN if value is None else value), *others] for value in values]
    assert found.tolist() == wanted
    alone = TensorOutput.model_validate({"tensor": "x", "dtype": "bfloat16", "from": ["f", "h"]})
    found = tensor_of(frame, alone, "/outputs/tensors/0")
    assert found.tolist() == [[others[0], *others[3:]]] * rows
