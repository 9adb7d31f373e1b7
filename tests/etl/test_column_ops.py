from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.contract import Contract
from etl.errors import SpecError
from etl.frame import Frame
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.types import ColumnType
from tests.etl.nasty import (
    DATES,
    FLOATS,
    INF,
    INSTANTS,
    INT64S,
    NAN,
    TEXTS,
    applied,
    arrow,
    bits,
    frame_of,
    plain,
    same_floats,
    spec_of,
    step_of,
)

COLUMNS: dict[str, list[Any]] = {
    "bool": [True, None, False],
    "int32": [1, None, -(2**31)],
    "int64": INT64S,
    "float32": [1.5, NAN, None, INF, -0.0],
    "float64": FLOATS,
    "string": TEXTS,
    "date": DATES,
    "timestamp": INSTANTS,
}
X = {"name": "x", "type": "float64"}
S = {"name": "s", "type": "string"}


def missing(value):
    """Tell whether a value is missing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def exactly(column):
    """Return a column as values that are equal only if they are the same: floats by their bits, None for missing."""
    values = column.to_pylist() if isinstance(column, pa.Array) else column.tolist()
    return [None if missing(x) else x.hex() if isinstance(x, float) else x for x in values]


def same(found, values):
    """Tell whether a column holds these values, floats to the bit."""
    return exactly(found) == [None if missing(x) else float(x).hex() if isinstance(x, float) else x for x in values]


@pytest.mark.parametrize("op", ["copy", "rename"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_new_name_changes_nothing(op, kind):
    """A copied or renamed column is the same object under its new name, whatever its type is."""
    frame = frame_of(x=(kind, COLUMNS[kind]))
    (found,) = applied(frame, op, "x")
    assert found is frame["x"]


@pytest.mark.parametrize("op", ["copy", "rename"])
def test_a_new_name_keeps_what_is_known_of_a_column(op):
    """NaN that is a value stays one under another name, and a vector that is not there is null again in the end."""
    fields = [{"name": "x", "type": "float64", "nan_is_value": True}, {"name": "v", "type": "float32[2]"}]
    table = pa.table({"x": arrow([NAN, None], "float64"), "v": arrow([None, [1.0, 2.0]], "float32[2]")})
    frame = Contract.model_validate({"fields": fields}).apply(table, "t")
    step_of(op, ["x", "v"], ["y", "w"]).run(frame, "/steps/0")
    assert frame.missing("y").tolist() == [False, True]
    assert frame.arrow("w").to_pylist() == [None, [1.0, 2.0]]
    (filled,) = applied(frame, "impute", "y", params={"strategy": "constant", "value": 7})
    assert same_floats(filled, [NAN, 7.0])


def test_the_old_name_is_gone():
    """A renamed or dropped column can be neither read, nor put into a tensor, nor handed through, nor written anew."""
    rename = {"id": "r", "op": "rename", "in": ["x", "s"], "out": ["y", "t"]}
    drop = {"id": "d", "op": "drop", "in": ["x", "s"]}
    clip = {"id": "c", "op": "clip", "in": ["x"], "out": ["z"], "params": {"lower": 0}}
    again = {"id": "a", "op": "constant", "out": ["x"], "params": {"value": 1, "type": "float64"}}
    for step, columns in itertools.product((rename, drop), (["x"], ["s"])):
        with pytest.raises(SpecError, match=rf"/outputs/tensors/0/from/0: column '{columns[0]}' is made by no step"):
            spec_of([X, S, {"name": "k", "type": "float64"}], [step], columns=columns)
    with pytest.raises(SpecError, match=r"/steps/1/in/0: column 'x' is not there at step 'c'"):
        spec_of([X, S], [rename, clip], columns=["y"])
    with pytest.raises(SpecError, match=r"/steps/1/out/0: column 'x' is already written"):
        spec_of([X, S], [rename, again], columns=["y"])
    schemas = spec_of([X, S], [rename], columns=["y"]).schemas()
    assert [list(schema) for _, schema in schemas] == [["x", "s"], ["y", "t"]]


def test_a_column_that_is_dropped_is_read_before():
    """Steps before a drop have the column, and the spec makes the tensors of the spec without the drop."""
    clip = {"id": "c", "op": "clip", "in": ["x"], "out": ["z"], "params": {"lower": 0}}
    drop = {"id": "d", "op": "drop", "in": ["x"]}
    batch = pa.record_batch({"x": arrow(FLOATS, "float64")})
    tensors = []
    for steps in ([clip], [clip, drop]):
        pipeline = Pipeline(spec_of([X], steps, columns=["z"]), {})
        tensors.append(bits(pipeline.transform(pipeline.contract(batch, "b")).tensors["x"]))
    assert tensors[0] == tensors[1]


@pytest.mark.parametrize("op", ["rename", "copy"])
def test_there_are_as_many_names_out_as_in(op):
    """A step that names more columns in than out, or the other way round, is refused with both numbers."""
    with pytest.raises(ValueError, match="as many columns in `out` as in `in`, found 1 and 2"):
        step_of(op, ["a", "b"], ["c"]).infer((ColumnType("bool"), ColumnType("bool")))


def test_a_drop_makes_nothing():
    """A drop with a name in `out` is refused."""
    with pytest.raises(ValidationError, match="at most 0"):
        step_of("drop", ["x"], ["y"])


CONSTANTS = [
    ("bool", True, True),
    ("int32", -(2**31), -(2**31)),
    ("int64", 2**63 - 1, 2**63 - 1),
    ("float32", 0.1, float(np.float32(0.1))),
    ("float64", -0.0, -0.0),
    ("float64", 7, 7.0),
    ("string", "", ""),
    ("string", "漢\x00", "漢\x00"),
    ("date", "0001-01-01", date(1, 1, 1)),
    ("timestamp", "2024-02-29T23:59:58.5+02:00", datetime(2024, 2, 29, 21, 59, 58, 500_000, tzinfo=UTC)),
    ("timestamp", "2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
]


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize(("kind", "value", "wanted"), CONSTANTS)
def test_a_constant_is_the_same_in_every_row(kind, value, wanted, rows):
    """A constant column holds its value, of the type that is named, in each row, and has no missing value."""
    step = step_of("constant", [], params={"value": value, "type": kind})
    frame = Frame(rows, {})
    step.run(frame, "/steps/0")
    assert same(frame["out"], [wanted] * rows)
    assert frame.kind("out") == kind == str(step.infer(())[0])
    assert not frame.missing("out").any()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("bool", 1), ("int32", 2**31), ("int64", 1.0), ("int64", 2**63), ("float32", 1e39), ("float64", 2**53 + 1)),
        *(("float64", "1"), ("string", 1), ("date", "2023-02-29"), ("date", "2024-01-01T00:00"), ("timestamp", "now")),
        *(("timestamp", 0), ("uint64", 1), ("float32[2]", 1), ("list<int64>", 1), ("float64", True), ("int64", False)),
        *(("float64", None), ("float64", INF), ("string", [1])),
    ],
)
def test_a_constant_of_another_type_is_refused(kind, value):
    """A value that the type cannot hold exactly, a float32 apart, is refused when the spec is read."""
    with pytest.raises(ValidationError):
        step_of("constant", [], params={"value": value, "type": kind})


def test_a_constant_says_which_type_it_is_not():
    """The message has the type, the value and, for an instant, how one is written."""
    with pytest.raises(ValidationError, match=r"type is int32, which cannot hold 1\.5"):
        step_of("constant", [], params={"value": 1.5, "type": "int32"})
    with pytest.raises(ValidationError, match=r'type is date, and "x" is no value of that type, such as 2024-02-29'):
        step_of("constant", [], params={"value": "x", "type": "date"})


STRUCT = ColumnType.parse("struct<a: float64, b.c: string, d: date>")


def test_a_field_of_a_struct_is_a_column():
    """Each field comes out in its type, missing where the struct is null, whatever lies behind the null, or sliced."""
    rows = [{"a": 1.5, "b.c": "x", "d": date(2000, 2, 29)}, None, {"a": NAN, "b.c": None, "d": None}, None]
    column = pa.array(rows, STRUCT.arrow)
    hidden = pa.StructArray.from_arrays(
        [pa.array([1.5, 9.0, NAN, 9.0]), pa.array(["x", "y", None, "y"]), pa.array([date(2000, 2, 29)] * 4)],
        fields=list(STRUCT.arrow),
        mask=pa.array([False, True, False, True]),
    )
    for struct in (column, hidden, pa.concat_arrays([column, column])[4:]):
        frame = Frame(4, {"x": struct})
        for name, wanted in (("a", [1.5, None, None, None]), ("b.c", ["x", None, None, None])):
            step = step_of("struct_get", ["x"], params={"field": name})
            step.run(frame, "/s")
            assert plain(frame["out"]) == wanted
            assert str(step.infer((STRUCT,))[0]) == frame.kind("out")
    assert Frame(4, {"x": applied(Frame(4, {"x": column}), "struct_get", "x", params={"field": "a"})[0]}).missing(
        "x"
    ).tolist() == [False, True, True, True]


def test_a_field_that_is_not_there_is_refused():
    """A field that the struct lacks, and a column that is no struct, are refused with what was found."""
    step = step_of("struct_get", ["x"], params={"field": "e"})
    with pytest.raises(ValueError, match=r"takes a struct with a field 'e', found struct<a: float64"):
        step.infer((STRUCT,))
    with pytest.raises(ValueError, match="takes a struct, found string"):
        step.infer((ColumnType("string"),))


def test_cast_makes_no_lists():
    """A target that is no scalar is refused when the spec is read."""
    for to in ("list<int64>", "struct<a: int64>", "float32[2]"):
        with pytest.raises(ValidationError, match="is a scalar type"):
            step_of("cast", ["x"], params={"to": to})


def choose(condition, then, otherwise, **columns):
    """Return what `if` makes, and what type it says it makes."""
    frame = frame_of(**columns)
    params = {"condition": condition, "then": then, "else": otherwise}
    step = step_of("if", [], params=params)
    (kind,) = step.infer(tuple(ColumnType.parse(columns[name][0]) for name in step.reads))
    step.run(frame, "/steps/0")
    assert frame.kind("out") == ("vector" if kind.kind == "vector" else str(kind))
    return frame["out"], str(kind)


@pytest.mark.parametrize("kind", COLUMNS)
def test_if_chooses_row_by_row(kind):
    """Each row has the value of the side that its condition chooses, to the bit, and missing where that one is."""
    pairs = list(itertools.product(COLUMNS[kind], COLUMNS[kind]))
    flags = [(n % 3 == 0, n % 3 == 1, None)[n % 2 * 2] for n in range(len(pairs))]
    columns = {"c": ("bool", flags), "a": (kind, [a for a, _ in pairs]), "b": (kind, [b for _, b in pairs])}
    found, type_ = choose({"cmp": ["c", "==", True]}, {"column": "a"}, {"column": "b"}, **columns)
    assert type_ == kind
    assert same(found, [a if flag else b for flag, (a, b) in zip(flags, pairs, strict=True)])
    found, type_ = choose({"is_null": "c"}, "as_missing", {"column": "b"}, **columns)
    assert type_ == kind
    assert same(found, [None if flag is None else b for flag, (_, b) in zip(flags, pairs, strict=True)])


LITERALS = {
    "bool": (True, True),
    "int32": (-7, -7),
    "int64": (2**63 - 1, 2**63 - 1),
    "float32": (0.1, float(np.float32(0.1))),
    "float64": (-0.0, -0.0),
    "string": ("", ""),
    "date": ("2000-02-29", date(2000, 2, 29)),
    "timestamp": ("2000-02-29 01:00", datetime(2000, 2, 29, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_if_replaces_by_a_literal(kind):
    """A literal of the column's type stands where the condition is true, as in a conditional replacement."""
    written, meant = LITERALS[kind]
    values = COLUMNS[kind]
    found, type_ = choose({"is_null": "x"}, {"as_value": written}, {"column": "x"}, x=(kind, values))
    assert type_ == kind
    assert same(found, [meant if missing(value) else value for value in values])
    found, _ = choose({"is_null": "x"}, {"column": "x"}, {"as_value": written}, x=(kind, values))
    assert same(found, [None if missing(value) else meant for value in values])


@pytest.mark.parametrize(("kind", "literal"), [("int32", 0.5), ("int64", 0.5), ("int32", 2**40), ("float32", 1e300)])
def test_a_number_that_the_type_cannot_hold_makes_float64(kind, literal):
    """A column of numbers and a number that its type cannot hold give float64, both exactly."""
    values = [0, 1, None, -5]
    found, type_ = choose({"cmp": ["x", "==", 1]}, {"as_value": literal}, {"column": "x"}, x=(kind, values))
    assert type_ == "float64"
    assert same(found, [0.0, float(literal), None, -5.0])


@pytest.mark.parametrize(
    ("then", "otherwise", "kind", "wanted"),
    [
        ({"as_value": 1}, {"as_value": 0}, "float64", [1.0, 0.0, 0.0]),
        ({"as_value": 1.5}, "as_missing", "float64", [1.5, None, None]),
        ("as_missing", {"as_value": "x"}, "string", [None, "x", "x"]),
        ({"as_value": True}, {"as_value": False}, "bool", [True, False, False]),
    ],
)
def test_two_literals_are_a_column_too(then, otherwise, kind, wanted):
    """Two literals, or one and missing, give bool, string or float64."""
    found, type_ = choose({"cmp": ["x", ">", 0]}, then, otherwise, x=("float64", [1.0, -1.0, None]))
    assert type_ == kind
    assert same(found, wanted)


def test_different_numbers_meet_in_float64():
    """Two types of numbers give float64, and a row whose integer it cannot hold is rejected, chosen or not."""
    frame = frame_of(a=("int64", [1, 2**53 + 1, None]), b=("float32", [0.5, 1.5, 2.5]))
    params = {"condition": {"cmp": ["b", ">", 1]}, "then": {"column": "b"}, "else": {"column": "a"}}
    step = step_of("if", [], params=params)
    assert step.infer((ColumnType("float32"), ColumnType("int64"))) == (ColumnType("float64"),)
    (found,) = step.apply(frame, "/steps/0")
    assert same(found, [1.0, 1.5, 2.5])
    assert [(r.code, r.rows.tolist()) for r in frame.rejections] == [("INEXACT", [1])]


REFUSED = [
    ({"column": "x"}, {"column": "s"}, "chooses between values of one type, found float64 and string"),
    ({"column": "x"}, {"column": "b"}, "chooses between values of one type, found bool and float64"),
    ({"column": "s"}, {"as_value": 1}, "one is string, and 1 is no value of that type"),
    ({"column": "x"}, {"as_value": "1"}, 'one is float64, and "1" is no value of that type'),
    ({"column": "x"}, {"as_value": 2**53 + 1}, "one is float64, which cannot hold 9007199254740993"),
    ({"column": "i"}, {"as_value": True}, "and true is no value of that type"),
    ({"column": "v"}, {"as_value": 1}, r"one is float32\[2\], and 1 is no value of that type"),
    ({"column": "w"}, "as_missing", r"takes no as_missing beside int64\[2\], which is never missing"),
    ({"as_value": "a"}, {"as_value": 1}, "chooses between values of one type, found float64 and string"),
]


@pytest.mark.parametrize(("then", "otherwise", "message"), REFUSED)
def test_sides_of_different_types_are_refused(then, otherwise, message):
    """Two sides without a type in common are refused when the spec is read, and the message has both."""
    kinds = {"x": "float64", "s": "string", "b": "bool", "i": "int32", "v": "float32[2]", "w": "int64[2]"}
    step = step_of("if", [], params={"condition": {"all": []}, "then": then, "else": otherwise})
    with pytest.raises(ValueError, match=message):
        step.infer(tuple(ColumnType.parse(kinds[name]) for name in step.reads))


@pytest.mark.parametrize(
    "params",
    [
        {"condition": {"all": []}, "then": {"column": "x"}},
        {"condition": {"all": []}, "then": "as_missing", "else": "as_missing"},
        {"condition": {"all": []}, "then": "x", "else": {"column": "x"}},
        {"condition": {"all": []}, "then": {"column": "x", "as_value": 1}, "else": {"column": "x"}},
        {"condition": {"all": []}, "then": 1, "else": {"column": "x"}},
        {"then": {"column": "x"}, "else": {"column": "x"}},
    ],
)
def test_if_needs_a_condition_and_two_sides(params):
    """A side that is absent, of no known form, or of two forms, and an absent condition are refused."""
    with pytest.raises(ValidationError):
        step_of("if", [], params=params)


def test_if_names_its_columns_in_its_parameters():
    """The pointers of a wrong side and of a wrong condition lead to them, and what it reads is what they name."""
    for condition, then, message in (
        (
            {"cmp": ["x", "<", "a"]},
            {"column": "x"},
            "/steps/0/params/condition/cmp/2: column 'x' is float64, and",
        ),
        ({"all": []}, {"column": "xx"}, "/steps/0/params/then/column: column 'xx' is not there at step 'i'"),
        ({"all": []}, {"colum": "x"}, '/steps/0/params/then/colum: unknown key "colum".'),
    ):
        params: dict[str, Any] = {"condition": condition, "then": then, "else": "as_missing"}
        with pytest.raises(SpecError, match=message):
            spec_of([X], [{"id": "i", "op": "if", "out": ["y"], "params": params}])


def test_vectors_lists_and_structs_are_chosen_whole():
    """A vector, a list and a struct are chosen as a whole, and missing is missing, null in the end."""
    condition = {"cmp": ["n", ">", 0]}
    for then, wanted in (({"column": "a"}, [[1.0, 2.0], [7.0, 8.0], None]), ("as_missing", [None, [7.0, 8.0], None])):
        vectors, type_ = choose(
            condition,
            then,
            {"column": "b"},
            n=("int32", [1, -1, None]),
            a=("float32[2]", [[1.0, 2.0], None, [3.0, 4.0]]),
            b=("float32[2]", [None, [7.0, 8.0], None]),
        )
        assert type_ == "float32[2]"
        frame = frame_of(n=("int32", [1, -1, None]), b=("float32[2]", [None, [7.0, 8.0], None]))
        frame["a"] = np.array([[1, 2], [NAN, NAN], [3, 4]], dtype=np.float32)
        step = step_of("if", [], params={"condition": condition, "then": then, "else": {"column": "b"}})
        step.run(frame, "/steps/0")
        assert bits(frame["out"]) == bits(vectors)
        assert frame.arrow("out").to_pylist() == wanted
    for kind, a, b in (
        ("list<int64>", [[1], None, []], [[None, 2], [], None]),
        ("struct<p: int64>", [{"p": 1}, None, {"p": None}], [{"p": 2}, {"p": 3}, None]),
    ):
        frame = Frame(3, {"n": pa.array([1, -1, 1]), "a": arrow(a, kind), "b": arrow(b, kind)})
        for then, chosen in (({"column": "a"}, [a[0], b[1], a[2]]), ("as_missing", [None, b[1], None])):
            params = {"condition": condition, "then": then, "else": {"column": "b"}}
            assert step_of("if", [], params=params).apply(frame, "/s")[0].to_pylist() == chosen
        assert applied(frame, "coalesce", "a", "b")[0].to_pylist() == [a[0], b[1], a[2]]


@pytest.mark.parametrize("kind", COLUMNS)
def test_coalesce_takes_the_first_that_is_there(kind):
    """The first of three that is not missing, to the bit, in every combination; missing where none is there."""
    rows = list(itertools.product([None, *COLUMNS[kind][:3]], repeat=3))
    columns = {name: (kind, [row[n] for row in rows]) for n, name in enumerate("abc")}
    step = step_of("coalesce", ["a", "b", "c"])
    (found,) = step.apply(frame_of(**columns), "/s")
    assert step.infer((ColumnType(kind),) * 3) == (ColumnType(kind),)
    assert same(found, [next((value for value in row if not missing(value)), None) for row in rows])


def test_coalesce_of_different_numbers_is_float64():
    """Different numbers meet in float64, and columns that ops made are coalesced like those of the contract."""
    frame = frame_of(a=("int32", [None, 1, None]), b=("float32", [NAN, 2.0, -0.0]))
    frame["c"] = np.array([5, 6, 7])
    step = step_of("coalesce", ["a", "b", "c"])
    assert step.infer((ColumnType("int32"), ColumnType("float32"), ColumnType("int64"))) == (ColumnType("float64"),)
    assert same(step.apply(frame, "/s")[0], [5.0, 1.0, -0.0])
    assert not frame.rejections
    (whole,) = applied(frame_of(a=("int64", INT64S), b=("int64", [2**63 - 1] * len(INT64S))), "coalesce", "a", "b")
    assert same(whole, [2**63 - 1 if value is None else value for value in INT64S])


def test_nan_that_is_a_value_is_chosen_and_then_missing():
    """Where NaN is a value coalesce takes it, and what it makes of it is missing."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "float64", "nan_is_value": True}]})
    frame = contract.apply(pa.table({"x": arrow([NAN, None, 1.0], "float64")}), "f")
    frame["seven"] = np.full(3, 7.0)
    (frame["y"],) = applied(frame, "coalesce", "x", "seven")
    assert same_floats(frame["y"], [NAN, 7.0, 1.0])
    assert frame.missing("y").tolist() == [True, False, False]


def test_coalesce_of_vectors_takes_whole_ones():
    """A vector with NaN inside is missing, and one that no column has is null in the end."""
    frame = frame_of(a=("float32[2]", [None, [1.0, 2.0], None]), b=("float32[2]", [[3.0, 4.0], None, None]))
    step_of("coalesce", ["a", "b"]).run(frame, "/s")
    assert frame.arrow("out").to_pylist() == [[3.0, 4.0], [1.0, 2.0], None]


@pytest.mark.parametrize(
    "types", [("float64", "string"), ("bool", "int32"), ("date", "timestamp"), ("int64", "uint64")]
)
def test_coalesce_refuses_different_types(types):
    """Columns of types that are not both numbers are refused with the types."""
    with pytest.raises(ValueError, match=f"found {' and '.join(sorted(types))}"):
        step_of("coalesce", ["a", "b"]).infer(tuple(map(ColumnType.parse, types)))


CHOOSERS = [
    step_of("coalesce", ["x", "y"]),
    step_of("coalesce", ["x", "n"]),
    step_of(
        "if",
        [],
        params={"condition": {"cmp_columns": ["x", "<", "y"]}, "then": {"column": "x"}, "else": {"column": "y"}},
    ),
    step_of("if", [], params={"condition": {"is_null": "s"}, "then": {"as_value": "?"}, "else": {"column": "s"}}),
    step_of("copy", ["x", "s"], ["p", "q"]),
    step_of("constant", [], params={"value": "2024-01-01", "type": "date"}),
]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(*(st.sampled_from(COLUMNS[k]) for k in ("float64", "float32", "int32", "string"))), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_no_cut_of_the_rows_changes_a_choice(rows, cuts):
    """A row has the same value in whatever batch it comes, and each batch is the slice of the whole."""
    kinds = {"x": "float64", "y": "float32", "n": "int32", "s": "string"}
    whole = frame_of(**{name: (kind, [row[n] for row in rows]) for n, (name, kind) in enumerate(kinds.items())})
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for step in CHOOSERS:
        columns = [exactly(column) for column in step.apply(whole, "/s")]
        pieces: list[list[Any]] = [[] for _ in columns]
        for start, stop in itertools.pairwise(edges):
            part = Frame(stop - start, {name: whole[name][start:stop] for name in kinds})
            for piece, column in zip(pieces, step.apply(part, "/s"), strict=True):
                piece.extend(exactly(column))
        assert pieces == columns


@pytest.mark.parametrize("last", [{"op": "rename", "out": ["y"]}, {"op": "drop"}])
def test_a_step_learns_from_a_column_that_is_dropped_later(last):
    """What is learned of a column is not lost where a later step drops or renames it."""
    impute = {"id": "i", "op": "impute", "in": ["x"], "out": ["z"], "params": {"strategy": "mean"}}
    fitted = fit(
        spec_of([X], [impute, {"id": "r", "in": ["x"], **last}], columns=["z"], fitted=False),
        pa.record_batch({"x": [1.0, 3.0]}),
    )
    assert fitted.steps[0].model_dump()["state"] == {"value": 2.0, "n": 2}
