from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.inspection.explain import explain
from etl.learning.fitting import fit, most_extra_passes, passes
from etl.learning.pieces import Piece
from etl.partials import Partial
from etl.types import ColumnType
from tests.etl.nasty import FLOATS, INF, NAN, applied, bits, frame_of, same_floats, spec_of, step_of
from tests.etl.test_numeric_ops import SAFE, clipped, present
from tests.etl.test_partials_counting import by_rank

DATAVEC = Path(__file__).parent / "datavec" / "normalizers"

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "standardize": ("standardize", {}),
    "minmax": ("minmax", {}),
    "maxabs": ("maxabs", {}),
    "robust_scale": ("robust_scale", {}),
    "clip": ("clip", {"lower_quantile": 0.01, "upper_quantile": 0.9}),
    "clip from below": ("clip", {"lower_quantile": 0.5, "upper": 1e300}),
    "bucketize quantile": ("bucketize", {"method": "quantile", "k": 7}),
    "bucketize uniform": ("bucketize", {"method": "uniform", "k": 7}),
    "quantile_map": ("quantile_map", {"k": 11}),
}

STATES: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "standardize": [({}, {"mean": 0.1, "std": 0.3}), ({}, {"mean": 2.0, "std": 0.0, "n": 1})],
    "minmax": [({}, {"min": -1.0, "max": 3.0}), ({"lower": -1, "clip": True}, {"min": 0.1, "max": 0.1, "n": 3})],
    "maxabs": [({}, {"max_abs": 24.0}), ({}, {"max_abs": 0.0})],
    "robust_scale": [({}, {"median": 0.5, "lower": -3.0, "upper": 7.0}), ({}, {"median": 1, "lower": 1, "upper": 1})],
    "clip": [({"lower_quantile": 0.1, "upper_quantile": 0.9}, {"lower": -1.5, "upper": 24.0, "n": 9})],
}

finite = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
    st.sampled_from([value for value in FLOATS if value is not None and abs(value) <= 1e300]),
    st.integers(-2, 2).map(float),
)


def learned(op, values, edges=(), **params):
    """Fit a step to values that come in pieces, in as many passes as it asks for."""
    template = step_of(op, ["x"], **({"params": params} if params else {})).accumulator()
    for _ in range(4):
        total = template.fresh()
        for start, stop in itertools.pairwise([0, *sorted(edges), len(values)]):
            part = template.fresh()
            part.update(frame_of(x=("float64", values[start:stop])))
            total.merge(part)
        template = total.narrow()
        if template is None:
            return total.finish()
    message = "more than three extra passes"
    raise AssertionError(message)


@pytest.mark.parametrize("name", RECIPES)
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.one_of(finite, st.sampled_from([None, NAN])), min_size=1, max_size=40), data=st.data())
def test_any_partitioning_gives_the_same_state(name, values, data):
    """However the rows are cut and ordered, what is learned of them is the same to the byte."""
    op, params = RECIPES[name]
    values = [*values, 0.5]
    edges = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    other = data.draw(st.permutations(values))
    assert repr(learned(op, other, edges, **params)) == repr(learned(op, values, **params))


@pytest.mark.parametrize("name", RECIPES)
def test_many_values_of_all_magnitudes_give_one_state(name):
    """100,000 values from 1e-300 to 1e300, which take several passes, give one state for all partitionings."""
    op, params = RECIPES[name]
    rng = np.random.default_rng(4)
    values = (
        np.exp(rng.uniform(math.log(1e-300), math.log(1e300), 100_000)) * rng.choice([-1.0, 1.0], 100_000)
    ).tolist()
    if {"k", "lower_quantile"} & {*params} and params.get("method") != "uniform":
        first = step_of(op, ["x"], params=params).accumulator()
        first.update(frame_of(x=("float64", values)))
        assert first.narrow() is not None
    whole = learned(op, values, **params)
    for edges in ((50_000,), sorted(rng.integers(0, 100_000, 7).tolist())):
        assert learned(op, values, edges, **params).model_dump_json() == whole.model_dump_json()
    assert whole.n == 100_000


def test_a_recipe_of_all_of_them_is_fitted_to_the_same_bytes():
    """A recipe with every op that learns from numbers, one behind another, gives the same bytes for any batches."""
    steps: list[dict[str, Any]] = []
    for n, (op, params) in enumerate(RECIPES.values()):
        steps.append({"id": f"s{n}", "op": op, "in": ["x"], "out": [f"y{n}"], **({"params": params} if params else {})})
    steps.append({"id": "last", "op": "robust_scale", "in": ["y0"], "out": ["z"]})
    recipe = spec_of([{"name": "x", "type": "float64"}], steps, columns=["z"], fitted=False)
    values = np.random.default_rng(2).standard_normal(70_000) * 1e3
    table = pa.table({"x": values})
    whole = fit(recipe, table)
    assert whole.is_fitted
    for edges in ((30_000,), (1, 2, 40_000, 69_999)):
        cuts = list(itertools.pairwise([0, *edges, values.size]))
        pieces = [Piece(str(a), table.slice(a, b - a).to_batches) for a, b in cuts]
        for workers in (1, 2):
            again = fit(recipe, pieces, workers=workers)
            assert again.plain()["steps"] == whole.plain()["steps"]


@pytest.mark.parametrize(
    ("op", "params", "most"),
    [
        *[(op, None, 0) for op in ("standardize", "minmax", "maxabs")],
        *[(op, None, 3) for op in ("quantile_map", "robust_scale")],
        ("bucketize", {"method": "quantile", "k": 4}, 3),
        ("bucketize", {"method": "uniform", "k": 4}, 0),
        ("bucketize", {"method": "fixed", "splits": [0.5]}, 0),
        ("clip", {"lower_quantile": 0.1, "upper": 9}, 3),
        ("clip", {"lower": 0.1, "upper": 9}, 0),
        *[("impute", {"strategy": strategy}, 0) for strategy in ("mean", "mode")],
        ("impute", {"strategy": "median"}, 3),
        ("impute", {"strategy": "constant", "value": 0.0}, 0),
    ],
)
def test_only_what_learns_quantiles_may_take_more_passes(op, params, most):
    """A step that learns quantiles says that it may need three passes more, any other that it needs none."""
    keys = {} if params is None else {"params": params}
    assert step_of(op, ["x"], **keys).most_extra_passes == most
    fields = [{"name": "x", "type": "float64", "pii": True}]
    recipe = spec_of(fields, [{"id": "s", "op": op, "in": ["x"], "out": ["y"], **keys}], columns=["y"], fitted=False)
    assert [step.most_extra_passes for step in explain(recipe)] == [most]
    assert most_extra_passes(recipe) == most


def test_passes_of_all_steps_are_those_of_each_level():
    """What is learned together shares its passes, what waits for it adds its own; quantiles of open fields count."""
    steps: list[dict[str, Any]] = [
        {"id": "a", "op": "robust_scale", "in": ["x"], "out": ["y"]},
        {"id": "b", "op": "impute", "in": ["x"], "out": ["z"], "params": {"strategy": "median"}},
        {"id": "c", "op": "quantile_map", "in": ["y"], "out": ["w"]},
        {"id": "d", "op": "standardize", "in": ["w"], "out": ["v"]},
    ]
    recipe = spec_of([{"name": "x", "type": "float64"}], steps, columns=["v"], fitted=False)
    assert (len(passes(recipe)), most_extra_passes(recipe)) == (3, 6)
    only = spec_of([{"name": "x", "type": "float64"}], [{**steps[3], "in": ["x"]}], columns=["v"], fitted=False)
    assert (len(passes(only)), most_extra_passes(only)) == (1, 3)
    provenance = fit(only, pa.table({"x": np.linspace(0, 1, 70_000)})).provenance
    assert provenance is not None
    assert provenance.passes == 2


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_learned_is_data(name):
    """What an op learns holds a name, numbers and partial states alone, so that it can be sent as data."""
    op, params = RECIPES[name]
    state = step_of(op, ["x"], **({"params": params} if params else {})).accumulator()
    state.update(frame_of(x=("float64", [1.0, None])))
    assert all(isinstance(held, str | int | float | bool | None | Partial) for held in vars(state).values())
    assert any(isinstance(held, Partial) for held in vars(state).values())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("values", "reason"), [([], "has no value"), ([None, NAN], "has no value"), ([INF, INF], "holds")]
)
def test_there_must_be_something_to_learn_from(name, values, reason):
    """A column without a value, or of ±inf alone, teaches nothing, and the error names the column and the reason."""
    op, params = RECIPES[name]
    with pytest.raises(ValueError, match=rf"^column 'x' {reason}"):
        learned(op, values, **params)


@pytest.mark.parametrize("op", ["minmax", "bucketize", "quantile_map", "robust_scale"])
def test_values_too_far_apart_are_refused(op):
    """A range beyond float64 cannot be scaled by, and the error says so instead of giving 0."""
    params: dict[str, dict[str, Any]] = {
        "bucketize": {"method": "uniform", "k": 2},
        "robust_scale": {"lower_quantile": 0, "upper_quantile": 1},
    }
    with pytest.raises(
        ValueError, match=r"^column 'x' holds numbers further apart than float64 can say; clip it first$"
    ):
        learned(op, [1e308, -1e308], **params.get(op, {}))


@pytest.mark.parametrize("op", ["standardize", "robust_scale"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_values_too_far_from_the_centre_are_refused(op, sign):
    """A value whose distance from the mean or median is beyond float64 is refused by the fit, a nearer one is not."""
    most = np.finfo(np.float64).max
    values = [sign * most] * 9 + [-sign * most]
    with pytest.raises(ValueError, match="holds numbers further apart than float64 can say"):
        learned(op, values)
    near = [value / 2 for value in values]
    (made,) = applied(frame_of(x=("float64", near)), op, "x", state=learned(op, near).model_dump())
    assert np.isfinite(made).all()


@pytest.mark.parametrize(("op", "params", "state"), [(op, *pair) for op, pairs in STATES.items() for pair in pairs])
@settings(max_examples=25, deadline=None)
@given(edges=st.lists(st.integers(0, len(FLOATS)), max_size=6).map(sorted))
def test_any_batches_give_the_same_scaled_values(op, params, state, edges):
    """Any split of the rows into batches gives the same output to the bit."""
    step = step_of(op, ["x"], state=state, **({"params": params} if params else {}))

    def scaled(values):
        return bits(step.apply(frame_of(x=("float64", values)), "/steps/0")[0])

    pieces = [scaled(FLOATS[a:b]) for a, b in itertools.pairwise([0, *edges, len(FLOATS)])]
    assert list(itertools.chain(*pieces)) == scaled(FLOATS)


@pytest.mark.parametrize(("op", "params", "state"), [(op, *pair) for op, pairs in STATES.items() for pair in pairs])
def test_scaling_writes_into_nothing_that_it_reads(op, params, state):
    """Every scaling op leaves its input as it was and rejects no row."""
    frame = frame_of(x=("float64", FLOATS))
    before = bits(frame.float64("x"))
    applied(frame, op, "x", state=state, **({"params": params} if params else {}))
    assert bits(frame.float64("x")) == before
    assert not frame.rejections


@pytest.mark.parametrize("op", ["minmax", "maxabs", "robust_scale", "bucketize", "quantile_map"])
@pytest.mark.parametrize("kind", ["string", "date", "timestamp", "float32[2]", "list<float64>"])
def test_scaling_and_binning_take_numbers_only(op, kind):
    """Text, dates, instants, vectors and lists are refused, with the type that was found."""
    params = {"bucketize": {"params": {"method": "fixed", "splits": [0]}}}
    with pytest.raises(ValueError, match=f"takes numbers, found {kind[:4]}"):
        step_of(op, ["x"], **params.get(op, {})).infer((ColumnType.parse(kind),))


def test_moments_are_exact():
    """Mean and deviation are those of the rational numbers for values from 1e-300 to 1e300, and ±1e308 has one too."""
    values = [1e-300, -1e300, 1e300, 0.1, 3e-308, 5e-324, 1e16, -1.0]
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / len(values)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction()) / len(values)
    state = learned("standardize", [*values, None], (3, 5))
    assert state.mean == float(mean)
    assert state.std == pytest.approx(float(variance / 10**600) ** 0.5 * 1e300, rel=1e-15)
    assert learned("standardize", [1e308, -1e308]).std == 1e308


def test_a_state_keeps_what_its_author_wrote():
    """The population's `ddof` of 0 is read and dumped where it is written; another is refused."""
    state = {"mean": 10.7131, "std": 0.8342, "ddof": 0, "n": 1980233}
    step = {"id": "inc_z", "op": "standardize", "in": ["x"], "out": ["z"], "state": state}
    spec = spec_of([{"name": "x", "type": "float64"}], [step])
    assert spec.plain()["steps"] == [step]
    with pytest.raises(ValidationError):
        step_of("standardize", ["x"], state={**state, "ddof": 1})
    assert "ddof" not in learned("standardize", [1.0, 2.0]).model_dump(exclude_defaults=True)


@pytest.mark.parametrize("params", [{}, {"lower": -1.0}, {"lower": 0.1, "upper": 0.7}, {"lower": 2.0, "upper": 2.0}])
@pytest.mark.parametrize(("least", "largest"), [(-1.5, 24.0), (0.0, 5e-324), (3.0, 3.0), (-1e307, 1e308)])
def test_minmax_is_four_operations(params, least, largest):
    """(x − min) ÷ (max − min) × (upper − lower) + lower is IEEE's for every value, ÷ 1 where the range is 0."""
    lower, upper = params.get("lower", 0.0), params.get("upper", 1.0)
    for kind, values in (("float64", FLOATS), ("int64", SAFE), ("bool", [True, False, None])):
        (found,) = applied(
            frame_of(x=(kind, values)), "minmax", "x", params=params, state={"min": least, "max": largest}
        )
        wanted = []
        for value in values:
            with np.errstate(all="ignore"):
                share = (np.float64(value if present(value) else NAN) - least) / ((largest - least) or 1.0)
                wanted.append(share * (upper - lower) + lower)
        assert same_floats(found, wanted)


def test_minmax_brings_the_ends_to_the_ends():
    """The least value becomes lower and the largest upper, exactly so from 0 to 1, for any range of the column."""
    rng = np.random.default_rng(0)
    for least, width in zip(rng.standard_normal(500) * 1e3, rng.exponential(1e3, 500), strict=True):
        state = {"min": least, "max": least + width}
        (found,) = applied(frame_of(x=("float64", [least, least + width, -0.0])), "minmax", "x", state=state)
        assert found[:2].tolist() == [0.0, 1.0]
    assert bits(applied(frame_of(x=("float64", [-0.0])), "minmax", "x", state={"min": 0, "max": 1})[0]) == bits([0.0])


@pytest.mark.parametrize("nan", [None, 0.0, 7.5])
def test_minmax_clips_and_fills(nan):
    """With clip all values lie between the bounds, ±inf too; missing becomes the number of `nan`, unscaled."""
    params = {"lower": -1.0, "upper": 3.0, "clip": True, **({} if nan is None else {"nan": {"as_value": nan}})}
    (found,) = applied(frame_of(x=("float64", FLOATS)), "minmax", "x", params=params, state={"min": -1.5, "max": 24.0})
    wanted = [clipped((value + 1.5) / 25.5 * 4.0 - 1.0, -1.0, 3.0) if present(value) else nan for value in FLOATS]
    assert same_floats(found, wanted)


@pytest.mark.parametrize("name", ["minmax", "minmax_symmetric", "minmax_flat"])
def test_minmax_is_that_of_datavec(name):
    """What DataVec's MinMaxNormalizer made of its rows comes out, NaN to 0 too, after the cast to float32."""
    transform = json.loads((DATAVEC / f"{name}.json").read_text())["actionList"][0]["transform"]
    rows = json.loads((DATAVEC / f"{name}.rows.json").read_text())
    pairs = [(float(a[0]), float(b[0])) for a, b in zip(rows["input"], rows["output"], strict=True) if a[0] is not None]
    (found,) = applied(
        frame_of(x=("float64", [value for value, _ in pairs])),
        "minmax",
        "x",
        params={"lower": transform["newMin"], "upper": transform["newMax"], "nan": {"as_value": 0}},
        state={"min": transform["min"], "max": transform["max"]},
    )
    with np.errstate(over="ignore"):
        assert bits(found.astype(np.float32)) == bits(np.array([value for _, value in pairs]).astype(np.float32))


def test_what_minmax_and_maxabs_learn():
    """The range is Python's min and max over values, and the magnitude the larger of theirs; −0.0 is 0.0."""
    values = [value for value in FLOATS if present(value) and abs(value) < 1e300]
    state = learned("minmax", [*values, None, NAN], (2, 9))
    assert (state.min, state.max, state.n) == (min(values), max(values), len(values))
    assert learned("maxabs", [*values, -3e200]).max_abs == max(map(abs, [*values, -3e200]))
    assert learned("maxabs", [1e308, -1.5e308, None]).max_abs == 1.5e308
    assert repr(learned("minmax", [-0.0, -0.0])) == "MinMaxState(min=0.0, max=0.0, n=2)"
    assert repr(learned("maxabs", [-0.0])) == "MaxAbsState(max_abs=0.0, n=1)"
    assert repr(learned("maxabs", [0.0])) == "MaxAbsState(max_abs=0.0, n=1)"


@pytest.mark.parametrize(
    ("op", "state", "centre", "spread"),
    [
        ("maxabs", {"max_abs": 0.3}, 0.0, 0.3),
        ("maxabs", {"max_abs": 0.0}, 0.0, 1.0),
        ("robust_scale", {"median": 0.1, "lower": -0.2, "upper": 0.1}, 0.1, 0.1 + 0.2),
        ("robust_scale", {"median": -1e308, "lower": -1e308, "upper": -1e308}, -1e308, 1.0),
    ],
)
def test_what_is_subtracted_and_divided_by(op, state, centre, spread):
    """A magnitude is divided by, or a median subtracted and upper − lower divided by; 0 counts as 1."""
    for kind, values in (("float64", FLOATS), ("int64", SAFE), ("bool", [True, False, None])):
        (found,) = applied(frame_of(x=(kind, values)), op, "x", state=state)
        with np.errstate(all="ignore"):
            numbers = [np.float64(value if present(value) else NAN) for value in values]
            wanted = [number / spread if op == "maxabs" else (number - centre) / spread for number in numbers]
        assert same_floats(found, wanted)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(finite, min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_quantiles_are_by_inverted_cdf(values, one, other):
    """What clip and robust_scale learn are quantiles by exact ranks, which are values of the column."""
    low, high = sorted((one, other))
    wanted = [by_rank(values, p) for p in (0.5, low, high)]
    state = learned("clip", [*values, None], (1,), lower_quantile=low, upper_quantile=high)
    assert bits([state.lower, state.upper]) == bits(wanted[1:])
    if low < high and math.isfinite(wanted[2] - wanted[1]):
        robust = learned("robust_scale", [*values, None], lower_quantile=low, upper_quantile=high)
        assert bits([robust.median, robust.lower, robust.upper]) == bits(wanted)


def test_a_share_of_rows_is_the_decimal_that_was_written():
    """0.07 of 100 rows are 7 and 0.55 are 55, though float64 has both products above that."""
    values = [float(number) for number in range(1, 101)]
    state = learned("clip", values, lower_quantile=0.07, upper_quantile=0.55)
    assert (state.lower, state.upper) == (7.0, 55.0)
    robust = learned("robust_scale", values, lower_quantile=0.07, upper_quantile=0.55)
    assert (robust.lower, robust.median, robust.upper) == (7.0, 50.0, 55.0)


def test_infinite_values_are_values_to_quantiles():
    """±inf beyond the quantiles is no hindrance; at a quantile it is refused with the quantile's place."""
    values = [-INF, 1.0, 2.0, 3.0, 4.0, INF]
    assert repr(learned("robust_scale", values)) == "RobustScaleState(median=2.0, lower=1.0, upper=4.0, n=6)"
    with pytest.raises(ValueError, match=r"^column 'x' holds ±inf at quantile 0.95; clip it first$"):
        learned("clip", values, upper_quantile=0.95)


def test_clip_by_quantile_clips_to_what_was_learned():
    """Values beyond a learned bound become it, and a fixed bound on the other side holds as well."""
    for params, state, lower, upper in (
        ({"lower_quantile": 0.1, "upper_quantile": 0.9}, {"lower": -1.5, "upper": 3.0, "n": 4}, -1.5, 3.0),
        ({"lower": -0.0, "upper_quantile": 0.9}, {"upper": 24.0}, -0.0, 24.0),
        ({"lower_quantile": 0.0}, {"lower": 0.1}, 0.1, None),
    ):
        (found,) = applied(frame_of(x=("float64", FLOATS)), "clip", "x", params=params, state=state)
        assert same_floats(found, [clipped(value, lower, upper) if present(value) else None for value in FLOATS])


def test_what_clip_learns_stands_beside_what_is_fixed():
    """Only what is a quantile is learned; a quantile beyond the fixed bound of the other side is refused."""
    state = learned("clip", [5.0, 1.0, 3.0], lower=0.0, upper_quantile=0.5)
    assert state.model_dump(exclude_defaults=True) == {"upper": 3.0, "n": 3}
    assert not step_of("clip", ["x"], params={"lower": 0.0, "upper_quantile": 0.5}).is_fitted
    assert step_of("clip", ["x"], params={"lower": 0.0}).is_fitted
    with pytest.raises(ValueError, match=r"^column 'x' has a quantile beyond the fixed bound on the other side$"):
        learned("clip", [5.0, 1.0], lower=9.0, upper_quantile=0.5)


@pytest.mark.parametrize(
    ("op", "params", "state"),
    [
        ("clip", {"lower": 0, "lower_quantile": 0.1}, None),
        ("clip", {"lower_quantile": 0.2, "upper_quantile": 0.1}, None),
        ("clip", {"lower_quantile": -0.1}, None),
        ("clip", {"upper_quantile": NAN}, None),
        ("clip", {"lower": 0}, {"lower": 0.0}),
        ("clip", {"lower_quantile": 0.1}, {"upper": 1.0}),
        ("clip", {"lower_quantile": 0.1}, {"lower": 1.0, "upper": 2.0}),
        ("clip", {"lower_quantile": 0.1, "upper_quantile": 0.2}, {"lower": 2.0, "upper": 1.0}),
        ("clip", {"lower": 3, "upper_quantile": 0.2}, {"upper": 1.0}),
        ("minmax", {"lower": 1, "upper": 0}, None),
        ("minmax", {"lower": -1e308, "upper": 1e308}, None),
        ("minmax", {"nan": 0}, None),
        ("minmax", {"nan": {"as_value": NAN}}, None),
        ("minmax", {}, {"min": 1.0, "max": 0.0}),
        ("minmax", {}, {"min": -1e308, "max": 1e308}),
        ("minmax", {}, {"min": 0.0, "max": INF}),
        ("maxabs", None, {"max_abs": -1.0}),
        ("maxabs", {}, {"max_abs": 1.0}),
        ("robust_scale", {"lower_quantile": 0.5, "upper_quantile": 0.5}, None),
        ("robust_scale", {"upper_quantile": 25}, None),
        ("robust_scale", {}, {"median": 0.0, "lower": 1.0, "upper": 0.0}),
        ("robust_scale", {}, {"median": 0.0, "lower": 0.0, "upper": 1.0, "n": 0}),
        ("standardize", None, {"mean": 0.0, "std": -1.0, "n": 1}),
    ],
)
def test_scaling_refuses_half_a_meaning(op, params, state):
    """Bounds that cross, quantiles beyond 0 to 1, state that nothing learns, and endless ranges are refused."""
    keys = {key: value for key, value in (("params", params), ("state", state)) if value is not None}
    with pytest.raises(ValidationError):
        step_of(op, ["x"], **keys)
