"""Where columns come from: what changes when a column of the input does is what is said to come from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etl.inspection.origins import Origin, origins_of
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.plain import plain_values
from etl.spec import read_spec
from tests.etl.every_op import recipe, rows

TABLE_SPEC: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "origins",
    "input": {
        "fields": [
            {"name": "id", "type": "int64", "role": "id"},
            {"name": "who", "type": "string"},
            {"name": "at", "type": "timestamp", "role": "event_time"},
            {"name": "x", "type": "float64", "on_missing": {"flag": "x_gone"}},
            {"name": "y", "type": "float64"},
            {"name": "z", "type": "float64"},
        ]
    },
    "relational": [
        {"id": "copies", "op": "dedupe", "params": {"keys": ["id"], "leak": "acknowledged", "order_by": ["at"]}},
        {
            "id": "means",
            "op": "group_aggregate",
            "in": ["x", "y"],
            "out": ["x_mean", "y_sum"],
            "params": {
                "keys": ["who"],
                "aggregates": ["mean", "sum"],
                "point_in_time": {"event_time": "at"},
            },
        },
        {
            "id": "before",
            "op": "window_lag",
            "in": ["x"],
            "out": ["x_before"],
            "params": {"partition_by": ["who"], "point_in_time": {"event_time": "at"}},
        },
        {
            "id": "place",
            "op": "lookup_join",
            "in": ["who"],
            "out": ["age"],
            "params": {
                "reference": "people",
                "keys": [{"name": "name", "type": "string"}],
                "columns": [{"name": "years", "type": "float64"}],
            },
        },
    ],
    "steps": [
        {"id": "copied", "op": "copy", "in": ["y_sum"], "out": ["y_again"]},
        {"id": "sum", "op": "arith", "in": ["x_mean", "age"], "out": ["both"], "params": {"operator": "add"}},
        {
            "id": "pick",
            "op": "if",
            "out": ["picked"],
            "params": {"condition": {"cmp": ["z", ">", 0.0]}, "then": {"column": "x"}, "else": {"as_value": 0.0}},
        },
    ],
    "outputs": {"tensors": [{"tensor": "X", "from": ["both", "picked"]}]},
}


def test_where_columns_come_from() -> None:
    """Joins, aggregates, windows and conditions are told apart; what only decides is not what goes in."""
    found = origins_of(read_spec(json.dumps(TABLE_SPEC), "spec"))
    assert set(found.columns["y_again"]) == {
        Origin("", "y", "aggregation"),
        Origin("", "who", "group_by"),
        Origin("", "at", "window"),
    }
    assert set(found.columns["x_before"]) == {
        Origin("", "x", "transformation"),
        Origin("", "who", "window"),
        Origin("", "at", "window"),
    }
    assert set(found.columns["age"]) == {Origin("people", "years", "identity"), Origin("", "who", "join")}
    assert set(found.columns["both"]) == {
        Origin("", "x", "aggregation"),
        Origin("", "who", "group_by"),
        Origin("", "at", "window"),
        Origin("people", "years", "transformation"),
        Origin("", "who", "join"),
    }
    assert set(found.columns["picked"]) == {Origin("", "x", "transformation"), Origin("", "z", "conditional")}
    assert found.columns["x_gone"] == (Origin("", "x", "conditional"),)
    assert set(found.rows) == {Origin("", "id", "filter"), Origin("", "at", "filter")}


@pytest.mark.parametrize("changed", ["id", "who", "at", "x", "y", "z"])
def test_what_a_field_changes_comes_from_it_on_a_table(changed: str) -> None:
    """Of steps that need other rows, too: with other values of one field only what comes from it is another."""
    spec = read_spec(json.dumps({**TABLE_SPEC, "relational": TABLE_SPEC["relational"][1:]}), "spec")
    rng = np.random.default_rng(3)
    count = 60
    table = pa.table(
        {
            "id": np.arange(count),
            "who": [f"p{k}" for k in rng.integers(0, 5, count)],
            "at": pa.array(rng.permutation(count) * 1_000_000, pa.timestamp("us", "UTC")),
            "x": rng.normal(size=count),
            "y": rng.normal(size=count),
            "z": rng.normal(size=count),
        }
    )
    people = pa.table({"name": [f"p{k}" for k in range(5)], "years": np.arange(5.0)})
    other = table.set_column(table.column_names.index(changed), changed, table[changed].take(rng.permutation(count)))
    before, after = (spec.transform(one, {"people": people}).tensors["X"] for one in (table, other))
    found = origins_of(spec)
    for place, name in enumerate(("both", "picked")):
        comes_from_it = any(not origin.table and origin.column == changed for origin in found.columns[name])
        assert np.array_equal(before[:, place], after[:, place], equal_nan=True) is not comes_from_it, name


def test_what_a_field_changes_comes_from_it_through_every_op() -> None:
    """With other values of one field, of what the steps of every op make only that changes which comes from it.

    That nothing is missing is what counts: a step may be said to need what it does not.
    """
    spec = fit(recipe(), rows())
    found = origins_of(spec)
    table = rows(60)

    def made(of: pa.Table) -> dict[str, object]:
        pipeline = Pipeline(spec, {})
        frame = pipeline.contract(of, "rows")
        pipeline.run_steps(frame)
        return {name: plain_values(frame[name]) for step in spec.steps for name in step.outputs if name in frame}

    before, seen = made(table), 0
    for field in spec.input.fields:
        at = table.column_names.index(field.name)
        after = made(table.set_column(at, field.name, table[field.name].take(list(range(table.num_rows))[::-1])))
        changed = {name for name in before if json.dumps(before[name]) != json.dumps(after[name])}
        seen += len(changed)
        from_it = {
            name
            for name, origins in found.columns.items()
            if any(not origin.table and origin.column == field.name for origin in origins)
        }
        assert changed <= from_it, field.name
    assert seen > len(before), "the change was no change"
