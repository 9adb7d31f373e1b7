from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats  # type: ignore[import-untyped]

from etl.errors import SpecError
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INF, NAN, applied, document, frame_of, plain, step_of

LAMBDAS = [0.0, 1.0, 2.0, 0.5, -0.5, 3.25, -7.0, 1e-20, 1e-17, 2.0 - 2**-52, 1.0000001]
MORE = [0.5, -0.5, 7.25, 1e-300, 1e300, 2.0, 4.0, 100.0]
VALUES = np.array([NAN if value is None else value for value in [*FLOATS, *MORE]])


def made(op, values, power, **params):
    """Return what the op makes of values, as float64."""
    frame = frame_of(x=("float64", list(values)))
    (found,) = applied(frame, op, "x", params={"lambda": power, **params})
    return np.asarray(found), frame


def near(found, wanted):
    """Tell whether values are equal as float32 to one unit in the last place, with zeros of either sign told apart."""
    with np.errstate(over="ignore"):
        one, other = (np.asarray(values, dtype=np.float64).astype(np.float32) for values in (found, wanted))
    steps = np.abs(one.view(np.int32).astype(np.int64) - other.view(np.int32).astype(np.int64))
    return bool(np.all((steps <= 1) | (np.isnan(one) & np.isnan(other))))


@pytest.mark.parametrize("power", LAMBDAS)
def test_yeo_johnson_is_that_of_scipy(power):
    """Of each nasty number it is SciPy's, missing stays missing, and no row is rejected."""
    with np.errstate(all="ignore"):
        wanted = stats.yeojohnson(VALUES, power)
    found, frame = made("yeo_johnson", VALUES, power)
    assert near(found, wanted)
    assert frame.rejections == []


@pytest.mark.parametrize("power", LAMBDAS)
def test_box_cox_is_that_of_scipy(power):
    """Of each number above 0 it is SciPy's, and of others it is missing."""
    with np.errstate(all="ignore"):
        wanted = np.where(VALUES > 0, special.boxcox(np.where(VALUES > 0, VALUES, NAN), power), NAN)
    found, _ = made("box_cox", VALUES, power)
    assert near(found, wanted)


def test_ends_are_as_written():
    """±inf, −0.0 and a result beside an overflow are what the semantics say."""
    assert made("yeo_johnson", [INF, -INF], 0.5)[0].tolist() == [INF, -INF]
    assert made("yeo_johnson", [INF, -INF], -4.0)[0].tolist() == [0.25, -INF]
    assert made("yeo_johnson", [INF, -INF], 6.0)[0].tolist() == [INF, -0.25]
    for power in (-1.0, 0.0, 2.0, 3.0):
        assert [math.copysign(1, x) for x in made("yeo_johnson", [0.0, -0.0], power)[0]] == [1.0, -1.0]
    assert made("box_cox", [INF], -2.0)[0].tolist() == [0.5]
    huge, _ = made("box_cox", [2.0**64], 16.0)
    assert huge.tolist() == [pytest.approx(2.0**1020, rel=1e-12)]
    beside, _ = made("box_cox", [2.0], 1024.5)
    assert beside.tolist() == [pytest.approx(math.exp(1024.5 * math.log(2) - math.log(1024.5)), rel=1e-12)]


def test_a_power_of_one_changes_nothing_but_the_origin():
    """With λ = 1 Yeo and Johnson give x, and Box and Cox x − 1."""
    x = np.array([0.25, 1.0, 3.0, 1000.0])
    assert made("yeo_johnson", [*x, *-x], 1.0)[0].tolist() == pytest.approx([*x, *-x], rel=1e-12)
    assert made("box_cox", x, 1.0)[0].tolist() == pytest.approx(x - 1, rel=1e-12)


def test_what_is_outside_of_box_and_cox_goes_by_on_domain():
    """0, negative numbers and −inf are rejected, or a number, as the step says; missing stays missing."""
    values = [0.0, -0.0, -1.0, -INF, None, 1.0]
    found, frame = made("box_cox", [NAN if value is None else value for value in values], 2.0, on_domain="reject")
    assert [rejection.rows.tolist() for rejection in frame.rejections] == [[0, 1, 2, 3]]
    assert plain(found)[4:] == [None, 0.0]
    instead, _ = made("box_cox", [0.0, NAN], 2.0, on_domain={"as_value": -9.0})
    assert plain(instead) == [-9.0, None]


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30, unique=True), st.floats(-3, 5))
@settings(max_examples=50, deadline=None)
def test_order_is_kept(values, power):
    """A greater number never becomes a lesser one."""
    values = np.sort(values)
    both = np.concatenate([-values[::-1], values])
    assert np.all(np.diff(made("yeo_johnson", both, power)[0].astype(np.float32)) >= 0)
    assert np.all(np.diff(made("box_cox", values, power)[0].astype(np.float32)) >= 0)


@pytest.mark.parametrize("op", ["yeo_johnson", "box_cox"])
@pytest.mark.parametrize("params", [{}, {"lambda": "1"}, {"lambda": 1.0, "power": 2.0}])
def test_the_power_is_a_number_that_is_given(op, params):
    """A step without a power, or with another parameter, is refused."""
    steps = [{"id": "s", "op": op, "in": ["x"], "out": ["y"], "params": params}]
    with pytest.raises(SpecError, match="/steps/0/params"):
        read_spec(json.dumps(document([{"name": "x", "type": "float64"}], steps)), "spec.json")


def test_platforms_may_differ():
    """Both are transcendental, and written with the name that the field has for the power."""
    for op in ("yeo_johnson", "box_cox"):
        step = step_of(op, ["x"], params={"lambda": 0.5})
        assert step.transcendental
        assert step.model_dump(mode="json", by_alias=True)["params"]["lambda"] == 0.5
