"""Vectors of every element type, read from lists in every layout of Arrow, against plain Python."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.contract import Contract
from etl.errors import ContractError, SpecError
from etl.golden import replay
from etl.learning.fitting import fit
from etl.outputs import TensorOutput
from etl.spec import read_spec
from etl.tensors import as_lists, matrix_of, tensor_of
from etl.types import VECTOR_ITEMS, ColumnType, is_readable
from tests.etl.every_op import STEPS, document, rows
from tests.etl.nasty import INF, NAN, applied, bits, frame_of, spec_of

FLOATS = ("float16", "float32", "float64")
WHOLE = tuple(item for item in VECTOR_ITEMS if item not in FLOATS and item != "bool")
WIDTH = 4


def elements(item):
    """Values that a list may hold to be read as a vector of such items, those at the ends of its range among them."""
    if item == "bool":
        return st.booleans()
    if item in FLOATS:
        return st.sampled_from([0.0, -0.0, 1.5, -2.25, INF, -INF, NAN, 65504.0, 0.1])
    info = np.iinfo(item)
    inside = [0, 1, int(info.min), int(info.max)]
    return st.sampled_from([*inside, *(v for v in (int(info.min) - 1, int(info.max) + 1) if -(2**63) <= v < 2**63)])


def physical(item):
    """A type of Arrow that holds all of these."""
    return pa.bool_() if item == "bool" else (pa.float64() if item in FLOATS else pa.int64())


@st.composite
def columns(draw):
    """A column of flat or nested lists in some layout and a slice of it, its rows as Python has them, and the item."""
    item = draw(st.sampled_from(sorted(VECTOR_ITEMS)))
    value = st.one_of(st.none(), *[elements(item)] * 12)
    nested, layout = draw(st.booleans()), draw(st.sampled_from(["list", "large", "fixed"]))
    inner = physical(item)
    sizes = st.just(WIDTH) if layout == "fixed" else st.integers(0, WIDTH + 1)
    if nested:
        one = st.lists(value, min_size=2, max_size=2) if layout == "fixed" else st.lists(value, max_size=4)
        sizes = st.just(2) if layout == "fixed" else st.integers(0, 3)
        row = sizes.flatmap(lambda n: st.lists(st.one_of(st.none(), *[one] * 9), min_size=n, max_size=n))
    else:
        row = sizes.flatmap(lambda n: st.lists(value, min_size=n, max_size=n))
    rows = draw(st.lists(st.one_of(st.none(), *[row] * 9), max_size=8))
    wrap = {
        "list": pa.list_,
        "large": pa.large_list,
        "fixed": lambda kind: pa.list_(kind, 2 if nested else WIDTH),
    }[layout]
    column = pa.array(rows, wrap(wrap(inner)) if nested else wrap(inner))
    start = draw(st.integers(0, len(rows)))
    stop = draw(st.integers(start, len(rows)))
    return column[start:stop], rows[start:stop], item


def flat(row):
    """The values of a row one behind another, or None where its lists are not of one length."""
    if any(part is None for part in row):
        return row
    if row and isinstance(row[0], list):
        return None if len({len(part) for part in row}) > 1 else [value for part in row for value in part]
    return row


def expected(row, item):
    """What a row is as a vector: its values, "missing" or "broken"."""
    if row is None:
        return "missing"
    values = flat(row)
    if values is None or len(values) != WIDTH or any(value is None or isinstance(value, list) for value in values):
        return "broken"
    if item in WHOLE and not all(np.iinfo(item).min <= value <= np.iinfo(item).max for value in values):
        return "broken"
    return values


@settings(max_examples=100, deadline=None)
@given(columns())
def test_a_matrix_is_what_python_makes_of_the_rows(case):
    """Lists of any layout, nesting and slice are the rows that plain Python makes of them, or are broken as there."""
    column, rows, item = case
    assert is_readable(column.type, ColumnType("vector", WIDTH, item))
    matrix, broken = matrix_of(column, WIDTH, item)
    wanted = [expected(row, item) for row in rows]
    filler = [math.nan if item in FLOATS else 0] * WIDTH
    assert matrix.dtype == item
    assert matrix.shape == (len(rows), WIDTH)
    with np.errstate(over="ignore"):
        values = np.array([filler if isinstance(row, str) else row for row in wanted]).reshape(-1, WIDTH).astype(item)
    assert matrix.tobytes() == values.tobytes()
    assert broken.tolist() == [isinstance(row, str) and row == "broken" for row in wanted]


@settings(max_examples=50, deadline=None)
@given(columns())
def test_lists_as_they_are_show_what_has_a_form(case):
    """A preview of vectors has the values of each row however many, and null for what has no form in their type."""
    column, rows, item = case

    def shown(row):
        parts = row if row is None or flat(row) is None or flat(row) is row else flat(row)
        if parts is None:
            return None
        values = [value for part in parts for value in (part if isinstance(part, list) else [part])]
        nested = pa.types.is_nested(column.type.value_type)
        values = [v for part in parts if part is not None for v in part] if nested and parts is row else values
        low, high = (np.iinfo(item).min, np.iinfo(item).max) if item in WHOLE else (-INF, INF)
        return None if any(v is not None and item in WHOLE and not low <= v <= high for v in values) else values

    with np.errstate(over="ignore"):
        wanted = pa.array([shown(row) for row in rows], pa.list_(physical(item)))
        wanted = pa.array(
            [
                None if row is None else [None if v is None else np.dtype(item).type(v).item() for v in row]
                for row in wanted.to_pylist()
            ],
            pa.list_(VECTOR_ITEMS[item]),
        )
    found = as_lists(column, item)
    assert found.type == wanted.type
    assert str(found.to_pylist()) == str(wanted.to_pylist())


BYTES = {
    "bytes": pa.binary(),
    "large bytes": pa.large_binary(),
    "fixed bytes": pa.binary(WIDTH),
    "views": pa.binary_view(),
}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bytes_are_a_vector_of_uint8(data):
    """Bytes in any layout and slice are what lists of the same numbers are: rows, broken rows, previews."""
    layout = data.draw(st.sampled_from(sorted(BYTES)))
    one = st.binary(min_size=WIDTH, max_size=WIDTH)
    one = one if layout == "fixed bytes" else st.one_of(one, st.binary(max_size=WIDTH + 1))
    rows = data.draw(st.lists(st.one_of(st.none(), *[one] * 5), max_size=8))
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    column = pa.array(rows, BYTES[layout])[start:stop]
    same = pa.array([None if row is None else list(row) for row in rows[start:stop]], pa.list_(pa.uint8()))
    assert is_readable(column.type, ColumnType("vector", WIDTH, "uint8"))
    matrix, broken = matrix_of(column, WIDTH, "uint8")
    wanted, wanted_broken = matrix_of(same, WIDTH, "uint8")
    assert (matrix.tolist(), broken.tolist()) == (wanted.tolist(), wanted_broken.tolist())
    assert as_lists(column, "uint8").equals(as_lists(same, "uint8"))


def test_bytes_of_another_length_are_set_aside():
    """A row of bytes that is too short, or null, is rejected by its rule; bytes are read as no other type."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "uint8[2]"}]})
    frame = contract.apply(pa.table({"x": pa.array([b"\x00\xff", b"a", None, b"bc"])}), "test")
    assert frame["x"].tolist() == [[0, 255], [0, 0], [0, 0], [98, 99]]
    assert [(r.rows.tolist(), r.code, r.message) for r in frame.rejections] == [
        ([1], "WRONG_LENGTH", "x does not have 2 values"),
        ([2], "MISSING", "x has no value"),
    ]
    for kind in ("float32[2]", "int8[2]", "list<int64>", "int64"):
        assert not is_readable(pa.binary(2), ColumnType.parse(kind))
    wrong = Contract.model_validate({"fields": [{"name": "x", "type": "float32[2]"}]})
    with pytest.raises(ContractError, match=r"x.* binary.* \(bytes are read as uint8\[2\]\)"):
        wrong.check_schema(pa.schema({"x": pa.binary()}), "test")


@pytest.mark.parametrize("layout", sorted(set(BYTES) - {"views"}))
def test_bytes_reach_their_tensor_without_a_copy(layout):
    """A tensor over whole rows of bytes, in a slice of a column, is the memory of the column."""
    numbers = np.arange(10 * WIDTH, dtype=np.uint8).reshape(10, WIDTH)
    column = pa.array([row.tobytes() for row in numbers], BYTES[layout])[3:]
    contract = Contract.model_validate({"fields": [{"name": "x", "type": f"uint8[{WIDTH}]"}]})
    frame = contract.apply(pa.table({"x": column}), "test")
    output = TensorOutput.model_validate({"tensor": "x", "dtype": "uint8", "from": ["x"], "shape": [-1, 2, 2]})
    tensor: Any = tensor_of(frame, output, "/outputs/tensors/0")
    assert (tensor.reshape(-1, WIDTH) == numbers[3:]).all()
    assert tensor.__array_interface__["data"][0] == column.buffers()[-1].address + 3 * WIDTH


@pytest.mark.parametrize("item", sorted(set(VECTOR_ITEMS) - {"bool"}))
@pytest.mark.parametrize("layout", ["list", "large", "fixed", "nested", "sliced"])
def test_a_vector_reaches_its_tensor_without_a_copy(item, layout):
    """A tensor over whole lists of its own element type is the memory of the column, whatever the shape."""
    numbers = np.arange(10 * 784).reshape(10, 784).astype(item)
    leaves = pa.array(numbers.reshape(-1))
    offsets = np.arange(0, 7841, 784)
    column = {
        "list": lambda: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), leaves),
        "large": lambda: pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), leaves),
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(leaves, 784),
        "nested": lambda: pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(leaves, 28), 28),
        "sliced": lambda: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), leaves)[3:],
    }[layout]()
    contract = Contract.model_validate({"fields": [{"name": "x", "type": f"{item}[784]"}]})
    frame = contract.apply(pa.table({"x": column}), "test")
    output = TensorOutput.model_validate({"tensor": "x", "dtype": item, "from": ["x"], "shape": [-1, 1, 28, 28]})
    tensor: Any = tensor_of(frame, output, "/outputs/tensors/0")
    start = 3 if layout == "sliced" else 0
    assert tensor.dtype == item
    assert tensor.shape == (10 - start, 1, 28, 28)
    assert (tensor.reshape(-1, 784) == numbers[start:]).all()
    address = leaves.buffers()[1].address + start * 784 * numbers.itemsize
    assert tensor.__array_interface__["data"][0] == address


def test_an_integer_that_a_vector_cannot_hold_rejects_its_row():
    """An int64 list is read as uint8 value by value: a row with another number is rejected, and none is wrapped."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "uint8[2]"}]})
    table = pa.table({"x": pa.array([[0, 255], [1, 256], [-1, 0], None, [3, None]], pa.list_(pa.int64()))})
    frame = contract.apply(table, "test")
    assert frame["x"].tolist() == [[0, 255], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert [(r.rows.tolist(), r.code, r.message) for r in frame.rejections] == [
        ([4], "WRONG_LENGTH", "x has a null among its 2 values"),
        ([1, 2], "OUT_OF_RANGE", "x has a value that uint8 cannot hold"),
        ([3], "MISSING", "x has no value"),
    ]


def test_integers_beside_a_null_stay_integers():
    """A null in a list sets its row aside and makes no float of another row: integers beyond 2^53 arrive unchanged."""
    rows = [[2**53 + 1, 3], [1, None], [2**63 - 1, -(2**63)]]
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "int64[2]"}]})
    frame = contract.apply(pa.table({"x": pa.array(rows, pa.list_(pa.int64()))}), "test")
    output = TensorOutput.model_validate({"tensor": "x", "dtype": "int64", "from": ["x"]})
    tensor: Any = tensor_of(frame, output, "/outputs/tensors/0")
    assert tensor[~frame.gone].tolist() == [rows[0], rows[2]]
    assert frame.gone.tolist() == [False, True, False]


@pytest.mark.parametrize("first", [None, [], [None, None], [1]])
def test_the_first_row_decides_nothing(first):
    """A batch whose first row has no vector, or half of one, has the tensor of its type and width all the same."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "uint8[2]"}]})
    frame = contract.apply(pa.table({"x": pa.array([first, [1, 2], [3, 4]], pa.list_(pa.int16()))}), "test")
    output = TensorOutput.model_validate({"tensor": "x", "dtype": "uint8", "from": ["x"], "shape": [-1, 1, 2]})
    tensor: Any = tensor_of(frame, output, "/outputs/tensors/0")
    assert tensor[~frame.gone].tolist() == [[[1, 2]], [[3, 4]]]


@pytest.mark.parametrize(
    ("found", "wanted", "is_read"),
    [
        (pa.list_(pa.float32()), "uint8[2]", False),
        (pa.list_(pa.bool_()), "uint8[2]", False),
        (pa.list_(pa.int64()), "float16[2]", False),
        (pa.list_(pa.int64()), "bool[2]", False),
        (pa.list_(pa.bool_()), "bool[2]", True),
        (pa.list_(pa.float64()), "float16[2]", True),
        (pa.large_list(pa.list_(pa.float32(), 2)), "float32[4]", True),
        (pa.list_(pa.string()), "float32[4]", False),
        (pa.list_(pa.decimal128(20, 0)), "uint16[4]", True),
        (pa.list_(pa.list_(pa.int64())), "list<int64>", False),
    ],
)
def test_a_schema_says_which_lists_are_read_as_which_vectors(found, wanted, is_read):
    """Integers are read as integers, floats as floats and bools as bools, of any width and nesting."""
    assert is_readable(found, ColumnType.parse(wanted)) == is_read


@pytest.mark.parametrize("item", ["bool", "uint8", "int8", "int32", "uint32"])
@pytest.mark.parametrize("key", ["on_missing", "on_invalid"])
def test_a_vector_that_cannot_be_missing_says_so(item, key):
    """A vector of integers or bools has no missing value, so its contract may make none."""
    field = {"name": "x", "type": f"{item}[2]", key: "as_missing"}
    with pytest.raises(ValueError, match=rf"an? {item} vector is never missing, so {key} is reject or fail"):
        Contract.model_validate({"fields": [field]})


@pytest.mark.parametrize("item", sorted(VECTOR_ITEMS))
def test_ops_on_elements_and_lists_take_every_vector(item):
    """Scaling, statistics, copies, choices and assemblies of a vector of any item are those of the same numbers."""
    rows = [[1, 0], [1, 1]] if item == "bool" else [[1, 2], [3, 100]]
    frame = frame_of(x=(f"{item}[2]", [[bool(v) for v in row] for row in rows] if item == "bool" else rows))
    numbers = np.array(rows, np.float64)
    (scaled,) = applied(frame, "arith", "x", params={"operator": "div", "right": 4})
    assert bits(scaled) == bits((numbers / 4).astype(np.float32))
    (clipped,) = applied(frame, "clip", "x", params={"upper": 1.5})
    assert bits(clipped) == bits(np.minimum(numbers, 1.5).astype(np.float32))
    for stat, wanted in (("sum", numbers.sum(axis=1)), ("max", numbers.max(axis=1)), ("len", [2.0, 2.0])):
        (found,) = applied(frame, "list_stat", "x", params={"stat": stat})
        assert found.tolist() == list(wanted)
    (assembled,) = applied(frame, "assemble", "x", "x")
    assert bits(assembled) == bits(np.hstack([numbers, numbers]).astype(np.float32))
    (chosen,) = applied(frame, "coalesce", "x", "x")
    assert chosen.dtype == item
    assert chosen.tolist() == frame["x"].tolist()


@pytest.mark.parametrize(
    ("item", "step", "reason"),
    [
        ("uint8", {"op": "standardize", "in": ["x"], "out": ["y"]}, "takes numbers, found uint8"),
        ("float64", {"op": "weigh", "in": ["x"], "out": ["y"]}, "takes a vector of float32, found float64"),
        ("bool", {"op": "missing_flag", "in": ["x"], "out": ["y"]}, "takes scalars, lists and structs, found bool"),
        ("float16", {"op": "string_index", "in": ["x"], "out": ["y"]}, "found float16"),
        (
            "int8",
            {
                "op": "if",
                "in": [],
                "out": ["y"],
                "params": {"condition": {"is_null": "k"}, "then": {"column": "x"}, "else": "as_missing"},
            },
            "takes no as_missing beside int8",
        ),
    ],
)
def test_other_ops_refuse_a_vector_before_any_row(item, step, reason):
    """An op that has no meaning for a vector, or for one that is never missing, says so of the spec."""
    fields = [{"name": "x", "type": f"{item}[2]"}, {"name": "k", "type": "int64"}]
    with pytest.raises(SpecError, match=reason):
        spec_of(fields, [{"id": "s", **step}], fitted=False)


TAKING = {"abs", "assemble", "coalesce", "copy", "drop", "exp", "list_stat", "log", "rename", "round", "sqrt"}
"""Some ops that take a vector of any item."""


@pytest.mark.parametrize("item", ["uint8", "bool", "float16", "float64"])
def test_every_op_takes_a_vector_or_refuses_the_spec(item):
    """An op in whose place a vector is put is refused with the spec, or runs over rows of it: none fails in between."""
    value = True if item == "bool" else 2
    column = pa.array([[value] * 3] * 20, pa.list_(VECTOR_ITEMS[item]))
    taken = set()
    for op, (inputs, _, _) in STEPS.items():
        recipe = json.loads(json.dumps(document(op)))
        table = rows(20)
        for field in recipe["input"]["fields"]:
            if field["name"] in inputs:
                place = table.schema.get_field_index(field["name"])
                table = table.set_column(place, field["name"], column)
                field.clear()
                field.update({"name": table.schema.names[place], "type": f"{item}[3]"})
        try:
            spec = read_spec(json.dumps(recipe), "recipe.json", fitted=False)
        except SpecError:
            continue
        spec.schemas()
        made = fit(spec, table).transform(table)
        assert made.rows.size + made.filtered.size + sum(r.rows.size for r in made.rejections) == 20
        taken.add(op)
    assert taken.issuperset(TAKING)


def test_golden_rows_hold_vectors_of_every_item():
    """A fitted spec with a vector of each item replays its golden rows, NaN, ±inf and lists of lists among them."""
    names = sorted(VECTOR_ITEMS)
    fields = "\n".join(f'    - {{name: {name}_v, type: "{name}[4]"}}' for name in names)
    floats = ", ".join(f"{name}_v" for name in names if name != "bool")
    text = f"""
format: scorespec/1
spec_id: vectors
input:
  fields:
{fields}
steps:
  - {{id: all, op: assemble, in: [{floats}], out: [all]}}
outputs: {{tensors: [{{tensor: x, from: [all, bool_v]}}]}}
"""
    columns = {}
    for name in names:
        values: list[Any] = [[[1, 0], [0, 1]], [[1, 1], [1, 1]]]
        if name in FLOATS:
            values = [[[NAN, INF], [0.5, -INF]], [[0.1, 65504.0], [-0.0, 1e-7]]]
        columns[f"{name}_v"] = pa.array(
            [[[bool(v) for v in part] for part in row] for row in values] if name == "bool" else values,
            pa.list_(pa.list_(VECTOR_ITEMS[name])),
        )
    fitted = fit(read_spec(text, "recipe.yaml", fitted=False), pa.table(columns))
    assert len(fitted.golden) == 2
    again = read_spec(fitted.to_bytes().decode(), "spec.json")
    replay(again)
    assert again.to_bytes() == fitted.to_bytes()


def test_the_name_of_no_vector_is_refused_with_what_there_is():
    """A type that is none names the items of vectors, and what it is near to."""
    with pytest.raises(ValueError, match=r"uint8\|bool\[width\].*Did you mean \"uint8\[3\]\""):
        ColumnType.parse("unit8[3]")
    with pytest.raises(ValueError, match="a vector has 1 to 9,999,999 values a row"):
        ColumnType.parse("uint8[0]")
    for item in VECTOR_ITEMS:
        assert str(ColumnType.parse(f"{item}[3]")) == f"{item}[3]"
