"""Rows of several lengths: tensors of lists against plain Python, padded, masked, cut and taken in any order."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.contract import Contract
from etl.errors import SpecError
from etl.estimator import SpecTransformer
from etl.inspection.diff import diff
from etl.outputs import TensorOutput
from etl.pipeline import Pipeline
from etl.ragged import Mask, Ragged, padded_feeds
from etl.spec import read_spec
from etl.tensors import tensor_of
from tests.etl.nasty import INF, NAN, frame_of

ELEMENTS: dict[str, list[Any]] = {
    "int64": [0, 1, -1, 300, 2**40],
    "float32": [0.5, -0.0, NAN, INF],
    "bool": [True, False],
}
BUCKETS = (2, 4, 7)


def output_of(dtype="int64", shape=None, **ragged):
    """A tensor of the list column x."""
    form = {"tensor": "t", "dtype": dtype, "from": ["x"], "shape": shape, "ragged": {"on_ragged": "pad", **ragged}}
    return TensorOutput.model_validate(form)


def document(dtype="int64", kind="list<int64>", shape=None, **ragged):
    """The JSON value of a spec whose one tensor is of a list."""
    tensor = {"tensor": "t", "dtype": dtype, "from": ["x"], "ragged": {"on_ragged": "pad", **ragged}}
    if shape:
        tensor["shape"] = shape
    return {
        "format": "scorespec/1",
        "spec_id": "ragged",
        "input": {"fields": [{"name": "x", "type": kind}]},
        "outputs": {"tensors": [tensor]},
    }


def spec_of(*args, **keys):
    """The same as a spec."""
    return read_spec(json.dumps(document(*args, **keys)), "spec.json")


@st.composite
def lists(draw):
    """A column of lists in some layout, a slice of it, its rows as Python has them, and its element type."""
    item = draw(st.sampled_from(sorted(ELEMENTS)))
    value = st.one_of(*[st.sampled_from(ELEMENTS[item])] * 15, st.none())
    kind = {"int64": pa.int64(), "float32": pa.float32(), "bool": pa.bool_()}[item]
    layout = draw(st.sampled_from([pa.list_(kind), pa.large_list(kind), pa.list_(kind, 3)]))
    size: dict[str, Any] = {"min_size": 3, "max_size": 3} if pa.types.is_fixed_size_list(layout) else {"max_size": 9}
    rows = draw(st.lists(st.one_of(st.none(), *[st.lists(value, **size)] * 9), max_size=12))
    start = draw(st.integers(0, len(rows)))
    return pa.array(rows, layout)[start:], rows[start:], item


def padded(rows, length, pad):
    """Rows filled up on the right, and where their elements are, in plain Python."""
    return [row + [pad] * (length - len(row)) for row in rows], [
        [1] * len(row) + [0] * (length - len(row)) for row in rows
    ]


def tensor(column, item, output):
    """The tensor of a column behind a contract, and the rows that are kept."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": f"list<{item}>"}]})
    frame = contract.apply(pa.table({"x": column}), "test")
    found = tensor_of(frame, output, "/outputs/tensors/0")
    return found, np.flatnonzero(~frame.gone), {r.code for r in frame.rejections}


@settings(max_examples=100, deadline=None)
@given(lists(), st.sampled_from(["reject", "truncate"]), st.data())
def test_padded_rows_are_those_of_python_however_they_are_cut(case, too_long, data):
    """Lists of any layout are padded to their buckets as plain Python pads them, whole, in parts and in any order."""
    column, rows, item = case
    output = output_of(item, buckets=BUCKETS, too_long=too_long, pad=1, mask={"model_input": "m", "dtype": "float32"})
    found, kept, codes = tensor(column, item, output)
    wanted = [row for row in rows if row is not None and None not in row]
    is_long = any(len(row) > BUCKETS[-1] for row in rows if row is not None)
    assert ("TOO_LONG" in codes) == (is_long and too_long == "reject")
    wanted = [row[: BUCKETS[-1]] for row in wanted if too_long == "truncate" or len(row) <= BUCKETS[-1]]
    good = found[kept]
    assert len(good) == good.rows == len(wanted)
    assert good.lengths.tolist() == [len(row) for row in wanted]
    assert good.bucket_lengths().tolist() == [min(b for b in BUCKETS if b >= len(row)) for row in wanted]
    order = data.draw(st.permutations(range(len(wanted))))
    for part in ([range(len(wanted))], [order[:3], order[3:]], [[row] for row in order]):
        for places in part:
            length = max((min(b for b in BUCKETS if b >= len(wanted[row])) for row in places), default=BUCKETS[0])
            feeds = good.take(np.array(places, np.int64)).feeds("t", length)
            values, mask = padded([wanted[row] for row in places], length, pad=1)
            assert feeds["t"].dtype == item
            assert feeds["m"].dtype == np.float32
            assert feeds["t"].tobytes() == np.array(values, item).reshape(-1, length).tobytes()
            assert feeds["m"].tolist() == np.array(mask).reshape(-1, length).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=9), st.data())
def test_a_part_of_a_ragged_tensor_is_what_numpy_would_take(rows, data):
    """A slice, a mask and positions, negative and repeated ones too, take the rows that numpy takes of an array."""
    flat = np.array([value for row in rows for value in row], np.int64)
    offsets = np.cumsum([0, *map(len, rows)])
    ragged = Ragged(flat, offsets, (6,), 0, Mask("m", "bool"))
    array = np.empty(len(rows), object)
    array[:] = rows
    start, stop = (data.draw(st.one_of(st.none(), st.integers(-10, 10))) for _ in range(2))
    step = data.draw(st.sampled_from([None, 1, 2, -1, -3]))
    chosen = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=5)) if rows else []
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    for place in (slice(start, stop, step), np.array(chosen, np.int64), mask):
        found, wanted = ragged[place], array[place]
        assert (found.buckets, found.pad, found.mask) == ((6,), 0, Mask("m", "bool"))
        assert [found.values[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == [*wanted]
        assert found.offsets[0] == 0
        assert found.offsets[-1] == found.values.size


def test_rows_of_one_length_are_not_copied():
    """Rows that all have the length that is asked for are fed as they lie in the column; a slice of rows is a view."""
    column = pa.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], pa.list_(pa.int64()))
    found, _, _ = tensor(column, "int64", output_of())
    assert np.shares_memory(found.feeds("t", 3)["t"], column.values.to_numpy())
    assert np.shares_memory(found[1:].values, column.values.to_numpy())
    assert found[1:].feeds("t", 3)["t"].tolist() == [[4, 5, 6], [7, 8, 9]]


def test_a_row_that_is_too_long_for_its_batch_is_no_silent_cut():
    """Padding to less than a row has is refused."""
    with pytest.raises(ValueError, match="a row of t has 3 elements, and it is to be padded to 2"):
        Ragged(np.arange(3), np.array([0, 3])).feeds("t", 2)


@pytest.mark.parametrize(("buckets", "lengths"), [((), [1, 1, 3]), ((4, 8), [4, 4, 4])])
def test_an_empty_list_is_all_padding(buckets, lengths):
    """An empty list is a row of length 0: padded to the smallest bucket, or to 1, and its mask is 0."""
    column = pa.array([[], [5], [6, 7, 8]], pa.list_(pa.int64()))
    output = output_of(buckets=list(buckets) or None, mask={"model_input": "m"})
    found, kept, codes = tensor(column, "int64", output)
    assert (kept.tolist(), codes) == ([0, 1, 2], set())
    assert found.bucket_lengths().tolist() == lengths
    empty = padded_feeds({"t": found[:1]})
    assert empty["t"].tolist() == [[0] * lengths[0]]
    assert empty["m"].tolist() == [[0] * lengths[0]]
    assert padded_feeds({"t": found[:0], "other": np.ones((0, 2))})["t"].shape == (0, lengths[0])
    assert padded_feeds({"t": found})["t"].shape == (3, max(lengths))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "float16", "float64", "bfloat16"])
def test_elements_are_cast_once_or_their_row_is_rejected(dtype):
    """An element beyond the tensor's integer type, or beyond ±2^53 for a float, rejects its row, as a null does."""
    rows: list[Any] = [[1, 2], [300], [2**53 + 1, 5], [None], None, [], [-1]]
    frame = frame_of(x=("list<int64>", rows))
    found: Any = tensor_of(frame, output_of(dtype), "/outputs/tensors/0")
    kept = np.flatnonzero(~frame.gone)
    whole = [rows[place] for place in (0, 1, 2, 5, 6)]
    if "float" in dtype:
        wanted = [row for row in whole if row is not rows[2]]
        told = {("MISSING", "/outputs/tensors/0/from/0"), ("INEXACT", "/semantics/profile")}
    else:
        info = np.iinfo(dtype)
        wanted = [row for row in whole if all(info.min <= value <= info.max for value in row)]
        told = {("MISSING", "/outputs/tensors/0/from/0"), ("OUT_OF_RANGE", "/outputs/tensors/0/from/0")}
    assert {(r.code, r.pointer) for r in frame.rejections} == told
    values = found[kept].values
    if dtype == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    assert values.tolist() == [value for row in wanted for value in row]


def test_a_row_of_another_length_is_rejected_where_the_spec_says_error():
    """With on_ragged: error lists fill the declared shape without a copy, and a row of another length is set aside."""
    output = output_of("float32", shape=[-1, 2, 2], on_ragged="error")
    column = pa.array([[1.0, 2.0, 3.0, NAN], [4.0] * 4], pa.list_(pa.float32()))
    found, kept, codes = tensor(column, "float32", output)
    assert found.shape == (2, 2, 2)
    assert (kept.tolist(), codes) == ([0, 1], set())
    assert np.shares_memory(found, column.values.to_numpy())
    spec = spec_of("float32", "list<float32>", [-1, 2, 2], on_ragged="error")
    rows = [[1.0] * 4, [1.0] * 3, None, [], [1.0, None, 1.0, 1.0], [2.0] * 4]
    made = spec.transform(pa.table({"x": pa.array(rows, pa.list_(pa.float32()))}))
    assert made.tensors["t"].tolist() == [[[1.0, 1.0]] * 2, [[2.0, 2.0]] * 2]
    assert [(r.rows.tolist(), r.code, r.pointer) for r in made.rejections] == [
        ([2], "MISSING", "/outputs/tensors/0/from/0"),
        ([4], "MISSING", "/outputs/tensors/0/from/0"),
        ([1, 3], "WRONG_LENGTH", "/outputs/tensors/0/ragged/on_ragged"),
    ]
    assert spec.feature_names() == {"t": ("x[0]", "x[1]", "x[2]", "x[3]")}


def test_a_pipeline_keeps_the_rows_that_are_sound():
    """Rejected rows are not in the ragged tensor, whose rows are those of the batch that are kept."""
    spec = spec_of(buckets=[2, 4], mask={"model_input": "m"})
    table = pa.table({"x": pa.array([[1], None, [2, 3, 4], [1] * 5, []], pa.list_(pa.int32()))})
    pipeline = Pipeline(spec, {})
    made = pipeline.transform(pipeline.contract(table, "rows"))
    assert made.kept is not None
    assert made.kept.tolist() == [0, 2, 4]
    ragged = made.tensors["t"]
    assert (ragged.lengths.tolist(), ragged.bucket_lengths().tolist()) == ([1, 3, 0], [2, 4, 2])
    assert {(r.code, r.pointer, r.message) for r in made.rejections} == {
        ("MISSING", "/outputs/tensors/0/from/0", "x has no value, and its tensor cannot hold a missing one"),
        (
            "TOO_LONG",
            "/outputs/tensors/0/ragged/too_long",
            "x has more than 4 elements, the most that its tensor is padded to",
        ),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"buckets": [4, 2]}, "/ragged: buckets are lengths in ascending order"),
        ({"buckets": [2, 2]}, "/ragged: buckets are lengths in ascending order"),
        ({"buckets": [0, 2]}, "/ragged/buckets/0: should be 1 or more"),
        ({"too_long": "truncate"}, "/ragged: too_long: truncate needs buckets"),
        ({"on_ragged": "error", "pad": 1}, "/ragged: on_ragged: error pads no row, so it takes no pad"),
        ({"on_ragged": "error"}, "on_ragged: error needs a shape"),
        ({"shape": [-1, 3]}, "on_ragged: pad takes no shape"),
        ({"pad": 0.5}, "pad 0.5 is no int64"),
        ({"pad": -1, "dtype": "uint8"}, "pad -1 is no uint8"),
        ({"pad": 2, "dtype": "bool", "kind": "list<bool>"}, "pad 2 is no bool"),
        ({"pad": 7e4, "dtype": "float16"}, "pad 70000.0 is beyond float16"),
        ({"kind": "int64[3]"}, "column 'x' is int64\\[3\\], whose rows are of one length: `ragged` is for lists"),
        ({"kind": "list<float32>"}, "a tensor of int64 does not take it"),
        ({"kind": "list<string>"}, "a tensor of int64 does not take it"),
        ({"dtype": "string"}, "ragged goes with one column, of lists of numbers or bools"),
        ({"mask": {"model_input": "t"}}, "/ragged/mask/model_input: model input 't' is already fed by a tensor"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_place(change, reason):
    """A spec whose ragged tensor means nothing is refused before any row, with the place and what to do."""
    with pytest.raises(SpecError, match=reason):
        spec_of(**change)


def test_a_list_without_ragged_is_told_what_to_write():
    """A tensor of a list that says nothing of its lengths is refused with both ways to say it."""
    plain = document()
    del plain["outputs"]["tensors"][0]["ragged"]
    with pytest.raises(SpecError, match="say under `ragged` what becomes of them, or use list_pad"):
        read_spec(json.dumps(plain), "spec.json")


def test_a_diff_tells_what_a_model_sees_of_other_rules():
    """Other buckets or padding mean something else; another mask, none, or another fixed length is another layout."""
    masked = spec_of(buckets=[2, 4], mask={"model_input": "m"})
    assert diff(masked, spec_of(buckets=[2, 4], mask={"model_input": "m"})).verdict == "compatible"
    other = diff(masked, spec_of(buckets=[2, 8], mask={"model_input": "m"}, pad=1))
    assert (other.verdict, [change.where for change in other.tensors]) == (
        "refit-model",
        ["/outputs/tensors/0/ragged"],
    )
    assert diff(masked, spec_of(buckets=[2, 4])).verdict == "incompatible"
    assert diff(spec_of(buckets=[4]), spec_of(buckets=[8])).verdict == "incompatible"
    assert diff(masked, spec_of(shape=[-1, 4], on_ragged="error")).verdict == "incompatible"


def test_an_estimator_refuses_rows_of_several_lengths():
    """An array has rows of one length, so a padded tensor is refused with what to do, and a checked one is given."""
    table = pa.table({"x": [[1, 2], [3, 4]]})
    with pytest.raises(SpecError, match=r"rows of several lengths .* list_pad"):
        SpecTransformer(spec_of()).transform(table)
    checked = SpecTransformer(spec_of(shape=[-1, 2], on_ragged="error"))
    assert checked.transform(table).tolist() == [[1, 2], [3, 4]]


def test_what_equals_its_default_is_not_written():
    """A tensor without ragged rows is written as it was before there were any, and one with them as it was given."""
    given = document(buckets=[2, 4], mask={"model_input": "m"})
    assert spec_of(buckets=[2, 4], mask={"model_input": "m"}).plain()["outputs"] == given["outputs"]
    plain = TensorOutput.model_validate({"tensor": "x", "from": ["a"]})
    assert plain.model_dump(mode="json", by_alias=True, exclude_defaults=True) == {"tensor": "x", "from": ["a"]}
