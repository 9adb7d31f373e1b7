from __future__ import annotations

import json
import math
import operator
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from etl.contract import Contract
from etl.documents import canonical_json
from etl.errors import SpecError
from etl.frame import Frame
from etl.ops.conditions import AnyCondition
from etl.spec import read_spec
from etl.types import ColumnType
from tests.etl.nasty import DATES, FLOATS, INF, INSTANTS, INT64S, NAN, TEXTS, arrow, document, frame_of

CONDITION: TypeAdapter[Any] = TypeAdapter(AnyCondition)
OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "b": ("bool", [True, False, None]),
    "i": ("int32", [None, 0, 1, -1, 2**31 - 1, -(2**31)]),
    "l": ("int64", INT64S),
    "g": ("float32", [None, NAN, INF, -INF, 0.0, -0.0, 0.10000000149011612, 1.5, 2.0**24, 2.0**53]),
    "f": ("float64", FLOATS),
    "s": ("string", [text for text in TEXTS if text is None or len(text) < 99]),
    "d": ("date", DATES),
    "t": ("timestamp", INSTANTS),
}
MADE: dict[str, tuple[str, list[Any]]] = {
    "mf": ("float64", [NAN, INF, -0.0, 0.1, 2.0**53, -(2.0**63), 2.0**63]),
    "mg": ("float32", [NAN, -INF, 1.5, 0.10000000149011612]),
    "ml": ("int64", [0, 1, 2**53 + 1, -(2**63), 2**63 - 1]),
}
"""Columns as ops make them: numpy, floats with NaN for missing, and integers that are never missing."""
ALL = {**COLUMNS, **MADE}
NUMBERS: list[Any] = [
    *(0, -1, 0.5, -0.0, 2**53, 2**53 + 1, -(2**53) - 1, 2.0**53, 2**63, 2.0**63, 2**63 - 1, -(2**63), -(2**63) - 1),
    *(10**300, -(10**300), 10**309, -(10**309), 1e19, 0.1, 0.10000000149011612, 5e-324, 1.7976931348623157e308, 1.5),
]
WRITTEN = {
    "bool": [True, False],
    "string": ["", "a", "A ", "e\u0301", "漢", "\uffff", "😀", "\x00"],
    "date": ["0001-01-01", "1582-10-15", "1970-01-01", "2000-02-29", "9999-12-31"],
    "timestamp": [
        *("1970-01-01", "2000-02-29T06:07:08Z", "2000-02-29 06:07:08", "2000-02-29T06:07", "2000-02-29T07:07:08+01:00"),
        *("1969-12-31T23:59:59.999999Z", "2021-01-01T05:30:00+05:30", "0001-01-01T00:00:00-14:59"),
        *("9999-12-31T23:59:59.9999999Z", "1899-12-31T12:30:00.000001", "1900-02-28 23:59:59.000001Z"),
    ],
}


def value_of(kind, written):
    """Return what a literal means, by Python's own reading of ISO 8601."""
    if kind == "date":
        return date.fromisoformat(written)
    if kind == "timestamp":
        when = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", written))
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    return written


def comparable(value):
    """Return a value that Python compares exactly; None for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.encode()
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if type(value) is date else value


def compared(left, op, right):
    """Compare two values as Python does; false with a missing one."""
    left, right = comparable(left), comparable(right)
    return left is not None and right is not None and bool(OPERATORS[op](left, right))


def is_true(condition, row):  # noqa: PLR0911  one a form
    """Evaluate a condition for one row, a mapping of columns to values, by the words of its grammar."""
    ((key, body),) = condition.items()
    if key in {"all", "any"}:
        return {"all": all, "any": any}[key]([is_true(part, row) for part in body])
    if key == "not":
        return not is_true(body, row)
    if key in {"is_null", "is_nan"}:
        return comparable(row[body]) is None and (key == "is_null" or row[body] is not None)
    name, *rest = body
    value, kind = row[name], ALL[name][0]
    if key == "regex_full_match":
        return value is not None and re.fullmatch(rest[0], value, re.ASCII) is not None
    if key == "cmp_columns":
        return compared(value, rest[0], row[rest[1]])
    if key == "in":
        return any(compared(value, "==", value_of(kind, written)) for written in rest[0])
    pairs = [rest] if key == "cmp" else list(zip((">=", "<="), rest, strict=True))
    return all(compared(value, op, value_of(kind, written)) for op, written in pairs)


def literals(kind):
    """Return values to compare a column with, as a spec writes them."""
    return WRITTEN.get(kind, NUMBERS)


def frame_of_rows(rows):
    """Return a frame of all columns: the contract's as it reads them, and the others as ops make them."""
    frame = frame_of(**{name: (kind, [row[name] for row in rows]) for name, (kind, _) in COLUMNS.items()})
    for name, (kind, _) in MADE.items():
        frame[name] = np.array([row[name] for row in rows], dtype=kind)
    return frame


def holds(frame, condition):
    """Return whether a condition is true, row by row; asking rejects no row and writes to no column."""
    mask = CONDITION.validate_json(json.dumps(condition), strict=True).holds(frame)
    assert mask.dtype == bool
    assert not frame.rejections
    return mask.tolist()


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("name", ALL)
def test_a_comparison_with_a_literal_is_that_of_python(name, op):
    """Every value compares with every literal as in Python, exactly; a missing one compares as false, by != too."""
    kind, values = ALL[name]
    frame = Frame(len(values), {name: np.array(values, dtype=kind)}) if name in MADE else frame_of(**{name: ALL[name]})
    for written in literals(kind):
        wanted = [compared(value, op, value_of(kind, written)) for value in values]
        assert holds(frame, {"cmp": [name, op, written]}) == wanted, written
        if op == "==":
            assert holds(frame, {"in": [name, [written]]}) == wanted, written


KINDS = [
    [name for name in ALL if ALL[name][0] in kinds]
    for kinds in ({"bool", "int32", "int64", "float32", "float64"}, {"string"}, {"date", "timestamp"})
]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("left", "right"), [(a, b) for names in KINDS for a in names for b in names])
def test_a_comparison_of_columns_is_that_of_python(left, op, right):
    """Every value compares with every other one as in Python, exactly, whatever the two types of number or time are."""
    rows = [{left: a, right: b} for a in ALL[left][1] for b in ALL[right][1] if left != right or a is b]
    full = [{name: row.get(name, ALL[name][1][-1]) for name in ALL} for row in rows]
    assert holds(frame_of_rows(full), {"cmp_columns": [left, op, right]}) == [
        compared(row[left], op, row[right]) for row in full
    ]


def test_any_two_integers_and_floats_compare_exactly():
    """Integers around every power of two compare with floats around it as real numbers do."""
    whole = [s * (2**n + d) for n in range(50, 64) for d in (-1, 0, 1) for s in (1, -1) if 2**n + d < 2**63]
    floats = sorted({f for w in whole for f in (float(w), math.nextafter(float(w), INF), math.nextafter(w, -INF))})
    pairs = [(w, f) for w in whole for f in floats]
    frame = Frame(len(pairs), {"w": np.array([w for w, _ in pairs]), "f": np.array([f for _, f in pairs])})
    for op, compare in OPERATORS.items():
        assert holds(frame, {"cmp_columns": ["w", op, "f"]}) == [compare(w, f) for w, f in pairs]
        assert holds(frame, {"cmp_columns": ["f", op, "w"]}) == [compare(f, w) for w, f in pairs]


def test_dates_and_instants_compare_over_their_whole_range():
    """A date far beyond what a timestamp can hold compares as the midnight that it is."""
    days, micros = [-(2**31), -1, 0, 1, 2**31 - 1, 106_751_991], [-(2**63), -1, 0, 1, 86_400_000_000, 2**63 - 1]
    pairs = [(d, m) for d in days for m in micros]
    columns = {
        "d": pa.array([d for d, _ in pairs], pa.int32()).view(pa.date32()),
        "t": pa.array([m for _, m in pairs], pa.int64()).view(pa.timestamp("us", "UTC")),
    }
    for op, compare in OPERATORS.items():
        wanted = [compare(d * 86_400_000_000, m) for d, m in pairs]
        assert holds(Frame(len(pairs), columns), {"cmp_columns": ["d", op, "t"]}) == wanted


def test_nan_compares_as_false_even_where_it_is_a_value():
    """Where NaN is a value it is not null, but is_nan finds it, and it compares as false with everything."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "float64", "nan_is_value": True}]})
    frame = contract.apply(pa.table({"x": arrow([NAN, None, 1.0], "float64")}), "f")
    assert holds(frame, {"is_null": "x"}) == [False, True, False]
    assert holds(frame, {"is_nan": "x"}) == [True, False, False]
    for op in OPERATORS:
        assert holds(frame, {"cmp": ["x", op, 0]})[:2] == [False, False]
        assert holds(frame, {"cmp_columns": ["x", op, "x"]})[:2] == [False, False]
    assert holds(frame, {"not": {"cmp": ["x", "!=", 0]}}) == [True, True, False]


def test_null_is_found_in_columns_of_any_type():
    """is_null takes lists, structs, vectors and ids too, and finds the rows that have none."""
    frame = Frame(
        2,
        {
            "l": pa.array([[None], None], pa.list_(pa.int64())),
            "r": pa.array([{"a": None}, None], pa.struct([("a", pa.int64())])),
            "u": pa.array([2**64 - 1, None], pa.uint64()),
            "v": np.array([[1.0, 2.0], [NAN, NAN]], dtype=np.float32),
        },
    )
    for name in "lruv":
        assert holds(frame, {"is_null": name}) == [False, True]


PATTERNS = ["a|A", "[a-z]+", "(?i)k", ".*", "A ?", "\\x00", "漢."]
CASES: list[dict[str, Any]] = [
    *(
        {"cmp": [name, op, to]}
        for name, (kind, _) in ALL.items()
        if kind != "bool"
        for op in OPERATORS
        for to in literals(kind)
    ),
    *({"cmp": ["b", op, to]} for op in ("==", "!=") for to in (True, False)),
    *({"cmp_columns": [a, op, b]} for names in KINDS for a in names for b in names for op in OPERATORS),
    *({"is_null": name} for name in ALL),
    *({"is_nan": name} for name, (kind, _) in ALL.items() if kind.startswith("float")),
    *({"regex_full_match": ["s", pattern]} for pattern in PATTERNS),
]


@st.composite
def memberships(draw):
    """Draw a condition with several literals."""
    name = draw(st.sampled_from([*ALL]))
    kind = ALL[name][0]
    if kind == "bool" or draw(st.booleans()):
        return {"in": [name, draw(st.lists(st.sampled_from(literals(kind)), max_size=6))]}
    pair = draw(st.lists(st.sampled_from(literals(kind)), min_size=2, max_size=2))
    return {"between": [name, *sorted(pair, key=lambda written: comparable(value_of(kind, written)))]}


CONDITIONS = st.recursive(
    st.sampled_from(CASES) | memberships(),
    lambda parts: st.one_of(
        st.lists(parts, max_size=4).map(lambda these: {"all": these}),
        st.lists(parts, max_size=4).map(lambda these: {"any": these}),
        parts.map(lambda part: {"not": part}),
    ),
    max_leaves=12,
)
ROWS = st.lists(st.fixed_dictionaries({name: st.sampled_from(values) for name, (_, values) in ALL.items()}), max_size=9)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, ROWS)
def test_any_condition_is_what_its_words_say(condition, rows):
    """A condition of any shape is true for exactly the rows for which Python finds it true, one by one."""
    frame = frame_of_rows(rows)
    assert holds(frame, condition) == [is_true(condition, row) for row in rows]


FIELDS = [{"name": name, "type": kind} for name, (kind, _) in ALL.items()] + [{"name": "u", "type": "uint64"}]


def spec_with(condition):
    """Return the text of a spec with a filter."""
    step = {"id": "keep", "op": "filter", "params": {"keep": condition}}
    return json.dumps({**document(FIELDS, columns=["f"]), "steps": [step]})


def names_in(condition):
    """Return the columns of a condition in the order in which they stand."""
    ((key, body),) = condition.items()
    if key in {"all", "any"}:
        return [name for part in body for name in names_in(part)]
    if key == "not":
        return names_in(body)
    if key in {"is_null", "is_nan"}:
        return [body]
    return [body[0], body[2]] if key == "cmp_columns" else body[:1]


@settings(max_examples=100, deadline=None)
@given(CONDITIONS)
def test_what_is_written_is_read_back(condition):
    """A spec with any condition reads, writes the condition as it was, and reads to the same bytes again."""
    spec = read_spec(spec_with(condition), "spec.json")
    plain = spec.plain()["steps"][0]["params"]["keep"]
    assert canonical_json(plain) == canonical_json(condition)
    assert read_spec(spec.to_bytes().decode(), "spec.json").to_bytes() == spec.to_bytes()
    assert spec.steps[0].reads == tuple(dict.fromkeys(names_in(condition)))


KEYS = "all, any, not, cmp, cmp_columns, between, in, is_null, is_nan, regex_full_match"
ONE_OF = f"should be a mapping of one of the keys {KEYS}"
DAMAGED: list[tuple[Any, str, str]] = [
    ({}, "", f"{ONE_OF}."),
    (5, "", f"{ONE_OF}."),
    (None, "", f"{ONE_OF}."),
    ([], "", f"{ONE_OF}."),
    ("cmp", "", f"{ONE_OF}."),
    ({"cpm": ["f", "<", 1]}, "", f'{ONE_OF}, found "cpm". Did you mean "cmp"?'),
    ({"x": 1}, "", f'{ONE_OF}, found "x".'),
    ({"cmp": ["f", "<", 1], "in": ["f", [1]]}, "", f'{ONE_OF}, found "cmp and in".'),
    ({"not": {"not": {"not": {}, "y": 1}}}, "/not/not", f'{ONE_OF}, found "not and y".'),
    ({"not": {"not": {"not": 5}}}, "/not/not/not", f"{ONE_OF}."),
    ({"all": [{"any": [{"is_null": "f"}, {"al": []}]}]}, "/all/0/any/1", f'{ONE_OF}, found "al". Did you mean "all"?'),
    ({"all": {"is_null": "f"}}, "/all", "should be a list, found a mapping."),
    ({"cmp": ["f", "<"]}, "/cmp", "should be [column, operator, value]."),
    ({"cmp": ["f", "<", 1, 2]}, "/cmp", "should be [column, operator, value]."),
    ({"cmp": "f < 1"}, "/cmp", "should be [column, operator, value], found 'f < 1'."),
    ({"cmp_columns": ["f"]}, "/cmp_columns", "should be [column, operator, column]."),
    ({"between": ["f", 1]}, "/between", "should be [column, lowest, highest]."),
    ({"in": ["f", 1, 2]}, "/in", "should be [column, [values]]."),
    ({"in": ["f", 1]}, "/in/1", "should be a list, found 1."),
    ({"regex_full_match": ["s"]}, "/regex_full_match", "should be [column, pattern]."),
    (
        {"not": {"cmp": ["f", "=", 1]}},
        "/not/cmp/1",
        "should be '<', '<=', '==', '!=', '>=' or '>', found '='.",
    ),
    (
        {"cmp": ["f", "==", None]},
        "/cmp/2",
        "should be a number, a text, true or false; for a missing value there is is_null, found None.",
    ),
    (
        {"in": ["f", [1, [2]]]},
        "/in/1/1",
        "should be a number, a text, true or false; for a missing value there is is_null.",
    ),
    ({"is_null": ["f"]}, "/is_null", "should be text, found a list."),
]
"""Conditions, where their fault is, and what is said of it."""


@pytest.mark.parametrize(("condition", "place", "message"), DAMAGED)
def test_a_damaged_condition_says_what_is_wrong_and_where(condition, place, message):
    """The error of a damaged condition has the pointer of the fault and says what would be right."""
    with pytest.raises(SpecError) as caught:
        read_spec(spec_with(condition), "spec.json")
    (line,) = str(caught.value).splitlines()
    found = line.partition(": ")[2].rpartition(" [")[0]
    assert found == f"/steps/0/params/keep{place}: {message}"


UNSIGNED_CURE = "declare it int64 if no value is 2^63 or more"

MISFITS = [
    ({"cmp": ["f", "<", "a"]}, "/cmp/2", "column 'f' is float64, and \"a\" is no value of that type"),
    ({"cmp": ["f", "<", True]}, "/cmp/2", "column 'f' is float64, and true is no value of that type"),
    ({"cmp": ["b", "==", 1]}, "/cmp/2", "column 'b' is bool, and 1 is no value of that type"),
    ({"cmp": ["b", "<", True]}, "/cmp/1", "column 'b' is bool and has no order, found <"),
    ({"between": ["b", False, True]}, "/between/0", "column 'b' is bool and has no order"),
    ({"between": ["l", 5, 1]}, "/between", "column 'l' is never between 5 and 1"),
    (
        {"between": ["t", "2024-01-01T01:00+02:00", "2023-12-31T22:00Z"]},
        "/between",
        "column 't' is never between '2024-01-01T01:00+02:00' and '2023-12-31T22:00Z'",
    ),
    ({"cmp": ["s", "==", 1]}, "/cmp/2", "column 's' is string, and 1 is no value of that type"),
    (
        {"cmp": ["d", "<", "2023-02-29"]},
        "/cmp/2",
        "column 'd' is date, and \"2023-02-29\" is no value of that type, such as 2024-02-29",
    ),
    ({"cmp": ["d", "<", 5]}, "/cmp/2", "column 'd' is date, and 5 is no value of that type"),
    (
        {"in": ["t", ["2024-01-01", "yesterday"]]},
        "/in/1/1",
        "column 't' is timestamp, and \"yesterday\" is no value of that type, such as 2024-02-29T23:59:58Z",
    ),
    (
        {"not": {"cmp": ["u", ">", 2**64 - 2]}},
        "/not/cmp/2",
        f"column 'u' is uint64, which is for ids and is compared with nothing; {UNSIGNED_CURE}",
    ),
    ({"is_nan": "l"}, "/is_nan", "column 'l' is int64, and is_nan takes floats"),
    (
        {"regex_full_match": ["f", "a"]},
        "/regex_full_match/0",
        "column 'f' is float64, and regex_full_match takes string",
    ),
    (
        {"all": [{"not": {"cmp_columns": ["s", "<", "f"]}}]},
        "/all/0/not/cmp_columns",
        "cmp_columns compares two columns of numbers, of texts, or of dates and timestamps, found string and float64",
    ),
]
"""Conditions that do not fit their columns, where, and what is said of it."""


@pytest.mark.parametrize(("condition", "place", "message"), MISFITS)
def test_a_condition_that_does_not_fit_its_columns_is_refused(condition, place, message):
    """A literal of another type, or a column that a condition does not take, is refused when the spec is read."""
    with pytest.raises(SpecError) as caught:
        read_spec(spec_with(condition), "spec.json")
    assert str(caught.value).partition(": ")[2] == f"/steps/0/params/keep{place}: {message}. [E-TYPE]"


def test_every_misfit_of_a_condition_is_told_at_its_own_place():
    """Parts that do not fit, and both edges of an interval, are told at once, each with its pointer and line."""
    parts = [{"is_nan": "s"}, {"all": [{"is_null": "s"}, {"between": ["f", "a", True]}]}]
    text = json.dumps(json.loads(spec_with({"any": parts})), indent=1)
    with pytest.raises(SpecError) as caught:
        read_spec(text, "spec.json")
    found = [line.split(": ")[:2] for line in str(caught.value).splitlines()]
    places = ("any/0/is_nan", "any/1/all/1/between/1", "any/1/all/1/between/2")
    assert [pointer for _, pointer in found] == [f"/steps/0/params/keep/{place}" for place in places]
    at = [text.splitlines()[int(place.split(":")[1]) - 1].strip() for place, _ in found]
    assert at == ['"is_nan": "s"', '"a",', "true"]


@pytest.mark.parametrize("pattern", ["(", "[a", "a**b(", "(?=a)", "\\1", "\\d", ""])
def test_a_pattern_that_is_none_has_its_own_pointer(pattern):
    """A pattern that is no RE2, or that engines read in different ways, is refused at its place in the condition."""
    with pytest.raises(SpecError, match=r": /steps/0/params/keep/any/0/regex_full_match/1: "):
        read_spec(spec_with({"any": [{"regex_full_match": ["s", pattern]}]}), "spec.json")


@pytest.mark.parametrize("kind", ["float32[2]", "list<float64>", "struct<a: float64>", "uint64"])
def test_what_is_no_scalar_has_no_order(kind):
    """Vectors, lists, structs and ids are compared with nothing, and every comparison says so."""
    schema = {"x": ColumnType.parse(kind)}
    for condition in (
        {"cmp": ["x", "==", 1]},
        {"in": ["x", [1]]},
        {"between": ["x", 0, 1]},
        {"cmp_columns": ["x", "<", "x"]},
    ):
        problems = CONDITION.validate_python(condition).problems(schema)
        assert problems
        assert all(kind in problem.message for problem in problems)


def test_a_column_that_is_not_there_is_named():
    """A condition on a column that is not there says which one was probably meant, wherever it stands."""
    condition = CONDITION.validate_python({"all": [{"cmp": ["incom", "<", 1]}, {"cmp_columns": ["x", "<", "income"]}]})
    assert condition.problems({"income": ColumnType("float64")}) == [
        ("/all/0/cmp/0", "column 'incom' is not there. Did you mean \"income\"?", "E-NO-COLUMN"),
        ("/all/1/cmp_columns/0", "column 'x' is not there. There is: income.", "E-NO-COLUMN"),
    ]
    with pytest.raises(SpecError, match=r"/steps/0/params/keep/not/is_null: column 'ff' is not there at step 'keep'"):
        read_spec(spec_with({"not": {"is_null": "ff"}}), "spec.json")
    with pytest.raises(SpecError) as caught:
        read_spec(spec_with({"all": [{"cmp": ["f", "==", 1]}, {"in": ["gg", ["gg"]]}, {"is_nan": "gg"}]}), "spec.json")
    pointers = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert pointers == ["/steps/0/params/keep/all/1/in/0", "/steps/0/params/keep/all/2/is_nan"]


def places_in(value, pointer=()):
    """Yield the place of every value in a JSON value."""
    yield pointer
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places_in(part, (*pointer, key))


def damaged(value, place, junk):
    """Return a JSON value with junk at a place."""
    if not place:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = damaged(value[place[0]], place[1:], junk)
    return copy


class Fixed:
    """Draws that are known beforehand, for an example."""

    def __init__(self, *drawn):
        self._drawn = list(drawn)

    def draw(self, _strategy):
        """Return the next one."""
        return self._drawn.pop(0)


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, 7, -0.5, "x", "f", True, [], {}, [1], {"a": 1}, {"not": []}, {"cmp": {}}, ["f", "<", 1]]
)


def faults_of(condition):
    """Return the lines about a condition, by their pointers; none where it is read as a spec."""
    try:
        read_spec(spec_with(condition), "spec.json")
    except SpecError as error:
        return {line.split(": ")[1]: line for line in str(error).splitlines()}
    return {}


@settings(max_examples=200, deadline=None)
@given(CONDITIONS, st.data())
@example(condition={"all": [{"cmp": ["i", "<", 0]}, {"regex_full_match": ["s", "."]}]}, data=Fixed(("all", 0), None))
@example(condition={"between": ["s", "", ""]}, data=Fixed(("between", 0), "f"))
def test_no_damage_is_a_traceback(condition, data):
    """Junk in any place is read as a spec, or named with a pointer that leads to it, above it or below it.

    What was at fault before, such as a pattern that engines read differently, may be named as it was.
    """
    before = faults_of(condition)
    place = data.draw(st.sampled_from(list(places_in(condition))))
    junk = data.draw(JUNK)
    fault = "/".join(["/steps/0/params/keep", *map(str, place)])
    if junk == "f":  # a column of another type: it is what stands beside it that does not fit
        fault = fault.rpartition("/")[0]
    for pointer, line in faults_of(damaged(condition, place, junk)).items():
        assert pointer.startswith("/steps/0")
        leads_there = f"{fault}/".startswith(f"{pointer}/") or pointer.startswith(f"{fault}/")
        assert leads_there or pointer in before, line


def test_deep_nesting_is_refused_as_a_fault():
    """A condition that is nested deeper than any reader goes is refused with a message, not by a crash."""
    deep: Any = {"is_null": "f"}
    for _ in range(90):
        deep = {"not": deep}
    assert read_spec(spec_with(deep), "spec.json").steps[0].reads == ("f",)
    text = spec_with("HERE").replace('"HERE"', '{"not":' * 5000 + '{"is_null":"f"}' + "}" * 5000)
    with pytest.raises(SpecError, match="nested too deeply"):
        read_spec(text, "spec.json")


ZONES = [UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=9, minutes=30))]


@settings(max_examples=50, deadline=None)
@given(st.datetimes(timezones=st.sampled_from(ZONES)), st.sampled_from(["auto", "milliseconds", "seconds", "minutes"]))
def test_a_literal_is_the_instant_that_it_names(when, precision):
    """An instant written in any zone equals the same instant in UTC and no other, to the microsecond."""
    text = when.isoformat(timespec=precision)
    micros = (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    column = pa.array([micros - 1, micros, micros + 1, None], pa.int64()).view(pa.timestamp("us", "UTC"))
    frame = Frame(4, {"t": column})
    assert holds(frame, {"cmp": ["t", "==", text]}) == [False, True, False, False]
    assert holds(frame, {"cmp": ["t", "<", text]}) == [True, False, False, False]


@pytest.mark.parametrize(
    "text",
    [
        *("", "2024", "2024-02", "20240229", "2024-W09-4", "2024-060", "2024-02-30", "0000-01-01", "2024-02-29T"),
        *("2024-02-29T24:00", "2024-02-29T23:60", "2024-02-29T23:59:60", "2024-02-29T23", "2024-02-29T23:59:58."),
        *("2024-02-29T23:59+0200", "2024-02-29T23:59+15:00", "2024-02-29T23:59z", " 2024-02-29", "2024-02-29\n"),
        *("\uff12024-02-29", "2024-02-29Z", "2024-02-29t23:59", "10000-01-01"),
    ],
)
def test_other_forms_are_no_instants(text):
    """Forms of ISO 8601 that `cast` does not read, and times that no day has, are no values of a timestamp."""
    (problem,) = CONDITION.validate_python({"cmp": ["t", "<", text]}).problems({"t": ColumnType("timestamp")})
    assert "is no value of that type, such as 2024-02-29T23:59:58Z" in problem.message
