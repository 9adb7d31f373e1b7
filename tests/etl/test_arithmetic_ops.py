from __future__ import annotations

import decimal
import itertools
import json
import math
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.types import ColumnType
from tests.etl.nasty import FLOATS, INF, NAN, applied, bits, frame_of, plain, same_floats, step_of
from tests.etl.test_numeric_ops import SAFE, present

DATAVEC = Path(__file__).parent / "datavec"

ONE_NUMBER: list[tuple[str, dict[str, Any]]] = [
    ("abs", {}),
    ("neg", {}),
    ("sign", {}),
    ("binarize", {"threshold": 1.5}),
    ("poly", {"coefficients": [0.1, -2.0, 3.5]}),
    ("round", {"mode": "half_up", "digits": 1}),
    ("round", {"mode": "half_even", "digits": -3}),
    ("arith", {"operator": "mod", "left": 7.5}),
    ("arith", {"operator": "min", "right": -0.0}),
    ("arith", {"operator": "max", "right": 0.0}),
    ("arith", {"operator": "div", "left": 1.0, "on_zero": "as_is"}),
]


def total_order(value):
    """Return a key by which −0.0 is below 0.0."""
    return value, math.copysign(1, value)


def quotient(left, right):
    """Divide as IEEE 754 does."""
    with np.errstate(all="ignore"):
        return float(np.float64(left) / np.float64(right))


def remainder(left, right):
    """Take the remainder of a division that truncates, as C does."""
    return NAN if math.isinf(left) or right == 0 else math.fmod(left, right)


OPERATORS: dict[str, Any] = {
    "add": lambda left, right: left + right,
    "sub": lambda left, right: left - right,
    "mul": lambda left, right: left * right,
    "div": quotient,
    "mod": remainder,
    "min": lambda left, right: min(left, right, key=total_order),
    "max": lambda left, right: max(left, right, key=total_order),
}


def operated(operator, *values):
    """Apply an operator in plain Python from the left to the right; None where a value is missing."""
    return reduce(OPERATORS[operator], values) if all(map(present, values)) else None


def pairs_frame():
    """Return a frame of every pair of nasty numbers."""
    pairs = list(itertools.product(FLOATS, FLOATS))
    return pairs, frame_of(a=("float64", [a for a, _ in pairs]), b=("float64", [b for _, b in pairs]))


@pytest.mark.parametrize("operator", OPERATORS)
def test_arith_between_two_columns(operator):
    """Every pair of numbers gives what IEEE 754 says, −0.0 is below 0.0, and a missing one gives missing."""
    pairs, frame = pairs_frame()
    params = {"operator": operator, **({"on_zero": "as_is"} if operator in {"div", "mod"} else {})}
    (found,) = applied(frame, "arith", "a", "b", params=params)
    assert same_floats(found, [operated(operator, *pair) for pair in pairs])
    assert not frame.rejections


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("constant", [0.0, -0.0, 2.5, -3.0, 1e308, 5e-324])
def test_arith_with_a_constant_on_either_side(operator, constant):
    """A constant stands before or behind the operator, for floats, integers and bools."""
    extra = {"on_zero": "as_is"} if operator in {"div", "mod"} else {}
    for kind, values in (("float64", FLOATS), ("int64", SAFE), ("bool", [True, False, None])):
        numbers = [None if value is None else float(value) for value in values]
        (left,) = applied(
            frame_of(x=(kind, values)), "arith", "x", params={"operator": operator, "left": constant, **extra}
        )
        (right,) = applied(
            frame_of(x=(kind, values)), "arith", "x", params={"operator": operator, "right": constant, **extra}
        )
        assert same_floats(left, [operated(operator, constant, number) for number in numbers])
        assert same_floats(right, [operated(operator, number, constant) for number in numbers])


@pytest.mark.parametrize("operator", ["add", "mul", "min", "max"])
def test_arith_of_more_columns_goes_from_the_left(operator):
    """With three inputs the first two come first, which is another sum than that of the last two."""
    rows = list(itertools.product([None, NAN, 0.1, 0.2, 0.3, -0.0, 0.0, 1e16, -1e16, 1e308, -1e308], repeat=3))
    columns = {name: ("float64", [row[place] for row in rows]) for place, name in enumerate("abc")}
    (found,) = applied(frame_of(**columns), "arith", "a", "b", "c", params={"operator": operator})
    assert same_floats(found, [operated(operator, *row) for row in rows])


@pytest.mark.parametrize("operator", ["div", "mod"])
@pytest.mark.parametrize(
    ("on_zero", "wanted"), [(None, NAN), ("as_missing", NAN), ({"as_value": -3.5}, -3.5), ("reject", NAN)]
)
def test_what_division_by_zero_gives(operator, on_zero, wanted):
    """A divisor of 0 or −0 gives what `on_zero` says, unless the dividend is missing; other rows are as ever."""
    pairs, frame = pairs_frame()
    params = {"operator": operator, **({} if on_zero is None else {"on_zero": on_zero})}
    (found,) = applied(frame, "arith", "a", "b", params=params)
    by_zero = [b == 0 and present(a) for a, b in pairs]
    assert same_floats(
        found, [wanted if zero else operated(operator, *pair) for zero, pair in zip(by_zero, pairs, strict=True)]
    )
    rejected = [(r.rows.tolist(), r.code, r.pointer, r.column, r.message) for r in frame.rejections]
    rows = np.flatnonzero(by_zero).tolist()
    place = "/steps/0/params/on_zero"
    assert rejected == ([(rows, "OUT_OF_DOMAIN", place, "b", "b, the divisor, is 0")] if on_zero == "reject" else [])


def test_a_constant_divisor_of_zero():
    """A column divided by the constant 0 goes by `on_zero` in every row that has a value, ±inf too."""
    values = [1.0, -0.0, None, INF]
    for on_zero, wanted in (
        ("as_missing", [NAN] * 4),
        ("as_is", [INF, NAN, NAN, INF]),
        ({"as_value": 2}, [2.0, 2.0, NAN, 2.0]),
    ):
        params = {"operator": "div", "right": 0, "on_zero": on_zero}
        assert same_floats(applied(frame_of(x=("float64", values)), "arith", "x", params=params)[0], wanted)
    frame = frame_of(x=("float64", values))
    applied(frame, "arith", "x", params={"operator": "mod", "right": 0, "on_zero": "reject"})
    assert [(r.rows.tolist(), r.column, r.message) for r in frame.rejections] == [([0, 1, 3], "x", "x is divided by 0")]


MATH_OPS: dict[str, dict[str, Any]] = {
    "Add": {"operator": "add", "right": 2.5},
    "Subtract": {"operator": "sub", "right": 2.5},
    "Multiply": {"operator": "mul", "right": 2.5},
    "Divide": {"operator": "div", "right": 2.5, "on_zero": "as_is"},
    "Modulus": {"operator": "mod", "right": 2.5, "on_zero": "as_is"},
    "ReverseSubtract": {"operator": "sub", "left": 2.5},
    "ReverseDivide": {"operator": "div", "left": 2.5, "on_zero": "as_is"},
    "ScalarMin": {"operator": "min", "right": 2.5},
    "ScalarMax": {"operator": "max", "right": 2.5},
}


def datavec_rows(name):
    """Return DataVec's input rows and, by column, what it made of them, without rows that it could not read."""
    rows = json.loads((DATAVEC / f"{name}.rows.json").read_text())
    kept = [(a, b) for a, b in zip(rows["input"], rows["output"], strict=True) if not isinstance(b, str)]
    names = [column for column, _ in rows["final_schema"]]
    made = {column: [float(b[place]) for _, b in kept] for place, column in enumerate(names)}
    return [[float(value) for value in a] for a, _ in kept], made


def test_arith_has_every_math_op_of_datavec():
    """Each MathOp of DataVec with a scalar is an operator with a constant: Java's results come out to the bit."""
    rows, made = datavec_rows("arithmetic/double_math")
    assert made.keys() == {"x", *MATH_OPS}
    for name, params in MATH_OPS.items():
        (found,) = applied(frame_of(x=("float64", [x for (x,) in rows])), "arith", "x", params=params)
        assert same_floats(found, made[name]), name


@pytest.mark.parametrize("operator", ["add", "subtract", "multiply", "divide", "modulus"])
def test_arith_has_every_column_op_of_datavec(operator):
    """Each MathOp of DataVec between two columns is an operator: Java's results come out to the bit."""
    rows, made = datavec_rows(f"arithmetic/double_columns_{operator}")
    short = {"subtract": "sub", "multiply": "mul", "divide": "div", "modulus": "mod"}.get(operator, operator)
    params = {"operator": short, **({"on_zero": "as_is"} if short in {"div", "mod"} else {})}
    frame = frame_of(a=("float64", [row[0] for row in rows]), b=("float64", [row[1] for row in rows]))
    inputs = ["a", "b", "a"] if operator in {"add", "multiply"} else ["a", "b"]
    (found,) = applied(frame, "arith", *inputs, params=params)
    # DataVec begins a sum with 0.0, so that one of −0.0 alone is 0.0.
    assert same_floats(found + 0.0 if operator == "add" else found, made["c"])


@pytest.mark.parametrize(
    ("inputs", "params"),
    [
        (["a"], {"operator": "add"}),
        (["a"], {"operator": "add", "left": 1, "right": 2}),
        (["a", "b"], {"operator": "add", "right": 2}),
        (["a", "b", "c"], {"operator": "sub"}),
        (["a", "b", "c"], {"operator": "div"}),
        (["a", "b", "c"], {"operator": "mod"}),
        (["a", "b"], {"operator": "add", "on_zero": "as_is"}),
        (["a", "b"], {"operator": "div", "on_zero": "reject it"}),
        (["a", "b"], {"operator": "pow"}),
        (["a", "b"], {}),
        (["a"], {"operator": "add", "right": INF}),
    ],
)
def test_arith_needs_its_operands(inputs, params):
    """Too few or too many operands, on_zero where nothing is divided, and operators that there are not are refused."""
    with pytest.raises(ValidationError):
        step_of("arith", inputs, params=params)


@pytest.mark.parametrize(
    "coefficients", [[0.0, 1.0], [1.0, -0.5, 0.25], [0.1, 0.2, 0.3, 1e300], [5.0, 0.0, 0.0], [-0.0, -0.0]]
)
def test_poly_is_horners_scheme(coefficients):
    """Each operation of Horner's scheme is rounded by itself, as plain Python does it, ±inf and missing included."""

    def value(x):
        return reduce(lambda total, coefficient: total * x + coefficient, reversed(coefficients[:-1]), coefficients[-1])

    for kind, values in (("float64", FLOATS), ("int64", SAFE)):
        (found,) = applied(frame_of(x=(kind, values)), "poly", "x", params={"coefficients": coefficients})
        assert same_floats(found, [value(float(x)) if present(x) else None for x in values])


def rounded(value, digits, mode):
    """Round as the step says, with Python's decimals for the whole number, which are exact."""
    if not present(value):
        return None
    scale = 10.0 ** abs(digits)
    product = value * scale if digits >= 0 else value / scale
    if abs(product) >= 2**52:
        return value
    kind = decimal.ROUND_HALF_UP if mode == "half_up" else decimal.ROUND_HALF_EVEN
    whole = math.copysign(float(decimal.Decimal(product).to_integral_value(kind)), value)
    return whole / scale if digits >= 0 else whole * scale


HALVES = [
    *(0.49999999999999994, 0.5, 1.5, 2.5, 3.5, -0.5, -2.5, 4503599627370495.5, 2.0**52 + 1),
    *(1.005, 2.675, -0.05, 250.0, 350.0),
]


@pytest.mark.parametrize("mode", ["half_up", "half_even"])
@pytest.mark.parametrize("digits", [0, 1, 2, 15, 22, -1, -2, -22])
def test_round_by_decimals(mode, digits):
    """Halves go away from zero or to the even neighbour, exactly; numbers without a fraction stay as they are."""
    values = [*FLOATS, *HALVES]
    (found,) = applied(frame_of(x=("float64", values)), "round", "x", params={"mode": mode, "digits": digits})
    assert same_floats(found, [rounded(value, digits, mode) for value in values])


def test_round_by_hand():
    """2.5 goes to 3 or to 2, −2.5 to −3 or to −2, 0.5 to 1 or to 0, and −0.3 to −0.0."""
    values = [2.5, -2.5, 0.5, -0.3, 0.49999999999999994, 1.005]
    for mode, wanted in (
        ("half_up", [3.0, -3.0, 1.0, -0.0, 0.0, 1.0]),
        ("half_even", [2.0, -2.0, 0.0, -0.0, 0.0, 1.0]),
    ):
        (found,) = applied(frame_of(x=("float64", values)), "round", "x", params={"mode": mode})
        assert same_floats(found, wanted)
    (found,) = applied(frame_of(x=("float64", [1.005, 250.0])), "round", "x", params={"mode": "half_up", "digits": 2})
    assert plain(found) == [1.0, 250.0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False), min_size=1), st.integers(-22, 22), st.sampled_from(["half_up", "half_even"])
)
def test_what_is_rounded_stays(values, digits, mode):
    """Rounding a rounded number changes nothing, and half_even to whole numbers is numpy's rint."""
    params = {"mode": mode, "digits": digits}
    (once,) = applied(frame_of(x=("float64", values)), "round", "x", params=params)
    (twice,) = applied(frame_of(x=("float64", once.tolist())), "round", "x", params=params)
    assert bits(twice) == bits(once)
    (whole,) = applied(frame_of(x=("float64", values)), "round", "x", params={"mode": "half_even"})
    assert bits(whole) == bits(np.rint(values))


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("round", {}),
        ("round", {"digits": 2}),
        ("round", {"mode": "half_down"}),
        ("round", {"mode": "half_up", "digits": 23}),
        ("poly", {"coefficients": [1.0]}),
        ("poly", {"coefficients": [1.0, NAN]}),
        ("binarize", {}),
        ("binarize", {"threshold": 1, "operator": "<"}),
        ("binarize", {"threshold": INF}),
    ],
)
def test_half_a_meaning_is_refused(op, params):
    """A round without a mode, a polynomial without x, and a threshold that is none are refused."""
    with pytest.raises(ValidationError):
        step_of(op, ["x"], params=params)


@pytest.mark.parametrize("threshold", [0.0, -0.0, 1.5, -1e308, 5e-324])
def test_binarize_compares(threshold):
    """1.0 is above the threshold, or at it with >=; −0 equals 0, ±inf is above and below all, missing stays missing."""
    frame = frame_of(x=("float64", FLOATS))
    (above,) = applied(frame, "binarize", "x", params={"threshold": threshold})
    (at,) = applied(frame, "binarize", "x", params={"threshold": threshold, "operator": ">="})
    assert same_floats(above, [float(value > threshold) if present(value) else None for value in FLOATS])
    assert same_floats(at, [float(value >= threshold) if present(value) else None for value in FLOATS])


def test_signs():
    """Abs clears the sign, neg turns it, sign gives ±1 and keeps both zeros, and missing stays missing."""
    for op, function in (
        ("abs", abs),
        ("neg", lambda value: -value),
        ("sign", lambda value: math.copysign(1.0, value) if value else value),
    ):
        columns: list[tuple[str, list[Any]]] = [("float64", FLOATS), ("int64", SAFE), ("bool", [True, None, False])]
        for kind, values in columns:
            (found,) = applied(frame_of(x=(kind, values)), op, "x")
            assert same_floats(found, [function(float(value)) if present(value) else None for value in values])


@pytest.mark.parametrize(("op", "params"), ONE_NUMBER)
@settings(max_examples=25, deadline=None)
@given(edges=st.lists(st.integers(0, len(FLOATS)), max_size=6).map(sorted))
def test_any_batches_give_the_same_numbers(op, params, edges):
    """Any split of the rows into batches gives the same output to the bit, and inputs are left as they were."""
    step = step_of(op, ["x"], **({"params": params} if params else {}))

    def made(values):
        frame = frame_of(x=("float64", values))
        before = bits(frame.float64("x"))
        (column,) = step.apply(frame, "/steps/0")
        assert bits(frame.float64("x")) == before
        return bits(column)

    pieces = [made(FLOATS[a:b]) for a, b in itertools.pairwise([0, *edges, len(FLOATS)])]
    assert list(itertools.chain(*pieces)) == made(FLOATS)


@pytest.mark.parametrize(("op", "params"), ONE_NUMBER)
@pytest.mark.parametrize("kind", ["string", "date", "timestamp", "list<float64>"])
def test_arithmetic_takes_numbers_only(op, params, kind):
    """Text, dates, instants and lists are refused, with the type that was found."""
    step = step_of(op, ["x"], **({"params": params} if params else {}))
    assert step.infer((ColumnType("bool"),)) == (ColumnType("float64"),)
    assert not step.transcendental
    with pytest.raises(ValueError, match=f"takes numbers, found {kind[:4]}"):
        step.infer((ColumnType.parse(kind),))
