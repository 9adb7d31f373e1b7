from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from etl.errors import SpecError
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INF, NAN, applied, bits, document, frame_of, step_of

COUNTS = np.array([[1, 0, 2], [0, 0, 0], [3, 1, 0], [0, 5, 1]], dtype=np.float32)


def weighed(rows, **params):
    """Return what the op makes of rows."""
    frame = frame_of(v=(f"float32[{len(rows[0])}]", [list(map(float, row)) for row in rows]))
    (found,) = applied(frame, "weigh", "v", params=params)
    return found


def by_hand(row, *, elements="as_is", weights=None, norm="none"):
    """Return what becomes of one row, in plain Python's float64."""
    found = {"log": lambda x: math.log(x) + 1, "presence": lambda _: 1.0, "as_is": float}[elements]
    values = [found(float(x)) * (weights[at] if weights else 1.0) if x else 0.0 for at, x in enumerate(row)]
    total = 0.0
    for value in values:
        total += abs(value) if norm == "l1" else value * value
    divisor = {"none": 1.0, "l1": total, "l2": math.sqrt(total)}[norm]
    return [value / divisor if value else 0.0 for value in values]


@pytest.mark.parametrize("norm", ["none", "l1", "l2"])
@pytest.mark.parametrize("elements", ["as_is", "log", "presence"])
@pytest.mark.parametrize("weights", [None, [0.5, 2.25, -3.0]])
def test_rows_are_weighed_and_divided(norm, elements, weights):
    """Each row is what plain Python makes of it, to the bit after float32; a row of zeros stays so."""
    keys = {"weights": weights} if weights else {}
    wanted = [by_hand(row, elements=elements, weights=weights, norm=norm) for row in COUNTS]
    assert bits(weighed(COUNTS, norm=norm, elements=elements, **keys)) == bits(np.array(wanted, dtype=np.float32))


@pytest.mark.parametrize(("norm", "is_log"), [*itertools.product(["l1", "l2", None], [True, False])])
def test_it_is_that_of_scikit_learn(norm, is_log):
    """Counts become what TfidfTransformer makes of them, by the idf that it learned."""
    transformer = TfidfTransformer(norm=norm, sublinear_tf=is_log).fit(COUNTS)
    wanted = transformer.transform(COUNTS.astype(np.float64)).toarray().astype(np.float32)
    elements = "log" if is_log else "as_is"
    found = weighed(COUNTS, weights=transformer.idf_.tolist(), norm=norm or "none", elements=elements)
    np.testing.assert_array_max_ulp(found, wanted, maxulp=1 if is_log else 0)


def test_nasty_elements():
    """Zeros of both signs become 0.0, a missing element makes the row missing, and ±inf goes as IEEE 754 says."""
    rows = [[-0.0, 2.0], [NAN, 1.0], [INF, 1.0], [-INF, INF], [-1.0, 1.0]]
    wanted = [[0.0, 1.0], [NAN, NAN], [NAN, 0.0], [NAN, NAN], [-0.5, 0.5]]
    assert bits(weighed(rows, norm="l1")) == bits(np.array(wanted, dtype=np.float32))
    assert bits(weighed([[-1.0, 1.0], [INF, 0.0]], elements="log")) == bits(
        np.array([[NAN, 1.0], [INF, 0.0]], dtype=np.float32)
    )


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=20), st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_any_batches_give_the_same_rows(rows, at):
    """Rows become the same in one batch and in two."""
    cut = at % len(rows)
    keys = {"weights": [0.1, 0.7, 1.3], "norm": "l2"}
    parts = [weighed(part, **keys) for part in (rows[:cut], rows[cut:]) if part]
    assert bits(np.concatenate(parts)) == bits(weighed(rows, **keys))


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("float64", {}, "takes a vector of float32, found float64"),
        ("int64[3]", {}, "takes a vector of float32, found int64"),
        ("float32[3]", {"weights": [1.0, 2.0]}, r"takes a vector of 2, for its weights, found float32\[3\]"),
        ("float32[3]", {"weights": []}, "/steps/0/params/weights"),
        ("float32[3]", {"norm": "l3"}, "/steps/0/params/norm"),
    ],
)
def test_what_cannot_be_weighed_is_refused(kind, params, said):
    """A column of another type, weights of another length, and parameters that there are not are refused."""
    step = {"id": "s", "op": "weigh", "in": ["v"], "out": ["w"], "params": params}
    with pytest.raises(SpecError, match=said):
        read_spec(json.dumps(document([{"name": "v", "type": kind}], [step])), "spec.json")


def arith(operator, **keys):
    """Return the parameters of arithmetic."""
    return {"operator": operator, **keys}


ELEMENTS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "abs": ("abs", {}, np.abs),
    "neg": ("neg", {}, np.negative),
    "sign": ("sign", {}, lambda x: np.where(x == 0, x, np.sign(x))),
    "sqrt": ("sqrt", {}, np.sqrt),
    "log": ("log", {"on_domain": "as_is"}, np.log),
    "log1p": ("log1p", {"on_domain": "as_is"}, np.log1p),
    "exp": ("exp", {}, np.exp),
    "tanh": ("math", {"function": "tanh"}, np.tanh),
    "signed_log1p": ("signed_log1p", {}, lambda x: np.copysign(np.log1p(np.abs(x)), x)),
    "power": ("power", {"exponent": 3.0}, lambda x: x**3.0),
    "poly": ("poly", {"coefficients": [0.5, -2.0, 1.0]}, lambda x: (x * 1.0 + -2.0) * x + 0.5),
    "round": ("round", {"mode": "half_even"}, lambda x: np.where(np.abs(x) < 2.0**52, np.rint(x), x)),
    "binarize": ("binarize", {"threshold": 0.5}, lambda x: np.where(np.isnan(x), x, x > 0.5)),
    "clip": ("clip", {"lower": -1.5, "upper": 2.0}, lambda x: np.where(x < -1.5, -1.5, np.where(x > 2.0, 2.0, x))),
    "scaled": ("arith", arith("div", right=255.0), lambda x: x / 255.0),
    "shifted": ("arith", arith("sub", right=0.1), lambda x: x - 0.1),
    "from_one": ("arith", arith("sub", left=1.0), lambda x: 1.0 - x),
    "inverse": ("arith", arith("div", left=1.0, on_zero={"as_value": 7.0}), lambda x: np.where(x == 0, 7.0, 1.0 / x)),
    "largest": ("arith", arith("max", right=0.5), lambda x: np.where(np.isnan(x), x, np.where(x > 0.5, x, 0.5))),
}
"""An op with its parameters, and numpy's own of float64."""

PIXELS = [[0, 1, 255], [-1, 2**53, -(2**53)], [7, 128, 3]]


def thirds(values):
    """Return values three by three."""
    with np.errstate(over="ignore"):
        whole = np.array([NAN if value is None else value for value in values]).astype(np.float32).tolist()
    return [whole[at : at + 3] for at in range(0, len(whole) // 3 * 3, 3)]


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("kind", ["float32[3]", "int64[3]"])
def test_a_vector_is_taken_element_by_element(name, kind):
    """Each element becomes what numpy makes of it in float64, rounded once; a missing vector stays so, in any cut."""
    op, params, function = ELEMENTS[name]
    rows = PIXELS if kind == "int64[3]" else [*thirds(FLOATS), None]
    frame = frame_of(v=(kind, rows))
    keys: dict[str, Any] = {"params": params} if params else {}
    (found,) = applied(frame, op, "v", **keys)
    given = np.array([row or [NAN] * 3 for row in rows], dtype=np.float64)
    with np.errstate(all="ignore"):
        wanted = function(given).astype(np.float32)
    assert found.dtype == np.float32
    if step_of(op, ["v"], **keys).transcendental:
        np.testing.assert_array_max_ulp(found, wanted, maxulp=1)
    else:
        assert bits(found) == bits(wanted)
    frame["out"] = found
    assert frame.arrow("out").is_null().to_pylist() == [row is None for row in rows]
    for cut in (1, len(rows) - 1):
        parts = [applied(frame_of(v=(kind, part)), op, "v", **keys)[0] for part in (rows[:cut], rows[cut:])]
        assert bits(np.concatenate(parts)) == bits(found)


@pytest.mark.parametrize(
    ("op", "params", "pointer"),
    [("log", {"on_domain": "reject"}, "on_domain"), ("arith", arith("div", left=1.0, on_zero="reject"), "on_zero")],
)
def test_a_vector_with_an_element_outside_the_domain_is_rejected(op, params, pointer):
    """One element for which there is no result rejects its row once; a missing vector is not rejected."""
    frame = frame_of(v=("float32[2]", [[1.0, 2.0], [0.0, 0.0], None, [3.0, 0.0]]))
    applied(frame, op, "v", params=params)
    [rejection] = frame.rejections
    assert (rejection.rows.tolist(), rejection.pointer) == ([1, 3], f"/steps/0/params/{pointer}")


def test_an_integer_that_float64_cannot_hold_rejects_its_vector():
    """A vector with an integer beyond ±2^53 is rejected once, whichever steps read it."""
    frame = frame_of(v=("int64[2]", [[1, 2], [2**53 + 1, 2], [-(2**53) - 1, 2**62], [2**53, 0]]))
    for op in ("abs", "neg"):
        applied(frame, op, "v")
    [rejection] = frame.rejections
    assert (rejection.rows.tolist(), rejection.code) == ([1, 2], "INEXACT")


@pytest.mark.parametrize("stat", ["sum", "mean", "min", "max", "len"])
@pytest.mark.parametrize("rule", ["as_missing", "skip"])
def test_a_number_of_a_vector(stat, rule):
    """A stat of a vector is numpy's own of its elements; a missing vector gives missing, marked as such or not."""
    rows = [*thirds(FLOATS), [NAN, NAN, NAN], None]
    frame = frame_of(v=("float32[3]", rows))
    (found,) = applied(frame, "list_stat", "v", params={"stat": stat, "missing_elements": rule})
    wanted = []
    for row in rows:
        there = np.array([value for value in row or () if not math.isnan(value)])
        if not there.size or (there.size < 3 and rule == "as_missing" and stat != "len"):
            wanted.append(NAN)
        elif stat == "len":
            wanted.append(float(there.size if rule == "skip" else 3))
        else:
            with np.errstate(invalid="ignore"):
                total = float(np.cumsum(there)[-1])
                made = {"sum": total, "mean": total / there.size, "min": min(there), "max": max(there)}
                wanted.append(made[stat] + 0.0)
    assert bits(found) == bits(np.array(wanted))


def test_whole_vectors_of_integers_have_stats():
    """Integers of a vector are added as numbers."""
    frame = frame_of(v=("int64[3]", PIXELS))
    (found,) = applied(frame, "list_stat", "v", params={"stat": "sum"})
    assert found.tolist() == [256.0, -1.0, 138.0]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"op": "arith", "in": ["v", "v"], "params": {"operator": "add"}}, r"takes numbers, found float32\[3\]"),
        ({"op": "clip", "in": ["v"], "params": {"lower_quantile": 0.1}}, "takes a vector with fixed bounds"),
        ({"op": "standardize", "in": ["v"]}, "; a vector is scaled by numbers that are known: arith with a constant"),
        ({"op": "ratio", "in": ["v", "v"]}, r"takes numbers, found float32\[3\]"),
    ],
)
def test_what_takes_no_vector_says_so(step, said):
    """Arithmetic of two columns takes no vectors, and no quantile is learned of one."""
    with pytest.raises(SpecError, match=said):
        read_spec(
            json.dumps(document([{"name": "v", "type": "float32[3]"}], [{"id": "s", "out": ["w"], **step}])),
            "spec.json",
            fitted=False,
        )


def test_what_elements_are_called_stays():
    """A one-hot vector that is scaled keeps its categories, and what was put side by side its columns."""
    steps = [
        {"id": "h", "op": "one_hot", "in": ["c"], "out": ["hot"], "state": {"vocab": ["a", "b"], "counts": [2, 1]}},
        {"id": "v", "op": "assemble", "in": ["f", "hot"], "out": ["all"]},
        {"id": "s", "op": "arith", "in": ["all"], "out": ["half"], "params": {"operator": "div", "right": 2.0}},
        {"id": "n", "op": "neg", "in": ["hot"], "out": ["less"]},
        {"id": "g", "op": "neg", "in": ["f"], "out": ["g"]},
    ]
    fields = [{"name": "c", "type": "string"}, {"name": "f", "type": "float64"}]
    spec = read_spec(json.dumps(document(fields, steps, columns=["half", "less", "g"])), "spec.json")
    assert list(*spec.feature_names().values()) == ["f", "hot[a]", "hot[b]", "less[a]", "less[b]", "g"]
