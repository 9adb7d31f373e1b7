from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etl.frame import Frame, Rejection, once
from etl.ops.columns import Assemble
from etl.spec import TensorOutput
from etl.tensors import matrix_of, stack, tensor_of
from etl.types import ColumnType
from tests.etl.nasty import FLOATS, INF, INT64S, NAN, TEXTS, applied, arrow, bits, frame_of, step_of

SAFE = [value for value in INT64S if value is None or abs(value) <= 2**53]


def tensor(frame, *names, dtype="float32", shape=None):
    """Make one tensor of columns."""
    output = TensorOutput.model_validate({"tensor": "x", "dtype": dtype, "from": names, "shape": shape})
    return tensor_of(frame, output, "/outputs/tensors/0")


def test_columns_of_all_kinds_stand_side_by_side():
    """Columns read, computed and of vectors are put side by side in their order, with NaN for what is missing."""
    frame = frame_of(
        b=("bool", [True, None, False]),
        i=("int32", [1, None, 3]),
        f=("float32", [0.5, NAN, None]),
        v=("float32[2]", [[1.0, 2.0], None, [3.0, 4.0]]),
    )
    (frame["c"],) = applied(frame, "clip", "i", params={"upper": 2})
    found = tensor(frame, "c", "v", "b", "f", "i")
    wanted = [[1, 1, 2, 1, 0.5, 1], [NAN] * 6, [2, 3, 4, 0, NAN, 3]]
    assert bits(found) == bits(np.array(wanted, np.float32))
    assert not frame.rejections


def test_each_number_is_rounded_once():
    """float64 and int64 become the nearest float32, ±inf beyond its range, and float64 tensors round nothing."""
    frame = frame_of(f=("float64", FLOATS), i=("int64", SAFE + [0] * (len(FLOATS) - len(SAFE))))
    with np.errstate(over="ignore"):
        wanted = np.array([NAN if value is None else value for value in FLOATS], np.float64).astype(np.float32)
    assert bits(tensor(frame, "f")[:, 0]) == bits(wanted)
    assert bits(tensor(frame, "f", dtype="float64")[:, 0]) == bits(
        np.array([NAN if value is None else value for value in FLOATS])
    )
    found = tensor(frame, "i")[: len(SAFE), 0]
    assert bits(found) == bits(np.array([NAN if value is None else np.float32(value) for value in SAFE], np.float32))


def test_a_wide_integer_has_no_place_in_a_float_tensor():
    """A row whose int64 is beyond ±2^53 is rejected when it is put into a float tensor, and not before."""
    frame = frame_of(i=("int64", INT64S))
    tensor(frame, "i")
    wide = [row for row, value in enumerate(INT64S) if value is not None and abs(value) > 2**53]
    assert [(r.rows.tolist(), r.code) for r in frame.rejections] == [(wide, "INEXACT")]


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
def test_integer_tensors_are_exact(dtype):
    """Integers and bools reach their tensor without a float between, and rows without a value are rejected."""
    columns: dict[str, list[Any]] = {
        "int64": INT64S,
        "int32": [5, None, -(2**31), 2**31 - 1],
        "bool": [True, None, False],
    }
    values = columns[dtype]
    frame = frame_of(x=(dtype, values))
    found = tensor(frame, "x", dtype=dtype)
    assert found.dtype == dtype
    assert found[:, 0].tolist() == [value or 0 for value in values]
    missing = [row for row, value in enumerate(values) if value is None]
    assert [(r.rows.tolist(), r.code, r.pointer) for r in frame.rejections] == [
        (missing, "MISSING", "/outputs/tensors/0/from/0")
    ]


def test_an_integer_beyond_int32_is_rejected_by_its_tensor():
    """A row whose int64 is beyond int32 is rejected by an int32 tensor, since it would be another number there."""
    frame = frame_of(x=("int64", [1, 2**31, -(2**31), -(2**31) - 1, 2**32 + 1]))
    assert tensor(frame, "x", dtype="int32")[[0, 2], 0].tolist() == [1, -(2**31)]
    assert [(r.rows.tolist(), r.code) for r in frame.rejections] == [([1, 3, 4], "OUT_OF_RANGE")]


def test_string_tensors_hold_text():
    """Text reaches a string tensor unchanged, and rows without one are rejected."""
    frame = frame_of(x=("string", TEXTS), y=("string", TEXTS[::-1]))
    found = tensor(frame, "x", "y", dtype="string")
    assert found.dtype == object
    assert found.tolist() == [[a or "", b or ""] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    assert [r.rows.tolist() for r in frame.rejections] == [[0], [len(TEXTS) - 1]]


def test_rank_1_has_no_second_axis():
    """A tensor of rank 1 is (rows,), one of rank 2 (rows, width), also without rows."""
    for values in ([1.0, 2.0], []):
        frame = frame_of(x=("float64", values))
        assert tensor(frame, "x", shape=(-1,)).shape == (len(values),)
        assert tensor(frame, "x").shape == (len(values), 1)


def test_a_single_vector_is_passed_on():
    """A tensor of one float32 vector is the vector's own memory."""
    frame = frame_of(v=("float32[3]", [[1.0, 2.0, 3.0]] * 2))
    assert np.shares_memory(tensor(frame, "v"), frame["v"])


def test_assemble_is_what_a_tensor_would_be():
    """An assemble makes of any columns the float32 vector that a tensor of them would be."""
    frame = frame_of(f=("float64", [0.1, 1e39, None]), v=("float32[2]", [[1.0, 2.0], None, [INF, NAN]]))
    (found,) = applied(frame, "assemble", "f", "v", "f")
    assert bits(found) == bits(stack(frame, ("f", "v", "f"), np.dtype(np.float32)))
    types = (ColumnType("float64"), ColumnType("vector", 2), ColumnType("bool"))
    step = step_of("assemble", ["f", "v", "b"])
    assert isinstance(step, Assemble)
    assert step.infer(types) == (ColumnType("vector", 4),)
    with pytest.raises(ValueError, match="takes numbers and vectors, found string"):
        step.infer((ColumnType("string"),))


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 3), pa.null()]
)
def test_a_matrix_has_the_declared_width_whatever_the_data(rows, kind):
    """The width of a matrix is the declared one, without rows and with null rows alone too."""
    matrix, broken = matrix_of(pa.array([None] * rows, kind), 3)
    assert matrix.shape == (rows, 3)
    assert np.isnan(matrix).all()
    assert not broken.any()


def test_numbers_beyond_float32_become_infinite_in_a_vector():
    """A float64 in a vector is rounded like any other on its way into float32."""
    matrix, broken = matrix_of(pa.array([[1e39, 0.1]]), 2)
    assert bits(matrix[0]) == bits(np.array([INF, 0.1], np.float32))
    assert not broken.any()


def test_each_row_is_counted_once_under_its_first_rule():
    """Rejections made disjoint keep their order, lose rows that came before, and vanish when nothing is left."""

    def rejection(rows, code):
        return Rejection(np.array(rows), code, "/p", "x", "m")

    found = once([rejection([1, 3], "A"), rejection([3], "B"), rejection([0, 3, 4], "C")], 5)
    assert [(r.rows.tolist(), r.code) for r in found] == [([1, 3], "A"), ([0, 4], "C")]


def test_missing_is_one_flag_a_row():
    """The mask of missing rows is one flag a row for every kind of column, a vector's being that of any NaN in it."""
    frame = Frame(
        2, {"v": np.array([[1, NAN], [1, 2]], np.float32), "i": np.array([1, 2]), "s": arrow(["", None], "string")}
    )
    assert {name: frame.missing(name).tolist() for name in "vis"} == {
        "v": [True, False],
        "i": [False, False],
        "s": [False, True],
    }
