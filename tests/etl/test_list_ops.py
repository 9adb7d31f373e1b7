from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.errors import SpecError
from etl.frame import Frame
from etl.types import ColumnType
from tests.etl.nasty import INF, NAN, applied, arrow, bits, plain, same_floats, spec_of, step_of

FLOATS: list[Any] = [None, NAN, INF, -INF, -0.0, 0.0, 1.5, 0.1, 1e308, -1e308, 1e39, 5e-324, 3.0, -2.5]
ELEMENTS: dict[str, list[Any]] = {
    "float64": FLOATS,
    "float32": [None, NAN, INF, -0.0, 0.0, 1.5, 3.4028234663852886e38, -2.5],
    "int64": [None, 0, 1, -1, 2**53, -(2**53), 2**63 - 1, -(2**63)],
    "int32": [None, 0, 7, 2**31 - 1, -(2**31)],
    "bool": [None, True, False],
    "string": [None, "", "a", "漢字"],
}
NUMBERS = ["float64", "float32", "int64", "int32", "bool"]


def lists_of(kind, *, max_size=6):
    """Draw rows of lists: null, empty, and with missing elements."""
    return st.lists(st.none() | st.lists(st.sampled_from(ELEMENTS[kind]), max_size=max_size), max_size=12)


def frame_of_lists(kind, rows):
    """Return a frame with one column of lists, which has other lists behind its nulls and begins in a longer one."""
    column = arrow([[*row] if row else row for row in rows], f"list<{kind}>")
    hidden = pa.ListArray.from_arrays(
        pa.array(np.cumsum([0, *(2 if row is None else len(row) for row in rows)]), pa.int32()),
        pa.array(
            itertools.chain(*(ELEMENTS[kind][1:3] if row is None else row for row in rows)), column.type.value_type
        ),
        mask=pa.array([row is None for row in rows], pa.bool_()),
    )
    assert shown(hidden) == shown(column)
    return Frame(len(rows), {"x": pa.concat_arrays([column, hidden])[len(rows) :]})


def shown(column):
    """Return a column's values so that equal ones are the same to the bit."""
    return [repr(row) for row in column.to_pylist()] if isinstance(column, pa.Array) else bits(column)


def absent(value):
    """Tell whether an element is missing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_vector(kind, row, params):
    """Return a list as a vector with its mask, by the words of list_pad."""
    length, filler = params["length"], params.get("value", 0)
    element = params.get("on_missing_element", "reject")
    kept = row or []
    kept = kept[:length] if params.get("truncate", "right") == "right" else kept[max(0, len(kept) - length) :]
    kept = [(element["as_value"] if isinstance(element, dict) else NAN) if absent(x) else x for x in kept]
    space = [filler] * (length - len(kept))
    filled = [0] * len(space)
    ones = [1] * len(kept)
    vector, mask = (
        (kept + space, ones + filled) if params.get("pad", "right") == "right" else (space + kept, filled + ones)
    )
    if row is None and params["on_missing"] == "as_missing":
        vector = [NAN] * length
    with np.errstate(over="ignore"):
        return np.array(vector, dtype=np.float32 if kind.startswith("float") else np.int64), mask


PADS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 5),
        "value": st.sampled_from([0, -1, 7]),
        "pad": st.sampled_from(["left", "right"]),
        "truncate": st.sampled_from(["left", "right"]),
        "on_missing": st.sampled_from(["as_missing", "as_empty"]),
        "on_missing_element": st.sampled_from(["as_is", {"as_value": -3}]),
        "extra": st.sampled_from([[], ["mask"], ["length"], ["length", "mask"]]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NUMBERS), PADS, st.data())
def test_a_padded_list_is_what_its_words_say(kind, params, data):
    """Vector, mask and length are those of plain Python for any list and rule, to the bit, and no row is rejected."""
    if not kind.startswith("float"):
        params = {**params, "on_missing": "as_empty", "on_missing_element": {"as_value": -3}}
    rows = data.draw(lists_of(kind))
    frame = frame_of_lists(kind, rows)
    outputs = ["v", *(f"x_{name}" for name in params["extra"])]
    step = step_of("list_pad", ["x"], outputs, params=params)
    types = step.infer((ColumnType("list", item=kind),))
    step.run(frame, "/steps/0")
    item = "float32" if kind.startswith("float") else "int64"
    assert str(types[0]) == f"{item}[{params['length']}]"
    assert frame["v"].dtype == item
    assert frame["v"].shape == (len(rows), params["length"])
    assert bits(frame["v"]) == [bits(as_vector(kind, row, params)[0]) for row in rows]
    made = {
        "mask": (f"int64[{params['length']}]", [as_vector(kind, row, params)[1] for row in rows]),
        "length": (
            "float64",
            [len(row or []) if row is not None or params["on_missing"] == "as_empty" else None for row in rows],
        ),
    }
    for name, type_ in zip(params["extra"], types[1:], strict=True):
        assert (str(type_), plain(frame[f"x_{name}"])) == made[name]
    assert not frame.rejections
    if "length" in params["extra"]:
        assert step.truncation("v") == ("x_length", params["length"])


def test_a_list_that_is_not_there_is_null_in_the_end():
    """With as_missing a row without a list has no vector, and where the column is written out it is null again."""
    frame = frame_of_lists("float64", [[1.0], None])
    params = {"length": 2, "on_missing": "as_missing"}
    step_of("list_pad", ["x"], ["v"], params=params).run(frame, "/steps/0")
    assert frame.arrow("v").to_pylist() == [[1.0, 0.0], None]
    assert frame.missing("v").tolist() == [False, True]


@pytest.mark.parametrize("kind", NUMBERS)
def test_what_is_missing_rejects_its_row_by_default(kind):
    """Without another word, a row without a list or with a missing element is quarantined under the rule's pointer."""
    value = ELEMENTS[kind][-1]
    rows = [[value], None, [value, None], [], *([[NAN]] if kind.startswith("float") else [])]
    frame = frame_of_lists(kind, rows)
    applied(frame, "list_pad", "x", params={"length": 3})
    assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == [
        ("MISSING", "/steps/0/params/on_missing", [1]),
        ("MISSING", "/steps/0/params/on_missing_element", [2, *([4] if kind.startswith("float") else [])]),
    ]


def test_integers_keep_every_bit():
    """No integer passes through a float on its way into a vector."""
    rows = [[2**63 - 1, 2**53 + 1], [-(2**63)]]
    (found,) = applied(frame_of_lists("int64", rows), "list_pad", "x", params={"length": 2, "value": -(2**63) + 1})
    assert found.tolist() == [[2**63 - 1, 2**53 + 1], [-(2**63), -(2**63) + 1]]


@pytest.mark.parametrize(
    ("kind", "params", "outputs", "message"),
    [
        ("list<string>", {}, 1, "takes list<bool> or .*, found list<string>"),
        ("float64", {}, 1, "takes list<bool> or .*, found float64"),
        ("float32[3]", {}, 1, r"takes list<bool> or .*, found float32\[3\]"),
        ("list<float64>", {}, 2, "makes the vector, found 2 names in `out`"),
        ("list<float64>", {"extra": ["mask", "length"]}, 2, "makes the vector, mask, length, found 2 names in `out`"),
        ("list<int64>", {"on_missing": "as_missing"}, 1, "makes integers of this list, which are never missing"),
        ("list<bool>", {"on_missing_element": "as_is"}, 1, "makes integers of this list, which are never missing"),
        ("list<int32>", {"value": 0.5}, 1, r"makes integers of this list, found value 0\.5"),
        ("list<int64>", {"value": 2**63}, 1, "makes integers of this list, found value"),
        ("list<int64>", {"on_missing_element": {"as_value": 0.5}}, 1, r"found as_value 0\.5"),
    ],
)
def test_a_vector_that_cannot_be_made_is_refused(kind, params, outputs, message):
    """Other columns, wrong numbers of names, and what integers cannot be are refused when the spec is read."""
    step = step_of("list_pad", ["x"], [f"o{n}" for n in range(outputs)], params={"length": 3, **params})
    with pytest.raises(ValueError, match=message):
        step.infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"length": 0},
        {"length": 10**7},
        {"length": 2, "value": INF},
        {"length": 2, "pad": "both"},
        {"length": 2, "extra": ["mask", "mask"]},
        {"length": 2, "extra": ["size"]},
        {"length": 2, "on_missing_element": "skip"},
    ],
)
def test_list_pad_refuses_other_words(params):
    """A length that is none, a filling that is no number and words that are not in the list are refused."""
    with pytest.raises(ValidationError):
        step_of("list_pad", ["x"], params=params)


BOUNDS = st.integers(-8, 8) | st.sampled_from([-(2**63), 2**63 - 1])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(ELEMENTS)), BOUNDS, st.none() | BOUNDS, st.data())
def test_a_slice_is_python_s(kind, start, stop, data):
    """Every slice of every list, empty and missing ones too, is what Python's slice gives, in the same type."""
    if start == 0 and stop is None:
        return
    rows = data.draw(lists_of(kind))
    frame = frame_of_lists(kind, rows)
    step = step_of("list_slice", ["x"], params={"start": start, **({} if stop is None else {"stop": stop})})
    (found,) = step.apply(frame, "/steps/0")
    found.validate(full=True)
    assert found.type == frame["x"].type
    assert shown(found) == shown(arrow([None if row is None else row[start:stop] for row in rows], f"list<{kind}>"))
    assert not frame.rejections


def test_a_slice_of_everything_is_refused():
    """A slice without bounds, of no list, or with a bound that is no int64, is refused."""
    for params in ({}, {"start": 0}, {"start": 1.5}, {"step": 2}, {"start": 2**63}, {"stop": -(2**63) - 1}):
        with pytest.raises(ValidationError):
            step_of("list_slice", ["x"], params=params)
    with pytest.raises(ValueError, match="takes a list, found string"):
        step_of("list_slice", ["x"], params={"stop": 1}).infer((ColumnType("string"),))


def statistic(row, stat, rule):
    """Return a statistic of a list by the words of list_stat, with Python's own arithmetic."""
    if row is None:
        return None
    there = [float(x) for x in row if not absent(x)]
    if stat == "len":
        return float(len(there) if rule == "skip" else len(row))
    if len(there) < len(row) and rule != "skip":
        return None
    total = functools.reduce(operator.add, there, 0.0)
    if stat == "sum":
        return total
    if not there:
        return None
    return total / len(there) if stat == "mean" else {"min": min, "max": max}[stat](there) + 0.0


SAFE = {
    kind: [x for x in values if kind != "int64" or x is None or abs(x) <= 2**53] for kind, values in ELEMENTS.items()
}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NUMBERS),
    st.sampled_from(["sum", "mean", "min", "max", "len"]),
    st.sampled_from(["skip", "as_missing"]),
    st.data(),
)
def test_a_statistic_is_that_of_python(kind, stat, rule, data):
    """Every statistic of every list is Python's, added from the first to the last, to the bit, and rejects no row."""
    rows = data.draw(st.lists(st.none() | st.lists(st.sampled_from(SAFE[kind]), max_size=20), max_size=12))
    frame = frame_of_lists(kind, rows)
    (found,) = applied(frame, "list_stat", "x", params={"stat": stat, "missing_elements": rule})
    wanted = [statistic(row, stat, rule) for row in rows]
    assert found.dtype == np.float64
    assert same_floats(found, [None if x is None or math.isnan(x) else x for x in wanted])
    assert not frame.rejections


@pytest.mark.parametrize("stat", ["sum", "mean", "min", "max", "len"])
def test_a_list_that_is_empty_or_not_there_has_what_is_written(stat):
    """Of an empty list the sum and the length are 0.0 and the others missing; of no list all are missing."""
    frame = frame_of_lists("float64", [[], None])
    zero = 0.0 if stat in {"sum", "len"} else None
    assert same_floats(applied(frame, "list_stat", "x", params={"stat": stat})[0], [zero, None])


@pytest.mark.parametrize("stat", ["sum", "mean", "min", "max", "len"])
def test_missing_elements_can_reject_their_row(stat):
    """`reject` sends exactly the rows with a missing element to quarantine, and a missing list is not one."""
    frame = frame_of_lists("float64", [[1.0], [1.0, NAN], None, [None], []])
    applied(frame, "list_stat", "x", params={"stat": stat, "missing_elements": "reject"})
    assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == [
        ("MISSING", "/steps/0/params/missing_elements", [1, 3])
    ]


def test_an_integer_that_is_no_float_rejects_its_row():
    """A list with an integer beyond ±2^53 has no exact statistic, but a length."""
    rows = [[2**53, -(2**53)], [1, 2**53 + 1], [-(2**53) - 1], None]
    frame = frame_of_lists("int64", rows)
    applied(frame, "list_stat", "x", params={"stat": "max"})
    assert [(r.code, r.rows.tolist()) for r in frame.rejections] == [("INEXACT", [1, 2])]
    frame = frame_of_lists("int64", rows)
    assert same_floats(applied(frame, "list_stat", "x", params={"stat": "len"})[0], [2.0, 2.0, 1.0, None])
    assert not frame.rejections


def test_only_a_length_is_of_any_list():
    """Texts have no sum, and every list has a length."""
    (found,) = applied(frame_of_lists("string", [["a", None], [], None]), "list_stat", "x", params={"stat": "len"})
    assert same_floats(found, [2.0, 0.0, None])
    assert step_of("list_stat", ["x"], params={"stat": "len"}).infer((ColumnType("list", item="string"),))
    with pytest.raises(ValueError, match="found list<string>"):
        step_of("list_stat", ["x"], params={"stat": "sum"}).infer((ColumnType("list", item="string"),))
    for params in ({}, {"stat": "median"}, {"stat": "sum", "missing_elements": "as_is"}):
        with pytest.raises(ValidationError):
            step_of("list_stat", ["x"], params=params)


def test_a_long_batch_adds_as_a_short_one():
    """Sums of thousands of lists are those of the lists alone, to the bit, however long the lists are."""
    rng = np.random.default_rng(4)
    rows = [(rng.standard_normal(rng.integers(0, 60)) * 10.0 ** rng.integers(-9, 9)).tolist() for _ in range(3000)]
    for stat in ("sum", "mean", "min", "max"):
        (whole,) = applied(frame_of_lists("float64", rows), "list_stat", "x", params={"stat": stat})
        assert same_floats(whole, [statistic(row, stat, "skip") for row in rows])


CUT = [
    step_of("list_pad", ["x"], ["v", "m", "l"], params={"length": 3, "truncate": "left", "extra": ["mask", "length"]}),
    step_of("list_slice", ["x"], params={"start": -2}),
    step_of("list_stat", ["x"], params={"stat": "mean", "missing_elements": "skip"}),
    step_of("list_stat", ["x"], params={"stat": "min"}),
]


@settings(max_examples=50, deadline=None)
@given(lists_of("float64"), st.lists(st.integers(0, 12), max_size=4))
def test_no_cut_of_the_rows_changes_a_list(rows, cuts):
    """Each batch gives the slice of what the whole gives, to the bit, and rejects the same rows."""
    whole = frame_of_lists("float64", rows)
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for step in CUT:
        columns = [shown(column) for column in step.apply(whole, "/s")]
        pieces: list[list[Any]] = [[] for _ in columns]
        rejected: list[int] = []
        for start, stop in itertools.pairwise(edges):
            part = Frame(stop - start, {"x": whole["x"][start:stop]})
            for piece, column in zip(pieces, step.apply(part, "/s"), strict=True):
                piece.extend(shown(column))
            rejected += (np.flatnonzero(part.rejected) + start).tolist()
        assert pieces == columns
        assert rejected == np.flatnonzero(whole.rejected).tolist()
        whole.rejections.clear()


def test_a_spec_of_lists_says_what_it_makes():
    """A spec reads lists, and the vectors that are made of them have a known width in its tensors."""
    fields = [{"name": "x", "type": "list<float64>"}]
    pad = {"id": "p", "op": "list_pad", "in": ["x"], "out": ["v"], "params": {"length": 3}}
    assert spec_of(fields, [pad]).widths() == {"x": 3}
    with pytest.raises(SpecError, match=r"/steps/0: op list_pad makes the vector, mask, found 1 names"):
        spec_of(fields, [{**pad, "params": {"length": 3, "extra": ["mask"]}}])
