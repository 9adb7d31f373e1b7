"""What ops on texts give, beside the same in Spark, whose patterns are Java's."""

from __future__ import annotations

from typing import Any

import pyarrow.compute
import pytest

from etl.ops import FAMILIES
from etl.patterns import matches, parsed
from tests.etl.nasty import TEXTS, applied, arrow, frame_of, plain
from tests.etl.test_regex_ops import ALLOWED, EMPTY

ROWS: list[Any] = [
    *(text for text in TEXTS if text is None or len(text) < 1000),
    *("a\n", "ab\r\n", "a\x85", "a\u2028", "ba1é22", "aab\ncab", " a\t b ", "ab" * 40),
]

UPPER, LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
NUMBER = r"'^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\\z'"
FINITE = "abs(try_cast(trim(x) AS DOUBLE)) < CAST('inf' AS DOUBLE)"

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("lower", {}, f"translate(x, '{UPPER}', '{LOWER}')"),
    ("upper", {"mode": "ascii"}, f"translate(x, '{LOWER}', '{UPPER}')"),
    ("trim", {}, "trim(x)"),
    ("trim", {"side": "left"}, "ltrim(x)"),
    ("trim", {"chars": {"set": "a é"}, "side": "right"}, "trim(TRAILING 'a é' FROM x)"),
    ("trim", {"chars": "whitespace_ascii"}, r"trim(BOTH ' \t\n\u000b\u000c\r' FROM x)"),
    ("concat", {"separator": "é"}, "x || 'é' || y"),
    ("concat", {"missing": {"as_value": "-"}}, "coalesce(x, '-') || coalesce(y, '-')"),
    ("substring", {"start": 1}, "substring(x, 2)"),
    ("substring", {"start": 0, "length": 2}, "substring(x, 1, 2)"),
    ("substring", {"start": -3}, "right(x, 3)"),
    ("substring", {"start": -3, "length": 2}, "substring(x, -3, 2)"),
    ("length", {}, "CAST(char_length(x) AS DOUBLE)"),
    ("replace", {"mapping": {"": "e", "A": ""}}, "CASE x WHEN '' THEN 'e' WHEN 'A' THEN '' ELSE x END"),
    (
        "parse_number",
        {"on_error": "as_missing"},
        f"CASE WHEN regexp_like(trim(x), {NUMBER}) AND {FINITE} THEN try_cast(trim(x) AS DOUBLE) END",
    ),
]
"""Op, its parameters, and the same in Spark SQL over a column x, and y, which has the texts in the other order."""


@pytest.fixture(params=["true", "false"])
def session(spark, request):
    """The session in ANSI mode, and without it."""
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", request.param)
    yield spark
    spark.conf.set("spark.sql.ansi.enabled", before)


def by_us(op, **params):
    """Return what an op makes of the rows."""
    frame = frame_of(x=("string", ROWS), y=("string", ROWS[::-1]))
    columns = ("x", "y") if op == "concat" else ("x",)
    return plain(applied(frame, op, *columns, **({"params": params} if params else {}))[0])


def test_ops_on_texts_are_what_spark_computes(session):
    """The same written in Spark SQL gives the same texts and numbers, in ANSI mode and without."""
    rows = [(place, *pair) for place, pair in enumerate(zip(ROWS, ROWS[::-1], strict=True))]
    frame = session.createDataFrame(rows, "place INT, x STRING, y STRING")
    made = frame.selectExpr("place", *(sql for _, _, sql in CASES)).sort("place").collect()
    for number, (op, params, sql) in enumerate(CASES, start=1):
        assert by_us(op, **params) == [row[number] for row in made], (op, params, sql)


def test_the_cases_cover_the_ops_on_texts():
    """Every op on texts that Spark SQL has too is among the cases; it has no normal forms."""
    assert {op for op, _, _ in CASES} == {*FAMILIES["strings"]} - {"normalize_unicode"}


def by_java(session, patterns, *expressions):
    """Return a list of columns for each pattern p with its number n: one column of the rows x for each expression."""
    asked = session.createDataFrame(patterns, "at INT, p STRING, n INT")
    rows = session.createDataFrame(list(enumerate(ROWS)), "place INT, x STRING")
    crossed = asked.crossJoin(rows).selectExpr("at", "place", *expressions)
    lines = sorted(crossed.collect(), key=lambda row: (row["at"], row["place"]))
    parts = [lines[start : start + len(ROWS)] for start in range(0, len(lines), len(ROWS))]
    return [[[row[number + 2] for row in part] for number in range(len(expressions))] for part in parts]


def test_patterns_replace_and_split_in_spark_as_here(session):
    """Each pattern that a spec may have replaces, splits and finds all in Spark, which is Java, as it does here."""
    made = by_java(
        session,
        [(place, pattern, 0) for place, pattern in enumerate(ALLOWED)],
        r"regexp_replace(x, p, '<$0\\$\\\\>')",
        "split(x, p, -1)",
        "regexp_extract_all(x, p, 0)",
    )
    for pattern, (replaced, split, found) in zip(ALLOWED, made, strict=True):
        assert by_us("regex_replace", pattern=pattern, replacement=r"<\0$\\>") == replaced, pattern
        assert by_us("tokenize", split=pattern) == split, pattern
        assert by_us("tokenize", match=pattern) == found, pattern


def test_patterns_match_in_spark_as_here(spark):
    """Each group of the first match is the same in Spark, no match is one in both, and so is a whole match."""
    everywhere = [(p, group) for p in (*ALLOWED, *EMPTY) for group in range(len(parsed(p).openings) + 1)]
    made = by_java(
        spark,
        [(place, pattern, group) for place, (pattern, group) in enumerate(everywhere)],
        "CASE WHEN regexp_like(x, p) THEN regexp_extract(x, p, n) END",
        r"coalesce(regexp_like(x, concat('\\A(?:', p, ')\\z')), false)",
    )
    for (pattern, group), (found, is_whole) in zip(everywhere, made, strict=True):
        assert by_us("regex_extract", pattern=pattern, group=group) == found, (pattern, group)
        assert matches(arrow(ROWS, "string"), pattern).tolist() == is_whole, pattern


DIFFERENT = [
    ("a$", ["a\n", "a\x85"]),
    ("a.b", ["a\rb", "a\u2028b"]),
    ("(?i)k", ["\u212a"]),
    (r"\s", ["\v"]),
    ("[a&&b]", ["&"]),
]
"""Patterns that are refused, and texts that RE2 and Java read in different ways."""


@pytest.mark.parametrize(("pattern", "texts"), DIFFERENT)
def test_what_is_refused_differs_in_spark(spark, pattern, texts):
    """The patterns that a spec may not have match other texts in RE2 than in Java."""
    java = spark.createDataFrame([(text, pattern) for text in texts], "x STRING, p STRING")
    found = [row[0] for row in java.selectExpr("regexp_like(x, p)").collect()]
    re2 = pyarrow.compute.match_substring_regex(arrow(texts, "string"), pattern).to_pylist()
    assert [not one for one in found] == re2
