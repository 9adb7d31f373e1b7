from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
import pytest

from etl.pipeline import Pipeline
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INSTANTS, micros, same_floats, spec_of

DAY = 86_400_000_000
TIMES = [*INSTANTS, *INSTANTS[3:9]]
ROWS = [
    {
        "n": n,
        "t": micros(TIMES[n % len(TIMES)]),
        "u": micros(TIMES[(7 * n + n // len(TIMES)) % len(TIMES)]),
        "a": FLOATS[n % len(FLOATS)],
        "b": FLOATS[(3 * n + 1) % len(FLOATS)],
        "i": None if n % 5 == 0 else n - 40,
        "s": [None, "", "x", "ß"][n % 4],
    }
    for n in range(120)
]
FIELDS = [
    {"name": "n", "type": "int64"},
    *({"name": name, "type": "timestamp"} for name in ("t", "u")),
    *({"name": name, "type": "float64"} for name in ("a", "b")),
    {"name": "i", "type": "int64"},
    {"name": "s", "type": "string"},
]
PARTS = ("year", "quarter", "month", "day", "hour", "minute", "second", "dow", "doy", "iso_week", "iso_year")
UNITS = {"hour": 3_600_000_000, "day30": 30 * DAY, "day365_25": 31_557_600_000_000}
CHOICES = {
    "below": ({"cmp_columns": ["i", "<", "n"]}, "i < n"),
    "named": ({"any": [{"in": ["s", ["x", ""]]}, {"is_null": "i"}]}, "s IN ('x', '') OR i IS NULL"),
    "never": (
        {"not": {"any": [{"is_null": "s"}, {"cmp": ["i", "<=", 0]}]}},
        "NOT (s IS NULL OR (i IS NOT NULL AND i <= 0))",
    ),
    "late": ({"cmp": ["t", ">=", "1970-01-01T00:00:00Z"]}, "t_us >= 0"),
    "ordered": ({"cmp_columns": ["t", "<", "u"]}, "t_us < u_us"),
}
STEPS: list[dict[str, Any]] = [
    *({"id": part, "op": "date_part", "in": ["t"], "out": [part], "params": {"part": part}} for part in PARTS),
    *(
        {
            "id": f"since_{unit}",
            "op": "time_since",
            "in": ["t", "u"],
            "out": [f"since_{unit}"],
            "params": {"unit": unit},
        }
        for unit in UNITS
    ),
    {
        "id": "open",
        "op": "time_since",
        "in": ["t"],
        "out": ["open"],
        "params": {"unit": "day", "end": "2024-01-01", "on_negative": {"as_value": 0}},
    },
    {"id": "first", "op": "coalesce", "in": ["a", "b", "i"], "out": ["first"]},
    *(
        {
            "id": name,
            "op": "if",
            "out": [name],
            "params": {"condition": condition, "then": {"column": "a"}, "else": {"as_value": -1.5}},
        }
        for name, (condition, _) in CHOICES.items()
    ),
]
MADE: list[str] = [step["out"][0] for step in STEPS]
SPEC = spec_of(FIELDS, STEPS, columns=MADE)

# Spark's calendar is asked for days, whose numbers no session's zone can move.
FLOORED = "({0} - pmod({0}, {1})) div {1}"
ON_DAY = f"date_from_unix_date(CAST({FLOORED.format('t_us', f'{DAY}L')} AS INT))"
OF_DAY = f"pmod(t_us, {DAY}L)"
ORACLES = {
    **{
        part: f"extract({word} FROM {ON_DAY})"
        for part, word in (
            ("year", "YEAR"),
            ("quarter", "QUARTER"),
            ("month", "MONTH"),
            ("day", "DAY"),
            ("dow", "DAYOFWEEK_ISO"),
            ("doy", "DOY"),
            ("iso_week", "WEEK"),
            ("iso_year", "YEAROFWEEK"),
        )
    },
    "hour": f"{OF_DAY} div 3600000000",
    "minute": f"({OF_DAY} div 60000000) % 60",
    "second": f"({OF_DAY} div 1000000) % 60",
    **{f"since_{unit}": f"CAST(u_us - t_us AS DOUBLE) / {size}D" for unit, size in UNITS.items()},
    "open": f"greatest(CAST(1704067200000000L - t_us AS DOUBLE) / {DAY}D, IF(t_us IS NULL, NULL, 0D))",
    "first": "coalesce(IF(isnan(a), NULL, a), IF(isnan(b), NULL, b), CAST(i AS DOUBLE))",
    **{name: f"CASE WHEN {sql} THEN IF(isnan(a), NULL, a) ELSE -1.5D END" for name, (_, sql) in CHOICES.items()},
}


@contextlib.contextmanager
def configured(spark, **settings):
    """Set a session's configuration for a while."""
    before = {key: spark.conf.get(key) for key in settings}
    try:
        for key, value in settings.items():
            spark.conf.set(key, value)
        yield
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)


def scorer():
    """Return a function that makes the spec's columns of the batches that Spark gives a worker."""
    text, made = SPEC.to_bytes().decode(), list(MADE)

    def score(batches):
        pipeline = Pipeline(read_spec(text, "spec.json"), {})
        for batch in batches:
            frame = pipeline.contract(batch, "batch")
            pipeline.run_steps(frame)
            columns = [pa.array(frame.float64(name), from_pandas=True) for name in made]
            yield pa.RecordBatch.from_arrays([batch.column("n"), *columns], ["n", *made])

    return score


@pytest.mark.parametrize(("zone", "ansi"), [("UTC", "true"), ("America/New_York", "false")])
def test_spark_finds_the_same_in_any_zone(spark, zone, ansi):
    """Parts, spans and choices are Spark SQL's to the bit, and no session's zone and no ANSI setting moves ours."""
    settings = {"spark.sql.session.timeZone": zone, "spark.sql.ansi.enabled": ansi}
    schema = "n long, t long, u long, a double, b double, i long, s string"
    with configured(spark, **settings):
        rows = spark.createDataFrame([tuple(row.values()) for row in ROWS], schema).coalesce(1)
        table = rows.selectExpr("n", "timestamp_micros(t) AS t", "timestamp_micros(u) AS u", "a", "b", "i", "s")
        ours = table.mapInArrow(scorer(), ", ".join(["n long", *(f"{name} double" for name in MADE)])).collect()
        exact = table.selectExpr("*", "unix_micros(t) AS t_us", "unix_micros(u) AS u_us")
        theirs = exact.selectExpr("n", *(f"CAST({sql} AS DOUBLE) AS {name}" for name, sql in ORACLES.items())).collect()
    assert sorted(ORACLES) == sorted(MADE)
    assert len(ours) == len(theirs) == len(ROWS)
    for name in MADE:
        found, wanted = ({row["n"]: row[name] for row in answer} for answer in (ours, theirs))
        numbers = range(len(ROWS))
        assert same_floats([found[n] for n in numbers], [wanted[n] for n in numbers]), name
