from __future__ import annotations

import bisect
import itertools
import json
import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.etl.nasty import FLOATS, INF, NAN, applied, bits, frame_of, same_floats, spec_of, step_of
from tests.etl.test_numeric_ops import SAFE, present
from tests.etl.test_partials_counting import by_rank
from tests.etl.test_scaling_ops import finite, learned

SPLITS = [-1.5, 0.0, 0.1, 1.5, 24.0]
MANY = [-1e10, *(round(step * 0.1 - 5, 1) for step in range(100)), 1e300]


def bin_of(value, splits, closed):
    """Return the number of a bin by Python's own binary search."""
    return float((bisect.bisect_right if closed == "left" else bisect.bisect_left)(splits, value))


@pytest.mark.parametrize("closed", ["left", "right"])
@pytest.mark.parametrize("splits", [SPLITS, [0.0], [-0.0], [5e-324], MANY])
@pytest.mark.parametrize("missing", [None, -1, 7])
def test_bucketize_counts_the_splits_below(closed, splits, missing):
    """The bin's number is how many splits are below, or at the value too where bins are closed to the left."""
    params = {
        "method": "fixed",
        "splits": splits,
        "closed": closed,
        **({} if missing is None else {"missing": missing}),
    }
    for kind, values in (("float64", [*FLOATS, *splits]), ("int64", SAFE), ("bool", [True, False, None])):
        (found,) = applied(frame_of(x=(kind, values)), "bucketize", "x", params=params)
        wanted = [bin_of(value, splits, closed) if present(value) else missing for value in values]
        assert same_floats(found, wanted)


def test_few_splits_and_many_are_one_rule():
    """A split more, by which another way of counting is taken, changes no other number."""
    values = [*FLOATS, *MANY]
    frame = frame_of(x=("float64", values))
    for closed in ("left", "right"):
        for count in (63, 64, 65, 66):
            params = {"method": "fixed", "splits": MANY[:count], "closed": closed}
            (found,) = applied(frame, "bucketize", "x", params=params)
            wanted = [bin_of(value, MANY[:count], closed) if present(value) else None for value in values]
            assert same_floats(found, wanted)


def test_bucketize_by_hand():
    """A split is in the bin above it, or below it; −inf is in the first bin, inf in the last; missing has its own."""
    values = [26.9, 27.0, 43.0, 55.0, 99.0, -INF, INF, None, NAN]
    frame = frame_of(age=("float64", values))
    params = {"method": "quantile", "k": 5, "closed": "left", "missing": -1}
    state = {"splits": [27.0, 34.0, 43.0, 55.0]}
    (found,) = applied(frame, "bucketize", "age", params=params, state=state)
    assert found.tolist() == [0, 1, 3, 4, 4, 0, 4, -1, -1]
    (found,) = applied(frame, "bucketize", "age", params={**params, "closed": "right"}, state=state)
    assert found.tolist() == [0, 0, 2, 3, 4, 0, 4, -1, -1]


def test_the_worked_example_reads_and_dumps_as_written():
    """The steps of the format's worked example are read, and dumped again key by key."""
    steps: list[dict[str, Any]] = [
        {
            "id": "dti",
            "op": "ratio",
            "in": ["debt", "income"],
            "out": ["dti"],
            "params": {"on_zero": {"as_value": 0.0}},
        },
        {"id": "dti_clip", "op": "clip", "in": ["dti"], "out": ["dti_c"], "params": {"lower": 0.0, "upper": 10.0}},
        {"id": "inc_log", "op": "log1p", "in": ["income"], "out": ["income_l"]},
        {
            "id": "inc_z",
            "op": "standardize",
            "in": ["income_l"],
            "out": ["income_z"],
            "state": {"mean": 10.7131, "std": 0.8342, "ddof": 0, "n": 1980233},
        },
        {
            "id": "age_b",
            "op": "bucketize",
            "in": ["age"],
            "out": ["age_bin"],
            "params": {"method": "quantile", "k": 5, "closed": "left", "missing": -1},
            "state": {"splits": [27.0, 34.0, 43.0, 55.0]},
        },
    ]
    fields = [
        {"name": name, "type": kind} for name, kind in (("debt", "float64"), ("income", "float64"), ("age", "int32"))
    ]
    written = json.loads(json.dumps(steps))
    del written[4]["params"]["closed"]  # the default
    assert spec_of(fields, steps, columns=["income_z", "dti_c", "age_bin"]).plain()["steps"] == written


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=1, max_size=60), st.integers(2, 12))
def test_splits_by_quantile(values, k):
    """Splits are the quantiles 1/k, 2/k, … by exact ranks, each once, and n is the count of values."""
    state = learned("bucketize", [*values, None, NAN], (1, 2), method="quantile", k=k)
    wanted = {by_rank(values, Fraction(i, k)) for i in range(1, k)}
    assert bits(np.array(state.splits)) == bits(sorted(wanted))
    assert state.n == len(values)


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=1, max_size=60), st.integers(2, 12))
def test_splits_of_equal_width(values, k):
    """Splits are least + i × ((largest − least) ÷ k), each once; −0 is 0."""
    least, largest = min(values) + 0.0, max(values) + 0.0
    state = learned("bucketize", [*values, None, NAN], (1, 2), method="uniform", k=k)
    wanted = {least + i * ((largest - least) / k) for i in range(1, k)}
    assert state.splits == tuple(sorted(wanted))
    assert state.n == len(values)


@pytest.mark.parametrize("n", [100, 200, 1000])
def test_bins_of_equally_many_rows_are_exactly_so(n):
    """As many different values as rows lie n ÷ 100 in each of 100 bins, and a grid of n + 1 quantiles misses none."""
    values = [float(number) for number in range(1, n + 1)]
    state = learned("bucketize", values, method="quantile", k=100)
    assert state.splits == tuple(float(n // 100 * i) for i in range(1, 100))
    assert learned("quantile_map", values, k=n + 1).quantiles == (1.0, *values)


def test_equal_splits_are_one():
    """A column with few values has as many bins as it needs, numbered without gaps; a constant one has one split."""
    assert learned("bucketize", [0.0] * 60 + [1.0] * 40, method="quantile", k=10).splits == (0.0, 1.0)
    for method in ("quantile", "uniform"):
        assert learned("bucketize", [2.5, 2.5, None], method=method, k=4).model_dump() == {"splits": (2.5,), "n": 2}


@pytest.mark.parametrize(
    ("op", "params", "state"),
    [
        ("bucketize", {"method": "fixed"}, None),
        ("bucketize", {"method": "fixed", "splits": []}, None),
        ("bucketize", {"method": "fixed", "splits": [1, 1]}, None),
        ("bucketize", {"method": "fixed", "splits": [0.0, -0.0]}, None),
        ("bucketize", {"method": "fixed", "splits": [2, 1]}, None),
        ("bucketize", {"method": "fixed", "splits": [0, INF]}, None),
        ("bucketize", {"method": "fixed", "splits": [1], "k": 2}, None),
        ("bucketize", {"method": "quantile"}, None),
        ("bucketize", {"method": "quantile", "k": 1}, None),
        ("bucketize", {"method": "uniform", "k": 3, "splits": [1]}, None),
        ("bucketize", {"method": "uniform", "k": 3, "missing": "own"}, None),
        ("bucketize", {"method": "uniform", "k": 3, "closed": "both"}, None),
        ("bucketize", {"method": "uniform", "k": 3}, {"splits": [2.0, 1.0]}),
        ("bucketize", {"method": "uniform", "k": 3}, {"splits": [1.0, 2.0, 3.0]}),
        ("bucketize", {"method": "uniform", "k": 3}, {"splits": []}),
        ("bucketize", {"method": "fixed", "splits": [1.0]}, {"splits": [1.0]}),
        ("quantile_map", {"k": 1}, None),
        ("quantile_map", {"to": "gaussian"}, None),
        ("quantile_map", {"k": 2}, {"quantiles": [1.0, 0.0], "n": 1}),
        ("quantile_map", {"k": 3}, {"quantiles": [0.0, 1.0], "n": 1}),
        ("quantile_map", {"k": 2}, {"quantiles": [-1e308, 1e308], "n": 1}),
        ("quantile_map", {"k": 2}, {"quantiles": [0.0, INF], "n": 1}),
    ],
)
def test_binning_refuses_half_a_meaning(op, params, state):
    """Splits that do not ascend, a method without what it needs, and state of another shape are refused."""
    with pytest.raises(ValidationError):
        step_of(op, ["x"], params=params, **({} if state is None else {"state": state}))


def test_fixed_splits_need_no_data():
    """A step with fixed splits can be applied at once; the others are recipes until they are fitted."""
    assert step_of("bucketize", ["x"], params={"method": "fixed", "splits": [0]}).is_fitted
    assert not step_of("bucketize", ["x"], params={"method": "uniform", "k": 2}).is_fitted
    assert not step_of("quantile_map", ["x"]).is_fitted


def share_of(value, quantiles):
    """Return scikit-learn's QuantileTransformer for one value: the mean of numpy's interpolation from both sides."""
    if value <= quantiles[0]:
        return 0.0
    if value >= quantiles[-1]:
        return 1.0
    grid = np.linspace(0, 1, len(quantiles))
    ascending = np.array(quantiles)
    forwards = np.interp(value, ascending, grid)
    return float(0.5 * (forwards - np.interp(-value, -ascending[::-1], -grid[::-1])))


GRIDS = [
    [0.0, 1.0],
    [-3.0, -1.5, 0.1, 1.5, 24.0],
    [0.0, 0.0, 0.0, 0.1, 0.1, 1.5, 1.5],
    [-1.5, -1.5, 2.5, 2.5, 2.5, 2.5, 3.0, 1e10, 1e10],
    [5e-324, 1e-300, 1e300],
]


@pytest.mark.parametrize("quantiles", GRIDS)
def test_quantile_map_is_that_of_scikit_learn(quantiles):
    """The share is that of scikit-learn's formula: 0 at the least and below, 1 at the largest and above, ±inf too."""
    values = [*FLOATS, *quantiles, *np.linspace(-4, 25, 200).tolist()]
    params, state = {"k": len(quantiles)}, {"quantiles": quantiles}
    (found,) = applied(frame_of(x=("float64", values)), "quantile_map", "x", params=params, state=state)
    wanted = [share_of(value, quantiles) if present(value) else NAN for value in values]
    assert np.allclose(found, wanted, rtol=0, atol=3e-16, equal_nan=True)
    # At the quantiles themselves, and beyond the ends, it is exact.
    exact = {q: [i for i, other in enumerate(quantiles) if other == q] for q in quantiles}
    for value, share in zip(values, found.tolist(), strict=True):
        if present(value) and quantiles[0] < value < quantiles[-1]:
            if value in exact:
                assert share == (exact[value][0] / (len(quantiles) - 1) + exact[value][-1] / (len(quantiles) - 1)) / 2
        elif present(value):
            assert share == float(value >= quantiles[-1])


def test_quantile_map_of_a_constant():
    """A column that was constant at fit becomes 0, a greater value 1, and a lesser one 0."""
    for to, low, high in (("uniform", 0.0, 1.0), ("normal", -5.199, 5.199)):
        step = step_of("quantile_map", ["x"], params={"k": 3, "to": to}, state={"quantiles": [2.5] * 3, "n": 4})
        (found,) = step.apply(frame_of(x=("float64", [2.5, 2.4, 2.6, -INF, INF, None])), "/steps/0")
        assert np.allclose(found, [low, low, high, low, high, NAN], atol=1e-3, equal_nan=True)


def test_quantile_map_to_normal():
    """The normal quantile is the standard library's to 1e-14, kept from 1e-7 to 1 − 1e-7."""
    values = np.concatenate(
        [np.linspace(0, 1, 1001), [1e-9, 5e-8, 1e-7, 1e-6, 0.07499, 0.075, 0.925, 1 - 1e-8, 1 - 1e-6]]
    )
    step = step_of("quantile_map", ["x"], params={"k": 2, "to": "normal"}, state={"quantiles": [0.0, 1.0]})
    (found,) = step.apply(frame_of(x=("float64", [*values.tolist(), None])), "/steps/0")
    normal = statistics.NormalDist()
    wanted = [math.copysign(normal.inv_cdf(max(min(p, 1 - p), 1e-7)), p - 0.5) for p in values.tolist()]
    assert np.allclose(found[:-1], wanted, rtol=1e-14, atol=1e-16)
    assert math.isnan(found[-1])
    assert found[0] == -found[1000] == pytest.approx(-5.199337582, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=1, max_size=60), st.integers(2, 12))
def test_the_grid_is_of_quantiles(values, k):
    """The state has the quantiles 0, 1/(k − 1), … by exact ranks: from the least value to the largest."""
    state = learned("quantile_map", [*values, None, NAN], (1, 2), k=k)
    wanted = [by_rank(values, Fraction(i, k - 1)) for i in range(k)]
    assert bits(np.array(state.quantiles)) == bits(wanted)
    assert (state.quantiles[0], state.quantiles[-1], state.n) == (min(values), max(values), len(values))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(finite, min_size=1, max_size=30),
    st.lists(st.floats(), max_size=30),
    st.sampled_from(["uniform", "normal"]),
)
def test_a_greater_value_has_no_lesser_share(train, values, to):
    """The map never descends (to normal not by more than 1e-14), and stays within its bounds."""
    state = learned("quantile_map", train, k=5)
    ascending = sorted(value for value in [*values, *train] if value == value)  # noqa: PLR0124  NaN
    step = step_of("quantile_map", ["x"], params={"k": 5, "to": to}, state=state.model_dump())
    (found,) = step.apply(frame_of(x=("float64", ascending)), "/steps/0")
    assert (np.diff(found) >= (0.0 if to == "uniform" else -1e-14)).all()
    bound = 1.0 if to == "uniform" else 5.2
    assert found.min() >= (0.0 if to == "uniform" else -bound)
    assert found.max() <= bound


STEPS: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("bucketize", {"method": "fixed", "splits": SPLITS, "missing": -1}, None),
    ("bucketize", {"method": "fixed", "splits": MANY}, None),
    ("quantile_map", {"k": 7}, {"quantiles": GRIDS[2]}),
    ("quantile_map", {"k": 5, "to": "normal"}, {"quantiles": GRIDS[1]}),
]


@pytest.mark.parametrize(("op", "params", "state"), STEPS)
@settings(max_examples=25, deadline=None)
@given(edges=st.lists(st.integers(0, len(FLOATS)), max_size=6).map(sorted))
def test_any_batches_give_the_same_bins(op, params, state, edges):
    """Any split of the rows into batches gives the same output to the bit, and inputs are left as they were."""
    step = step_of(op, ["x"], params=params, **({} if state is None else {"state": state}))

    def made(values):
        frame = frame_of(x=("float64", values))
        before = bits(frame.float64("x"))
        (column,) = step.apply(frame, "/steps/0")
        assert bits(frame.float64("x")) == before
        assert column.dtype == np.float64
        return bits(column)

    pieces = [made(FLOATS[a:b]) for a, b in itertools.pairwise([0, *edges, len(FLOATS)])]
    assert list(itertools.chain(*pieces)) == made(FLOATS)
