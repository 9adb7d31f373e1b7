"""What ops on numbers give, beside the same written by hand in Spark SQL."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from etl.ops import FAMILIES
from tests.etl.nasty import FLOATS, NAN, applied, bits, frame_of

VALUES: list[Any] = [
    *FLOATS,
    *(-0.5, 0.5, 709.5, 710.0, -745.2, 8.0, 1e300, -2.0, 0.25, -0.3, 0.49999999999999994, 2.675),
]

WHOLE = "4503599627370496D"
"""2^52: from here on a double has no fraction."""


def where_present(expression, *columns):
    """Return an expression that is null where a column is null or NaN; Spark has NaN equal to NaN and above all."""
    return f"CASE WHEN {' OR '.join(f'{c} IS NULL OR isnan({c})' for c in columns)} THEN NULL ELSE {expression} END"


def half_up(product):
    """Return an expression for the whole number that halves go away from zero to."""
    whole = f"CAST(floor(abs({product})) AS DOUBLE)"
    return f"signum({product}) * ({whole} + CASE WHEN abs({product}) - {whole} >= 0.5D THEN 1D ELSE 0D END)"


def lesser(first, second, sign):
    """Return an expression for the lesser (sign <) or greater (sign >) of two, −0.0 below 0.0."""
    negative = "a" if sign == "<" else "b"
    other = "b" if sign == "<" else "a"
    zeros = f"CASE WHEN CAST(a AS STRING) = '-0.0' THEN {negative} ELSE {other} END"
    return where_present(
        f"CASE WHEN a = 0 AND b = 0 THEN {zeros} WHEN {first} {sign} {second} THEN a ELSE b END", "a", "b"
    )


# Op, parameters with the state, and Spark SQL over the column x.
OF_ONE: list[tuple[str, dict[str, Any], str]] = [
    ("abs", {}, "abs(x)"),
    ("neg", {}, "-x"),
    ("sign", {}, "signum(x)"),
    ("binarize", {"params": {"threshold": 1.5}}, where_present("CASE WHEN x > 1.5D THEN 1D ELSE 0D END", "x")),
    (
        "binarize",
        {"params": {"threshold": 0, "operator": ">="}},
        where_present("CAST(CAST(x >= 0D AS INT) AS DOUBLE)", "x"),
    ),
    ("poly", {"params": {"coefficients": [0.1, -2.0, 3.5]}}, "(3.5D * x + -2.0D) * x + 0.1D"),
    (
        "round",
        {"params": {"mode": "half_even", "digits": 2}},
        f"CASE WHEN abs(x * 100D) < {WHOLE} THEN rint(x * 100D) / 100D ELSE x END",
    ),
    ("round", {"params": {"mode": "half_up"}}, f"CASE WHEN abs(x) < {WHOLE} THEN {half_up('x')} ELSE x END"),
    (
        "round",
        {"params": {"mode": "half_up", "digits": -2}},
        f"CASE WHEN abs(x / 100D) < {WHOLE} THEN {half_up('(x / 100D)')} * 100D ELSE x END",
    ),
    ("arith", {"params": {"operator": "sub", "left": 2.5}}, "2.5D - x"),
    ("arith", {"params": {"operator": "div", "left": 2.5}}, "CASE WHEN x = 0 THEN NULL ELSE 2.5D / x END"),
    ("arith", {"params": {"operator": "mod", "right": -0.7}}, "x % -0.7D"),
    ("standardize", {"state": {"mean": 0.1, "std": 0.3}}, "(x - 0.1D) / 0.3D"),
    ("robust_scale", {"state": {"median": 0.1, "lower": -1.5, "upper": 3.0}}, "(x - 0.1D) / 4.5D"),
    ("maxabs", {"state": {"max_abs": 24.0}}, "x / 24D"),
    ("minmax", {"params": {"lower": -1}, "state": {"min": 0.1, "max": 24}}, "(x - 0.1D) / (24D - 0.1D) * 2D + -1D"),
    (
        "clip",
        {"params": {"lower": -1.5, "upper": 24}},
        where_present("CASE WHEN x < -1.5D THEN -1.5D WHEN x > 24D THEN 24D ELSE x END", "x"),
    ),
    (
        "bucketize",
        {"params": {"method": "fixed", "splits": [-1.5, 0.0, 24.0], "closed": "right"}},
        where_present("CASE WHEN x <= -1.5D THEN 0D WHEN x <= 0D THEN 1D WHEN x <= 24D THEN 2D ELSE 3D END", "x"),
    ),
    ("sqrt", {}, "sqrt(x)"),
    ("math", {"params": {"function": "sqrt"}}, "sqrt(x)"),
    ("math", {"params": {"function": "signum"}}, "signum(x)"),
    ("log", {}, "CASE WHEN x > 0 THEN ln(x) END"),
    ("log", {"params": {"base": 2}}, "CASE WHEN x > 0 THEN log2(x) END"),
    ("log", {"params": {"base": 10}}, "CASE WHEN x > 0 THEN log10(x) END"),
    ("log", {"params": {"base": 7}}, "CASE WHEN x > 0 THEN log(7D, x) END"),
    ("log1p", {}, "CASE WHEN x > -1 THEN log1p(x) END"),
    ("signed_log1p", {}, "signum(x) * log1p(abs(x))"),
    ("exp", {}, "exp(x)"),
    ("power", {"params": {"exponent": 2}}, "power(x, 2D)"),
    ("power", {"params": {"exponent": 3}}, "power(x, 3D)"),
    ("power", {"params": {"exponent": -1}}, "CASE WHEN x != 0 THEN power(x, -1D) END"),
    ("power", {"params": {"exponent": 0.5}}, "CASE WHEN x >= 0 THEN power(x, 0.5D) END"),
    *(
        ("math", {"params": {"function": name}}, f"{name}(x)")
        for name in ("acos", "asin", "atan", "cos", "cosh", "exp", "sin", "sinh", "tan", "tanh")
    ),
]

# The same over the columns a and b.
OF_TWO: list[tuple[str, dict[str, Any], str]] = [
    ("ratio", {}, "CASE WHEN b = 0 THEN NULL ELSE a / b END"),
    ("arith", {"params": {"operator": "add"}}, "a + b"),
    ("arith", {"params": {"operator": "sub"}}, "a - b"),
    ("arith", {"params": {"operator": "mul"}}, "a * b"),
    ("arith", {"params": {"operator": "div"}}, "CASE WHEN b = 0 THEN NULL ELSE a / b END"),
    ("arith", {"params": {"operator": "mod"}}, "CASE WHEN b = 0 THEN NULL ELSE a % b END"),
    ("arith", {"params": {"operator": "min"}}, lesser("a", "b", "<")),
    ("arith", {"params": {"operator": "max"}}, lesser("a", "b", ">")),
]

ANGLES = {"acos", "asin", "atan", "cos", "cosh", "exp", "sin", "sinh", "tan", "tanh"}


def is_transcendental(op, keys):
    """Tell whether one unit in the last place is allowed; said here, not asked of the op."""
    return op in {"log", "log1p", "signed_log1p", "exp", "power"} or keys.get("params", {}).get("function") in ANGLES


def by_spark(spark, columns, expressions):
    """Return a numpy column for each expression over rows of columns, NaN for null."""
    names = ", ".join(f"{name} DOUBLE" for name in columns)
    rows = list(zip(*columns.values(), strict=True))
    frame = spark.createDataFrame(rows, names).repartition(1)
    # The columns come back too, since their rows may be in another order.
    made = frame.selectExpr(*columns, *expressions).collect()
    return [np.array([NAN if row[n] is None else row[n] for row in made]) for n in range(len(made[0]))]


def as_float32(column):
    """Return a column as the tensor has it."""
    with np.errstate(over="ignore"):
        return np.asarray(column).astype(np.float32)


def units_apart(one, other):
    """Return how many units in the last place two float32 columns differ by; NaN and its like are 0 apart."""
    whole = []
    for column in (one, other):
        integers = np.where(np.isnan(column), 0, column.view(np.int32)).astype(np.int64)
        whole.append(np.where(integers < 0, -(2**31) - integers, integers))
    assert (np.isnan(one) == np.isnan(other)).all()
    return int(np.abs(whole[0] - whole[1]).max())


@pytest.mark.parametrize(("ansi", "zone"), [("false", "UTC"), ("true", "America/New_York")])
def test_every_op_on_numbers_is_what_spark_computes(spark, ansi, zone):
    """The same formula in Spark SQL gives the same float32 bits, or neighbours where functions are transcendental."""
    before = {key: spark.conf.get(key) for key in ("spark.sql.ansi.enabled", "spark.sql.session.timeZone")}
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        for names, rows, cases in (
            ("x", [(value,) for value in VALUES], OF_ONE),
            ("ab", list(itertools.product(FLOATS, FLOATS)), OF_TWO),
        ):
            given = {name: [row[place] for row in rows] for place, name in enumerate(names)}
            made = by_spark(spark, given, [f"{sql} AS c{n}" for n, (_, _, sql) in enumerate(cases)])
            inputs = {name: ("float64", column.tolist()) for name, column in zip(names, made, strict=False)}
            for (op, keys, sql), wanted in zip(cases, made[len(names) :], strict=True):
                (found,) = applied(frame_of(**inputs), op, *names, **keys)
                one, other = as_float32(found), as_float32(wanted)
                if is_transcendental(op, keys):
                    assert units_apart(one, other) <= 1, (op, keys, sql)
                else:
                    assert bits(one) == bits(other), (op, keys, sql)
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)


def test_the_cases_cover_the_ops_on_numbers():
    """Every op of the families of arithmetic, functions and scaling is among the cases."""
    wanted = {*FAMILIES["arithmetic"], *FAMILIES["functions"], *FAMILIES["scaling"]}
    assert {op for op, _, _ in (*OF_ONE, *OF_TWO)} >= wanted
