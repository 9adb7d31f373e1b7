from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.errors import TransformError
from etl.ops.casting import CASTS
from etl.types import SCALARS, ColumnType
from tests.etl.nasty import (
    DATES,
    FLOATS,
    INF,
    INSTANTS,
    INT64S,
    NAN,
    TEXTS,
    applied,
    bits,
    frame_of,
    micros,
    plain,
    step_of,
)

FAILED: Any = object()

NUMERALS = [
    *(
        "0",
        "-0",
        "+0",
        "00012",
        "1",
        "+1",
        "-1",
        "1.",
        ".5",
        "-.5e1",
        "1e3",
        "1E+3",
        "1e-3",
        "1e999",
        "-1e999",
        "1e-999",
    ),
    *("9007199254740993", "9007199254740992.0", "9007199254740994.0", "1e15", "1e16", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775808", "-9223372036854775809", "+0009223372036854775807", "2147483648"),
    *(
        "-2147483648",
        "2147483647.0",
        "1" * 400,
        "0." + "0" * 400 + "1",
        "0.1",
        "1.5",
        "3.4028235e38",
        "3.5e38",
        "5e-324",
    ),
    *("inf", "-inf", "Infinity", "nan", "0x10", "1_000", "1,5", "1e", "e1", ".", "+", "--1", "1 2", "१२", "1\n", "\t1"),
    *("  7  ", " ", "true", "TRUE ", "False", "t", "yes", "1.0"),
]
STAMPS = [
    *("2020-01-01", "2020-01-01T10:11", "2020-01-01 10:11:12", "2020-01-01T10:11:12.5", "2020-01-01T10:11:12.123456"),
    *(
        "2020-01-01T10:11:12.123456789",
        "2020-01-01T10:11:12Z",
        "2020-01-01T10:11:12.9999999+02:00",
        "2020-01-01T10:11Z",
    ),
    *("1969-12-31T23:59:59.999999Z", "1582-10-10", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:59"),
    *("2020-02-29", "2019-02-29", "1900-02-29", "2000-02-29", "2020-02-30", "2020-04-31", "2020-13-01", "2020-00-01"),
    *("0000-01-01", "0000-02-29", "2020-01-00", "2020-01-01T24:00", "2020-01-01T23:60", "2020-01-01T23:59:60"),
    *("2020-01-01T10", "2020-01-01T", "2020-01-01Z", "2020-01-01t10:11", "2020-01-01T10:11z", "2020-01-01T10:11+0200"),
    *("2020-01-01T10:11+15:00", "2020-1-1", "20200101", " 2020-01-01 ", "2020-01-01T10:11:12.", "02020-01-01"),
]
INT32S = [value for value in INT64S if value is None or -(2**31) <= value < 2**31]
FLOAT32S = [
    None if value is None else float(np.float32(value)) for value in FLOATS if value is None or abs(value) < 1e38
]
FLOAT32S += [INF, NAN]
SOURCES: dict[str, list[Any]] = {
    "bool": [True, False, None],
    "int32": INT32S,
    "int64": INT64S,
    "uint64": [0, 1, 2**63, 2**64 - 1, None],
    "float32": FLOAT32S,
    "float64": FLOATS,
    "string": [*TEXTS, *NUMERALS, *STAMPS],
    "date": DATES,
    "timestamp": INSTANTS,
}
NUMBERS = ("bool", "int32", "int64", "float32", "float64")
BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def number_from(text):
    """Return the exact number that a text stands for, and whether it is written as a whole one."""
    match = re.fullmatch(r"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?", text, re.ASCII)
    if match is None or not match[2] + match[3] or re.fullmatch(r"[+-]?[eE].*", text):
        return None, False
    exponent = max(-2000, min(2000, int(match[4] or 0))) - len(match[3])
    value = Fraction(int(match[2] + match[3])) * Fraction(10) ** exponent
    return (-value if match[1] == "-" else value), re.fullmatch("[+-]?[0-9]+", text) is not None


def to_integer(value, to):
    """Return the value if it is a whole number of the type."""
    low, high = BOUNDS[to]
    return int(value) if value == int(value) and low <= value <= high else FAILED


def to_float(value, to):
    """Return the nearest float of the type, by way of float64."""
    try:
        wide = float(value)
    except OverflowError:
        return FAILED
    with np.errstate(over="ignore"):
        return FAILED if np.isinf(np.dtype(to).type(wide)) else float(np.dtype(to).type(wide))


def from_text(text, to):
    """Return what a text is by Python's own parsers."""
    text = text.strip(" ")
    if to == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower() if text.isascii() else "", FAILED)
    if to == "date":
        return date.fromisoformat(text) if is_iso(text, r"\d{4}-\d\d-\d\d") else FAILED
    if to == "timestamp":
        return instant_from(text)
    number, is_plain = number_from(text)
    if number is None:
        return FAILED
    if to in BOUNDS:
        return integer_from(number, is_plain, to)
    value = to_float(number, to)
    return -0.0 if value == 0 and text.startswith("-") else value


def integer_from(value, is_plain, to):
    """Return the integer that a number is, by way of float64 if it is not written as one."""
    if is_plain:
        return to_integer(value, to)
    wide = to_float(value, "float64")
    return FAILED if wide is FAILED or abs(wide) >= 2**53 else to_integer(wide, to)


def is_iso(text, pattern):
    """Tell whether a text has a form, and Python takes it for a date or time."""
    if not re.fullmatch(pattern, text, re.ASCII):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def instant_from(text):
    """Return an instant in µs; Python's parser knows no offset that leads out of its years, so it is added here."""
    form = r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-](?:0\d|1[0-4]):[0-5]\d)?)?"
    match = re.fullmatch(form, text, re.ASCII)
    local = match and match[1] + (f"T{match[2]}" if match[2] else "")
    if match is None or local is None or not is_iso(local, ".*"):
        return FAILED
    zone = match[3] or "Z"
    offset = timedelta() if zone == "Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[4:])) * int(f"{zone[0]}1")
    return micros(datetime.fromisoformat(local).replace(tzinfo=UTC)) - offset // timedelta(microseconds=1)


def from_number(value, source, to):
    """Return what a number is in another type."""
    if to == "string":
        return number_text(value, source)
    if to == "bool":
        return bool(value) if value in {0, 1} else FAILED
    if to in BOUNDS:
        return to_integer(value, to) if abs(value) != INF else FAILED
    if source in BOUNDS and to != "timestamp":
        return to_float(value, to) if abs(value) <= 2**53 else FAILED
    return value if to == "timestamp" or abs(value) == INF else to_float(value, to)


def number_text(value, source):
    """Return the canonical text of a number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and abs(value) == INF:
        return FAILED
    if value == int(value) and (source in BOUNDS or abs(value) < 2**53):
        return str(int(value))
    return ("shortest", value)


def oracle(value, source, to):
    """Return what `cast` makes of a value, by plain Python; instants as µs."""
    if value is None or value != value:  # noqa: PLR0124  NaN
        return None
    if source == to:
        return micros(value) if source == "timestamp" else value
    if source == "string":
        return from_text(value, to)
    if source == "date":
        return micros(datetime.combine(value, time(), UTC))
    if source == "timestamp":
        return value.date() if to == "date" else micros(value)
    return from_number(value, source, to)


def digits(text):
    """Return the significant digits of a decimal text."""
    return re.sub(r"[eE].*|[-+.]", "", text).strip("0")


def is_shortest(text, value, kind):
    """Tell whether a text reads back as the number and has no digit more than it needs."""
    own = np.dtype(kind).type
    shortest = np.format_float_scientific(own(value), unique=True)
    return own(text) == own(value) and len(digits(text)) == len(digits(shortest))


@pytest.mark.parametrize(("source", "to"), CASTS)
def test_every_pair_of_types_against_python(source, to):
    """Every conversion of every nasty value is what Python's own exact numbers, dates and parsers say it is."""
    values = SOURCES[source]
    frame = frame_of(x=(source, values))
    (column,) = applied(frame, "cast", "x", params={"to": to, "on_error": "reject"})
    found = plain(column.cast("int64") if to == "timestamp" else column)
    wanted = [oracle(value, source, to) for value in values]
    failed = [row for row, value in enumerate(wanted) if value is FAILED]
    assert [row for rejection in frame.rejections for row in rejection.rows] == failed
    for row, (got, want) in enumerate(zip(found, wanted, strict=True)):
        if isinstance(want, tuple):
            assert is_shortest(got, want[1], source), (values[row], got)
        elif want is None or want is FAILED:
            assert got is None, (values[row], got)
        else:
            assert (got, str(got)) == (want, str(want)), (values[row], got, want)


@pytest.mark.parametrize(("source", "to"), CASTS)
def test_the_column_has_the_type_that_was_inferred(source, to):
    """A cast column is of the type asked for, also for no rows and for missing values alone."""
    step = step_of("cast", ["x"], params={"to": to})
    assert step.infer((ColumnType(source),)) == (ColumnType(to),)
    for values in ([], [None, None]):
        frame = frame_of(x=(source, values))
        (frame["out"],) = step.apply(frame, "/steps/0")
        assert frame.kind("out") == to
        assert frame.missing("out").tolist() == [True] * len(values)
        assert frame.arrow("out").type == SCALARS[to]
        assert not frame.rejections


@pytest.mark.parametrize("source", SOURCES)
def test_pairs_without_a_meaning_are_refused(source):
    """A pair that has no conversion is refused when the spec is read, with those that there are."""
    for to in SCALARS:
        if (source, to) not in CASTS:
            with pytest.raises(ValueError, match=f"makes of {source} only .*, found to: {to}"):
                step_of("cast", ["x"], params={"to": to}).infer((ColumnType(source),))
    with pytest.raises(ValueError, match="found to: int64"):
        step_of("cast", ["x"], params={"to": "int64"}).infer((ColumnType("vector", 3),))
    with pytest.raises(ValidationError, match="vectors are made by assemble"):
        step_of("cast", ["x"], params={"to": "float32[3]"})


def test_what_happens_to_a_value_that_is_none_of_the_type():
    """A failed value is missing, and its row is kept, rejected, or the end of the run, as on_error says."""
    frame = frame_of(x=("string", ["1", "one", None, "1.5"]))
    for on_error, rejected in (("as_missing", []), ("reject", [1, 3])):
        (column,) = applied(frame, "cast", "x", params={"to": "int64", "on_error": on_error})
        assert column.to_pylist() == [1, None, None, None]
        assert [row for r in frame.rejections for row in r.rows] == rejected
        assert all(
            (r.code, r.pointer, r.column) == ("NOT_CASTABLE", "/steps/0/params/on_error", "x") for r in frame.rejections
        )
    params = {"to": "int64", "on_error": "fail"}
    with pytest.raises(
        TransformError, match=r"^/steps/0/params/on_error: step 's': .* 2 rows .* the first at 1; .* fail"
    ):
        applied(frame_of(x=("string", ["1", "one", None, "1.5"])), "cast", "x", params=params)
    frame.rejections.clear()
    frame.reject(np.array([0, 1, 0, 1], bool), code="MISSING", pointer="/input/fields/0", column="x", message="gone")
    assert applied(frame, "cast", "x", params=params)[0].to_pylist() == [1, None, None, None]


def test_an_error_shows_no_value():
    """No message of a cast holds the value, which may be personal data."""
    frame = frame_of(x=("string", ["jane@example.org"]))
    applied(frame, "cast", "x", params={"to": "float64"})
    assert frame.rejections[0].message == "x has a value that is no float64"


def test_columns_made_by_other_steps_are_cast_as_what_they_are():
    """A float column that an op made is cast like one that was read."""
    frame = frame_of(x=("float64", [1.0, None, 2.5]))
    (frame["y"],) = applied(frame, "clip", "x", params={"lower": 0})
    assert plain(applied(frame, "cast", "y", params={"to": "string"})[0]) == ["1", None, "2.5"]
    (frame["z"],) = applied(frame, "cast", "y", params={"to": "float32"})
    assert frame.kind("z") == "float32"
    assert plain(applied(frame, "cast", "z", params={"to": "int32", "on_error": "as_missing"})[0]) == [1, None, None]


def through(values, *kinds):
    """Cast a column from kind to kind and return its values, with nothing rejected on the way."""
    frame = frame_of(x0=(kinds[0], values))
    for number, kind in enumerate(kinds[1:]):
        (frame[f"x{number + 1}"],) = applied(frame, "cast", f"x{number}", params={"to": kind})
    assert not frame.rejections
    return frame[f"x{len(kinds) - 1}"]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_survive_text(values):
    """Every int64 is read back from its text."""
    assert plain(through(values, "int64", "string", "int64")) == values


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_survive_text(values):
    """Every finite float64 is read back from its text to the bit, but that −0 becomes 0."""
    assert bits(through(values, "float64", "string", "float64")) == bits(np.array(values, np.float64) + 0.0)


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_narrow_floats_survive_text(values):
    """Every finite float32 is read back from its text, by way of float64."""
    found = through(values, "float32", "string", "float64").astype(np.float32)
    assert bits(found) == bits(np.array(values, np.float32) + np.float32(0))


@settings(deadline=None)
@given(
    st.lists(st.datetimes(timezones=st.just(UTC))), st.sampled_from(["T", " "]), st.sampled_from(["", "Z", "+00:00"])
)
def test_instants_are_read_from_python_s_own_text(values, separator, zone):
    """Every datetime of Python is read from its ISO text."""
    texts = [value.replace(tzinfo=None).isoformat(separator) + zone for value in values]
    found = through(texts, "string", "timestamp", "int64", "timestamp", "int64")
    assert plain(found) == [micros(value) for value in values]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="0123456789.eE+- ", max_size=12)))
def test_numerals_are_read_or_refused_as_python_would(texts):
    """A text of digits, signs, points and e is a number exactly when the written form says so, and the nearest one."""
    for to in ("float64", "int64"):
        frame = frame_of(x=("string", texts))
        (column,) = applied(frame, "cast", "x", params={"to": to, "on_error": "as_missing"})
        wanted = [from_text(text, to) for text in texts]
        assert [str(value) for value in plain(column)] == [str(None if v is FAILED else v) for v in wanted]
