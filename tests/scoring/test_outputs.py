"""From a model's tensors to published columns: types, lists, elements, and shapes that were not declared."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from etl.runs.account import settle
from scoring.bundles.create import create_bundle
from scoring.errors import InferenceError
from scoring.outputs.columns import OutputColumn
from scoring.outputs.mapping import Mapped, map_outputs
from scoring.outputs.steps import Element, TopK
from scoring.signature import Signature, TensorSpec
from tests.numbers_job import FEATURES
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    Work,
    model_of,
    numbers,
    parts_of,
    predictions,
    quarantined,
    with_values,
)

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = np.array(["cat", "dög", "eel"], dtype=object)
ONE = {"apply": (Element(element=1),)}
WEIGHTS = np.array([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 0.25]], dtype=np.float32)


def classifier() -> bytes:
    """Probabilities (n, 3), class numbers (n,), names (n,), the winner's probability (n, 1) and whether it is > ½."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "label"], ["name"], axis=0),
        helper.make_node("ReduceMax", ["probabilities"], ["best"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["best"], ["best64"], to=TensorProto.DOUBLE),
        helper.make_node("Greater", ["best", "half"], ["is_sure"]),
    ]
    outputs = {
        "probabilities": (TensorProto.FLOAT, [None, 3]),
        "label": (TensorProto.INT64, [None]),
        "name": (TensorProto.STRING, [None]),
        "best64": (TensorProto.DOUBLE, [None, 1]),
        "is_sure": (TensorProto.BOOL, [None, 1]),
    }
    constants = {"W": WEIGHTS, "classes": CLASSES, "half": np.array(0.5, np.float32)}
    return model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, **constants)


COLUMNS = (
    OutputColumn(column="all", tensor="probabilities", type="float32"),
    OutputColumn(column="all64", tensor="probabilities", type="float64"),
    OutputColumn(column="p_dog", tensor="probabilities", apply=(Element(element=1),), type="float64"),
    OutputColumn(column="label", tensor="label", type="int64"),
    OutputColumn(column="label32", tensor="label", type="int32"),
    OutputColumn(column="name", tensor="name", type="string"),
    OutputColumn(column="best", tensor="best64", type="float32"),
    OutputColumn(column="sure", tensor="is_sure", type="bool"),
)


@pytest.mark.parametrize("batch_rows", [1, 33, 1000])
def test_every_kind_of_output_is_published(tmp_path: Path, batch_rows: int) -> None:
    """Vectors, elements of vectors, numbers, texts and truths come out as columns of the types that were asked for."""
    parts = parts_of(LOGISTIC_SPEC, classifier(), numbers(3), COLUMNS)
    work = Work(tmp_path, numbers(100), lambda folder: create_bundle(STORE, str(folder), parts))
    found = predictions(work.score(batch_rows=batch_rows))
    float32s, float64s = pa.list_(pa.float32(), 3), pa.list_(pa.float64(), 3)
    types = [float32s, float64s, pa.float64(), pa.int64(), pa.int32(), pa.string(), pa.float32(), pa.bool_()]
    assert [(field.name, field.type) for field in found.schema][1:] == [
        (column.column, type_) for column, type_ in zip(COLUMNS, types, strict=True)
    ]
    matrix = np.stack([work.table.column(name).to_numpy() for name in FEATURES], axis=1) @ WEIGHTS
    expected = np.exp(matrix) / np.exp(matrix).sum(axis=1, keepdims=True)
    label = expected.argmax(axis=1)
    for name in ("all", "all64"):
        np.testing.assert_allclose(np.stack(found.column(name).to_numpy()), expected, rtol=1e-5)
    np.testing.assert_allclose(found.column("p_dog").to_numpy(), expected[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found.column("best").to_numpy(), expected.max(axis=1), rtol=1e-5)
    assert found.column("label").to_pylist() == found.column("label32").to_pylist() == label.tolist()
    assert found.column("name").to_pylist() == CLASSES[label].tolist()
    assert found.column("sure").to_pylist() == (expected.max(axis=1) > 0.5).tolist()


def test_an_output_that_is_not_published_may_have_any_shape(tmp_path: Path) -> None:
    """A model may give something beside its rows, such as one number for the whole batch; only columns are fetched."""
    outputs = {"p": (TensorProto.FLOAT, [None, 1]), "mean": (TensorProto.FLOAT, [])}
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("ReduceMean", ["p"], ["mean"], keepdims=0),
    ]
    model = model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, W=WEIGHTS[:, :1].astype(np.float32))
    parts = parts_of(LOGISTIC_SPEC, model, numbers(3), [OutputColumn(column="p", tensor="p", type="float32")])
    work = Work(tmp_path, numbers(100), lambda folder: create_bundle(STORE, str(folder), parts))
    found = predictions(work.score(batch_rows=8, table_rows=64))
    matrix = np.stack([work.table.column(name).to_numpy() for name in FEATURES], axis=1)
    expected = 1 / (1 + np.exp(-matrix @ WEIGHTS[:, 0]))
    np.testing.assert_allclose(found.column("p").to_numpy(), expected, rtol=1e-5)


def test_a_published_output_has_a_value_for_each_row(tmp_path: Path) -> None:
    """One number for a whole call is no column: what several calls gave would add up to some other number of rows."""
    outputs = {"p": (TensorProto.FLOAT, [None])}
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["p"], keepdims=0, axes=[0]),
    ]
    model = model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, W=WEIGHTS[:, :1].astype(np.float32))
    parts = parts_of(LOGISTIC_SPEC, model, numbers(1), [OutputColumn(column="p", tensor="p", type="float32")])
    work = Work(tmp_path, numbers(100), lambda folder: create_bundle(STORE, str(folder), parts))
    with pytest.raises(InferenceError, match=r"model output p has shape \[1\] for 8 rows"):
        work.score(batch_rows=8, table_rows=64)


def tensor(dtype: str, *shape: int | None) -> TensorSpec:
    """A declared tensor t."""
    return TensorSpec(name="t", dtype=dtype, shape=shape)


def mapped(values: np.ndarray, declared: TensorSpec, rows: int = 2, **facts: Any) -> Mapped:
    """What is published of rows as a column c, NaN and ±inf as they are."""
    column = OutputColumn(column="c", tensor="t", **{"non_finite": "keep", **facts})
    found = map_outputs([column], Signature(inputs=(), outputs=(declared,)), {"t": values}, rows=rows)
    assert [array.type for array in found.arrays] == [column.field(declared).type]
    assert [len(array) for array in found.arrays] == [rows]
    return found


def make(values: np.ndarray, declared: TensorSpec, **facts: Any) -> list[Any]:
    """The column c of 2 rows, none of which is refused."""
    found = mapped(values, declared, **facts)
    assert not found.refused
    return list(found.arrays[0].to_pylist())


def refused(found: Mapped) -> list[bool]:
    """The rows that cannot be cast, which is all that is wrong."""
    assert [part.code for part in found.refused] in ([], ["NOT_CASTABLE"])
    return found.refused[0].mask.tolist() if found.refused else [False] * len(found.arrays[0])


@pytest.mark.parametrize(
    ("values", "shape", "facts", "expected"),
    [
        ([[1.0], [2.0]], (None, 1), {}, [1.0, 2.0]),
        ([[1.0], [2.0]], (None, None), {}, [[1.0], [2.0]]),
        ([[1.0, 3.0], [2.0, 4.0]], (None, None), {}, [[1.0, 3.0], [2.0, 4.0]]),
        ([[1.0, 3.0], [2.0, 4.0]], (None, None), ONE, [3.0, 4.0]),
        ([1.0, 2.0], (None,), {}, [1.0, 2.0]),
        ([[], []], (None, None), {}, [[], []]),
        ([[1.0], [2.0]], (None, 1), {"apply": (Element(element=0),)}, [1.0, 2.0]),
    ],
)
def test_a_matrix_is_a_list_unless_it_is_one_wide(
    values: list[Any], shape: tuple[int | None, ...], facts: dict[str, Any], expected: list[Any]
) -> None:
    """(n, k) is a list column, (n, 1) that is declared so and (n,) are scalars, and an element is always one."""
    assert make(np.array(values, dtype=np.float32), tensor("float32", *shape), type="float32", **facts) == expected


def test_an_axis_that_is_a_view_is_read_right() -> None:
    """A tensor that lies in memory column by column gives its rows."""
    values = np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=np.float32))
    assert make(values, tensor("float32", None, 2), type="float32") == [[1.0, 2.0], [3.0, 4.0]]
    assert make(values, tensor("float32", None, 2), type="float32", **ONE) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (np.zeros(3), (None,)),
        (np.zeros((1, 1)), (None, 1)),
        (np.zeros((2, 2)), (None, 1)),
        (np.zeros(()), (None,)),
        (np.zeros((2, 2, 2)), (None, 1)),
        (np.zeros((2, 4)), (None, 3)),
        (np.zeros((2, 3, 4)), (None, None, 3)),
        (np.zeros((2, 3)), (None, 3, 1)),
    ],
)
def test_a_shape_that_was_not_declared_is_told(values: np.ndarray, shape: tuple[int | None, ...]) -> None:
    """A model that gives other rows or another width than its column needs is an InferenceError with the shape."""
    with pytest.raises(
        InferenceError, match=r"model output t has shape .* for 2 rows; column 'c' cannot be made"
    ) as caught:
        make(values, tensor("float64", *shape), type="float64")
    assert str(list(values.shape)) in str(caught.value)


@pytest.mark.parametrize("apply", [(Element(element=2),), (TopK(top_k=3),)])
def test_a_width_that_a_step_needs_is_told(apply: tuple[Any, ...]) -> None:
    """A model whose axis of unknown size is too short for a step is an InferenceError with both."""
    with pytest.raises(InferenceError, match=r"column 'c': step \w+ takes 3 or more values .* and there are 2"):
        make(np.zeros((2, 2)), tensor("float64", None, None), apply=apply)


def has_equal(number: float, type_: str) -> bool:
    """Whether an integer type has an equal of a number, by exact fractions."""
    if not math.isfinite(number):
        return False
    end = 2**31 if type_ == "int32" else 2**63
    return Fraction(number).denominator == 1 and -end <= Fraction(number) < end


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.floats(width=32)
        | st.integers(-(2**33), 2**33).map(float)
        | st.sampled_from([2.0**63, -(2.0**63), 2.0**31, -(2.0**31), 2.0**31 - 1, 2.0**63 - 1024, 0.5, -0.0]),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["int32", "int64"]),
)
def test_a_value_is_held_if_the_type_has_its_equal(values: list[float], type_: Any) -> None:
    """A number becomes an integer exactly where the integer type has an equal, and what is held is cast to that."""
    found = mapped(np.array(values), tensor("float64", None), len(values), type=type_)
    bad = refused(found)
    assert bad == [not has_equal(value, type_) for value in values]
    column = found.arrays[0].to_pylist()
    assert [number for number, out in zip(column, bad, strict=True) if not out] == [
        int(value) for value, out in zip(values, bad, strict=True) if not out
    ]


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        (np.array([2**31, 2**31 - 1, -(2**31) - 1]), "int32", [True, False, True]),
        (np.array([2**53, 2**53 + 1, -(2**53) - 1]), "float64", [False, True, True]),
        (np.array([[1.0, 2.0], [1.0, np.nan], [0.5, 1.0]]), "int64", [False, True, True]),
        (np.array([1.0, np.inf, 65504.0], np.float16), "int32", [False, True, False]),
        (np.array([1, 2, 3], np.uint8), "int32", [False, False, False]),
        (np.array([1, 2, 300], np.int16), "int8", [False, False, True]),
        (np.array([0, 2**63 - 1, 2**63], np.uint64), "int64", [False, False, True]),
        (np.array([0, 1, 2]), "bool", [False, False, True]),
        (np.array([0.1, np.nan, np.inf]), "float32", [False] * 3),
        (np.array([0.1, np.nan, np.inf], np.float32), "float64", [False] * 3),
        (np.array([True, False, True]), "int64", [False] * 3),
        (np.array(["a", "b", "c"], object), "string", [False] * 3),
    ],
)
def test_rows_that_a_type_cannot_hold_are_known(values: np.ndarray, type_: Any, expected: list[bool]) -> None:
    """The rows with a value beyond the column's type are refused, and no others."""
    dtype = "string" if values.dtype == object else values.dtype.name
    declared = tensor(dtype, *[None] * values.ndim)
    assert refused(mapped(values, declared, 3, type=type_)) == expected


def root_model() -> bytes:
    """The square root of the first feature, as a number that is published as an integer, and the double of it."""
    nodes = [
        helper.make_node("Gather", ["X", "zero"], ["first"], axis=1),
        helper.make_node("Sqrt", ["first"], ["root"]),
        helper.make_node("Concat", ["root", "first"], ["both"], axis=1),
    ]
    outputs = {"root": (TensorProto.FLOAT, [None, 1]), "both": (TensorProto.FLOAT, [None, 2])}
    return model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, zero=np.array([0]))


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_a_row_whose_output_has_no_place_is_set_aside(tmp_path: Path, batch_rows: int) -> None:
    """A NaN, a fraction or a number too large for an integer column sends its row to quarantine, and no other."""
    squares = [float(row * row) for row in range(100)]
    bad = {0: -1.0, 6: 2.0, 7: 1e38, 50: float("inf"), 99: -4.0}
    table = with_values(with_values(numbers(100), "f0", dict(enumerate(squares))), "f0", bad)
    columns = [
        OutputColumn(column="root", tensor="root", type="int64"),
        OutputColumn(column="both", tensor="both", type="float32"),
        OutputColumn(column="again", tensor="root", type="int32"),
    ]
    golden = with_values(numbers(1), "f0", {0: 4.0})
    parts = parts_of(LOGISTIC_SPEC, root_model(), golden, columns)
    work = Work(tmp_path, table, lambda folder: create_bundle(STORE, str(folder), parts))
    receipts = work.score(batch_rows=batch_rows)
    good, found = predictions(receipts), quarantined(receipts)
    rows = [row for row in range(100) if row not in bad]
    assert good.column("id").to_pylist() == good.column("root").to_pylist() == good.column("again").to_pylist() == rows
    assert good.column("both").to_pylist() == [[row, row * row] for row in rows]
    assert found.column("row").to_pylist() == sorted(bad)
    message = "model output root is a value that int64, the type of its column, cannot hold"
    other = "model output root is NaN or infinite in its column; `non_finite: keep` publishes that, and `null` a null"
    reasons = dict.fromkeys(bad, ("inference", "NON_FINITE", "root", other))
    reasons |= dict.fromkeys([6, 7], ("inference", "NOT_CASTABLE", "root", message))
    told = found.select(["stage", "code", "column", "message"]).to_pylist()
    assert [tuple(row.values()) for row in told] == [reasons[row] for row in sorted(bad)]
    assert receipts[0].reasons == {"inference/NON_FINITE": 3, "inference/NOT_CASTABLE": 2}
    assert settle(work.splits, receipts).adds_up


def test_only_narrowing_to_float32_may_round() -> None:
    """A double becomes the nearest float32, because that is what publishing it as float32 asks for."""
    assert make(np.array([0.1, 1e300]), tensor("float64", None), type="float32") == [float(np.float32(0.1)), np.inf]


@pytest.mark.parametrize(
    ("declared", "facts", "problem"),
    [
        (tensor("float32"), {"type": "float32"}, "rank 0"),
        (tensor("float32", None, 2, 2), {"type": "float32"}, None),
        (tensor("float32", None, 2), {"apply": (Element(element=2),)}, "there is no element 2 among 2"),
        (tensor("float32", None), ONE, "takes an axis beside the rows, and there is none"),
        (tensor("string", None), {"type": "int64"}, "cannot become int64"),
        (tensor("float32", None), {"type": "string"}, "cannot become string"),
        (tensor("float32", None, 2), ONE, None),
        (tensor("float32", None, None), {"apply": (Element(element=99),)}, None),
    ],
)
def test_what_cannot_be_published_is_known_before(
    declared: TensorSpec, facts: dict[str, Any], problem: str | None
) -> None:
    """A column that no batch could fill is known from the declaration alone."""
    found = OutputColumn(column="c", tensor="t", **facts).problem(declared)
    assert (found is None) == (problem is None)
    assert (problem or "") in (found or "")


def test_a_model_that_forgets_rows_fails_the_split(tmp_path: Path) -> None:
    """A model that gives one score for a whole batch fails the split, for no row can be blamed."""
    nodes = [helper.make_node("ReduceMean", ["X"], ["p"], axes=[0], keepdims=1)]
    outputs = {"p": (TensorProto.FLOAT, [None, 4])}
    model = model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs)
    column = OutputColumn(column="p", tensor="p", type="float32", apply=(Element(element=0),))
    parts = parts_of(LOGISTIC_SPEC, model, numbers(1), [column])
    work = Work(tmp_path, numbers(10), lambda folder: create_bundle(STORE, str(folder), parts))
    with pytest.raises(InferenceError, match=r"model output p has shape \[1, 4\] for 10 rows"):
        work.score()
