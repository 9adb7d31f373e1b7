from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from pydantic import ValidationError

from etl.types import ColumnType
from tests.etl.nasty import FLOATS, INF, INT64S, NAN, applied, bits, frame_of, plain, same_floats, step_of

SAFE = [value for value in INT64S if value is None or abs(value) <= 2**53]


def present(value):
    """Tell whether a value is there."""
    return value is not None and not math.isnan(value)


def clipped(value, lower, upper):
    """Clip one value by comparison."""
    if lower is not None and value < lower:
        return lower
    return upper if upper is not None and value > upper else value


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), (None, -0.0), (-1e308, None), (2.0, 2.0), (0.0, None)])
def test_clip_compares(lower, upper):
    """Values beyond a bound become the bound, ±inf too, NaN and null stay missing, and −0 is not below 0."""
    (found,) = applied(frame_of(x=("float64", FLOATS)), "clip", "x", params={"lower": lower, "upper": upper})
    assert same_floats(found, [clipped(value, lower, upper) if present(value) else None for value in FLOATS])


def test_clip_changes_no_input():
    """A step never writes into a column that it reads."""
    frame = frame_of(x=("float64", [1.0, 5.0]))
    applied(frame, "clip", "x", params={"upper": 2})
    assert frame.float64("x").tolist() == [1.0, 5.0]


@pytest.mark.parametrize("params", [{}, {"lower": 2, "upper": 1}, {"lower": "inf"}, {"lower": NAN}, {"min": 1}])
def test_clip_needs_an_interval(params):
    """Bounds that are absent, crossed, infinite or NaN are refused."""
    with pytest.raises(ValidationError):
        step_of("clip", ["x"], params=params)


def divided(numerator, denominator, on_zero):
    """Divide as IEEE 754 does, but by zero as the step says."""
    if not present(numerator) or not present(denominator):
        return None
    if denominator == 0:
        return on_zero
    with np.errstate(all="ignore"):
        return float(np.float64(numerator) / np.float64(denominator))


@pytest.mark.parametrize("on_zero", [None, 0.0, -3.5])
def test_ratio_of_all_pairs(on_zero):
    """The quotient is IEEE's for every pair, on_zero where b is 0 or −0, and missing where either is, whatever b is."""
    pairs = [(a, b) for a in FLOATS for b in FLOATS]
    frame = frame_of(a=("float64", [a for a, _ in pairs]), b=("float64", [b for _, b in pairs]))
    params = {} if on_zero is None else {"on_zero": {"as_value": on_zero}}
    (found,) = applied(frame, "ratio", "a", "b", params=params)
    wanted = [divided(a, b, on_zero) for a, b in pairs]
    assert same_floats(found, [None if value is not None and math.isnan(value) else value for value in wanted])


@pytest.mark.parametrize("on_zero", ["zero", {"as_value": "x"}, {"as_value": INF}, {"value": 1}, 0])
def test_ratio_refuses_other_words(on_zero):
    """on_zero is as_missing or a finite number."""
    with pytest.raises(ValidationError):
        step_of("ratio", ["a", "b"], params={"on_zero": on_zero})


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.3), (-1e308, 1.0), (1e-308, 5e-324), (3.0, 0.0)])
def test_standardize_is_one_subtraction_and_one_division(mean, std):
    """(x − mean) ÷ std is IEEE's for every value, and x − mean where std is 0."""
    state = {"mean": mean, "std": std, "n": 9}
    for kind, values in (("float64", FLOATS), ("int64", SAFE), ("bool", [True, False, None])):
        (found,) = applied(frame_of(x=(kind, values)), "standardize", "x", state=state)
        with np.errstate(all="ignore"):
            centred = [(np.float64(value) - mean) / (std or 1.0) if present(value) else None for value in values]
        assert same_floats(found, centred)


@pytest.mark.parametrize("op", ["clip", "standardize", "cyclical", "ratio"])
@pytest.mark.parametrize("kind", ["string", "date", "timestamp", "float32[2]"])
def test_numeric_ops_take_numbers_only(op, kind):
    """Text, dates, instants and vectors are refused by numeric ops, with the type that was found."""
    params = {"clip": {"lower": 0}, "cyclical": {"period": 7}}.get(op)
    step = step_of(op, ["x"], **({"params": params} if params else {}))
    with pytest.raises(ValueError, match=f"takes numbers, found {kind.replace('[', '.')[:7]}"):
        step.infer((ColumnType.parse(kind),) * 2)


def learned(op, values, kind="float64", *, cuts=(), **keys):
    """Fit a step to values that come in pieces."""
    step = step_of(op, ["x"], **keys)
    total = step.accumulator()
    edges = [0, *cuts, len(values)]
    for start, stop in itertools.pairwise(edges):
        part = step.accumulator()
        part.update(frame_of(x=(kind, values[start:stop])))
        total.merge(part)
    return total.finish()


def test_moments_are_those_of_the_population():
    """Mean and standard deviation are the exact ones of the population to 1e-12, however the rows are cut."""
    rng = np.random.default_rng(7)
    values = (rng.standard_normal(1000) * 1e3 + 1e6).tolist()
    for cuts in ((), (1,), (0, 0, 500), tuple(range(1, 999))):
        state = learned("standardize", [*values, None, NAN], cuts=cuts)
        assert state.n == 1000
        assert math.isclose(state.mean, statistics.fmean(values), rel_tol=1e-12)
        assert math.isclose(state.std, statistics.pstdev(values), rel_tol=1e-12)


def test_a_constant_column_has_no_spread():
    """A column of one value has exactly this mean and std 0, although the sum of its values is rounded."""
    for value in (0.1, -0.0, 1e308, 5e-324):
        state = learned("standardize", [value] * 10, cuts=(3,))
        assert (state.mean, state.std) == (value, 0.0)


@pytest.mark.parametrize("values", [[], [None, NAN], [1.0, INF], [-INF, 1e308], [INF, INF]])
def test_moments_that_do_not_exist_are_refused(values):
    """A column without values or with ±inf cannot be standardized, and says so."""
    with pytest.raises(ValueError, match=r"column 'x' (has no value|holds)"):
        learned("standardize", values)


def test_a_batch_of_no_rows_is_no_special_case():
    """Every numeric op makes an empty column of an empty one."""
    frame = frame_of(x=("float64", []), y=("float64", []))
    assert plain(applied(frame, "clip", "x", params={"lower": 0})[0]) == []
    assert plain(applied(frame, "ratio", "x", "y")[0]) == []
    assert bits(applied(frame, "standardize", "x", state={"mean": 0, "std": 1, "n": 2})[0]) == []
