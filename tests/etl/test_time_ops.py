from __future__ import annotations

import calendar
import itertools
import math
import re
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.errors import TransformError
from etl.frame import Frame
from etl.ops.time import DAY_MICROSECONDS
from etl.types import ColumnType
from tests.etl.nasty import DATES, FLOATS, INF, INSTANTS, applied, frame_of, plain, same_floats, step_of

PARTS = {
    "year": lambda when: when.year,
    "month": lambda when: when.month,
    "day": lambda when: when.day,
    "hour": lambda when: when.hour,
    "minute": lambda when: when.minute,
    "second": lambda when: when.second,
    "millisecond": lambda when: when.microsecond // 1000,
    "minute_of_day": lambda when: when.hour * 60 + when.minute,
    "second_of_day": lambda when: (when.hour * 60 + when.minute) * 60 + when.second,
    "quarter": lambda when: (when.month + 2) // 3,
    "dow": lambda when: when.isoweekday(),
    "doy": lambda when: sum(calendar.monthrange(when.year, m)[1] for m in range(1, when.month)) + when.day,
    "iso_week": lambda when: when.isocalendar().week,
    "iso_year": lambda when: when.isocalendar().year,
}
CLOCK_PARTS = ["hour", "minute", "second", "millisecond", "minute_of_day", "second_of_day"]
DAY_PARTS = [part for part in PARTS if part not in CLOCK_PARTS]
ERA = 146_097 * DAY_MICROSECONDS  # 400 years, after which the Gregorian calendar repeats


def part_of(kind, values, part):
    """Return a part of instants or dates."""
    (found,) = applied(frame_of(x=(kind, values)), "date_part", "x", params={"part": part})
    assert found.dtype == np.float64
    return plain(found)


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_those_of_python(part):
    """Every part of instants from year 1 to 9999, and of missing ones, is what Python's datetime says."""
    assert part_of("timestamp", INSTANTS, part) == [when and float(PARTS[part](when)) for when in INSTANTS]
    if part in DAY_PARTS:
        assert part_of("date", DATES, part) == [day and float(PARTS[part](day)) for day in DATES]


@settings(deadline=None)
@given(st.lists(st.datetimes(timezones=st.just(UTC))))
def test_parts_of_any_instant_are_those_of_python(values):
    """Every part of any instant that Python has is what Python says."""
    for part, oracle in PARTS.items():
        assert part_of("timestamp", values, part) == [float(oracle(when)) for when in values]


@pytest.mark.parametrize("part", [part for part in PARTS if not part.endswith("_of_day") and part != "millisecond"])
def test_parts_are_those_of_duckdb(part):
    """Every part is the one that DuckDB finds in the same UTC instant."""
    names = {"dow": "isodow", "iso_week": "week", "iso_year": "isoyear"}
    values = pa.table({"t": pa.array([when and when.replace(tzinfo=None) for when in INSTANTS], pa.timestamp("us"))})
    connection = duckdb.connect()
    connection.register("v", values)
    rows = connection.execute("SELECT date_part($1, t) FROM v", [names.get(part, part)]).fetchall()
    assert part_of("timestamp", INSTANTS, part) == [row[0] if row[0] is None else float(row[0]) for row in rows]


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)), st.integers(-720, 720))
def test_parts_are_exact_over_all_of_int64(when, eras):
    """An instant whole eras of 400 years away, to the ends of int64, has the same parts and another year."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micros = (when - epoch).days * DAY_MICROSECONDS + (when - epoch).seconds * 1_000_000 + when.microsecond + eras * ERA
    if not -(2**63) <= micros < 2**63:
        return
    column = pa.array([micros], pa.int64()).view(pa.timestamp("us", "UTC"))
    for part, oracle in PARTS.items():
        (found,) = applied(Frame(1, {"x": column}), "date_part", "x", params={"part": part})
        assert found[0] == oracle(when) + (400 * eras if part.endswith("year") else 0)


@pytest.mark.parametrize(
    ("kind", "part"),
    [*(("date", part) for part in CLOCK_PARTS), ("string", "year"), ("int64", "year"), ("float64", "dow")],
)
def test_parts_that_are_not_there_are_refused(kind, part):
    """A date has no hour, and text and numbers have no parts."""
    with pytest.raises(ValueError, match=r"takes .*, found"):
        step_of("date_part", ["x"], params={"part": part}).infer((ColumnType(kind),))
    with pytest.raises(ValidationError):
        step_of("date_part", ["x"], params={"part": "fortnight"})


def turn(value, period, offset):
    """Return sin and cos by the definition; None for missing and ±inf."""
    if value is None or not math.isfinite(value):
        return None, None
    angle = math.fmod(value - offset, period) * (2 * math.pi) / period
    return math.sin(angle), math.cos(angle)


@pytest.mark.parametrize(("period", "offset"), [(24.0, 0.0), (12.0, 1.0), (0.1, -3.5), (1e308, 0.0), (5e-324, 0.0)])
def test_cyclical_is_python_s_sine_to_the_last_place(period, offset):
    """Sine and cosine are those of Python's math to one unit in the last place, and missing for what has no angle."""
    found = applied(
        frame_of(x=("float64", FLOATS)),
        "cyclical",
        "x",
        outputs=("s", "c"),
        params={"period": period, "offset": offset},
    )
    for row, value in enumerate(FLOATS):
        try:
            wanted = turn(value, period, offset)
        except ValueError:  # Python's math refuses what IEEE calls NaN
            wanted = (None, None)
        for got, want in zip((column[row] for column in found), wanted, strict=True):
            if want is None or math.isnan(want):
                assert math.isnan(got)
            else:
                assert abs(got - want) <= math.ulp(max(abs(want), 2.0**-50))


def test_a_cycle_closes():
    """The hour 24 is where the hour 0 is, and so is any whole number of cycles, exactly."""
    hours = [0.0, 24.0, -24.0, 24.0 * 2**40]
    sine, cosine = applied(frame_of(x=("float64", hours)), "cyclical", "x", outputs=("s", "c"), params={"period": 24})
    assert sine.tolist() == [0.0] * 4
    assert cosine.tolist() == [1.0] * 4


@pytest.mark.parametrize("params", [{}, {"period": 0}, {"period": -1}, {"period": INF}, {"period": 1, "phase": 0}])
def test_a_cycle_has_a_length(params):
    """A period that is absent, zero, negative or infinite is refused."""
    with pytest.raises(ValidationError):
        step_of("cyclical", ["x"], ["s", "c"], params=params)


UNITS = {
    "second": 10**6,
    "minute": 60 * 10**6,
    "hour": 3600 * 10**6,
    "day": 86_400 * 10**6,
    "day30": 30 * 86_400 * 10**6,
    "day365_25": 31_557_600 * 10**6,
}
INT64 = st.integers(-(2**63), 2**63 - 1)
DAYS32 = st.integers(-(2**31), 2**31 - 1)


def instants(values):
    """Return µs since 1970 as a column of timestamps."""
    return pa.array(values, pa.int64()).view(pa.timestamp("us", "UTC"))


def dates(values):
    """Return days since 1970 as a column of dates."""
    return pa.array(values, pa.int32()).view(pa.date32())


def span(micros, unit):
    """Return an exact number of µs as the nearest float64, divided once; Python rounds both as IEEE 754 says."""
    return float(micros) / UNITS[unit]


@pytest.mark.parametrize("unit", UNITS)
def test_time_since_is_the_difference_that_python_finds(unit):
    """The time between any two instants, or dates, is Python's to the bit; missing where either is missing."""
    for kind, values in (("timestamp", INSTANTS), ("date", DATES)):
        pairs = list(itertools.product(values, repeat=2))
        frame = frame_of(a=(kind, [a for a, _ in pairs]), b=(kind, [b for _, b in pairs]))
        (found,) = applied(frame, "time_since", "a", "b", params={"unit": unit})
        wanted = [a and b and span((b - a) // timedelta(microseconds=1), unit) for a, b in pairs]
        assert same_floats(found, wanted)
        assert not frame.rejections


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=20), st.sampled_from(list(UNITS)))
def test_time_since_is_exact_over_all_of_int64(pairs, unit):
    """No difference of two timestamps overflows, and each is rounded once before the one division."""
    pairs += [(2**63 - 1, -(2**63)), (-(2**63), 2**63 - 1), (5, 5)]
    frame = Frame(len(pairs), {"a": instants([a for a, _ in pairs]), "b": instants([b for _, b in pairs])})
    (found,) = applied(frame, "time_since", "a", "b", params={"unit": unit})
    assert same_floats(found, [span(b - a, unit) for a, b in pairs])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(DAYS32, DAYS32, INT64), min_size=1, max_size=20), st.sampled_from(list(UNITS)))
def test_time_since_of_dates_is_exact_over_all_of_int32(rows, unit):
    """Dates of any distance differ exactly; beside a timestamp, a row with a date that has no µs is rejected."""
    frame = Frame(
        len(rows),
        {
            "a": dates([a for a, _, _ in rows]),
            "b": dates([b for _, b, _ in rows]),
            "t": instants([t for _, _, t in rows]),
        },
    )
    (found,) = applied(frame, "time_since", "a", "b", params={"unit": unit})
    assert same_floats(found, [span((b - a) * DAY_MICROSECONDS, unit) for a, b, _ in rows])
    assert not frame.rejections
    for names, sign in ((["a", "t"], 1), (["t", "a"], -1)):
        frame.rejections.clear()
        (found,) = applied(frame, "time_since", *names, params={"unit": unit})
        held = [-(2**63) <= a * DAY_MICROSECONDS < 2**63 for a, _, _ in rows]
        wanted = [span(sign * (t - a * DAY_MICROSECONDS), unit) for a, _, t in rows]
        assert [x for x, is_held in zip(found, held, strict=True) if is_held] == [
            x for x, is_held in zip(wanted, held, strict=True) if is_held
        ]
        gone = [n for n, is_held in enumerate(held) if not is_held]
        wanted_places = [("OUT_OF_RANGE", f"/steps/0/in/{names.index('a')}", gone)] if gone else []
        assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == wanted_places


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2000-02-29", datetime(2000, 2, 29, tzinfo=UTC)),
        ("2000-02-29T06:07:08+01:00", datetime(2000, 2, 29, 5, 7, 8, tzinfo=UTC)),
        ("0001-01-01 00:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_time_since_counts_from_and_to_a_fixed_instant(written, meant):
    """With one column, `start` is what it is counted from, and `end` is what it is counted to."""
    for kind, values in (("timestamp", INSTANTS), ("date", DATES)):
        whole = [v and datetime(v.year, v.month, v.day, tzinfo=UTC) if kind == "date" else v for v in values]
        for key, sign in (("start", 1), ("end", -1)):
            (found,) = applied(frame_of(x=(kind, values)), "time_since", "x", params={"unit": "hour", key: written})
            wanted = [v and span(sign * ((v - meant) // timedelta(microseconds=1)), "hour") for v in whole]
            assert same_floats(found, wanted)


def test_months_open_as_in_the_worked_example():
    """The months of 30 days between two instants, 0 where the second is the earlier one."""
    opened = [datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), None]
    scored = [datetime(2024, 1, 1, tzinfo=UTC)] * 3
    frame = frame_of(a=("timestamp", opened), b=("timestamp", scored))
    params = {"unit": "day30", "on_negative": {"as_value": 0.0}}
    assert same_floats(applied(frame, "time_since", "a", "b", params=params)[0], [1461 / 30, 0.0, None])


@pytest.mark.parametrize(
    ("on_negative", "wanted"), [("as_is", [-1.0, 0.0, 1.0, None]), ("as_missing", [None, 0.0, 1.0, None])]
)
def test_a_negative_time_goes_by_its_rule(on_negative, wanted):
    """A time below 0 stays or becomes missing as the step says, and 0 is not below 0."""
    frame = Frame(4, {"x": dates([-1, 0, 1, None])})
    params = {"unit": "day", "start": "1970-01-01", "on_negative": on_negative}
    assert same_floats(applied(frame, "time_since", "x", params=params)[0], wanted)
    assert not frame.rejections


def test_a_negative_time_can_reject_its_row():
    """`reject` sends exactly the rows below 0 to quarantine, under the rule's pointer."""
    frame = Frame(4, {"x": dates([-1, 0, 1, None])})
    applied(frame, "time_since", "x", params={"unit": "day", "start": "1970-01-01", "on_negative": "reject"})
    assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == [
        ("OUT_OF_DOMAIN", "/steps/0/params/on_negative", [0])
    ]


@pytest.mark.parametrize(
    ("inputs", "params", "message"),
    [
        (["timestamp"], {}, "takes two columns, or one and `start` or `end`, found 1"),
        (
            ["timestamp", "date"],
            {"end": "2024-01-01"},
            "takes two columns, or one and `start` or `end`, found 2 and one",
        ),
        (["timestamp"] * 3, {}, "found 3"),
        (["string", "date"], {}, "takes dates and timestamps, found string"),
        (["int64", "date"], {}, "takes dates and timestamps, found int64"),
    ],
)
def test_a_time_has_two_ends(inputs, params, message):
    """Too few or too many ends, and ends that are no instants, are refused with what was found."""
    step = step_of("time_since", [f"x{n}" for n in range(len(inputs))], params={"unit": "day", **params})
    with pytest.raises(ValueError, match=message):
        step.infer(tuple(map(ColumnType, inputs)))


@pytest.mark.parametrize(
    "params",
    [
        {"unit": "month"},
        {},
        {"unit": "day", "start": "2024-01-01", "end": "2024-01-02"},
        {"unit": "day", "start": "2023-02-29"},
        {"unit": "day", "start": "now"},
        {"unit": "day", "start": 0},
        {"unit": "day", "on_negative": {"as_value": INF}},
        {"unit": "day", "on_negative": "zero"},
    ],
)
def test_time_since_refuses_other_words(params):
    """Another unit, two fixed ends, a date that does not exist and an infinite number are refused."""
    with pytest.raises(ValidationError):
        step_of("time_since", ["x"], params=params)


STEPS_OF_TIME = {
    "microsecond": 1,
    "millisecond": 1000,
    **{unit: UNITS[unit] for unit in ("second", "minute", "hour", "day")},
}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(INT64 | st.none(), min_size=1, max_size=9),
    st.sampled_from(list(STEPS_OF_TIME)),
    st.integers(-(10**7), 10**7),
)
def test_time_add_is_integer_addition(values, unit, amount):
    """Every instant moves by exactly so much, over all of int64; one that would leave it is rejected, and missing."""
    values += [2**63 - 1, -(2**63)]
    frame = Frame(len(values), {"x": instants(values)})
    (found,) = applied(frame, "time_add", "x", params={"amount": amount, "unit": unit})
    sums = [None if v is None else v + amount * STEPS_OF_TIME[unit] for v in values]
    held = [None if v is None or not -(2**63) <= v < 2**63 else v for v in sums]
    assert found.type == pa.timestamp("us", "UTC")
    assert found.view(pa.int64()).to_pylist() == held
    gone = [n for n, v in enumerate(sums) if v is not None and held[n] is None]
    wanted = [("OUT_OF_RANGE", "/steps/0/params/amount", gone)] if gone else []
    assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == wanted


@settings(max_examples=50, deadline=None)
@given(st.lists(DAYS32 | st.none(), min_size=1, max_size=9), st.integers(-(10**8), 10**8))
def test_time_add_moves_dates_by_days(values, amount):
    """A date moves by whole days, over all of int32, and stays a date."""
    frame = Frame(len(values), {"x": dates(values)})
    (found,) = applied(frame, "time_add", "x", params={"amount": amount, "unit": "day"})
    wanted = [None if v is None or not -(2**31) <= v + amount < 2**31 else v + amount for v in values]
    assert found.type == pa.date32()
    assert found.view(pa.int32()).to_pylist() == wanted


def test_time_add_refuses_what_it_cannot_add():
    """Hours of a date, other columns than times, fractions, other units and more time than there is are refused."""
    hour = step_of("time_add", ["x"], params={"amount": 1, "unit": "hour"})
    for kind, message in (
        ("date", "takes a timestamp for unit hour, found date"),
        ("int64", "takes date or timestamp"),
    ):
        with pytest.raises(ValueError, match=message):
            hour.infer((ColumnType(kind),))
    for params in ({"amount": 1.5, "unit": "day"}, {"amount": 1, "unit": "month"}, {"amount": 2**62, "unit": "day"}):
        with pytest.raises(ValidationError):
            step_of("time_add", ["x"], params=params)


def parse(texts, *formats, on_error="as_missing"):
    """Return texts read as instants, as Python has them."""
    frame = frame_of(x=("string", texts))
    params = {"formats": list(formats), "on_error": on_error}
    (found,) = applied(frame, "parse_timestamp", "x", params=params)
    assert found.type == pa.timestamp("us", "UTC")
    return found.to_pylist()


STRPTIME = {
    "yyyy-MM-dd HH:mm:ss": "%Y-%m-%d %H:%M:%S",
    "yyyy-MM-dd'T'HH:mm:ss.SSSSSS": "%Y-%m-%dT%H:%M:%S.%f",
    "yyyy-MM-dd'T'HH:mm:ss.SSSXXX": "%Y-%m-%dT%H:%M:%S.%f%z",
    "dd/MM/yyyy HH:mm": "%d/%m/%Y %H:%M",
    "dd MMM yyyy": "%d %b %Y",
    "MMMM d, yyyy h:mm a": "%B %d, %Y %I:%M %p",
    "yyyyMMdd": "%Y%m%d",
    "yyyyMM": "%Y%m",
    "d.M.yyyy H'h'mm": "%d.%m.%Y %Hh%M",
    "yyyyMMddHHmmssXX": "%Y%m%d%H%M%S%z",
}


def test_the_op_says_what_formats_are_made_of():
    """Every run of letters of these formats that is no quoted text is in the table of the op's own docstring."""
    told = type(step_of("parse_timestamp", ["x"], params={"formats": ["yyyy"]})).__doc__ or ""
    table = {token for line in told.splitlines() if "|" in line for token in re.findall(r"`(\w+)`", line.split("|")[1])}
    used = {run for format_ in STRPTIME for run in re.findall(r"([A-Za-z])(\1*)", re.sub("'[^']*'", "", format_))}
    runs = {"".join(run) for run in used}
    assert {run for run in runs if set(run) != {"S"}} <= table
    assert {"S", "SSSSSSSSS", "epoch_seconds", "epoch_milliseconds"} <= table


def written(when, format_):
    """Write an instant in a format, as Python's strftime does; its years have four digits on no platform."""
    text = when.strftime(STRPTIME[format_].replace("%Y", f"{when.year:04}"))
    if "SSSXXX" in format_:
        text = text.replace(f".{when.microsecond:06}", f".{when.microsecond // 1000:03}")
    return text[:-2] + ":" + text[-2:] if format_.endswith("XXX") else text


ZONES = st.sampled_from([UTC, *(timezone(timedelta(minutes=m)) for m in (-720, -570, -1, 330, 840))])


@settings(max_examples=200, deadline=None)
@given(st.datetimes(timezones=ZONES), st.sampled_from(list(STRPTIME)))
def test_what_python_writes_is_read(when, format_):
    """An instant that Python writes in a format is read as the instant that Python reads there, in UTC."""
    text = written(when, format_)
    wanted = datetime.strptime(text, STRPTIME[format_])  # noqa: DTZ007  it has a zone, or is UTC
    wanted = wanted if wanted.tzinfo else wanted.replace(tzinfo=UTC)
    micros = (wanted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    frame = frame_of(x=("string", [text, f"  {text} ", None]))
    (found,) = applied(frame, "parse_timestamp", "x", params={"formats": [format_]})
    assert found.view(pa.int64()).to_pylist() == [micros, micros, None]
    assert not frame.rejections


BROKEN = {
    "yyyy-MM-dd HH:mm:ss": [
        *("", "2023-02-29 00:00:00", "2024-02-30 00:00:00", "1900-02-29 00:00:00", "2024-04-31 00:00:00"),
        *("2024-13-01 00:00:00", "2024-00-01 00:00:00", "2024-01-00 00:00:00", "0000-01-01 00:00:00"),
        *("2024-01-01 24:00:00", "2024-01-01 00:60:00", "2024-01-01 23:59:60", "2024-1-1 0:0:0"),
        *("2024-01-01T00:00:00", "2024-01-01 00:00:00Z", "2024-01-01 00:00:00.0", "2024-01-01  00:00:00"),
        *("2024-01-01 00:00:00\n", "\u00a02024-01-01 00:00:00", "\uff12024-01-01 00:00:00", "x2024-01-01 00:00:00"),
    ],
    "dd MMM yyyy": ["29 Feb 2023", "1 Feb 2024", "01 Fév 2024", "01 \u017fep 2024", "01 September 2024", "01 02 2024"],
    "yyyy-MM-dd'T'HH:mmXXX": [
        "2024-01-01T00:00",
        "2024-01-01T00:00+0200",
        "2024-01-01T00:00+15:00",
        "2024-01-01T00:00z",
    ],
    "hh a yyyy": ["00 AM 2024", "13 PM 2024", "12 XM 2024"],
    "epoch_seconds": ["1.5", "1e3", "+5", "", "9223372036855", "-9223372036855", "9" * 19, "9" * 400, "--1", "0x1"],
}


@pytest.mark.parametrize("format_", BROKEN)
def test_what_has_not_the_format_is_no_instant(format_):
    """Dates that do not exist, other digits and spaces, and texts of nearly the format are errors, each by its rule."""
    texts = BROKEN[format_]
    assert parse(texts, format_) == [None] * len(texts)
    frame = frame_of(x=("string", [*texts, None]))
    applied(frame, "parse_timestamp", "x", params={"formats": [format_]})
    assert [(r.code, r.pointer, r.rows.tolist()) for r in frame.rejections] == [
        ("NOT_PARSABLE", "/steps/0/params/on_error", list(range(len(texts))))
    ]
    with pytest.raises(
        TransformError, match=rf"column x has none of the formats in {len(texts)} rows of the batch, the f"
    ):
        applied(
            frame_of(x=("string", [*texts, None])),
            "parse_timestamp",
            "x",
            params={"formats": [format_], "on_error": "fail"},
        )


def test_digits_behind_a_microsecond_are_cut_off():
    """Nanoseconds are cut, not rounded, before 1970 too, and shorter fractions are those of a second."""
    assert parse(["1969-12-31 23:59:59.123456789"], "yyyy-MM-dd HH:mm:ss.SSSSSSSSS") == [
        datetime(1969, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
    ]
    assert parse(["2024-01-01 00:00:00.5"], "yyyy-MM-dd HH:mm:ss.S") == [
        datetime(2024, 1, 1, microsecond=500_000, tzinfo=UTC)
    ]


def test_half_days_are_counted_as_clocks_do():
    """12 AM is midnight and 12 PM noon."""
    texts = ["12 AM 2024", "1 am 2024", "12 PM 2024", "11 pm 2024"]
    assert parse(texts, "h a yyyy") == [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (0, 1, 12, 23)]


def test_apostrophes_hold_text():
    """Text in apostrophes stands for itself, letters of formats too, and two of them are one."""
    wanted = [datetime(2024, 5, 1, tzinfo=UTC)]
    assert parse(["yyyy 2024 o'clock .5"], "'yyyy' yyyy 'o''clock' .M") == wanted
    assert parse(["2024'05"], "yyyy''MM") == wanted
    assert parse(["2024年05月[*]"], "yyyy年MM月[*]") == wanted


def test_the_first_format_that_fits_is_taken():
    """Formats are tried in their order, so 3/4 is what the first of them says."""
    texts = ["03/04/2024", "31/01/2024", "2024-05-06", "x", None]
    assert parse(texts, "MM/dd/yyyy", "dd/MM/yyyy", "yyyy-MM-dd") == [
        datetime(2024, 3, 4, tzinfo=UTC),
        datetime(2024, 1, 31, tzinfo=UTC),
        datetime(2024, 5, 6, tzinfo=UTC),
        None,
        None,
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(INT64 | st.none(), min_size=1, max_size=9),
    st.sampled_from([("epoch_seconds", 10**6), ("epoch_milliseconds", 1000)]),
)
def test_integers_are_times_since_1970(values, unit):
    """Whole seconds and milliseconds are instants, exactly; one beyond what a timestamp can hold is an error."""
    name, micros = unit
    frame = frame_of(x=("int64", values))
    (found,) = applied(frame, "parse_timestamp", "x", params={"formats": [name]})
    wanted = [None if v is None or not -(2**63) < v * micros < 2**63 else v * micros for v in values]
    assert found.view(pa.int64()).to_pylist() == wanted
    gone = [n for n, v in enumerate(values) if v is not None and wanted[n] is None]
    assert [r.rows.tolist() for r in frame.rejections] == ([gone] if gone else [])
    texts = [None if v is None else f" {v}" for v in values if v is None or abs(v) < 10**18]
    wanted = [w for v, w in zip(values, wanted, strict=True) if v is None or abs(v) < 10**18]
    (found,) = applied(frame_of(x=("string", texts)), "parse_timestamp", "x", params={"formats": [name]})
    assert found.view(pa.int64()).to_pylist() == wanted


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ([], "at least 1"),
        (["yy-MM-dd"], "has 'yy', which means nothing"),
        (["yyyy-DD"], "has 'DD', which means nothing"),
        (["MM-dd"], "has no year"),
        (["yyyy-dd"], "has a day without a month"),
        (["yyyy-MM-MM"], "has a part of the time twice"),
        (["yyyy-MMM-MM"], "has a part of the time twice"),
        (["yyyy HH hh a"], "has a part of the time twice"),
        (["yyyy hh"], "has only one of hh and a"),
        (["yyyy HH a"], "has only one of hh and a"),
        (["yyyy-MM-dd'T"], "has an apostrophe that is not closed"),
        (["yyyy", ""], "at least 1"),
        (["EPOCH"], "means nothing"),
    ],
)
def test_a_format_that_means_nothing_is_refused(formats, message):
    """A format of unknown letters, without a year, with a part twice or half of one, is refused with its reason."""
    with pytest.raises(ValidationError, match=message):
        step_of("parse_timestamp", ["x"], params={"formats": formats})


@pytest.mark.parametrize(
    ("kind", "formats", "message"),
    [
        ("float64", ["epoch_seconds"], "takes string, int32 or int64, found float64"),
        ("int64", ["yyyy"], "takes one format for int64, epoch_seconds or epoch_milliseconds, found yyyy"),
        ("int32", ["epoch_seconds", "epoch_milliseconds"], "takes one format for int32"),
    ],
)
def test_what_cannot_be_parsed_is_refused(kind, formats, message):
    """Floats, and integers without the one format that says what they count, are refused when the spec is read."""
    with pytest.raises(ValueError, match=message):
        step_of("parse_timestamp", ["x"], params={"formats": formats}).infer((ColumnType(kind),))


CUT = [
    step_of("time_since", ["a", "b"], params={"unit": "day", "on_negative": "as_missing"}),
    step_of("time_since", ["a"], params={"unit": "second", "start": "2000-01-01"}),
    step_of("time_add", ["a"], params={"amount": -7, "unit": "day"}),
    step_of("date_part", ["b"], params={"part": "iso_year"}),
    step_of("parse_timestamp", ["s"], params={"formats": ["yyyy-MM-dd", "dd.MM.yyyy"], "on_error": "as_missing"}),
]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(INSTANTS),
            st.sampled_from(DATES),
            st.sampled_from(["2024-02-29", "1.2.2024", "01.02.2024", "", None]),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_no_cut_of_the_rows_changes_a_time(rows, cuts):
    """Each batch gives the slice of what the whole gives, to the bit."""
    frame = frame_of(
        a=("timestamp", [r[0] for r in rows]), b=("date", [r[1] for r in rows]), s=("string", [r[2] for r in rows])
    )
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for step in CUT:
        (whole,) = step.apply(frame, "/s")
        parts = [
            Frame(stop - start, {name: frame[name][start:stop] for name in "abs"})
            for start, stop in itertools.pairwise(edges)
        ]
        pieces = [numbers(step.apply(part, "/s")[0]) for part in parts]
        assert list(itertools.chain(*pieces)) == numbers(whole)


def numbers(column):
    """Return a column of numbers, or of instants as µs since 1970."""
    return plain(column.view(pa.int64()) if isinstance(column, pa.Array) else column)
