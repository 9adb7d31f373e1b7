from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.preprocessing import TargetEncoder

from etl.errors import ContractError, SpecError
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.spec import read_spec
from etl.types import ColumnType
from jobs.authoring.fitting import fit_files
from jobs.errors import Refused
from tests.etl.nasty import INF, NAN, TEXTS, applied, arrow, document, frame_of, plain, same_floats, step_of
from tests.etl.test_categorical_ops import SEEDS

PARAMS: dict[str, Any] = {"target": "y", "leak": "acknowledged", "smoothing": 2.5}


def accumulator(**params):
    """Return an empty state of target_encode from x and y."""
    return step_of("target_encode", ["x"], params={**PARAMS, **params}).accumulator()


def taught(texts, targets, *, kind="float64", cuts=(), **params):
    """Fit target_encode to rows that come in pieces."""
    total = accumulator(**params)
    for a, b in itertools.pairwise([0, *cuts, len(texts)]):
        part = total.fresh()
        part.update(frame_of(x=("string", texts[a:b]), y=(kind, targets[a:b])))
        total.merge(part)
    return total.finish()


def encoded(texts, state, **params):
    """Apply target_encode to texts alone: there is no target."""
    frame = frame_of(x=("string", texts))
    return applied(frame, "target_encode", "x", state=state.model_dump(), params={**PARAMS, **params})[0]


def exactly(texts, targets):
    """Sum by text and over all, as fractions, of the rows that have a target."""
    rows = [(text, Fraction(y)) for text, y in zip(texts, targets, strict=True) if y is not None and not math.isnan(y)]
    groups = {text: [y for other, y in rows if other == text] for text, _ in rows if text is not None}
    return {text: (len(group), sum(group)) for text, group in groups.items()}, [y for _, y in rows]


numbers = st.one_of(
    st.none(), st.floats(-1e290, 1e290), st.sampled_from([0.0, -0.0, NAN, 0.1, 1e16, -1e16, 5e-324, 1e-300])
)
rows_of_target = st.lists(st.tuples(st.sampled_from([None, "", "a", "b", "ß"]), numbers), min_size=1)


@settings(max_examples=50, deadline=None)
@given(rows_of_target, st.sampled_from([0.0, 1.0, 2.5, 1e9]))
def test_what_is_learned_and_applied_is_exact(rows, smoothing):
    """Counts, sums and prior are the exact ones, each rounded once, and the encoding is their quotient in float64."""
    texts, targets = [text for text, _ in rows], [y for _, y in rows]
    groups, everything = exactly(texts, targets)
    if not groups:
        with pytest.raises(ValueError, match=r"column '[xy]' has no"):
            taught(texts, targets, smoothing=smoothing)
        return
    state = taught(texts, targets, smoothing=smoothing)
    order = sorted(groups, key=lambda text: (-groups[text][0], text.encode()))
    prior = float(sum(everything) / len(everything))
    assert (state.vocab, state.n) == (tuple(order), len(everything))
    assert state.counts == tuple(groups[text][0] for text in order)
    assert same_floats([*state.sums, state.prior], [*(float(groups[text][1]) for text in order), prior])
    wanted = {text: (float(total) + smoothing * prior) / (count + smoothing) for text, (count, total) in groups.items()}
    asked = [*texts, "nobody", None]
    found = encoded(asked, state, smoothing=smoothing)
    assert same_floats(found, [prior if text is None else wanted.get(text, prior) for text in asked])


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 20.0])
def test_encodings_are_those_of_scikit_learn(smoothing):
    """Known and unknown categories get what scikit-learn's TargetEncoder of the same smoothing gives, to 1e-12."""
    rng = np.random.default_rng(3)
    texts = rng.choice(["a", "b", "c", "ß", ""], 500, p=[0.5, 0.3, 0.1, 0.09, 0.01])
    targets = rng.standard_normal(500) * 10 + 3
    theirs = TargetEncoder(smooth=smoothing, target_type="continuous", categories="auto").fit(texts[:, None], targets)
    state = taught(texts.tolist(), targets.tolist(), smoothing=smoothing, cuts=(7, 300))
    asked = ["a", "b", "c", "ß", "", "nobody"]
    wanted = theirs.transform(np.array(asked, dtype=object)[:, None])[:, 0]
    assert np.allclose(encoded(asked, state, smoothing=smoothing), wanted, rtol=1e-12, atol=0)


def test_the_target_may_be_any_number():
    """Sums of bools and integers are what DuckDB finds, a row without a target or without a category left out."""
    texts = [*TEXTS, "a", "a", None]
    for kind, values in (("bool", [True, False, None]), ("int64", [3, None, -(2**53)]), ("int32", [1, 2, None])):
        targets = [values[n % 3] for n in range(len(texts))]
        state = taught(texts, targets, kind=kind)
        connection = duckdb.connect()
        connection.register("rows", pa.table({"x": arrow(texts, "string"), "y": arrow(targets, kind)}))
        query = "SELECT x, count(y), sum(CAST(y AS HUGEINT)) FROM rows WHERE x IS NOT NULL AND y IS NOT NULL GROUP BY 1"
        wanted = {text: (count, float(total)) for text, count, total in connection.execute(query).fetchall()}
        found = {text: pair for text, *pair in zip(state.vocab, state.counts, state.sums, strict=True)}
        assert {text: tuple(pair) for text, pair in found.items()} == wanted


@settings(max_examples=40, deadline=None)
@given(rows_of_target, SEEDS)
def test_what_is_learned_is_the_same_to_the_byte_for_any_partitioning(rows, seed):
    """However rows are dealt out to pieces and these are merged, the state is that of all rows at once, to the byte."""
    rng = np.random.default_rng(seed)
    rows = [*rows, ("a", 0.3), ("b", -1e-7)]
    owner = rng.integers(0, 4, len(rows))
    parts = []
    for piece in rng.permutation(4):
        part = accumulator()
        for row in rng.permutation(np.flatnonzero(owner == piece)):
            part.update(frame_of(x=("string", [rows[row][0]]), y=("float64", [rows[row][1]])))
        parts.append(part)
    while len(parts) > 1:
        into, gone = rng.choice(len(parts), 2, replace=False)
        parts[into].merge(parts[gone])
        del parts[gone]
    whole = taught([text for text, _ in rows], [y for _, y in rows])
    assert parts[0].finish().model_dump_json() == whole.model_dump_json()


def test_rare_categories_are_unknown():
    """Categories below min_count or beyond max_size are not learned; their rows count in the mean of all."""
    texts, targets = ["a", "a", "a", "b", "b", "c"], [1.0, 2.0, 3.0, 4.0, 5.0, 9.0]
    assert taught(texts, targets, min_count=2).vocab == ("a", "b")
    assert taught(texts, targets, max_size=1).vocab == ("a",)
    state = taught(texts, targets, min_count=3)
    assert plain(encoded(["b", "c"], state)) == [4.0, 4.0]


def test_others_are_as_told():
    """Unknown and missing categories get the prior, are missing, or are rejected, as the step says."""
    state = taught(["a", "b"], [1.0, 3.0])
    texts = ["a", "nobody", None]
    assert plain(encoded(texts, state))[1:] == [2.0, 2.0]
    assert plain(encoded(texts, state, unknown="as_missing"))[1:] == [None, 2.0]
    assert plain(encoded(texts, state, missing="as_missing"))[1:] == [2.0, None]
    frame = frame_of(x=("string", texts))
    params = {**PARAMS, "unknown": "reject", "missing": "reject"}
    applied(frame, "target_encode", "x", state=state.model_dump(), params=params)
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([1], "UNKNOWN_CATEGORY", "/steps/0/params/unknown", "x"),
        ([2], "MISSING", "/steps/0/params/missing", "x"),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(TEXTS)), max_size=6).map(sorted))
def test_encodings_do_not_depend_on_the_batches(cuts):
    """Any split of the rows into batches gives the same values."""
    state = taught(TEXTS, [0.1 * n for n in range(len(TEXTS))])
    parts = [plain(encoded(TEXTS[a:b], state)) for a, b in itertools.pairwise([0, *cuts, len(TEXTS)])]
    assert list(itertools.chain(*parts)) == plain(encoded(TEXTS, state))


@pytest.mark.parametrize(
    ("texts", "targets", "reason"),
    [
        ([], [], "column 'y' has no value to learn from"),
        (["a"], [None], "column 'y' has no value to learn from"),
        ([None], [1.0], "column 'x' has no category with 1 rows or more that have a target"),
        (["a"], [INF], "column 'y' holds ±inf; clip it first"),
        ([None, "a"], [-INF, 1.0], "column 'y' holds ±inf; clip it first"),
        (["a", "a"], [1e308, 1e308], "column 'y' has a sum beyond float64; clip or scale it first"),
        (["a", "b"], [1.7e308, 1.7e308], "column 'y' has sums beyond float64; clip or scale it first"),
    ],
)
def test_what_cannot_be_learned_is_said(texts, targets, reason):
    """A target without values, with ±inf or of sums beyond float64, and a column without categories, are refused."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        taught(texts, targets)


@pytest.mark.parametrize(
    "change",
    [{"leak": None}, {"leak": "none"}, {"smoothing": None}, {"smoothing": -1}, {"smoothing": INF}, {"target": None}],
)
def test_leakage_and_smoothing_are_declared(change):
    """A step that does not say what it knows of leakage, or how it smooths, or from what, is refused."""
    params = {key: value for key, value in {**PARAMS, **change}.items() if value is not None}
    with pytest.raises(ValidationError):
        step_of("target_encode", ["x"], params=params)


def test_a_state_has_a_sum_for_each_category():
    """A state whose sums do not match its categories is refused."""
    with pytest.raises(ValidationError, match="vocab and sums have equal length"):
        step_of(
            "target_encode", ["x"], params=PARAMS, state={"vocab": ["a"], "counts": [1], "sums": [], "prior": 0, "n": 1}
        )


def test_target_encode_reads_texts_and_needs_no_target():
    """The step reads its input alone, which is text, and makes a float64."""
    step = step_of("target_encode", ["x"], params=PARAMS)
    assert step.reads == ("x",)
    assert step.learns_from == ("y",)
    assert step.infer((ColumnType("string"),)) == (ColumnType("float64"),)
    with pytest.raises(ValueError, match="takes string, found int64; cast it first"):
        step.infer((ColumnType("int64"),))


def recipe(labels, *, extra="ignore", steps=()):
    """Return a recipe of one field `x` that is encoded by the label `y`, and other labels."""
    step = {"op": "target_encode", "id": "t", "in": ["x"], "out": ["x_t"], "params": PARAMS}
    text = document([{"name": "x", "type": "string"}], [step, *steps], columns=["x_t"])
    text["input"] |= {"labels": labels, "extra_columns": extra}
    return read_spec(json.dumps(text), "recipe.json", fitted=False)


LABEL = {"name": "y", "type": "float64", "range": {"max": 100}}
TRAIN = pa.table({"x": ["a", "a", "b", "b", None, "c"], "y": [1.0, 2.0, 3.0, None, 8.0, 1000.0], "z": range(6)})


def test_a_target_is_read_by_a_fit_alone():
    """A fit reads the label by its own rules, and the fitted spec scores rows in which it is not."""
    for data in (TRAIN, lambda: TRAIN.to_batches(max_chunksize=2)):
        spec = fit(recipe([LABEL]), data)
        state = {"vocab": ["a", "b"], "counts": [2, 1], "sums": [3.0, 3.0], "prior": 3.5, "n": 4}
        plain_spec = spec.plain()
        assert plain_spec["steps"][0]["state"] == state
        assert (plain_spec["provenance"]["rows"], plain_spec["provenance"]["rejected"]) == (6, 1)
        assert list(spec.reference) == ["x"]
        spec = read_spec(spec.to_bytes().decode(), "etl.json")
        pipeline = Pipeline(spec, {})
        rows = pa.record_batch({"x": ["a", "nobody"]})
        spec.input.check_schema(rows.schema, "rows")
        found = pipeline.transform(pipeline.contract(rows, "rows")).tensors["x"]
        assert found.tolist() == [[np.float32((3.0 + 2.5 * 3.5) / 4.5)], [3.5]]


def test_a_fit_needs_the_target():
    """Where the label is not in the data, a fit says so; to score, it may be there or not, and is no extra column."""
    with pytest.raises(ContractError, match="column 'y' is not there"):
        fit(recipe([LABEL]), TRAIN.select(["x"]))
    spec = recipe([LABEL], extra="error")
    for names in (["x"], ["x", "y"]):
        spec.input.check_schema(TRAIN.select(names).schema, "rows")
    with pytest.raises(ContractError, match="column 'z' is not in the contract"):
        fit(spec, TRAIN)
    assert fit(spec, TRAIN.select(["y", "x"])).is_fitted


def test_a_fit_to_files_reads_the_target(tmp_path):
    """A fit to Parquet files learns from the label in them, and refuses a file without."""
    pq.write_table(TRAIN, tmp_path / "a.parquet", row_group_size=2)
    assert fit_files(recipe([LABEL]), (str(tmp_path),), {}).steps == fit(recipe([LABEL]), TRAIN).steps
    pq.write_table(TRAIN.select(["x"]), tmp_path / "b.parquet")
    with pytest.raises(Refused, match=r"b\.parquet: breaks the input contract: column 'y' is not there"):
        fit_files(recipe([LABEL]), (str(tmp_path),), {})


@pytest.mark.parametrize(
    ("labels", "steps", "told"),
    [
        ([], [], "column 'y', which step 't' learns from, is not in /input/labels"),
        ([{"name": "yy", "type": "bool"}], [], 'is not in /input/labels. Did you mean "yy"?'),
        ([{"name": "y", "type": "string"}], [], "op target_encode learns from numbers, found label 'y' of type string"),
        ([LABEL, {"name": "x", "type": "bool"}], [], "columns declared twice: x"),
        ([LABEL], [{"op": "missing_flag", "id": "n", "in": ["y"], "out": ["m"]}], "column 'y' is not there at step"),
        ([LABEL], [{"op": "missing_flag", "id": "n", "in": ["x_t"], "out": ["y"]}], "column 'y' is already written"),
    ],
)
def test_labels_are_declared_and_are_no_inputs(labels, steps, told):
    """A target that is no label or no number, and a step that reads or writes a label, are refused in their place."""
    with pytest.raises(SpecError) as caught:
        recipe(labels, steps=steps)
    assert told in str(caught.value)
