from __future__ import annotations

import calendar
import math
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.frame import Frame
from etl.ops.time import DAY_MICROSECONDS
from etl.types import ColumnType
from tests.etl.nasty import DATES, FLOATS, INF, INSTANTS, applied, frame_of, plain, step_of

PARTS = {
    "year": lambda when: when.year,
    "month": lambda when: when.month,
    "day": lambda when: when.day,
    "hour": lambda when: when.hour,
    "minute": lambda when: when.minute,
    "dow": lambda when: when.isoweekday(),
    "doy": lambda when: sum(calendar.monthrange(when.year, m)[1] for m in range(1, when.month)) + when.day,
    "iso_week": lambda when: when.isocalendar().week,
}
DAY_PARTS = [part for part in PARTS if part not in {"hour", "minute"}]
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


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_those_of_duckdb(part):
    """Every part is the one that DuckDB finds in the same UTC instant."""
    names = {"dow": "isodow", "iso_week": "week"}
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
        assert found[0] == oracle(when) + (400 * eras if part == "year" else 0)


@pytest.mark.parametrize(
    ("kind", "part"), [("date", "hour"), ("date", "minute"), ("string", "year"), ("int64", "year"), ("float64", "dow")]
)
def test_parts_that_are_not_there_are_refused(kind, part):
    """A date has no hour, and text and numbers have no parts."""
    with pytest.raises(ValueError, match=r"takes .*, found"):
        step_of("date_part", ["x"], params={"part": part}).infer((ColumnType(kind),))
    with pytest.raises(ValidationError):
        step_of("date_part", ["x"], params={"part": "quarter"})


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
