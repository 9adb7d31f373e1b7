from __future__ import annotations

import itertools
import json
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INSTANTS, INT64S, TEXTS, arrow, bits, join_of, spec_of

FIELDS = [
    {"name": "f", "type": "float64", "range": {"min": -1e300}, "on_invalid": "as_missing"},
    {"name": "g", "type": "float32", "nullable": False},
    {"name": "i", "type": "int64", "on_invalid": "reject", "range": {"min": -(2**53)}},
    {"name": "s", "type": "string", "max_length": 50},
    {"name": "n", "type": "string"},
    {"name": "t", "type": "timestamp", "on_missing": "reject"},
    {"name": "k0", "type": "string"},
    {"name": "k1", "type": "timestamp"},
    {"name": "v", "type": "float32[2]"},
]
STEPS = [
    {"id": "f_na", "op": "missing_flag", "in": ["f"], "out": ["f_na"]},
    {"id": "f_i", "op": "impute", "in": ["f"], "out": ["f_i"], "params": {"strategy": "median"}},
    {"id": "f_c", "op": "clip", "in": ["f_i"], "out": ["f_c"], "params": {"lower": -1e6, "upper": 1e6}},
    {"id": "f_z", "op": "standardize", "in": ["f_c"], "out": ["f_z"]},
    {"id": "r", "op": "ratio", "in": ["f_c", "g"], "out": ["r"], "params": {"on_zero": {"as_value": -1}}},
    {"id": "s1", "op": "one_hot", "in": ["s"], "out": ["s_hot"], "params": {"unknown": "bucket", "max_categories": 5}},
    {"id": "s2", "op": "string_index", "in": ["s"], "out": ["s_id"], "params": {"min_count": 2}},
    {"id": "n1", "op": "cast", "in": ["n"], "out": ["n_f"], "params": {"to": "float64", "on_error": "as_missing"}},
    {"id": "i1", "op": "cast", "in": ["i"], "out": ["i_s"], "params": {"to": "string"}},
    {"id": "i2", "op": "one_hot", "in": ["i_s"], "out": ["i_hot"], "params": {"unknown": "reject"}},
    {"id": "t1", "op": "date_part", "in": ["t"], "out": ["hour"], "params": {"part": "hour"}},
    {"id": "t2", "op": "date_part", "in": ["t"], "out": ["week"], "params": {"part": "iso_week"}},
    {"id": "t3", "op": "cyclical", "in": ["hour"], "out": ["h_sin", "h_cos"], "params": {"period": 24}},
    {"id": "all", "op": "assemble", "in": ["hour", "v", "o0"], "out": ["block"]},
]
JOIN = join_of(["string", "timestamp"], ["float64", "string"]).model_dump(mode="json", by_alias=True)
TENSORS = [
    {"tensor": "dense", "from": ["f_z", "r", "f_na", "s_hot", "i_hot", "h_sin", "h_cos", "block", "week", "n_f", "i"]},
    {"tensor": "ids", "dtype": "int64", "shape": [-1], "from": ["s_id"]},
]
REFERENCE = pa.table(
    {
        "k0": ["a", "a", "b"],
        "k1": arrow([INSTANTS[1], INSTANTS[7], INSTANTS[7]], "timestamp"),
        "r0": arrow([1.5, None, 2.5], "float64"),
        "r1": ["x", None, "y"],
    }
)
RECIPE = json.dumps(
    {
        "format": "scorespec/1",
        "spec_id": "all",
        "input": {"fields": FIELDS},
        "relational": [JOIN],
        "steps": STEPS,
        "outputs": {"tensors": TENSORS},
    }
)
SAFE = [value for value in INT64S if value is None or abs(value) < 2**53]


def nasty_rows(count, seed):
    """Return a table of values drawn from the nasty ones."""
    rng = np.random.default_rng(seed)

    def column(values, kind):
        return arrow([values[n] for n in rng.integers(0, len(values), count)], kind)

    return pa.record_batch(
        {
            "f": column(FLOATS, "float64"),
            "g": column([0.0, -0.0, 1.5, None, 2.5, -3.0, 1e-40, 1e38], "float32"),
            "i": column([1, 2, 3, None, -(2**60), 2**60] if seed else [1, 2], "int64"),
            "s": column([text for text in TEXTS if text is None or len(text) < 9] + ["x" * 51], "string"),
            "n": column(["1", "2.5", "x", None, "1e400", " 7"], "string"),
            "t": column(INSTANTS, "timestamp"),
            "k0": column(["a", "b", "c", None], "string"),
            "k1": column([INSTANTS[1], INSTANTS[7], None], "timestamp"),
            "v": column([[1.0, 2.0], [1.0], None, [3.0, None], [4.0, 5.0]], "float32[2]"),
        }
    )


@pytest.fixture(scope="module")
def pipeline():
    """A pipeline of every op, fitted to nasty rows."""
    recipe = read_spec(RECIPE, "recipe.json", fitted=False)
    train = nasty_rows(300, seed=0)
    finite = train.filter(pa.array(np.isfinite(train["f"].to_numpy(zero_copy_only=False))))
    return Pipeline(fit(recipe, lambda: [finite], {"ref": REFERENCE}), {"ref": REFERENCE})


def outcome(pipeline, batch, start=0):
    """Return the kept rows with their features, and the rejected ones with their reasons, as bits."""
    features = pipeline.transform(pipeline.contract(batch, "b"))
    kept = np.arange(batch.num_rows) if features.kept is None else features.kept
    rows: dict[int, Any] = {
        int(row) + start: (bits(features.tensors["dense"][n]), int(features.tensors["ids"][n]))
        for n, row in enumerate(kept)
    }
    for rejection in features.rejections:
        for row in rejection.rows:
            assert int(row) + start not in rows, "a row is in two places"
            rows[int(row) + start] = (rejection.code, rejection.pointer, rejection.column)
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200), st.integers(1, 9), st.lists(st.integers(0, 200), max_size=12))
def test_no_cut_of_the_rows_changes_a_bit(pipeline, count, seed, cuts):
    """Every row has the same features to the bit, or the same reason, in whatever batches the rows come."""
    batch = nasty_rows(count, seed)
    whole = outcome(pipeline, batch)
    assert sorted(whole) == list(range(count))
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    pieces: dict[int, Any] = {}
    for start, stop in itertools.pairwise(edges):
        pieces |= outcome(pipeline, batch.slice(start, stop - start), start)
    assert pieces == whole


def test_long_batches_are_no_different_from_short_ones(pipeline):
    """Vector units that take many numbers at once give the same bits as rows one by one."""
    batch = nasty_rows(3000, 5)
    whole = outcome(pipeline, batch)
    for width in (1, 7, 64):
        start = 1234 // width * width
        assert outcome(pipeline, batch.slice(start, width), start).items() <= whole.items()


def test_neither_order_nor_chunks_change_a_row(pipeline):
    """A table in chunks gives what its batch gives, and the reverse of the rows the reverse of the outcome."""
    batch = nasty_rows(200, 2)
    whole = outcome(pipeline, batch)
    chunks = pa.Table.from_batches([batch.slice(0, 70), batch.slice(70)])
    assert outcome(pipeline, chunks) == whole
    backwards = outcome(pipeline, batch.take(pa.array(np.arange(200)[::-1])))
    assert {199 - row: what for row, what in backwards.items()} == whole


def test_rows_are_never_lost(pipeline):
    """Kept and rejected rows are all rows, each once, and tensors have a row for each kept one."""
    for seed in range(1, 6):
        batch = nasty_rows(500, seed)
        features = pipeline.transform(pipeline.contract(batch, "b"))
        rejected = sum(rejection.rows.size for rejection in features.rejections)
        assert features.kept.size + rejected == 500
        assert {tensor.shape[0] for tensor in features.tensors.values()} == {features.kept.size}
        assert pipeline.spec.widths() == {"dense": features.tensors["dense"].shape[1], "ids": 1}


def test_a_batch_without_rejections_says_none(pipeline):
    """What was kept is None when every row was kept, also in a batch of no rows."""
    features = pipeline.transform(pipeline.contract(nasty_rows(0, 1), "b"))
    assert (features.kept, features.rejections) == (None, [])
    assert features.tensors["dense"].shape == (0, pipeline.spec.widths()["dense"])


def test_a_batch_of_rejections_is_empty():
    """A batch whose rows are all rejected gives tensors without rows."""
    pipeline = Pipeline(spec_of([{"name": "x", "type": "float64", "nullable": False}], columns=["x"]), {})
    features = pipeline.transform(pipeline.contract(pa.record_batch({"x": pa.nulls(3)}), "b"))
    assert features.tensors["x"].shape == (0, 1)
    assert features.kept is not None
    assert features.kept.tolist() == []


def test_a_recipe_is_no_pipeline():
    """A spec with a step that has learned nothing is refused before any row is read."""
    step = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}
    recipe = spec_of([{"name": "x", "type": "float64"}], [step], fitted=False)
    with pytest.raises(SpecError, match="spec test is a recipe: run `batchscore fit`"):
        Pipeline(recipe, {})


def test_a_pipeline_is_what_duckdb_makes_of_the_same_rows():
    """Impute, standardize, ratio, clip and parts of an instant are to the bit what DuckDB computes in float64."""
    rng = np.random.default_rng(11)
    table = pa.table(
        {
            "a": np.where(rng.random(500) < 0.2, np.nan, rng.standard_normal(500)),
            "b": rng.integers(0, 3, 500).astype(float),
            "t": pa.array(rng.integers(-(2**50), 2**52, 500)).view(pa.timestamp("us")),
        }
    )
    steps = [
        {"id": "i", "op": "impute", "in": ["a"], "out": ["ai"], "params": {"strategy": "constant", "value": 0.3}},
        {"id": "z", "op": "standardize", "in": ["ai"], "out": ["az"], "state": {"mean": 0.1, "std": 0.7, "n": 2}},
        {"id": "r", "op": "ratio", "in": ["az", "b"], "out": ["ab"], "params": {"on_zero": {"as_value": 9}}},
        {"id": "c", "op": "clip", "in": ["ab"], "out": ["abc"], "params": {"lower": -1, "upper": 1}},
        {"id": "y", "op": "date_part", "in": ["t"], "out": ["y"], "params": {"part": "year"}},
        {"id": "d", "op": "date_part", "in": ["t"], "out": ["d"], "params": {"part": "dow"}},
    ]
    fields = [{"name": "a", "type": "float64"}, {"name": "b", "type": "float64"}, {"name": "t", "type": "timestamp"}]
    pipeline = Pipeline(spec_of(fields, steps, columns=["az", "abc", "y", "d"], dtype="float64"), {})
    found = pipeline.transform(pipeline.contract(table, "b")).tensors["x"]
    query = """
        SELECT az, greatest(least(CASE WHEN b = 0 THEN 9.0::DOUBLE ELSE az / b END, 1), -1), year(t), isodow(t)
        FROM (SELECT ((CASE WHEN isnan(a) THEN 0.3 ELSE a END)::DOUBLE - 0.1::DOUBLE) / 0.7::DOUBLE AS az, * FROM t)
    """
    connection = duckdb.connect()
    connection.register("t", table)
    assert bits(found) == bits(np.array(connection.execute(query).fetchall(), np.float64))
