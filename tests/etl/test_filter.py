from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from tests.etl.nasty import INF, NAN, arrow, join_of, spec_of, step_of

FIELDS = [{"name": "x", "type": "float64", "range": {"min": -100}}, {"name": "s", "type": "string"}]
FLOATS = [None, NAN, INF, -INF, -1e9, -100.0, -0.0, 0.0, 1.5, 7.0]
TEXTS = [None, "", "1", "2.5", "x", "1e400"]


def present(x):
    """Tell whether a number is there."""
    return x is not None and not math.isnan(x)


FILTERS = {
    "some": ({"cmp": ["x", ">", 0]}, lambda x, s: present(x) and x > 0),  # noqa: ARG005
    "known": ({"not": {"is_null": "s"}}, lambda x, s: s is not None),  # noqa: ARG005
    "none": ({"any": []}, lambda x, s: False),  # noqa: ARG005
    "all": ({"all": []}, lambda x, s: True),  # noqa: ARG005
    "not_low": ({"not": {"cmp": ["x", "<", -100]}}, lambda x, s: not (present(x) and x < -100)),  # noqa: ARG005
}
"""Conditions, and what they say in Python."""


def filter_of(number, name):
    """Return a filter step."""
    return {"id": f"f{number}", "op": "filter", "params": {"keep": FILTERS[name][0]}}


def cast_of(number):
    """Return a step that rejects texts that are no numbers."""
    return {"id": f"c{number}", "op": "cast", "in": ["s"], "out": [f"n{number}"], "params": {"to": "float64"}}


def is_number(text):
    """Tell whether a text is missing or a number within float64."""
    return text is None or text in {"1", "2.5"}


def fate(x, s, steps):
    """Return what becomes of a row: the first rule that it breaks, or filter that leaves it out, decides."""
    if present(x) and x < -100:
        return "/input/fields/0/range"
    for index, (kind, name) in enumerate(steps):
        if kind == "cast" and not is_number(s):
            return f"/steps/{index}/params/on_error"
        if kind == "filter" and not FILTERS[name][1](x, s):
            return "filtered"
    return "kept"


STEPS = st.lists(st.sampled_from([("cast", ""), *(("filter", name) for name in FILTERS)]), max_size=5)
ROWS = st.lists(st.tuples(st.sampled_from(FLOATS), st.sampled_from(TEXTS)), max_size=20)


def fates(pipeline, rows, start=0):
    """Return what became of each row by its number; no row is in two places."""
    batch = pa.record_batch({"x": arrow([x for x, _ in rows], "float64"), "s": arrow([s for _, s in rows], "string")})
    features = pipeline.transform(pipeline.contract(batch, "b"))
    kept = np.arange(len(rows)) if features.kept is None else features.kept
    assert all(len(tensor) == len(kept) for tensor in features.tensors.values())
    pairs = [(int(row), "kept") for row in kept] + [(int(row), "filtered") for row in features.filtered]
    pairs += [(int(row), rejection.pointer) for rejection in features.rejections for row in rejection.rows]
    assert len(dict(pairs)) == len(pairs) == len(rows)
    return {row + start: what for row, what in pairs}


@settings(max_examples=100, deadline=None)
@given(STEPS, ROWS, st.lists(st.integers(0, 20), max_size=4))
def test_every_row_goes_to_one_place(steps, rows, cuts):
    """Kept, rejected and filtered rows are all rows, each once, by the first step that decides, in whatever batches."""
    made = [cast_of(n) if kind == "cast" else filter_of(n, name) for n, (kind, name) in enumerate(steps)]
    pipeline = Pipeline(spec_of(FIELDS, made, columns=["x"]), {})
    wanted = {row: fate(x, s, steps) for row, (x, s) in enumerate(rows)}
    assert fates(pipeline, rows) == wanted
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    pieces: dict[int, Any] = {}
    for begin, end in itertools.pairwise(edges):
        pieces |= fates(pipeline, rows[begin:end], begin)
    assert pieces == wanted


def test_a_rejection_before_a_filter_stays_and_one_after_it_does_not_count():
    """A row that a rule rejects before a filter is rejected; one that a filter leaves out is rejected by nothing."""
    rows = [(1.0, "x"), (-1.0, "x")]
    before = Pipeline(spec_of(FIELDS, [cast_of(0), filter_of(1, "some")], columns=["x"]), {})
    assert fates(before, rows) == {0: "/steps/0/params/on_error", 1: "/steps/0/params/on_error"}
    after = Pipeline(spec_of(FIELDS, [filter_of(0, "some"), cast_of(1)], columns=["x"]), {})
    assert fates(after, rows) == {0: "/steps/1/params/on_error", 1: "filtered"}


def test_a_row_that_is_left_out_fails_no_run():
    """A value that would end the run does so only in a row that no filter has left out."""
    fail = {**cast_of(1), "params": {"to": "float64", "on_error": "fail"}}
    pipeline = Pipeline(spec_of(FIELDS, [filter_of(0, "some"), fail], columns=["x"]), {})
    assert fates(pipeline, [(-1.0, "x"), (1.0, "1")]) == {0: "filtered", 1: "kept"}


def test_a_filter_among_relational_steps_has_its_turn():
    """A filter behind a join sees the joined columns, before any row step."""
    join = join_of(["string"], ["float64"]).model_dump(mode="json", by_alias=True)
    keep = {"id": "f", "op": "filter", "params": {"keep": {"cmp": ["o0", ">=", 2]}}}
    spec = spec_of([{"name": "k0", "type": "string"}], relational=[join, keep], columns=["o0"])
    pipeline = Pipeline(spec, {"ref": pa.table({"k0": ["a", "b"], "r0": [1.0, 2.0]})})
    features = pipeline.transform(pipeline.contract(pa.record_batch({"k0": ["a", "b", "c", None, "b"]}), "b"))
    assert (features.filtered.tolist(), features.tensors["x"].tolist()) == ([0, 2, 3], [[2.0], [2.0]])


def test_a_row_that_is_left_out_teaches_nothing():
    """What is learned is that of the rows that every filter and every rule keeps, and provenance counts the others."""
    steps = [
        filter_of(0, "some"),
        {"id": "i", "op": "impute", "in": ["x"], "out": ["xi"], "params": {"strategy": "mean"}},
        {"id": "m", "op": "impute", "in": ["s"], "out": ["si"], "params": {"strategy": "mode"}},
        filter_of(3, "known"),
    ]
    rows = [(1.0, "a"), (3.0, "b"), (-5.0, "b"), (100.0, None), (NAN, "c"), (-1e9, "d"), (5.0, "a")]
    batch = pa.record_batch({"x": [x for x, _ in rows], "s": [s for _, s in rows]})
    fitted = fit(spec_of(FIELDS, steps, columns=["xi"], fitted=False), batch)
    assert fitted.steps[1].model_dump()["state"] == {"value": 3.0, "n": 3}
    assert fitted.steps[2].model_dump()["state"] == {"value": "a", "n": 3}
    assert fitted.provenance is not None
    assert (fitted.provenance.rows, fitted.provenance.rejected, fitted.provenance.filtered) == (7, 1, 3)


@pytest.mark.parametrize(
    "keys", [{"params": {}}, {}, {"params": {"keep": {"all": []}, "drop": 1}}, {"params": {"keep": None}}]
)
def test_a_filter_needs_a_condition(keys):
    """A filter without a condition, or with more than one parameter, is refused."""
    with pytest.raises(ValidationError):
        step_of("filter", [], [], **keys)


@pytest.mark.parametrize(("inputs", "outputs"), [(["x"], []), ([], ["y"])])
def test_a_filter_names_no_columns(inputs, outputs):
    """A filter reads what its condition names and makes no column."""
    with pytest.raises(ValidationError, match="at most 0"):
        step_of("filter", inputs, outputs, params={"keep": {"all": []}})
