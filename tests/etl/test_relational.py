from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrivals import PREPARED, REJECTED
from etl.checks import check
from etl.errors import ContractError, SpecError
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.relational import as_prepared, prepare
from etl.spec import read_spec
from jobs.authoring.fitting import fit_files
from jobs.errors import Refused
from tests.etl import relational_oracle as oracle
from tests.etl.nasty import DATES, FLOATS, INF, INT64S, NAN, TEXTS, arrow, bits, document, spec_of

START = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = {
    "id": "int64",
    "k": "string",
    "k2": "int64",
    "t": "timestamp",
    "d": "date",
    "x": "float64",
    "n": "int64",
    "s": "string",
    "b": "bool",
}
FIELDS = [{"name": name, "type": kind} for name, kind in KINDS.items()]
VALUES: dict[str, list[Any]] = {
    "k": ["a", "b", "", "ß", None],
    "k2": [1, -(2**63), None],
    "t": [None, *(START + timedelta(seconds=n) for n in (0, 0, 1, 2, 10, 3600))],
    "d": [None, *DATES[1:4], DATES[8]],
    "x": FLOATS,
    "n": INT64S,
    "s": [text for text in TEXTS if text is None or len(text) < 9],
    "b": [True, False, None],
}


def rows_of(seed, count):
    """Return rows of nasty values, with many ties, as Python values."""
    rng = np.random.default_rng(seed)
    return [
        {"id": n} | {name: values[rng.integers(len(values))] for name, values in VALUES.items()} for n in range(count)
    ]


def table_of(rows, kinds=None):
    """Return rows as the Arrow table that a job would read."""
    return pa.table({name: arrow([row[name] for row in rows], kind) for name, kind in (kinds or KINDS).items()})


def step_of(op, inputs, outputs, **params):
    """Return a relational step as a spec has it."""
    return {"id": "r", "op": op, "in": list(inputs), "out": list(outputs), "params": params}


def prepared(table, *steps, fields=FIELDS, references=None):
    """Prepare a table by steps."""
    relational = [{**step, "id": f"r{n}"} for n, step in enumerate(steps)]
    return prepare(table, spec_of(fields, relational=relational, columns=["id"]), references or {})


def alike(found, wanted):
    """Tell whether two columns are equal to the bit, NaN being missing."""
    if any(isinstance(value, float) for value in (*found, *wanted)):
        pair = [
            np.array([NAN if value is None else value for value in values], np.float64) for values in (found, wanted)
        ]
        return bits(pair[0]) == bits(pair[1])
    return list(found) == list(wanted)


AGGREGATES = [
    *(("x", kind) for kind in ("sum", "mean", "std", "min", "max", "count", "nunique", "last")),
    *(("n", kind) for kind in ("sum", "mean", "std", "min", "max", "count", "nunique", "last")),
    *(("s", kind) for kind in ("min", "max", "count", "nunique", "last")),
    *(("t", "max"), ("d", "min"), ("b", "sum"), ("b", "nunique"), ("k", "count")),
]
POINT = {"point_in_time": {"event_time": "t"}}
LEAK = {"leak": "acknowledged"}
WINDOWS: dict[str, dict[str, Any]] = {
    "before": {**POINT, "order_by": ["n"]},
    "before, in a window": {**POINT, "window": {"seconds": 2}},
    "before, by days": {"point_in_time": {"event_time": "d"}, "window": {"seconds": 86_400 * 30}},
    "all": {**LEAK, "order_by": ["s", "x"]},
    "all, in a window": {**LEAK, "order_by": ["t"], "window": {"microseconds": 1_000_000}},
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("keys", [["k"], ["k", "k2", "b"]])
def test_group_aggregates_are_what_python_computes_from_the_rows(window, keys):
    """Every aggregate of every type of column, over all rows of a group or those strictly before, with and without a
    window, is to the bit what exact arithmetic in Python gives."""  # noqa: D205, D209  one sentence
    rows = rows_of(len(keys), 150)
    outputs = [f"o{n}" for n in range(len(AGGREGATES))]
    names, kinds = [name for name, _ in AGGREGATES], [kind for _, kind in AGGREGATES]
    step = step_of("group_aggregate", names, outputs, keys=keys, aggregates=kinds, **WINDOWS[window])
    found = prepared(table_of(rows), step).table
    wanted = oracle.made(step, rows, KINDS)
    for out, (name, kind) in zip(outputs, AGGREGATES, strict=True):
        assert alike(found.column(out).to_pylist(), wanted[out]), (name, kind)


ROLLING: dict[str, dict[str, Any]] = {
    "rows before": {**POINT, "window": {"rows": 3}, "order_by": ["s"]},
    "seconds before": {**POINT, "window": {"seconds": 9}},
    "rows": {**LEAK, "window": {"rows": 4}, "order_by": ["t", "x"]},
    "one row": {**LEAK, "window": {"rows": 1}, "order_by": ["x"]},
    "seconds": {**LEAK, "window": {"seconds": 2}, "order_by": ["t"]},
}


@pytest.mark.parametrize("window", ROLLING)
def test_rolling_windows_are_what_python_computes_from_the_rows(window):
    """Windows of rows and of seconds, strictly before a row or up to it, give to the bit what Python gives."""
    rows = rows_of(3, 200)
    pairs = [(name, kind) for name in ("x", "n") for kind in ("sum", "mean", "min", "max", "count")]
    outputs = [f"o{n}" for n in range(len(pairs))]
    names, kinds = [name for name, _ in pairs], [kind for _, kind in pairs]
    step = step_of("window_rolling", names, outputs, partition_by=["k"], aggregates=kinds, **ROLLING[window])
    found = prepared(table_of(rows), step).table
    wanted = oracle.made(step, rows, KINDS)
    for out, pair in zip(outputs, pairs, strict=True):
        assert alike(found.column(out).to_pylist(), wanted[out]), pair


@pytest.mark.parametrize("offset", [1, 3])
@pytest.mark.parametrize("order", [{**POINT}, {**POINT, "order_by": ["n"]}, {**LEAK, "order_by": ["t", "d"]}])
def test_lags_are_the_values_of_earlier_rows(offset, order):
    """A lag is the value so many rows back among those strictly before, or in the order, with ties broken by the row's
    other columns; of every type, and the same to the bit."""  # noqa: D205, D209  one sentence
    rows = rows_of(5, 200)
    names = ["x", "n", "s", "t", "b", "id"]
    step = step_of("window_lag", names, [f"{name}_1" for name in names], partition_by=["k"], offset=offset, **order)
    found = prepared(table_of(rows), step).table
    wanted = oracle.made(step, rows, KINDS)
    for name in names:
        assert alike(found.column(f"{name}_1").to_pylist(), wanted[f"{name}_1"]), name
        assert found.schema.field(f"{name}_1").type == found.schema.field(name).type


@pytest.mark.parametrize("keys", [["k"], ["k", "b"]])
@pytest.mark.parametrize(
    "order", [{**POINT}, {**LEAK, "order_by": ["x"], "keep": "last"}, {**LEAK, "order_by": ["s", "t"]}, {**LEAK}]
)
def test_one_of_each_row_s_copies_stays(keys, order):
    """Of rows with equal keys the first or last in order stays, whatever the ties, those with a missing key all stay,
    and the others are counted."""  # noqa: D205, D209  one sentence
    rows = rows_of(7, 200)
    step = step_of("dedupe", [], [], keys=keys, **order)
    found, counts, _ = prepared(table_of(rows), step)
    wanted = oracle.kept(step, rows, KINDS)
    assert found.column("id").to_pylist() == [row["id"] for row in wanted]
    assert counts == (200, 0, 200 - len(wanted))
    assert counts.rows_out == len(wanted) < 200


def test_sums_over_windows_are_duckdb_s():
    """On whole numbers, running counts, sums, extremes and lags are those of DuckDB's window functions."""
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "id": pa.array(range(5000)),
            "k": pa.array([f"k{n}" for n in rng.integers(0, 40, 5000)]),
            "t": pa.array(rng.permutation(5000) * 1_000_000).view(pa.timestamp("us")),
            "n": pa.array(rng.integers(-1000, 1000, 5000), mask=rng.random(5000) < 0.1),
        }
    )
    fields = [field for field in FIELDS if field["name"] in table.column_names]
    kinds = ["sum", "count", "min", "max"]
    found = prepared(
        table,
        step_of("window_rolling", ["n"] * 4, kinds, partition_by=["k"], aggregates=kinds, window={"rows": 9}, **POINT),
        step_of("group_aggregate", ["n"] * 2, ["gs", "gu"], keys=["k"], aggregates=["sum", "nunique"], **LEAK),
        step_of("window_lag", ["n"], ["lag"], partition_by=["k"], offset=2, **POINT),
        fields=fields,
    ).table
    connection = duckdb.connect()
    connection.register("rows", table)
    query = """
        SELECT id, sum(n) OVER w, count(n) OVER w, min(n) OVER w, max(n) OVER w, lag(n, 2) OVER o, gs, gu
        FROM rows JOIN (SELECT k, sum(n) AS gs, count(DISTINCT n) AS gu FROM rows GROUP BY k) USING (k)
        WINDOW o AS (PARTITION BY k ORDER BY t),
               w AS (PARTITION BY k ORDER BY t ROWS BETWEEN 9 PRECEDING AND 1 PRECEDING)
        ORDER BY id
    """
    wanted = connection.execute(query).fetchall()
    names = ["id", *kinds, "lag", "gs", "gu"]
    columns = zip(*(found.column(name).to_pylist() for name in names), strict=True)
    assert [tuple(row) for row in columns] == wanted


CHAIN = [
    step_of("filter", [], [], keep={"not": {"cmp": ["n", "==", 0]}}),
    step_of("dedupe", [], [], keys=["k", "k2", "n"], **POINT),
    step_of("window_lag", ["x"], ["x_1"], partition_by=["k"], **POINT),
    step_of("group_aggregate", ["x_1", "s"], ["m", "u"], keys=["k"], aggregates=["mean", "nunique"], **LEAK),
    step_of("window_rolling", ["m"], ["r"], partition_by=["k"], aggregates=["sum"], window={"rows": 5}, **POINT),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 5), st.randoms(use_true_random=False))
def test_where_rows_stand_changes_nothing(count, seed, random):
    """A chain of filter, dedupe, lag, aggregate and window gives each row the same in any order of the rows, and where
    each group is prepared on its own."""  # noqa: D205, D209  one sentence
    rows = rows_of(seed, count)
    whole, counts, _ = prepared(table_of(rows), *CHAIN)
    by_id = {row["id"]: repr(row) for row in whole.to_pylist()}
    random.shuffle(rows)
    mixed, again, _ = prepared(table_of(rows), *CHAIN)
    assert {row["id"]: repr(row) for row in mixed.to_pylist()} == by_id
    assert again == counts
    alone: dict[int, str] = {}
    for key in {row["k"] for row in rows}:
        part = prepared(table_of([row for row in rows if row["k"] == key]), *CHAIN).table
        alone |= {row["id"]: repr(row) for row in part.to_pylist()}
    assert alone == by_id


def test_a_chain_is_its_steps_one_after_the_other():
    """Each step sees what the steps before it made and left, as the Python oracle does step by step."""
    rows = rows_of(11, 150)
    found, counts, _ = prepared(table_of(rows), *CHAIN)
    fields, left = dict(KINDS), [row for row in rows if row["n"] != 0]
    filtered = len(rows) - len(left)
    for step in CHAIN[1:]:
        if step["op"] == "dedupe":
            before, left = len(left), oracle.kept(step, left, fields)
            assert counts == (150, filtered, before - len(left))
            continue
        made = oracle.made(step, left, fields)
        for place, row in enumerate(left):
            row.update({name: values[place] for name, values in made.items()})
        fields |= dict.fromkeys(made, "float64")
    assert found.column("id").to_pylist() == [row["id"] for row in left]
    for name in ("x_1", "m", "u", "r"):
        assert alike(found.column(name).to_pylist(), [row[name] for row in left]), name


def test_rows_that_are_equal_in_the_contract_are_told_apart_by_other_columns():
    """Where all fields are equal, columns of no contract decide which copy stays, in any order of the rows."""
    table = pa.table({"k": ["a"] * 3, "z": [[3], [1], [2]], "y": ["c", "b", "b"]})
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        step = step_of("dedupe", [], [], keys=["k"], **LEAK)
        relational = [{**step, "id": "r0"}]
        spec = spec_of([{"name": "k", "type": "string"}], relational=relational, columns=["k"], dtype="string")
        (row,) = prepare(table.take(pa.array(order)), spec).table.to_pylist()
        assert row == {"k": "a", "z": [1], "y": "b"}


def test_values_are_read_as_the_contract_reads_them_and_before_it_treats_them():
    """A step on the table sees stored values in the contract's types, missing where the type cannot hold them, and
    none that a treatment would put there."""  # noqa: D205, D209  one sentence
    fields = [
        {"name": "id", "type": "int64", "on_missing": {"as_value": 7}},
        {"name": "k", "type": "string", "on_missing": {"as_value": "a"}},
        {"name": "x", "type": "float64", "range": {"max": 5}, "on_invalid": {"as_value": 0}},
    ]
    table = pa.table(
        {
            "id": pa.array([0, 1, 2, 3, None], pa.int8()),
            "k": pa.array(["a", "a", None, "a", "b"], pa.large_string()).dictionary_encode(),
            "x": pa.array([2**53 + 1, 9, 1, None, 4]),
        }
    )
    step = step_of("group_aggregate", ["x", "id"], ["sum", "ids"], keys=["k"], aggregates=["sum", "count"], **LEAK)
    found = prepared(table, step, fields=fields).table
    assert found.column("sum").to_pylist() == [2.0**53 + 8, 2.0**53 + 8, None, 2.0**53 + 8, 4.0]
    assert found.column("ids").to_pylist() == [3, 3, 0, 3, 0]
    assert found.select(["id", "k", "x"]) == table


REFERENCE = pa.table({"k": ["a", "b"], "region": ["north", "south"], "limit": [2**60, 1]})


def look_up(**params):
    """Return a join to the reference table by `k`."""
    kinds = [("region", "string"), ("limit", "int64")]
    return step_of(
        "lookup_join",
        ["k"],
        ["region", "limit"],
        reference="ref",
        keys=[{"name": "k", "type": "string"}],
        columns=[{"name": name, "type": kind} for name, kind in kinds],
        **params,
    )


def test_a_row_that_is_rejected_on_the_table_is_set_aside_by_the_worker():
    """A row without a match stays, to be seen by later steps and left out by none; the worker rejects it under the rule
    that did, and scores the others."""  # noqa: D205, D209  one sentence
    relational = [
        look_up(on_no_match="reject"),
        step_of("filter", [], [], keep={"cmp": ["n", "!=", 3]}),
        step_of("filter", [], [], keep={"cmp_columns": ["n", "<=", "limit"]}),
        step_of("group_aggregate", ["n"], ["c"], keys=["b"], aggregates=["count"], **LEAK),
    ]
    fields = [field for field in FIELDS if field["name"] in {"id", "k", "n", "b"}]
    table = table_of(
        [
            {"id": n, "k": k, "n": value, "b": True}
            for n, (k, value) in enumerate([("a", 1), ("b", 1), ("c", 1), ("b", 2), ("a", 3), (None, 5)])
        ],
        {"id": "int64", "k": "string", "n": "int64", "b": "bool"},
    )
    steps = [{**step, "id": f"r{n}"} for n, step in enumerate(relational)]
    spec = spec_of(fields, relational=steps, columns=["id", "c"], dtype="int64")
    made, counts, _ = prepare(table, spec, {"ref": REFERENCE})
    pipeline = Pipeline(spec, {})
    frame = pipeline.contract(made, "t")
    features = pipeline.transform(frame)
    ids = made.column("id").to_pylist()
    why = {ids[row]: (r.code, r.pointer) for r in features.rejections for row in r.rows}
    no_match = ("NO_MATCH", "/relational/0/params/on_no_match")
    assert why == {2: no_match, 5: no_match}
    assert ids == [0, 1, 2, 5], "3 is above its limit, 4 is filtered"
    assert counts == (6, 2, 0)
    assert features.tensors["x"].tolist() == [[0, 4], [1, 4]]


def test_what_was_made_on_the_table_arrives_in_the_worker():
    """A prepared table goes through contract and row steps with its made columns; one that lacks them is refused."""
    rows = rows_of(2, 60)
    relational = [
        {**step_of("window_lag", ["x"], ["x_1"], partition_by=["k"], **POINT), "id": "lag"},
        {**look_up(on_no_match={"as_value": {"region": "none", "limit": 0}}), "id": "look"},
        {**step_of("filter", [], [], keep={"cmp": ["region", "!=", "south"]}), "id": "few"},
    ]
    steps = [{"id": "c", "op": "clip", "in": ["x_1"], "out": ["x_c"], "params": {"upper": 1.5, "lower": -1.5}}]
    spec = spec_of(FIELDS, steps, relational=relational, columns=["x_c", "limit"], dtype="float64")
    made, counts, _ = prepare(table_of(rows), spec)
    assert counts == (60, 0, 0), "a filter behind the last step that needs other rows is the worker's"
    pipeline = Pipeline(spec, {"ref": REFERENCE.set_column(2, "limit", pa.array([9, 1]))})
    assert pipeline.columns == (*KINDS, "x_1")
    features = pipeline.transform(pipeline.contract(made, "t"))
    lags = oracle.made(relational[0], rows, KINDS)["x_1"]
    wanted = [
        [NAN if lag is None or math.isnan(lag) else min(max(lag, -1.5), 1.5), {"a": 9.0}.get(row["k"], 0.0)]
        for row, lag in zip(rows, lags, strict=True)
        if row["k"] != "b"
    ]
    assert bits(features.tensors["x"]) == bits(np.array(wanted))
    with pytest.raises(ContractError, match=r"^t: column 'x_1' is not there\. Relational steps make it of the whole"):
        pipeline.contract(table_of(rows), "t")


def test_a_fit_learns_from_what_was_made_on_the_table():
    """A step learns from a lag as from any column, in whatever pieces the rows come, and golden rows carry the lag."""
    rows = [row for row in rows_of(4, 250) if row["x"] is None or abs(row["x"]) < 1e6]
    lag = {**step_of("window_lag", ["x"], ["x_1"], partition_by=["k"], **POINT), "id": "lag"}
    fill = {"id": "fill", "op": "impute", "in": ["x_1"], "out": ["x_f"], "params": {"strategy": "median"}}
    recipe = spec_of(FIELDS, [fill], relational=[lag], columns=["x_f"], fitted=False)
    table = table_of(rows)
    batches = table.to_batches(max_chunksize=7)
    batches[1] = batches[1].set_column(1, "k", batches[1].column(1).dictionary_encode())
    fitted = [fit(recipe, data) for data in (table, lambda: batches)]
    # Rows with integers that float64 cannot hold teach, too: no step reads those as numbers.
    lags = sorted(value for value in oracle.made(lag, rows, KINDS)["x_1"] if not oracle.is_missing(value))
    assert len(lags) > 10
    assert fitted[0].plain()["steps"][0]["state"]["value"] == lags[(len(lags) - 1) // 2]
    assert fitted[0].to_bytes() == fitted[1].to_bytes()
    assert Pipeline(fitted[0], {}).spec is fitted[0], "its golden rows are replayed"
    with pytest.raises(ContractError, match="pieces of the data differ in their columns"):
        fit(recipe, lambda: [batches[0], batches[1].set_column(1, "k", pa.array([1] * 7))])
    with pytest.raises(SpecError, match="cannot be fitted"):
        fit(recipe, list)
    assert {"x_1", "x"} <= fitted[0].golden[0].given.keys()


def test_a_spec_prepares_a_whole_table_and_takes_a_prepared_one():
    """`Spec.transform` makes the same of a table and of what was prepared of it, also where the contract knows no other
    columns; a batch, which may be a part of a table, is refused with what to do."""  # noqa: D205, D209  one sentence
    lag = {**step_of("window_lag", ["n"], ["n_1"], partition_by=["k"], **POINT), "id": "lag"}
    text = document(FIELDS, relational=[lag], columns=["n_1"], dtype="float64")
    text["input"]["extra_columns"] = "error"
    spec = read_spec(json.dumps(text), "spec")
    rows = [row for row in rows_of(9, 60) if all(abs(row[name] or 0) <= 2**53 for name in ("k2", "n"))]
    wanted = [NAN if lag is None else float(lag) for lag in oracle.made(lag, rows, KINDS)["n_1"]]
    for data in (prepare(table_of(rows), spec).table, table_of(rows)):
        made = spec.transform(data)
        assert bits(made.tensors["x"][:, 0]) == bits(np.array(wanted))
        assert made.rows.tolist() == list(range(len(rows)))
    with pytest.raises(ContractError, match=r"prepare it first, by etl\.relational\.prepare\(table, spec\)\.table"):
        spec.transform(table_of(rows).to_batches()[0])


FEW = [
    {**step_of("filter", [], [], keep={"cmp": ["x", ">", 0]}), "id": "few"},
    {**step_of("dedupe", [], [], keys=["id"], order_by=["x"], leak="acknowledged"), "id": "once"},
]
"""Steps that leave rows out and make no column."""


def few(steps=(), *, fitted=True, least=0):
    """Return a spec with such steps, and one row expectation."""
    relational = [{**FEW[0], "params": {"keep": {"cmp": ["x", ">", least]}}}, FEW[1]]
    fields = [{"name": "id", "type": "int64"}, {"name": "x", "type": "float64"}]
    last = steps[-1]["out"][0] if steps else "x"
    text = document(fields, list(steps), relational=relational, columns=[last])
    text["expectations"] = [{"id": "low", "row": {"cmp": ["x", "<", 2]}, "severity": "warn"}]
    return read_spec(json.dumps(text), "spec", fitted=fitted)


FEW_TABLE = pa.table({"id": [1, 1, 2, 3], "x": [1.0, 2.0, -5.0, 3.0]})


def test_a_mark_tells_what_was_prepared(tmp_path):
    """What `prepare` gave is taken as it is, whole, cut, or read back from Parquet, by `transform` and `check`; rows
    without its mark are prepared, or as a batch refused, though the steps make no column; and those of another spec are
    refused."""  # noqa: D205, D209  one sentence
    spec = few()
    made = prepare(FEW_TABLE, spec).table
    pq.write_table(made, tmp_path / "made.parquet")
    read = pq.read_table(tmp_path / "made.parquet")
    for data in (FEW_TABLE, made, made.take([0, 1]), made.filter(pa.array([True, True])), read, *made.to_batches()):
        assert spec.transform(data).tensors["x"][:, 0].tolist() == [1.0, 3.0]
        assert [(found.hits, found.rows) for found in check(spec, data)] == [(1, 2)]
    assert spec.transform(made.slice(1).to_batches()[0]).rows.tolist() == [0]
    for take in (spec.transform, lambda data: check(spec, data), lambda data: fit(few(fitted=False), data)):
        with pytest.raises(ContractError, match=r"^the batch: was not prepared.*prepare\(table, spec\)\.table"):
            take(FEW_TABLE.to_batches()[0])
    with pytest.raises(ContractError, match="was prepared by these steps already"):
        prepare(made, spec)
    other = few(least=1)
    for take in (other.transform, lambda data: prepare(data, other), lambda data: fit(other, data)):
        with pytest.raises(ContractError, match="was prepared by the relational steps of another spec"):
            take(made)
    assert other.transform(made.replace_schema_metadata()).rows.tolist() == [1]


def test_a_fit_takes_what_bears_the_mark(tmp_path):
    """A fit learns the same from all rows, from what was prepared of them, and from Parquet files of that, which it
    does not prepare again; what is prepared in part is refused, and a job takes the rows as they were."""  # noqa: D205, D209  one sentence
    scale = {"id": "scale", "op": "standardize", "in": ["x"], "out": ["z"]}
    recipe = few([scale], fitted=False)
    made = prepare(FEW_TABLE, recipe).table
    pq.write_table(made, tmp_path / "made.parquet")
    fitted = [fit(recipe, data) for data in (FEW_TABLE, made, ds.dataset(tmp_path / "made.parquet"))]
    assert [spec.plain()["steps"][0]["state"]["mean"] for spec in fitted] == [2.0, 2.0, 2.0]
    assert ["table" in spec.plain()["provenance"]["notes"] for spec in fitted] == [True, False, False]
    assert fitted[0].transform(made).rows.tolist() == [0, 1], "the mark is that of the recipe"
    with pytest.raises(ContractError, match="some pieces of the data were prepared"):
        fit(recipe, lambda: [*made.to_batches(), *FEW_TABLE.to_batches()])
    with pytest.raises(Refused, match=r"made\.parquet: was prepared already\. Give the original rows"):
        fit_files(recipe, (str(tmp_path),), {})


def test_a_column_of_ones_own_is_no_mark():
    """A user's column with the name of one that a step makes is refused, not taken for it; a table that lost its mark
    may be given it back."""  # noqa: D205, D209  one sentence
    count = step_of("group_aggregate", ["c"], ["n"], keys=["k"], aggregates=["count"], **LEAK)
    fields = [{"name": "k", "type": "string"}, {"name": "c", "type": "int64"}]
    spec = spec_of(fields, relational=[count], columns=["n"])
    table = pa.table({"k": ["a", "a", "b"], "c": [1, 2, 3]})
    own = table.append_column("n", pa.array([7, 7, 7]))
    said = r"has a column 'n', which the spec's steps make\. Rename it, or leave it out; rows that were prepared are"
    for data in (own, own.to_pandas()):
        for take in (spec.transform, lambda data: check(spec, data), lambda data: fit(spec, data)):
            with pytest.raises(ContractError, match=said):
                take(data)
    made = prepare(table, spec).table
    lost = made.replace_schema_metadata()
    assert as_prepared(lost, spec).schema.metadata == made.schema.metadata != {}
    assert PREPARED in made.schema.metadata
    for part in (lost.slice(1), lost.to_pandas()[1:]):
        assert spec.transform(as_prepared(part, spec)).tensors["x"][:, 0].tolist() == [2.0, 1.0]
    for column, told in ((["x", "y", "z"], "string, the spec's steps make int64"), ([0.5, 1, 2], "ArrowDtype")):
        with pytest.raises(ContractError, match=f"column 'n' .*{told}"):
            spec.transform(made.set_column(2, "n", pa.array(column)))
    with pytest.raises(ContractError, match=r"column 'n' has a value that is no int64, .* of it\.$"):
        spec.transform(made.set_column(2, "n", pa.array([2**64 - 1] * 3, pa.uint64())))


def test_every_row_that_is_given_has_its_place():
    """Rows are told by their positions in the table that was given: kept, rejected, and left out by a filter on the
    table, a dedupe, or a filter in the worker."""  # noqa: D205, D209  one sentence
    steps = [
        {**step_of("filter", [], [], keep={"cmp": ["x", "<", 90]}), "id": "few"},
        {**step_of("dedupe", [], [], keys=["id"], order_by=["x"], leak="acknowledged"), "id": "once"},
        {**step_of("filter", [], [], keep={"cmp": ["x", "!=", 5]}), "id": "later"},
    ]
    fields = [{"name": "id", "type": "int64"}, {"name": "x", "type": "float64", "range": {"min": 0}}]
    spec = spec_of(fields, relational=steps, columns=["x"])
    table = pa.table({"id": [1, 2, 3, 4, 1, 5, 6], "x": [99.0, 2.0, -3.0, 5.0, 7.0, 8.0, 95.0]})
    for data in (table, table.to_pandas()):
        made = spec.transform(data)
        assert (made.rows.tolist(), made.tensors["x"][:, 0].tolist()) == ([1, 4, 5], [2, 7, 8])
        assert [rejection.rows.tolist() for rejection in made.rejections] == [[2]]
        assert made.filtered.tolist() == [0, 3, 6]


def test_pandas_is_prepared_as_arrow_is():
    """A pandas frame gives the same rows as the Arrow table."""
    table = pa.table({"id": [1, 2, 3], "k": ["a", "a", "b"], "x": [0.5, 1.5, NAN]})
    fields = [field for field in FIELDS if field["name"] in table.column_names]
    step = step_of("group_aggregate", ["x"], ["m"], keys=["k"], aggregates=["mean"], **LEAK)
    for data in (table, table.to_pandas(), table.to_batches()[0]):
        assert prepared(data, step, fields=fields).table.column("m").to_pylist() == [1.0, 1.0, None]
    assert isinstance(table.to_pandas(), pd.DataFrame)


def test_a_spec_without_such_steps_gives_its_table_back():
    """Where nothing needs other rows, preparing changes nothing and counts the rows."""
    table = table_of(rows_of(1, 5))
    made, counts, _ = prepared(table, step_of("filter", [], [], keep={"cmp": ["id", "<", 2]}))
    assert made is table
    assert counts == (5, 0, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_are_no_special_case(count):
    """A table without rows, or with one, goes through every step."""
    made, counts, _ = prepared(table_of(rows_of(1, count)), *CHAIN[1:])
    assert made.num_rows == count
    assert counts.rows_out == count
    assert made.schema.names == [*KINDS, "x_1", "m", "u", "r"]


def problems_of(step, fields=FIELDS, before=()):
    """Return what is wrong with a spec of one relational step."""
    text = json.dumps(document(fields, relational=[*before, {**step, "id": "r"}], columns=["id"]))
    with pytest.raises(SpecError) as caught:
        read_spec(text, "spec")
    return str(caught.value)


PARTITION = {"partition_by": ["k"], "aggregates": ["sum"], "window": {"rows": 1}}
GROUP = {"keys": ["k"], "aggregates": ["sum"]}
WRONG: dict[str, tuple[tuple[str, list[str], list[str], dict[str, Any]], str]] = {
    "no word about time": (("group_aggregate", ["x"], ["o"], GROUP), r"/relational/0/params: .*\[E-LEAK\]"),
    "both": (("window_lag", ["x"], ["o"], {"partition_by": ["k"], **POINT, **LEAK}), "contradict each other; give one"),
    "float keys": (("group_aggregate", ["x"], ["o"], {**GROUP, **LEAK, "keys": ["x"]}), "takes keys of type"),
    "text as time": (
        ("group_aggregate", ["x"], ["o"], {**GROUP, "point_in_time": {"event_time": "s"}}),
        "takes a date or timestamp as a time, found s string",
    ),
    "sum of texts": (("group_aggregate", ["s"], ["o"], {**GROUP, **LEAK}), "computes sum of numbers, found string"),
    "counts differ": (("group_aggregate", ["x", "n"], ["o", "p"], {**GROUP, **LEAK}), "found 2, 2 and 1"),
    "last of nothing": (
        ("group_aggregate", ["x"], ["o"], {**GROUP, **LEAK, "aggregates": ["last"]}),
        "which say which row is last",
    ),
    "two times": (
        ("group_aggregate", ["x"], ["o"], {**GROUP, **LEAK, "window": {"seconds": 1}, "order_by": ["t", "d"]}),
        "one column in order_by, the time",
    ),
    "two windows": (
        ("window_rolling", ["x"], ["o"], {**PARTITION, **POINT, "window": {"rows": 1, "seconds": 1}}),
        "exactly one of rows, seconds and microseconds",
    ),
    "no order": (("window_rolling", ["x"], ["o"], {**PARTITION, **LEAK}), "which row comes before which"),
    "no std": (("window_rolling", ["x"], ["o"], {**PARTITION, **POINT, "aggregates": ["std"]}), "'sum', 'mean'"),
    "no lead": (("window_lag", ["x"], ["o"], {"partition_by": ["k"], "offset": -1, **POINT}), "should be . or more"),
    "the future": (("dedupe", [], [], {"keys": ["k"], "keep": "last", **POINT}), "later rows decide which that is"),
    "unknown key": (("dedupe", [], [], {"keys": ["kk"], **LEAK}), r"column 'kk' is not there .*Did you mean \"k\""),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_step_that_makes_no_sense_is_a_problem_of_the_spec(case):
    """What a relational step lacks, or cannot take, is found when the spec is read."""
    (op, inputs, outputs, params), said = WRONG[case]
    found = problems_of(step_of(op, inputs, outputs, **params))
    assert re.search(said, found), found


def test_flags_come_after_the_table():
    """A step on the table cannot read a flag, which the contract makes; one in the worker can."""
    fields = [*FIELDS[:-1], {"name": "b", "type": "bool", "on_missing": {"flag": "no_b"}}]
    filtered = step_of("filter", [], [], keep={"cmp": ["no_b", "==", False]})
    lag = {**step_of("window_lag", ["x"], ["o"], partition_by=["k"], **POINT), "id": "lag"}
    assert spec_of(fields, relational=[lag, {**filtered, "id": "f"}], columns=["id"])
    said = problems_of(lag, fields, [{**filtered, "id": "f"}])
    assert "column 'no_b' is a flag, and step 'f' runs before the contract makes it. [E-NO-COLUMN]" in said


def test_a_column_that_a_step_makes_must_not_be_there():
    """A table that has a column of a made one's name, in upper case too, is refused instead of overwritten."""
    step = step_of("window_lag", ["x"], ["lag"], partition_by=["k"], **POINT)
    table = table_of(rows_of(1, 3)).append_column("LAG", pa.array([1, 2, 3]))
    with pytest.raises(ContractError, match=r"^the table: has a column 'LAG', which the spec's steps make"):
        prepared(table, step)


def test_a_row_without_a_match_can_have_values():
    """With `as_value` columns of a row without a match have that value, one for all or one each, and a missing value of
    a matching row stays missing."""  # noqa: D205, D209  one sentence
    reference = pa.table({"k": ["a", "b"], "region": ["north", None], "limit": pa.array([None, 1], pa.int64())})
    table = pa.table({"k": ["a", "b", "c", None]})
    fields = [{"name": "k", "type": "string"}]
    for values in ({"region": "?", "limit": -1}, None):
        step = {**look_up(on_no_match={"as_value": values or 0}), "id": "look"}
        if not values:
            step["params"]["columns"] = [{"name": "limit", "type": "int64"}]
            step["out"] = ["limit"]
        spec = spec_of(fields, relational=[step], columns=["limit"])
        pipeline = Pipeline(spec, {"ref": reference})
        frame = pipeline.contract(table, "t")
        pipeline.run_steps(frame)
        other = -1 if values else 0
        assert frame.arrow("limit").to_pylist() == [None, 1, other, other]
        if values:
            assert frame.arrow("region").to_pylist() == ["north", None, "?", "?"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "has an as_value that is no value of region string, limit int64"),
        ({"region": "x"}, "takes an as_value for each of region, limit, found region"),
        ({"region": "x", "limit": 2**63}, "no value of limit int64"),
    ],
)
def test_a_value_for_no_match_must_be_of_the_column_s_type(value, said):
    """An `as_value` that a column taken cannot have, or that is not there for each, is a problem of the spec."""
    assert said in problems_of(look_up(on_no_match={"as_value": value}))


def indexed(reference, **params):
    """Make a pipeline that joins a reference table."""
    fields = [{"name": "k", "type": "string"}]
    spec = spec_of(fields, relational=[{**look_up(**params), "id": "look"}], columns=["limit"])
    return Pipeline(spec, {"ref": reference})


def test_a_reference_is_pinned_by_what_it_holds():
    """A reference table joins only if its content has the digest that the step names; order, chunks and other columns
    do not matter, and every value does."""  # noqa: D205, D209  one sentence
    with pytest.raises(ContractError, match=r"its content has SHA-256 [0-9a-f]{64}, step 'look' joins 0{64}") as caught:
        indexed(REFERENCE, sha256="0" * 64)
    digest = str(caught.value).partition("SHA-256 ")[2][:64]
    same = pa.concat_tables([REFERENCE.slice(1), REFERENCE.slice(0, 1)]).append_column("other", pa.array([1, 2]))
    narrow = REFERENCE.set_column(0, "k", REFERENCE.column("k").cast(pa.large_string()))
    for table in (REFERENCE, same, narrow):
        indexed(table, sha256=digest)
    for name, values in (("region", ["north", None]), ("limit", [2**60, 2]), ("k", ["a", "c"])):
        place = REFERENCE.column_names.index(name)
        changed = REFERENCE.set_column(place, name, pa.array(values, REFERENCE.column(name).type))
        with pytest.raises(ContractError, match="its content has SHA-256"):
            indexed(changed, sha256=digest)


def test_a_reference_is_pinned_by_its_version():
    """A reference table joins only if its metadata says the version that the step names."""
    indexed(REFERENCE.replace_schema_metadata({"version": "8831"}), version="8831")
    for metadata, found in (({"version": "8832"}, "says '8832'"), (None, "has no version")):
        with pytest.raises(ContractError, match=f"joins version '8831', the table's metadata {found}"):
            indexed(REFERENCE.replace_schema_metadata(metadata), version="8831")


def test_sums_lose_nothing():
    """A sum in which 1 disappears for float64 arithmetic keeps it, and a mean of huge values is not infinite."""
    values = [1e300, 1.0, -1e300, 5e-324, 1.7e308, 1.7e308, INF, -INF]
    kinds = [("a", 3), ("b", 1), ("c", 2), ("d", 2)]
    keys = [key for key, count in kinds for _ in range(count)]
    table = pa.table({"id": range(8), "k": keys, "x": values})
    fields = [field for field in FIELDS if field["name"] in table.column_names]
    step = step_of("group_aggregate", ["x"] * 3, ["s", "m", "d"], keys=["k"], aggregates=["sum", "mean", "std"], **LEAK)
    found = prepared(table, step, fields=fields).table.to_pydict()
    assert found["s"][2:8] == [1.0, 5e-324, INF, INF, None, None]
    assert found["m"][0] == 1 / 3
    assert found["m"][4] == 1.7e308
    assert found["d"][3:] == [0.0, 0.0, 0.0, None, None]
    assert REJECTED not in found
