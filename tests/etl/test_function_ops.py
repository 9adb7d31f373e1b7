from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.spec import read_spec
from etl.types import ColumnType
from tests.etl.nasty import FLOATS, INF, NAN, applied, bits, document, frame_of, same_floats, step_of
from tests.etl.test_arithmetic_ops import datavec_rows
from tests.etl.test_numeric_ops import SAFE, present

MORE = [-0.5, 0.5, -1.0 + 1e-16, 1e-300, 709.5, 710.0, -745.2, 8.0, 1000.0, 1e300, -2.0, -3.0, 4.0]
VALUES: list[Any] = [*FLOATS, *MORE]
COLUMNS: list[tuple[str, list[Any]]] = [("float64", VALUES), ("int64", SAFE), ("bool", [True, False, None])]


def power(value, exponent):
    """Return Python's power, with IEEE's results where Python raises; None outside the domain."""
    if (value < 0 and exponent != int(exponent)) or (value == 0 and exponent < 0):
        return None
    try:
        return math.pow(value, exponent)
    except OverflowError:
        return math.copysign(INF, value if exponent % 2 == 1 else 1)


def exponential(value):
    """Return Python's exp, inf where it overflows."""
    try:
        return math.exp(value)
    except OverflowError:
        return INF


EXPONENTS = (0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.75)

# By name: op, parameters, and the function in plain Python, None outside the domain.
FUNCTIONS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "log": ("log", {}, lambda x: math.log(x) if x > 0 else None),
    "log2": ("log", {"base": 2}, lambda x: math.log2(x) if x > 0 else None),
    "log10": ("log", {"base": 10.0}, lambda x: math.log10(x) if x > 0 else None),
    "log half": ("log", {"base": 0.5}, lambda x: math.log(x) / math.log(0.5) if x > 0 else None),
    "log 7": ("log", {"base": 7}, lambda x: math.log(x) / math.log(7) if x > 0 else None),
    "log1p": ("log1p", {}, lambda x: math.log1p(x) if x > -1 else None),
    "sqrt": ("sqrt", {}, lambda x: math.sqrt(x) if x >= 0 else None),
    "signed_log1p": ("signed_log1p", {}, lambda x: math.copysign(math.log1p(abs(x)), x)),
    "exp": ("exp", {}, exponential),
    **{f"power {e}": ("power", {"exponent": e}, lambda x, e=e: power(x, e)) for e in EXPONENTS},
}

WITH_DOMAIN = [name for name, (op, _, _) in FUNCTIONS.items() if op not in {"signed_log1p", "exp"}]


def keys_of(params):
    """Return the params as a step has them, if there are any."""
    return {"params": params} if params else {}


def close(found, wanted):
    """Tell whether floats are equal after the cast to float32, or neighbours; signs of zeros and NaN must be equal."""
    floats = [np.array([NAN if x is None else x for x in values], dtype=np.float64) for values in (found, wanted)]
    with np.errstate(over="ignore"):
        one, other = (values.astype(np.float32) for values in floats)
    assert (np.isnan(one) == np.isnan(other)).all()
    assert (np.signbit(one) == np.signbit(other))[~np.isnan(one)].all()
    whole = [np.where(np.isnan(values), 0, values.view(np.int32)).astype(np.int64) for values in (one, other)]
    return bool((np.abs(whole[0] - whole[1]) <= 1).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_python(name):
    """Every value is Python's to a unit in the last place, ±inf and −0 too; outside the domain it is missing."""
    op, params, function = FUNCTIONS[name]
    for kind, values in COLUMNS:
        (found,) = applied(frame_of(x=(kind, values)), op, "x", **keys_of(params))
        wanted = [function(float(value)) if present(value) else None for value in values]
        assert close(found, wanted)
        if op == "sqrt":
            assert same_floats(found, wanted)


@pytest.mark.parametrize("name", WITH_DOMAIN)
def test_what_is_outside_the_domain(name):
    """Outside the domain there is the number that is given, or the row is rejected, with place and reason."""
    op, params, function = FUNCTIONS[name]
    outside = [present(value) and function(value) is None for value in VALUES]
    frame = frame_of(x=("float64", VALUES))
    (found,) = applied(frame, op, "x", params={**params, "on_domain": {"as_value": -7.5}})
    assert [bool(value == -7.5) for value in found] == outside
    assert not frame.rejections
    (found,) = applied(frame, op, "x", params={**params, "on_domain": "reject"})
    assert same_floats(found[outside], [NAN] * sum(outside))
    rejected = [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections]
    wanted = (np.flatnonzero(outside).tolist(), "OUT_OF_DOMAIN", "/steps/0/params/on_domain", "x")
    assert rejected == ([wanted] if any(outside) else [])


# By name and the value's repr; what is not here is missing.
AS_IEEE_HAS_IT: dict[str, dict[str, float]] = {
    **{name: {"0.0": -INF, "-0.0": -INF} for name in ("log", "log2", "log10", "log 7")},
    "log half": {"0.0": INF, "-0.0": INF},
    "log1p": {"-1.0": -INF},
    "power -1": {"0.0": INF, "-0.0": -INF},
    "power -2": {"0.0": INF, "-0.0": INF},
    "power 0.5": {"-inf": INF},
    "power 1.75": {"-inf": INF},
    "power -0.5": {"-inf": 0.0, "0.0": INF, "-0.0": INF},
}


@pytest.mark.parametrize("name", WITH_DOMAIN)
def test_as_is_is_what_ieee_754_has(name):
    """With `as_is` a pole is ±inf, −inf to a broken power is inf or 0, what has no value is missing; no row goes."""
    op, params, function = FUNCTIONS[name]
    poles = AS_IEEE_HAS_IT.get(name, {})
    frame = frame_of(x=("float64", VALUES))
    (found,) = applied(frame, op, "x", params={**params, "on_domain": "as_is"})
    defined = [function(value) if present(value) else None for value in VALUES]
    wanted = [poles.get(repr(v)) if w is None else w for v, w in zip(VALUES, defined, strict=True)]
    assert close(found, wanted)
    assert not frame.rejections


def test_a_rejection_says_what_the_function_needs():
    """The message names column, domain and op, and shows no value."""
    for op, params, needs in (
        ("log", {}, "above 0, as op log needs"),
        ("log1p", {}, "above -1, as op log1p needs"),
        ("sqrt", {}, "0 or above, as op sqrt needs"),
        ("power", {"exponent": 0.5}, "where this power is defined, as op power needs"),
    ):
        frame = frame_of(x=("float64", [-8.25]))
        applied(frame, op, "x", params={**params, "on_domain": "reject"})
        assert [rejection.message for rejection in frame.rejections] == [f"x is not {needs}"]


NAMES = ["abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "exp", "floor"]
NAMES += ["log", "log10", "signum", "sin", "sinh", "sqrt", "tan", "tanh"]
EXACT = {"abs", "ceil", "floor", "signum", "sqrt"}


def test_math_has_every_function_of_datavec():
    """Each MathFunction of DataVec is one of `math`: Java's results come out, to the bit where they are exact."""
    seen = set()
    for file in ("double_functions", "double_angles"):
        rows, made = datavec_rows(f"functions/{file}")
        for name in made.keys() - {"x"}:
            frame = frame_of(x=("float64", [x for (x,) in rows]))
            (found,) = applied(frame, "math", "x", params={"function": name})
            assert (same_floats if name in EXACT else close)(found, made[name]), name
            seen.add(name)
    assert seen == {*NAMES}


def java(name, value):
    """Return what Java's Math gives: Python's, with NaN and ±inf where Python raises."""
    if name in {"ceil", "floor", "trunc"}:
        whole = getattr(math, name)
        return math.copysign(whole(value), value) if math.isfinite(value) else value
    if name in {"abs", "signum"}:
        return abs(value) if name == "abs" else (math.copysign(1, value) if value else value)
    if name in {"log", "log10"} and value == 0:
        return -INF
    try:
        return getattr(math, name)(value)
    except ValueError:
        return NAN
    except OverflowError:
        return math.copysign(INF, value if name == "sinh" else 1)


@pytest.mark.parametrize("name", [*NAMES, "trunc"])
def test_math_is_that_of_c(name):
    """Nasty numbers, integers and bools give C's results; missing stays missing."""
    for kind, values in COLUMNS:
        (found,) = applied(frame_of(x=(kind, values)), "math", "x", params={"function": name})
        wanted = [java(name, float(value)) if present(value) else None for value in values]
        assert close(found, wanted)
        if name in EXACT | {"trunc"}:
            assert same_floats(found, wanted)


def test_steps_tell_whether_platforms_may_differ():
    """What IEEE 754 settles to the bit is not transcendental; logarithms, powers and angles are."""
    functions = {name: step_of("math", ["x"], params={"function": name}) for name in [*NAMES, "trunc"]}
    assert {name for name, step in functions.items() if not step.transcendental} == {*EXACT, "trunc"}
    steps = {name: step_of(op, ["x"], **keys_of(params)) for name, (op, params, _) in FUNCTIONS.items()}
    assert {name for name, step in steps.items() if not step.transcendental} == {"sqrt"}
    maps = [step_of("quantile_map", ["x"], params={"to": to}) for to in ("uniform", "normal")]
    assert [step.transcendental for step in maps] == [False, True]


@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"math {name}" for name in [*NAMES, "trunc"])])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_batches_give_the_same_values(name, data):
    """Any split of the rows into batches gives the same output to the bit, and inputs are left as they were."""
    op, params, _ = FUNCTIONS.get(name, ("math", {"function": name.removeprefix("math ")}, None))
    values = [*VALUES, *data.draw(st.lists(st.floats(), max_size=30))]
    edges = data.draw(st.lists(st.integers(0, len(values)), max_size=8).map(sorted))
    step = step_of(op, ["x"], **keys_of(params))

    def made(part):
        frame = frame_of(x=("float64", part))
        before = bits(frame.float64("x"))
        (column,) = step.apply(frame, "/steps/0")
        assert bits(frame.float64("x")) == before
        return bits(column)

    pieces = [made(values[a:b]) for a, b in itertools.pairwise([0, *edges, len(values)])]
    assert list(itertools.chain(*pieces)) == made(values)


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("log", {"base": 0}),
        ("log", {"base": 1}),
        ("log", {"base": -2}),
        ("log", {"base": "10"}),
        ("log", {"base": "pi"}),
        ("log", {"on_domain": "zero"}),
        ("log1p", {"base": 2}),
        ("sqrt", {"on_domain": {"as_value": "inf"}}),
        ("power", None),
        ("power", {"exponent": "2"}),
        ("exp", {}),
        ("math", {"function": "gamma"}),
        ("math", None),
    ],
)
def test_functions_that_there_are_not_are_refused(op, params):
    """Bases that have no logarithm, unknown functions and params of another op are refused in a spec."""
    step = {"op": op, "id": "s", "in": ["x"], "out": ["y"], **({} if params is None else {"params": params})}
    text = json.dumps(document([{"name": "x", "type": "float64"}], [step]))
    with pytest.raises(SpecError, match="/steps/0"):
        read_spec(text, "spec.json")


def test_functions_take_numbers_only():
    """Text is refused, with the type that was found."""
    for op, params, _ in FUNCTIONS.values():
        step = step_of(op, ["x"], **keys_of(params))
        with pytest.raises(ValueError, match="takes numbers, found string"):
            step.infer((ColumnType("string"),))
