from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

import pytest

from etl.errors import SpecError
from etl.ops import OPS
from etl.ops.base import FittedStep
from etl.spec import read_spec
from tests.etl.every_op import STEPS, document

Case: TypeAlias = tuple[dict[str, Any], dict[str, Any], str]

RANKED = {"vocab": ["b", "a", "c"], "counts": [5, 2, 2]}

SOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bucketize": ({"method": "quantile", "k": 4}, {"splits": [1.0, 2.0, 3.0], "n": 9}),
    "clip": ({"lower_quantile": 0.1, "upper_quantile": 0.9}, {"lower": 1.0, "upper": 2.0, "n": 9}),
    "frequency_encode": ({"max_size": 3}, {**RANKED, "n": 9}),
    "impute": ({"strategy": "mean"}, {"value": 1.0, "n": 9}),
    "maxabs": ({}, {"max_abs": 1.0, "n": 9}),
    "minmax": ({}, {"min": 1.0, "max": 2.0, "n": 9}),
    "multi_hot": ({"max_categories": 3, "min_count": 2}, RANKED),
    "one_hot": ({"max_categories": 3, "min_count": 2}, RANKED),
    "quantile_map": ({"k": 3}, {"quantiles": [1.0, 1.0, 2.0], "n": 9}),
    "rare_to_other": ({"max_categories": 3, "min_count": 2}, RANKED),
    "robust_scale": ({}, {"median": 2.0, "lower": 1.0, "upper": 3.0, "n": 9}),
    "standardize": ({}, {"mean": 1.0, "std": 1.0, "n": 9}),
    "string_index": ({"max_size": 3, "min_count": 2}, RANKED),
    "target_encode": (
        {"target": "y", "leak": "acknowledged", "smoothing": 1.0, "max_size": 3, "min_count": 2},
        {**RANKED, "sums": [5.0, 0.0, -2.5], "prior": 0.5, "n": 9},
    ),
    "tfidf": ({"max_size": 3, "min_count": 2}, {**RANKED, "rows": 5}),
    "token_ids": ({"max_len": 4, "mask": True, "max_size": 3, "min_count": 2}, RANKED),
    "wordpiece": ({"max_len": 6}, {"vocab": ["[UNK]", "a", "##a"]}),
}
"""Parameters and a state of each op that learns."""

COUNTS: list[Case] = [
    ({"counts": [5, 2, -1]}, {}, "counts/2"),
    ({"counts": [2, 5, 2]}, {}, "number 1, from 0, does not"),
    ({"vocab": ["b", "c", "a"]}, {}, "number 2, from 0, does not"),
    ({"counts": [5, 2, 0]}, {}, "number 2, from 0, is 0|counts/2"),
    ({"counts": [5, 2]}, {}, "equal length"),
    ({"vocab": ["b", "a", "b"]}, {}, "no category stands twice"),
    ({"vocab": [], "counts": []}, {}, "vocab"),
]
KEPT = [*COUNTS, ({}, {"min_count": 3}, "an entry of count 2, and min_count is 3")]
LARGE: Case = ({}, {"max_size": 2}, "state has 3 entries, and max_size keeps 2")
WIDE: Case = ({}, {"max_categories": 2}, "state has 3 entries, and max_categories keeps 2")
NO_ROWS: Case = ({"n": 0}, {}, "state/n")
ONE_ROW: Case = ({"n": 1}, {}, "n is 1, and one row has one value")
TOO_MANY: Case = ({"n": 8}, {}, "counts add up to 9, more than the n = 8 rows")
NO_COUNTS: Case = ({"counts": [0, 0, 0]}, {}, "counts/0")

CONTRADICTIONS: dict[str, list[Case]] = {
    "bucketize": [
        NO_ROWS,
        ONE_ROW,
        ({"splits": [1.0, 3.0, 2.0]}, {}, "splits ascend"),
        ({"splits": [1.0, 1.0]}, {}, "splits ascend"),
        ({}, {"k": 3}, "at most k - 1 splits"),
    ],
    "clip": [
        NO_ROWS,
        ({"lower": 3.0}, {}, "lower bound 3.0 is above upper bound 2.0"),
        ({"lower": None}, {}, "state has `lower` if and only if"),
    ],
    "frequency_encode": [*COUNTS, LARGE, TOO_MANY, NO_COUNTS, NO_ROWS],
    "impute": [NO_ROWS, ({"value": "a"}, {}, "strategy mean learns a number, found text")],
    "maxabs": [NO_ROWS, ({"max_abs": -1.0}, {}, "state/max_abs")],
    "minmax": [NO_ROWS, ONE_ROW, ({"min": 3.0}, {}, "min 3.0 is above max 2.0")],
    "multi_hot": [*KEPT, WIDE],
    "one_hot": [*KEPT, WIDE],
    "quantile_map": [
        NO_ROWS,
        ONE_ROW,
        ({"quantiles": [1.0, 2.0, 1.0]}, {}, "quantiles ascend"),
        ({}, {"k": 4}, "k = 4 quantiles, found 3"),
    ],
    "rare_to_other": [*KEPT, WIDE],
    "robust_scale": [
        NO_ROWS,
        ONE_ROW,
        ({"lower": 4.0}, {}, "lower 4.0 is above upper 3.0"),
        ({"median": 0.5}, {}, "lower 1.0 at quantile 0.25, median 0.5 at 0.5"),
        ({"median": 3.5}, {}, "median 3.5 at quantile 0.5, upper 3.0 at 0.75"),
        ({}, {"upper_quantile": 0.4}, "upper 3.0 at quantile 0.4, median 2.0 at 0.5"),
        ({}, {"lower_quantile": 0.5}, "lower 1.0 at quantile 0.5, median 2.0 at 0.5"),
    ],
    "standardize": [NO_ROWS, ONE_ROW, ({"std": -1.0}, {}, "state/std")],
    "string_index": [*KEPT, LARGE],
    "target_encode": [*KEPT, LARGE, TOO_MANY, NO_COUNTS, NO_ROWS, ({"sums": [1.0]}, {}, "sums have equal length")],
    "tfidf": [
        *KEPT,
        LARGE,
        NO_COUNTS,
        ({"rows": 4}, {}, "up to rows, which is 4"),
        ({"rows": 0}, {}, "state/rows"),
    ],
    "token_ids": [*KEPT, LARGE],
    "wordpiece": [({"vocab": ["[UNK]", "a", "a"]}, {}, "no piece stands twice"), ({"vocab": ["a"]}, {}, "UNK")],
}
"""By op: what replaces part of its state, what replaces part of its parameters, and what the error says."""


def read(op, params, state):
    """Return a spec with one step of an op, with these parameters and state."""
    value = document(op)
    (step,) = value["steps"]
    step["params"], step["state"] = params, {key: part for key, part in state.items() if part is not None}
    if not params:
        del step["params"]
    return read_spec(json.dumps(value), "spec.json")


@pytest.mark.parametrize("op", SOUND)
def test_a_sound_state_is_read(op):
    """What the contradictions below are made of is accepted as it is, so none is refused for another reason."""
    assert read(op, *SOUND[op]).is_fitted


@pytest.mark.parametrize(
    ("op", "place"), [(op, place) for op, cases in CONTRADICTIONS.items() for place in range(len(cases))]
)
def test_a_state_that_contradicts_itself_or_its_params_is_refused(op, place):
    """No fit could give such a state, so the spec is refused, with the step's place and what is wrong."""
    state, params, said = CONTRADICTIONS[op][place]
    with pytest.raises(SpecError) as caught:
        read(op, {**SOUND[op][0], **params}, {**SOUND[op][1], **state})
    assert re.search(r"/steps/0\b", str(caught.value))
    assert re.search(said, str(caught.value))


def test_no_op_that_learns_is_left_out():
    """Every op that has a state has a sound one here, and contradictions."""
    learning = {op for op in STEPS if issubclass(OPS[op], FittedStep)} | {"wordpiece"}
    assert learning == {*SOUND} == {*CONTRADICTIONS}


@pytest.mark.parametrize("op", ["one_hot", "multi_hot", "string_index", "rare_to_other", "token_ids"])
def test_counts_that_nobody_knows_are_all_zero(op):
    """A vocabulary that comes from elsewhere has counts of 0 throughout, in any order, and few are not too few."""
    params, state = SOUND[op]
    assert read(op, params, {**state, "vocab": ["c", "a", "b"], "counts": [0, 0, 0]}).is_fitted
