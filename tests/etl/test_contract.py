from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from etl.contract import Contract, InputField
from etl.errors import ContractError
from etl.frame import Frame
from etl.types import ColumnType, is_readable
from tests.etl.nasty import INF, INSTANTS, NAN, TEXTS, bits, micros

PARIS = timezone(timedelta(hours=1))
WHEN = [datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC), None, datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)]
NAIVE = [when and when.replace(tzinfo=None) for when in WHEN]
DAYS = [date(1969, 12, 31), None, date(9999, 12, 31)]
WORDS = ["\u017f", None, "😀"]
LISTS = [[1.0, 2.5], None, [-0.0, 3.0]]

VARIANTS = {
    "bool": [pa.array([True, None, False]), pa.array([True, None, False]).dictionary_encode()],
    "int32": [
        pa.array([1, None, -2 if t.bit_width > 0 and "u" not in str(t) else 2], t)
        for t in (pa.int32(), pa.int16(), pa.int8())
    ],
    "int64": [
        pa.array([1, None, 2], t)
        for t in (pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint64(), pa.uint32(), pa.uint16(), pa.uint8())
    ]
    + [pa.array([1, None, 2]).dictionary_encode()],
    "uint64": [
        pa.array([1, None, 2], t)
        for t in (pa.uint64(), pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint32(), pa.uint16(), pa.uint8())
    ]
    + [pa.array([1, None, 2], pa.uint64()).dictionary_encode()],
    "float32": [pa.array([1.5, None, -2.0], t) for t in (pa.float32(), pa.float16())],
    "float64": [
        pa.array([3, None, 2], t)
        for t in (pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.uint64(), pa.int8(), pa.uint32())
    ]
    + [pa.array([3, None, 2]).dictionary_encode(), pa.array([3.0, None, 2.0]).dictionary_encode()],
    "string": [pa.array(WORDS, t) for t in (pa.string(), pa.large_string(), pa.string_view())]
    + [pa.array(WORDS).dictionary_encode(), pa.array(WORDS, pa.large_string()).dictionary_encode()]
    + [pa.DictionaryArray.from_arrays(pa.array([1, 0, 2], pa.int8()), pa.array([None, "\u017f", "😀"]))]
    + [pa.chunked_array([WORDS[:1], WORDS[1:]])],
    "date": [pa.array(DAYS, pa.date32()), pa.array(DAYS, pa.date64()), pa.array(DAYS, pa.date32()).dictionary_encode()],
    "timestamp": [pa.array(NAIVE, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")]
    + [pa.array(WHEN, pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns") for zone in ("UTC", "+01:00")]
    + [pa.array(WHEN, pa.timestamp("us", "Europe/Paris")), pa.array(NAIVE, pa.timestamp("us")).dictionary_encode()],
    "float32[2]": [
        pa.array(LISTS, t)
        for t in (
            pa.list_(pa.float32()),
            pa.list_(pa.float64()),
            pa.list_(pa.float16()),
            pa.large_list(pa.float32()),
            pa.list_(pa.float32(), 2),
            pa.list_(pa.float64(), 2),
        )
    ]
    + [pa.chunked_array([LISTS[:1], LISTS[1:]], pa.list_(pa.float32()))],
}


def contract(kind="float64", **keys):
    """Return a contract of one field, x."""
    return Contract.model_validate({"fields": [{"name": "x", "type": kind, **keys}]})


def apply(column, kind="float64", **keys):
    """Put one column through a contract of one field."""
    frame = contract(kind, **keys).apply(pa.table({"x": column}), "file.parquet")
    return frame, plain_of(frame)


def plain_of(frame):
    """Return the column x as the frame would hand it to Arrow."""
    return [None if value != value else value for value in frame.arrow("x").to_pylist()]  # noqa: PLR0124  NaN


def reasons(frame):
    """Return what was rejected and why."""
    return [(rejection.rows.tolist(), rejection.code, rejection.pointer) for rejection in frame.rejections]


@pytest.mark.parametrize(
    ("kind", "column"),
    [pytest.param(k, c, id=f"{k}-{c.type}-{n}") for k, v in VARIANTS.items() for n, c in enumerate(v)],
)
def test_every_physical_variant_gives_the_same_frame(kind, column):
    """Whatever Arrow type a file has for a declared type, the frame is the same, and so is that of a slice."""
    declared = ColumnType.parse(kind)
    assert is_readable(column.type, declared)
    table = pa.table({"x": column})
    contract(kind).check_schema(table.schema, "file")
    wanted = VARIANTS[kind][0].to_pylist()
    if kind == "timestamp":
        wanted = [when.replace(tzinfo=UTC) if when else None for when in wanted]
    for rows in (slice(None), slice(1, 3), slice(0, 0)):
        frame, _ = apply(table.column("x")[rows] if rows != slice(None) else column, kind)
        assert isinstance(frame["x"], np.ndarray) == (declared.kind == "vector")
        found = frame.arrow("x")
        assert found.type == declared.arrow
        assert found.to_pylist() == (wanted[rows] if kind != "int32" else column.to_pylist()[rows])
        assert not frame.rejections


def test_an_absent_column_of_nulls_is_of_any_type():
    """A column of Arrow's null type is missing everywhere, for every declared type."""
    for kind in VARIANTS:
        assert apply(pa.nulls(2), kind)[1] == [None, None]


@pytest.mark.parametrize("kind", VARIANTS)
def test_an_empty_batch_gives_an_empty_frame(kind):
    """A batch of no rows passes every rule of every type."""
    rules = {"nullable": False, "on_missing": "fail", "on_invalid": "fail"}
    rules |= {"range": {"min": 1, "max": 2}} if kind in {"int32", "int64", "float32", "float64"} else {}
    for column in VARIANTS[kind]:
        assert apply(column[:0], kind, **rules)[1] == []


def test_other_types_are_refused_with_the_file_and_all_columns():
    """A file whose columns have other types, are missing or stand twice is refused once, with every violation."""
    kinds = {"age": "int32", "income": "float64", "g": "bool"}
    declared = Contract.model_validate({"fields": [{"name": name, "type": kind} for name, kind in kinds.items()]})
    schema = pa.schema([("age", pa.int64()), ("incom", pa.float64()), ("g", pa.bool_()), ("g", pa.bool_())])
    with pytest.raises(ContractError) as caught:
        declared.check_schema(schema, "day=1/a.parquet")
    message = str(caught.value)
    assert message.startswith("day=1/a.parquet: breaks the input contract: ")
    assert "column 'age' has type int64, the contract says int32" in message
    assert "column 'income' is not there. Did you mean \"incom\"?" in message
    assert "column 'g' is there 2 times" in message


@pytest.mark.parametrize(
    ("found", "wanted", "cure"),
    [
        (pa.run_end_encoded(pa.int32(), pa.float64()), "float64", "decode it first: pyarrow.compute.run_end_decode"),
        (pa.binary(), "string", "bytes are no text: .cast('string') in pyarrow, CAST(… AS STRING) in Spark"),
        (pa.large_binary(), "string", "bytes are no text"),
        (pa.binary(2), "string", "bytes are no text"),
        (pa.binary(), "int32", None),
    ],
)
def test_a_type_that_a_cast_makes_readable_is_refused_with_the_cast(found, wanted, cure):
    """Run-end encoded columns, and bytes in place of text, are refused with what to do, others with their types."""
    with pytest.raises(ContractError) as caught:
        contract(wanted).check_schema(pa.schema([("x", found)]), "f")
    refused = f"column 'x' has type {found}, the contract says {wanted}"
    assert str(caught.value).startswith(f"f: breaks the input contract: {refused}{f' ({cure}' if cure else '.'}")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pa.float64(), "float32"),
        (pa.uint32(), "int32"),
        (pa.int64(), "bool"),
        (pa.decimal128(9, 2), "float32"),
        (pa.decimal128(9, -2), "float64"),
        (pa.binary(), "string"),
        (pa.string(), "date"),
        (pa.date32(), "timestamp"),
        (pa.time64("us"), "timestamp"),
        (pa.list_(pa.int64()), "float32[2]"),
        (pa.float32(), "float32[1]"),
        (pa.list_(pa.float32()), "float32"),
        (pa.struct([("a", pa.int8())]), "int32"),
    ],
)
def test_a_type_that_would_lose_values_is_not_readable(found, wanted):
    """A type whose values are not all values of the declared one is refused by the schema alone."""
    assert not is_readable(found, ColumnType.parse(wanted))
    assert not is_readable(pa.dictionary(pa.int8(), found), ColumnType.parse(wanted))


BEYOND = [
    ("int64", pa.array([5, 2**63, None, 2**64 - 1, 2**63 - 1], pa.uint64())),
    ("int64", pa.array([5, 2**63, None, 2**64 - 1, 2**63 - 1], pa.uint64()).dictionary_encode()),
    ("uint64", pa.array([5, -1, None, -(2**63), 2**63 - 1], pa.int64())),
    ("uint64", pa.array([5, -1, None, -128, 127], pa.int8())),
    ("timestamp", pa.array([5, 2**62, None, -(2**63), 9223372036854], pa.timestamp("s"))),
    ("timestamp", pa.array([5, 2**62, None, -(2**63), 9223372036854775], pa.timestamp("ms", "UTC"))),
    ("date", pa.array([86_400_000, 1, None, -1, -86_400_000], pa.int64()).view(pa.date64())),
]


@pytest.mark.parametrize(("kind", "column"), BEYOND)
def test_a_value_without_a_form_in_the_type_is_invalid(kind, column):
    """An integer or instant that the type cannot hold is never kept: its row is rejected, or the value made missing."""
    frame = contract(kind).apply(pa.table({"x": column.take(pa.array([0, 2, 4]))}), "file")
    assert not frame.rejections
    first, _, last = canonical_values(frame)
    for start in (0, 1):
        for treatment in ("reject", "as_is"):
            frame = contract(kind, on_invalid=treatment).apply(pa.table({"x": column[start:]}), "file")
            assert reasons(frame) == [([1 - start, 3 - start], "OUT_OF_RANGE", "/input/fields/0/type")]
            assert frame.rejections[0].message == f"x is a value that {kind} cannot hold"
            assert canonical_values(frame) == [first, None, None, None, last][start:]
    frame = contract(kind, on_invalid="as_missing").apply(pa.table({"x": column}), "file")
    assert (canonical_values(frame), frame.rejections) == ([first, None, None, None, last], [])
    with pytest.raises(ContractError, match=rf"'x' is a value that {kind} cannot hold in 2 rows of the batch, the fir"):
        apply(column, kind, on_invalid="fail")


def canonical_values(frame):
    """Return the column x, instants as µs: many of these are beyond Python's."""
    column = frame.arrow("x")
    return (column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def test_what_has_no_form_may_be_replaced():
    """An unsigned integer beyond int64 is replaced by the number that on_invalid gives, and only that."""
    assert apply(BEYOND[0][1], "int64", on_invalid={"as_value": -7})[1] == [5, -7, None, -7, 2**63 - 1]


def test_nanoseconds_are_floored_on_both_sides_of_1970():
    """A nanosecond before 1970 is the microsecond before it, not 1970 itself, to the ends of int64."""
    nanos = [-1, -1000, -1001, 0, 999, 1000, -(2**63), 2**63 - 1, None]
    frame, _ = apply(pa.array(nanos, pa.int64()).view(pa.timestamp("ns", "America/New_York")), "timestamp")
    assert frame.arrow("x").view(pa.int64()).to_pylist() == [n if n is None else n // 1000 for n in nanos]


def test_nasty_instants_and_texts_pass_unchanged():
    """No instant from year 1 to 9999 and no text is changed by a contract."""
    frame, _ = apply(pa.array(INSTANTS, pa.timestamp("us", "+05:30")), "timestamp")
    assert frame.arrow("x").view(pa.int64()).to_pylist() == [micros(when) for when in INSTANTS]
    assert apply(pa.array(TEXTS).dictionary_encode(), "string")[1] == TEXTS


def test_a_wide_integer_in_a_float_column_is_invalid():
    """An integer beyond ±2^53 in a float64 field is rejected, made missing, replaced or rounded, as on_invalid says."""
    values = [2**53, -(2**53), 2**53 + 1, -(2**63), None]
    column = pa.array(values)
    frame, _ = apply(column)
    assert reasons(frame) == [([2, 3], "INEXACT", "/input/fields/0/type")]
    assert apply(column, on_invalid="as_missing")[1] == [2.0**53, -(2.0**53), None, None, None]
    assert apply(column, on_invalid={"as_value": 7})[1] == [2.0**53, -(2.0**53), 7.0, 7.0, None]
    frame, found = apply(column, on_invalid="as_is")
    assert (found, frame.rejections) == ([2.0**53, -(2.0**53), 2.0**53, -(2.0**63), None], [])
    with pytest.raises(ContractError, match="'x' is an integer beyond ±2\\^53 in 2 rows of the batch, the first at 2"):
        apply(column, on_invalid="fail")
    unsigned = pa.array([2**53, 2**53 + 1, 2**64 - 1], pa.uint64())
    assert reasons(apply(unsigned)[0]) == [([1, 2], "INEXACT", "/input/fields/0/type")]


def test_a_wide_integer_read_as_a_number_is_rejected_by_the_profile():
    """An int64 beyond ±2^53 is exact as an id, and its row is rejected as soon as something reads it as a number."""
    frame, found = apply(pa.array([2**53, 2**53 + 1, None, -(2**63)]), "int64")
    assert found == [2**53, 2**53 + 1, None, -(2**63)]
    assert not frame.rejections
    frame.float64("x")
    frame.float64("x")
    assert reasons(frame) == [([1, 3], "INEXACT", "/semantics/profile")]
    for value in (2**53 + 1, -(2**53) - 1):
        frame, _ = apply(pa.array([value, 0]), "int64")
        frame.float64("x")
        assert reasons(frame) == [([0], "INEXACT", "/semantics/profile")]


@pytest.mark.parametrize(
    ("treatment", "found", "rejected"),
    [
        ("as_is", [1.0, None, None], []),
        ("as_missing", [1.0, None, None], []),
        ({"as_value": 9}, [1.0, 9.0, 9.0], []),
        ("reject", [1.0, None, None], [([1, 2], "MISSING", "/input/fields/0/on_missing")]),
    ],
)
def test_what_happens_to_a_missing_value(treatment, found, rejected):
    """Null and NaN are missing alike and are kept, replaced or rejected as on_missing says."""
    for kind in ("float32", "float64"):
        column = pa.array([1.0, None, NAN], ColumnType.parse(kind).arrow)
        frame, values = apply(column, kind, on_missing=treatment)
        assert (values, reasons(frame)) == (found, rejected)


def test_not_nullable_rejects_and_fail_fails():
    """A field that is not nullable rejects missing values by default, and `fail` stops with file, column and rule."""
    column = pa.array([1.0, NAN])
    assert reasons(apply(column, nullable=False)[0]) == [([1], "MISSING", "/input/fields/0/on_missing")]
    with pytest.raises(ContractError, match=r"^file\.parquet: column 'x' has no value in 1 row .* the first at 1; .*"):
        apply(column, on_missing="fail")


def test_nan_is_a_value_where_the_field_says_so():
    """With nan_is_value NaN is neither missing nor out of range, while null is still missing."""
    column = pa.array([NAN, None, 5.0])
    frame, _ = apply(column, nan_is_value=True, nullable=False, range={"min": 0, "max": 4})
    assert reasons(frame) == [
        ([1], "MISSING", "/input/fields/0/on_missing"),
        ([2], "OUT_OF_RANGE", "/input/fields/0/range"),
    ]
    assert frame.missing("x").tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64"])
def test_a_range_is_closed_and_exact(kind):
    """Bounds are valid, numbers beyond are not, null and NaN break no range, ±inf breaks a finite one."""
    values = [None, -1, 0, 3, 4]
    frame, _ = apply(pa.array(values, ColumnType.parse(kind).arrow), kind, range={"min": -0.5, "max": 3.5})
    assert reasons(frame) == [
        ([1], "OUT_OF_RANGE", "/input/fields/0/range"),
        ([4], "OUT_OF_RANGE", "/input/fields/0/range"),
    ]
    assert [rejection.message for rejection in frame.rejections] == ["x is below -0.5", "x is above 3.5"]
    if kind.startswith("float"):
        column = pa.array([NAN, INF, -INF, 0.0, -0.0], ColumnType.parse(kind).arrow)
        assert [r.rows.tolist() for r in apply(column, kind, range={"min": 0, "max": 9})[0].rejections] == [[2], [1]]


def test_a_float32_is_compared_as_the_number_it_is():
    """float32's 0.1 is above 0.1, so a range up to 0.1 rejects it, and one up to its own value does not."""
    column = pa.array([0.1], pa.float32())
    assert apply(column, "float32", range={"max": 0.1})[0].rejections
    assert not apply(column, "float32", range={"max": float(np.float32(0.1))})[0].rejections


def test_ranges_reach_to_the_ends_of_integers():
    """A range with one bound, or with those of the type itself, is exact at the ends of int64."""
    column = pa.array([-(2**63), 2**63 - 1, 2**53 + 1, None])
    assert not apply(column, "int64", range={"min": -(2**63)})[0].rejections
    assert apply(column, "int64", range={"min": 2**53 + 2})[0].rejections[0].rows.tolist() == [0, 2]
    assert apply(column, "int64", range={"max": 2**53}, on_invalid="as_missing")[1] == [-(2**63), None, None, None]


def test_allowed_values_are_equal_by_bytes():
    """Only the very text is allowed: no other case, no other normal form, no space more; null is no text."""
    frame, _ = apply(pa.array(TEXTS), "string", allowed=("A", "ß", "\u00e9"))
    (rejection,) = frame.rejections
    assert rejection.code == "NOT_ALLOWED"
    kept = [text for row, text in enumerate(TEXTS) if row not in rejection.rows]
    assert kept == [None, "A", "ß", "\u00e9"]
    frame, _ = apply(pa.array([1, 2, None]), "int64", allowed=(1, -5))
    assert reasons(frame) == [([1], "NOT_ALLOWED", "/input/fields/0/allowed")]


def test_length_is_counted_in_code_points():
    """max_length counts code points, neither bytes nor what a reader sees."""
    texts = ["漢字", "e\u0301", "👩‍👩‍👧", "abc", None, ""]
    frame, _ = apply(pa.array(texts), "string", max_length=2)
    assert [texts[row] for row in frame.rejections[0].rows] == [text for text in texts if text and len(text) > 2]
    assert not apply(pa.array(texts), "string", max_length=5)[0].rejections


def test_text_that_is_not_utf8_is_never_kept():
    """A row with bytes that are no UTF-8 is rejected, or its text made missing; the rows beside it are untouched."""
    raw = [b"ok", b"\xff\xfe", None, "é".encode(), b"\xed\xa0\x80"]
    for column in (
        pa.array(raw, pa.binary()).view(pa.string()),
        pa.array(raw, pa.large_binary()).view(pa.large_string()),
    ):
        for broken in (column, column.dictionary_encode(), column[:]):
            frame, values = apply(broken, "string", on_invalid="as_is")
            assert values == ["ok", None, None, "é", None]
            assert reasons(frame) == [([1, 4], "NOT_UTF8", "/input/fields/0/type")]
    assert not apply(column, "string", on_invalid="as_missing")[0].rejections
    assert apply(column, "string", on_invalid={"as_value": "?"})[1] == ["ok", "?", None, "é", "?"]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_a_vector_of_another_shape_is_rejected_and_nan(kind):
    """A vector that is short, long, empty or holds a null is rejected, and NaN in the matrix; null is missing."""
    rows = [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0], [], [1.0, None], None, [NAN, INF]]
    for start in (0, 1):
        frame, _ = apply(pa.array([[9.0], *rows], kind)[1:][start:], "float32[2]")
        gone = [n - start for n in (1, 2, 3, 4)]
        place = "/input/fields/0/type"
        assert reasons(frame) == [(gone[:3], "WRONG_LENGTH", place), (gone[3:], "WRONG_LENGTH", place)]
        matrix = frame["x"]
        assert matrix.shape == (len(rows) - start, 2)
        assert matrix.dtype == np.float32
        assert np.isnan(matrix[[*gone, 5 - start]]).all()
        assert bits(matrix[-1]) == bits(np.array([NAN, INF], np.float32))
        assert frame.arrow("x")[5 - start].as_py() is None
    assert not apply(pa.array(rows, kind), "float32[2]", on_invalid="as_missing")[0].rejections
    with pytest.raises(ContractError, match="does not have 2 values in 3 rows"):
        apply(pa.array(rows, kind), "float32[2]", on_invalid="fail")
    assert reasons(apply(pa.array([None, [1.0, 2.0]], kind), "float32[2]", nullable=False)[0])[0][1] == "MISSING"


def test_a_fixed_size_list_of_another_size_is_rejected_whole():
    """A file whose vectors are all of another length loses every row, but is read."""
    frame, _ = apply(pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float32(), 3)), "float32[2]")
    assert reasons(frame) == [([0], "WRONG_LENGTH", "/input/fields/0/type")]


def test_whole_vectors_are_not_copied():
    """A column of whole float32 vectors becomes a matrix over the same memory."""
    column = pa.array(np.arange(12, dtype=np.float32).reshape(6, 2).tolist(), pa.list_(pa.float32()))
    frame, _ = apply(column, "float32[2]")
    assert np.shares_memory(frame["x"], column.flatten().to_numpy())


def test_a_row_that_breaks_several_rules_is_in_each():
    """A frame keeps every reason in the order of the rules, and a row that is rejected already fails no run."""
    fields = (
        {"name": "a", "type": "float64", "range": {"min": 0}},
        {"name": "b", "type": "string", "max_length": 1, "allowed": ["x"]},
        {"name": "c", "type": "float64", "on_missing": "fail"},
    )
    table = pa.table({"a": [-1.0, 1.0], "b": ["yy", "x"], "c": pa.array([None, 1.0])})
    frame = Contract.model_validate({"fields": fields}).apply(table, "f")
    assert [(r.column, r.code) for r in frame.rejections] == [
        ("a", "OUT_OF_RANGE"),
        ("b", "NOT_ALLOWED"),
        ("b", "TOO_LONG"),
    ]
    assert frame.rejected.tolist() == [True, False]


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "range": {"min": 1}},
        {"type": "bool", "range": {"min": 0}},
        {"type": "int32", "range": {"max": 2**31}},
        {"type": "float64", "range": {}},
        {"type": "float64", "range": {"min": 2, "max": 1}},
        {"type": "float64", "allowed": ["a"]},
        {"type": "float64", "allowed": [1]},
        {"type": "string", "allowed": [1]},
        {"type": "string", "allowed": []},
        {"type": "int32", "allowed": [2**31]},
        {"type": "int64", "max_length": 3},
        {"type": "string", "nan_is_value": True},
        {"type": "int64", "on_invalid": {"as_value": 2**63}},
        {"type": "int64", "on_invalid": {"as_value": 1.0}},
        {"type": "int64", "on_missing": {"as_value": True}},
        {"type": "bool", "on_missing": {"as_value": 1}},
        {"type": "float32", "on_missing": {"as_value": 1e39}},
        {"type": "float64", "on_missing": {"as_value": 10**400}},
        {"type": "string", "on_missing": {"as_value": 1}},
        {"type": "date", "on_missing": {"as_value": "2020-01-01"}},
        {"type": "float32[2]", "on_missing": {"as_value": 1.0}},
        {"type": "float32[0]"},
        {"type": "decimal"},
    ],
)
def test_rules_that_do_not_fit_the_type_are_refused(field):
    """A rule that its field's type cannot have is refused when the contract is read."""
    with pytest.raises(ValidationError):
        InputField.model_validate({"name": "x", **field})


def test_a_contract_survives_json():
    """A contract written as JSON and read again is the same contract."""
    first = contract(
        "int64", on_invalid={"as_value": 3}, range={"min": 1, "max": 5}, allowed=(1, 2), pii=True, role="id"
    )
    text = json.dumps(first.model_dump(mode="json", by_alias=True))
    assert Contract.model_validate_json(text) == first


def test_a_frame_of_columns_needs_no_contract():
    """A frame made of columns by hand reads them as one from a contract."""
    frame = Frame(2, {"a": pa.array([1, None]), "b": np.array([NAN, 2.0]), "v": np.ones((2, 3), np.float32)})
    assert [frame.kind(name) for name in "abv"] == ["int64", "float64", "vector"]
    assert [frame.missing(name).tolist() for name in "abv"] == [[False, True], [True, False], [False, False]]
    assert frame.arrow("b").to_pylist() == [None, 2.0]
    assert frame.arrow("v").to_pylist() == [[1.0] * 3] * 2
