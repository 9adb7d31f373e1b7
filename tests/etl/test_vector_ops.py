from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from etl.errors import SpecError
from etl.spec import read_spec
from tests.etl.nasty import INF, NAN, applied, bits, document, frame_of

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
