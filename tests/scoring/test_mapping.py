"""Steps from tensors to columns, each against an oracle in plain Python; policies for NaN; lists without a copy."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.outputs.arrays import without_fixed_sizes
from scoring.outputs.columns import OutputColumn
from scoring.outputs.mapping import Mapped, map_outputs, tensors_of
from scoring.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

NAN, INF = math.nan, math.inf
LOGITS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 88.0, -104.0, 3e38, INF, -INF, NAN]) | st.floats(width=32)
MATRICES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(LOGITS, min_size=width, max_size=width), max_size=6).map(
        lambda rows: np.array(rows, np.float32).reshape(len(rows), width)
    )
)


def published(values: np.ndarray, *axes: int | None, keys: Any = None, **facts: Any) -> Mapped:
    """What is published of a tensor as a column c."""
    dtype = "string" if values.dtype == object else values.dtype.name
    declared = TensorSpec(name="t", dtype=dtype, shape=(None, *axes), keys=keys)
    column = OutputColumn.model_validate({"column": "c", "tensor": "t", **facts})
    assert column.problem(declared) is None
    found = map_outputs([column], Signature(inputs=(), outputs=(declared,)), {"t": values}, rows=len(values))
    assert [array.type for array in found.arrays] == [column.field(declared).type]
    assert [len(array) for array in found.arrays] == [len(values)]
    found.arrays[0].validate(full=True)
    return found


def kept(values: np.ndarray, apply: list[Any], **facts: Any) -> list[Any]:
    """The column of a matrix of unknown width, with NaN and ±inf as they are."""
    found = published(values, None, apply=apply, non_finite="keep", **facts)
    assert not found.refused
    return list(found.arrays[0].to_pylist())


def problem(dtype: str, *axes: int | None, **facts: Any) -> str | None:
    """Why a column cannot be made of a tensor."""
    column = OutputColumn.model_validate({"column": "c", "tensor": "t", **facts})
    return column.problem(TensorSpec(name="t", dtype=dtype, shape=(None, *axes)))


def exponential(x: float) -> float:
    """exp(x), also of what is not finite."""
    return math.exp(x) if math.isfinite(x) else (0.0 if x < 0 else x)


def softmax(row: list[float]) -> list[float]:
    """By its definition, in float64."""
    if any(map(math.isnan, row)) or max(row) in {INF, -INF}:
        return [NAN] * len(row)
    parts = [exponential(x - max(row)) for x in row]
    return [part / math.fsum(parts) for part in parts]


def sigmoid(x: float) -> float:
    """By its definition, in float64, from the side where nothing overflows."""
    small = exponential(-abs(x))
    return math.nan if math.isnan(x) else (1 if x >= 0 else small) / (1 + small)


def rank(x: float) -> float:
    """NaN is as great as can be."""
    return INF if math.isnan(x) else x


def largest(row: list[float]) -> list[float]:
    """The largest value, or NaN."""
    return [max(row, key=rank)]


def first_of_largest(row: list[float]) -> int:
    """The place of the first NaN, or else of the first of the largest."""
    return next((place for place, x in enumerate(row) if math.isnan(x)), row.index(max(row)))


def close(found: Any, expected: Any) -> bool:
    """Whether float32 values are the nearest, or one beside it, and NaN where they should be."""
    left, right = np.array(found, np.float32).reshape(-1), np.array(expected, np.float64).reshape(-1)
    right = right.astype(np.float32)
    if left.shape != right.shape or (np.isnan(left) != np.isnan(right)).any():
        return False
    numbers = ~np.isnan(left)
    return bool((np.abs(left - right)[numbers] <= np.spacing(np.abs(right[numbers]))).all())


@settings(max_examples=50, deadline=None)
@given(MATRICES)
def test_softmax_and_sigmoid(values: np.ndarray) -> None:
    """Both are what their definitions give in float64, rounded once, in float32 and in float64."""
    rows = values.tolist()
    assert close(kept(values, ["softmax"]), [softmax(row) for row in rows])
    assert close(kept(values, ["sigmoid"]), [[sigmoid(x) for x in row] for row in rows])
    wide = kept(values, ["softmax"], type="float64")
    np.testing.assert_allclose(
        np.array(wide).reshape(values.shape),
        np.array([softmax(row) for row in rows]).reshape(values.shape),
        rtol=1e-14,
        atol=5e-324,
    )


@settings(max_examples=50, deadline=None)
@given(MATRICES, st.data())
def test_argmax_top_k_and_labels(values: np.ndarray, data: st.DataObject) -> None:
    """The largest come first, the lower index of equal ones before the higher, and labels stand for indexes."""
    rows, width = values.tolist(), values.shape[1]
    labels = [f"label {number}" for number in range(width)]
    assert kept(values, ["argmax"]) == [first_of_largest(row) for row in rows]
    assert kept(values, ["argmax", {"labels": labels}]) == [labels[first_of_largest(row)] for row in rows]
    count = data.draw(st.integers(1, width))
    order = [[place for _, place in sorted((-rank(x), place) for place, x in enumerate(row))][:count] for row in rows]
    found = kept(values, [{"top_k": count}])
    assert [[pair["index"] for pair in row] for row in found] == order
    scores = [[row[place] for place in places] for row, places in zip(rows, order, strict=True)]
    assert repr([[pair["score"] for pair in row] for row in found]) == repr(scores)
    named = kept(values, [{"top_k": count}, {"labels": labels}])
    assert [[pair["label"] for pair in row] for row in named] == [[labels[place] for place in row] for row in order]


@settings(max_examples=50, deadline=None)
@given(MATRICES, st.sampled_from([0.0, 0.7, -1.0, 1e-30, 3e38]))
def test_threshold_and_element(values: np.ndarray, threshold: float) -> None:
    """A value is compared with the threshold as it is written, in float64; an element is a column of its own."""
    rows, last = values.tolist(), values.shape[1] - 1
    truths = [[x >= threshold for x in row] for row in rows]
    assert kept(values, [{"threshold": threshold}]) == truths
    assert kept(values, [{"threshold": threshold}, {"element": last}]) == [row[last] for row in truths]
    assert repr(kept(values, [{"element": last}])) == repr([row[last] for row in rows])
    words = kept(values, [{"element": 0}, {"threshold": threshold}, {"labels": ["no", "yes"]}])
    assert words == [["no", "yes"][row[0]] for row in truths]


def test_a_threshold_is_not_rounded() -> None:
    """0.7 in float32 is below 0.7 as it is written, as Spark and SQL have it."""
    values = np.array([[0.7], [0.70000005], [0.69999993]], np.float32)
    assert kept(values, [{"threshold": 0.7}, {"element": 0}]) == [float(x) >= 0.7 for x in values[:, 0].tolist()]


APPLIES = [
    [],
    ["softmax"],
    ["softmax", {"top_k": 1}],
    ["sigmoid", {"threshold": 0.5}],
    ["argmax"],
    [{"top_k": 1}, {"element": 0}],
    [{"element": 0}],
]
LEAST = [
    *zip(APPLIES, [0, 0, 1, 0, 1, 1, 1], strict=True),
    ([{"element": 1}], 2),
    ([{"top_k": 2}], 2),
]
"""Steps, and how many values a row needs for them."""


@settings(max_examples=50, deadline=None)
@given(MATRICES, st.sampled_from(APPLIES), st.sampled_from(["keep", "null", "quarantine"]), st.lists(st.integers(0, 6)))
def test_any_split_of_rows_gives_the_same_columns(
    values: np.ndarray, apply: list[Any], policy: str, cuts: list[int]
) -> None:
    """A column, the rows that are refused and the count of the others are the same, however rows are cut."""
    width = values.shape[1]
    whole = published(values, width, apply=apply if width > 1 else [], non_finite=policy)
    bounds = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    batches = [values[start:end] for start, end in itertools.pairwise(bounds)]
    parts = [published(part, width, apply=apply if width > 1 else [], non_finite=policy) for part in batches]
    out = np.concatenate([out_of(part) for part in parts] or [np.zeros(0, bool)])
    assert out_of(whole).tolist() == out.tolist()
    rows = [value for part in parts for value in part.arrays[0].to_pylist()]
    for left, right, gone in zip(whole.arrays[0].to_pylist(), rows, out, strict=True):
        assert gone or repr(left) == repr(right)
    assert whole.non_finite.get("c", 0) == sum(part.non_finite.get("c", 0) for part in parts)


def out_of(found: Mapped) -> np.ndarray:
    """Rows that are refused."""
    return np.logical_or.reduce([np.zeros(len(found.arrays[0]), bool), *(part.mask for part in found.refused)])


@settings(max_examples=50, deadline=None)
@given(MATRICES, st.sampled_from([[], ["softmax"], ["argmax"], [{"threshold": 0.5}], [{"top_k": 1}]]))
def test_each_policy_for_nan(values: np.ndarray, apply: list[Any]) -> None:
    """A row with a NaN or ±inf in its column, or a NaN that became an index or a truth, is kept, null, or refused."""
    rows = values.tolist()
    final: dict[str, Callable[[list[float]], list[float]]] = {
        "[]": list,
        "['softmax']": softmax,
        "[{'top_k': 1}]": largest,
    }
    if str(apply) in final:
        bad = [not all(map(math.isfinite, final[str(apply)](row))) for row in rows]
    else:
        bad = [any(map(math.isnan, row)) for row in rows]
    facts = {"apply": apply}
    keep = published(values, None, **facts, non_finite="keep")
    null = published(values, None, **facts, non_finite="null")
    strict = published(values, None, **facts)
    assert not keep.refused
    assert not null.refused
    assert keep.non_finite == null.non_finite == ({"c": sum(bad)} if any(bad) else {})
    assert null.arrays[0].is_null().to_pylist() == bad
    assert keep.arrays[0].null_count == 0
    expected = zip(keep.arrays[0].to_pylist(), bad, strict=True)
    assert repr(null.arrays[0].to_pylist()) == repr([None if out else value for value, out in expected])
    assert strict.non_finite == {}
    assert [(part.code, part.column, part.mask.tolist()) for part in strict.refused] == (
        [("NON_FINITE", "c", bad)] if any(bad) else []
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("axes", [(), (1,), (3,), (2, 3), (1, 1), (2, 1, 3)])
def test_a_tensor_is_published_without_a_copy(dtype: str, axes: tuple[int, ...]) -> None:
    """A tensor of any rank becomes scalars or nested lists over the memory where the model left it."""
    values = np.arange(4 * math.prod(axes)).reshape(4, *axes).astype(dtype)
    array = published(values, *axes).arrays[0]
    assert array.to_pylist() == (values.reshape(4) if axes == (1,) else values).tolist()
    expected = pa.from_numpy_dtype(dtype)
    for size in reversed(() if axes == (1,) else axes):
        expected = pa.list_(expected, size)
    assert array.type == expected
    while pa.types.is_fixed_size_list(array.type):
        array = array.values
    assert array.buffers()[1].address == values.ctypes.data


@pytest.mark.parametrize("axes", [(None,), (None, 3), (2, None), (None, None)])
def test_an_axis_of_unknown_size_is_a_list_of_any_length(axes: tuple[int | None, ...]) -> None:
    """Lists are fixed in size where the model says the size, and only there."""
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3) if len(axes) == 2 else np.ones((4, 6), np.float32)
    array = published(values, *axes).arrays[0]
    assert array.to_pylist() == values.tolist()
    levels, type_ = [], array.type
    while not pa.types.is_floating(type_):
        levels.append(type_.list_size if pa.types.is_fixed_size_list(type_) else None)
        type_ = type_.value_type
    assert tuple(levels) == axes


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(LOGITS, max_size=4), max_size=8), st.sampled_from(LEAST))
def test_ragged_rows_are_mapped_each_for_itself(rows: list[list[float]], step: tuple[list[Any], int]) -> None:
    """An array of arrays gives what each row gives alone; a row that is too short for a step is refused, as such."""
    apply, least = step
    ragged = np.empty(len(rows), dtype=object)
    ragged[:] = [np.array(row, np.float32) for row in rows]
    declared = TensorSpec(name="t", dtype="float32", shape=(None, None))
    column = OutputColumn.model_validate({"column": "c", "tensor": "t", "apply": apply, "non_finite": "keep"})
    found = map_outputs([column], Signature(inputs=(), outputs=(declared,)), {"t": ragged}, rows=len(rows))
    assert found.arrays[0].type == column.field(declared).type
    short = [len(row) < least for row in rows]
    assert out_of(found).tolist() == short
    assert {part.code for part in found.refused} == ({"WRONG_LENGTH"} if any(short) else set())
    for row, value, gone in zip(rows, found.arrays[0].to_pylist(), short, strict=True):
        if not gone:
            assert repr([value]) == repr(kept(np.array([row], np.float32), apply))


def test_ragged_texts_are_lists() -> None:
    """A sequence of texts a row is a list of texts."""
    ragged = np.empty(3, dtype=object)
    ragged[:] = [np.array(["a", "b"], object), np.array([], object), np.array(["ç"], object)]
    array = published(ragged, None).arrays[0]
    assert array.type == pa.list_(pa.string())
    assert array.to_pylist() == [["a", "b"], [], ["ç"]]


@pytest.mark.parametrize(
    ("keys", "type_", "expected"),
    [
        (("no", "yes"), pa.string(), ["yes", "no"]),
        ((10, 20), pa.int64(), [20, 10]),
        ((10, "x"), pa.string(), ["x", "10"]),
    ],
)
def test_a_model_may_bring_its_labels(keys: tuple[Any, ...], type_: pa.DataType, expected: list[Any]) -> None:
    """`from_model` takes the labels of the tensor's columns: numbers if all are, else texts; in pairs, too."""
    values = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    array = published(values, 2, keys=keys, apply=["argmax", {"labels": "from_model"}]).arrays[0]
    assert (array.type, array.to_pylist()) == (type_, expected)
    pairs = published(values, 2, keys=keys, apply=[{"top_k": 1}, {"labels": "from_model"}]).arrays[0]
    assert pairs.type == pa.list_(pa.struct([("label", type_), ("score", pa.float32())]), 1)
    assert [row[0]["label"] for row in pairs.to_pylist()] == expected


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_an_index_without_a_label_refuses_its_row(dtype: str) -> None:
    """A class number of the model beyond the labels has no text to stand for, and no other row suffers."""
    values = np.array([0, 2, 1, 3], dtype)
    found = published(values, apply=[{"labels": ["a", "b"]}])
    assert [(part.code, part.mask.tolist()) for part in found.refused] == [("NOT_ALLOWED", [False, True, False, True])]
    assert [found.arrays[0].to_pylist()[row] for row in (0, 2)] == ["a", "b"]


def test_a_row_is_refused_or_counted_once() -> None:
    """A NaN that no integer can be is refused under `keep`, null under `null`, and the row is in one count only."""
    values = np.array([1.0, NAN, 0.5, INF])
    keep = published(values, type="int64", non_finite="keep")
    assert [(part.code, part.mask.tolist()) for part in keep.refused] == [("NOT_CASTABLE", [False, True, True, True])]
    assert keep.non_finite == {}
    null = published(values, type="int64", non_finite="null")
    assert [(part.code, part.mask.tolist()) for part in null.refused] == [("NOT_CASTABLE", [False, False, True, False])]
    assert null.non_finite == {"c": 2}
    assert [null.arrays[0].to_pylist()[row] for row in (0, 1, 3)] == [1, None, None]
    strict = published(values, type="int64")
    assert {part.code: part.mask.tolist() for part in strict.refused} == {
        "NON_FINITE": [False, True, False, True],
        "NOT_CASTABLE": [False, False, True, False],
    }


def test_a_double_beyond_float32_is_not_finite() -> None:
    """What narrowing makes infinite is under the column's policy as if the model had given it."""
    found = published(np.array([1.0, 1e300]), type="float32")
    assert [(part.code, part.mask.tolist()) for part in found.refused] == [("NON_FINITE", [False, True])]


def test_a_sum_beyond_float32_is_no_infinity() -> None:
    """Many large numbers whose sum overflows are finite, each of them."""
    values = np.full((1 << 15, 2), 3e38, np.float32)
    assert not published(values, 2).refused
    values[-1, 1] = -INF
    assert published(values, 2).refused[0].mask.nonzero()[0].tolist() == [(1 << 15) - 1]


@pytest.mark.parametrize(
    ("dtype", "type_"),
    [
        ("float16", "float"),
        ("float32", "float"),
        ("float64", "double"),
        ("int8", "int8"),
        ("uint8", "int16"),
        ("uint16", "int32"),
        ("uint32", "int64"),
        ("uint64", "int64"),
        ("bool", "bool"),
        ("string", "string"),
    ],
)
def test_a_column_without_a_type_has_that_of_its_tensor(dtype: str, type_: str) -> None:
    """Without a type a column is what the tensor is, or the next type that Spark has."""
    values = np.array(["0", "1"], object) if dtype == "string" else np.array([0, 1], dtype)
    array = published(values).arrays[0]
    assert str(array.type) == type_
    assert array.to_pylist() == values.tolist()


@pytest.mark.parametrize(
    ("tensor", "facts", "said"),
    [
        (("float32",), {"apply": ["softmax"]}, "step 1 of `apply`, softmax, takes an axis beside the rows"),
        (
            ("float32", 1),
            {"apply": ["softmax"]},
            "is 1 for every row, for there is one value a row; sigmoid is for that",
        ),
        (("float32", 1), {"apply": ["argmax"]}, "is 0 for every row"),
        (("int64", 3), {"apply": ["softmax"]}, "takes float, and is given int"),
        (("float32", 3), {"apply": ["argmax", "sigmoid"]}, "step 2 of `apply`, sigmoid, takes float, and is given int"),
        (("float32", 3), {"apply": [{"top_k": 4}]}, "step 1 of `apply`, top_k, asks for 4 values of 3"),
        (("float32", 3), {"apply": [{"top_k": 2}, "softmax"]}, "takes float, and is given pairs"),
        (("float32", 3), {"apply": ["argmax", {"labels": ["a", "b"]}]}, "has 2 labels for 3 indexes"),
        (("float32", 3), {"apply": [{"labels": ["a", "b", "c"]}]}, "takes int or bool, and is given float"),
        (("float32", 3), {"apply": ["argmax", {"labels": "from_model"}]}, "the tensor has none"),
        (("int64",), {"apply": [{"labels": "from_model"}]}, "they belong behind argmax or top_k"),
        (("int64",), {"apply": [{"labels": []}]}, "labels, has none"),
        (("bool",), {"apply": [{"labels": ["a"]}]}, "has 1 labels for 2 indexes"),
        (("float32", 2), {"apply": [{"top_k": 1}, *[{"labels": ["a", "b"]}] * 2]}, "labels, comes twice"),
        (("string", 3), {"apply": ["argmax"]}, "takes float or int, and is given string"),
        (("float32", 3), {"apply": [{"element": 0}, {"element": 0}]}, "step 2 of `apply`, element, takes an axis"),
        (
            ("float32", 3),
            {"apply": ["argmax", {"labels": list("abc")}], "type": "int64"},
            "labels are string and cannot",
        ),
        (("float32", 3), {"type": "string"}, "float32 cannot become string: a step `labels` makes texts"),
        (("float32", 3), {"type": "bool"}, "float32 cannot become bool: a step `threshold` makes truths"),
        (("string",), {"type": "int32"}, "string cannot become int32"),
        (("complex64",), {}, "complex64 cannot be published"),
        (("float32", 0), {}, "has an axis without values"),
        (("bfloat16", 3), {"apply": ["softmax", {"element": 1}, {"threshold": 0.5}]}, None),
        (("float32", None), {"apply": [{"top_k": 99}, {"element": 98}]}, None),
    ],
)
def test_what_does_not_fit_is_known_before(tensor: Any, facts: dict[str, Any], said: str | None) -> None:
    """A step or a type that does not go with the tensor is told by the declaration alone, with its place."""
    found = problem(*tensor, **facts)
    assert (found is None) == (said is None)
    assert (said or "") in (found or "")


def test_what_is_not_said_is_not_written() -> None:
    """A column's document has what was said and nothing else, and reads back as the same column."""
    plain: dict[str, Any] = {"column": "c", "tensor": "t"}
    full = {**plain, "apply": ["softmax", {"top_k": 2}, {"labels": ["a"]}], "type": "float64", "non_finite": "null"}
    for document in (plain, full):
        column = OutputColumn.model_validate(document)
        assert column.model_dump(mode="json") == document
        assert OutputColumn.model_validate_json(column.model_dump_json(), strict=True) == column


def test_each_tensor_is_named_once() -> None:
    """The tensors of columns are those to fetch, each once."""
    columns = [OutputColumn(column=str(number), tensor=name) for number, name in enumerate("baabc")]
    assert tensors_of(columns) == ("b", "a", "c")


@pytest.mark.parametrize(("axes", "apply"), [((3,), []), ((2, 3), []), ((None, 3), []), ((3,), [{"top_k": 2}])])
def test_lists_may_lose_their_fixed_size(axes: tuple[int | None, ...], apply: list[Any]) -> None:
    """A column becomes lists of any length, as Spark takes them from Python, with its values where they were."""
    values = np.arange(24, dtype=np.float32).reshape(-1, *(size or 2 for size in axes))
    values[1] = NAN
    array = published(values, *axes, apply=apply, non_finite="null").arrays[0]
    free = array.cast(without_fixed_sizes(array.type))
    assert "fixed" not in str(free.type)
    assert free.to_pylist() == array.to_pylist()
    assert free.null_count == 1
    assert [buffer.address for buffer in array.buffers() if buffer][-1] in [b.address for b in free.buffers() if b]


def test_null_may_be_a_word_or_nothing() -> None:
    """YAML reads `null` as nothing, which here can only mean the word."""
    for written in ("null", None):
        column = OutputColumn.model_validate({"column": "c", "tensor": "t", "non_finite": written})
        assert column.non_finite == "null"
        assert column.model_dump(mode="json")["non_finite"] == "null"


def test_a_row_that_another_column_refuses_is_not_counted() -> None:
    """A NaN that is made null is counted where its row is published, and not where another column refuses the row."""
    values = np.array([NAN, NAN, 1.0])
    declared = TensorSpec(name="t", dtype="float64", shape=(None,))
    other = TensorSpec(name="u", dtype="int64", shape=(None,))
    columns = [
        OutputColumn(column="c", tensor="t", non_finite="null"),
        OutputColumn.model_validate({"column": "d", "tensor": "u", "apply": [{"labels": ["a", "b"]}]}),
    ]
    outputs = {"t": values, "u": np.array([0, 7, 1])}
    found = map_outputs(columns, Signature(inputs=(), outputs=(declared, other)), outputs, rows=3)
    assert [(part.column, part.code, part.mask.tolist()) for part in found.refused] == [
        ("d", "NOT_ALLOWED", [False, True, False])
    ]
    assert found.non_finite == {"c": 1}
