"""What holds of every op."""

from __future__ import annotations

import copy
import itertools
import json

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.format.artifacts import stored
from etl.learning.fitting import fit
from etl.learning.pieces import Piece
from etl.ops import OPS
from etl.ops.base import FittedStep
from etl.pipeline import Pipeline
from etl.plain import plain_values
from etl.spec import Spec, read_spec
from jobs.cli import json_schema
from tests.etl.every_op import STEPS, document, recipe, rows

FITTED = [op for op in STEPS if issubclass(OPS[op], FittedStep) and op != "wordpiece"]


@pytest.fixture(scope="module")
def fitted() -> Spec:
    """A spec with a step of every op."""
    return fit(recipe(), rows())


def columns_of(spec, table):
    """Return what each step makes of a table, as JSON values by column, and what became of each row."""
    pipeline = Pipeline(spec, {})
    frame = pipeline.contract(table, "rows")
    pipeline.run_steps(frame)
    made = {name: plain_values(frame[name]) for step in spec.steps for name in step.outputs if name in frame}
    return made, frame.gone.tolist()


def test_every_op_is_in_the_table():
    """The table of these tests has every op that a spec may use."""
    assert set(STEPS) == set(OPS)


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    """The JSON Schema that editors get."""
    return jsonschema.Draft202012Validator(json_schema("etl"))


@pytest.mark.parametrize("op", sorted(STEPS))
def test_an_op_survives_json_and_fits_the_schema(op, schema):
    """A step of every op is written and read again to the byte, fitted and not, and the JSON Schema accepts it."""
    for spec in (recipe(op), fit(recipe(op), rows())):
        text = spec.to_bytes().decode()
        again = read_spec(text, "again.json", fitted=False)
        assert again == spec
        assert again.to_bytes().decode() == text
        schema.validate(json.loads(text))
        files = stored(spec)
        assert read_spec(files.text.decode(), "files.json", fitted=False, artifacts=files.artifacts.get) == spec


@pytest.mark.parametrize("op", sorted(STEPS))
def test_an_op_is_the_same_for_any_cut_of_the_rows(op):
    """A step makes of rows what it makes of them batch by batch, of none too, and changes no column that it reads."""
    spec, table = fit(recipe(op), rows()), rows(301, seed=5)
    whole, gone = columns_of(spec, table)
    for edges in ([0, 301], [0, 0, 1, 2, 150, 301], [0, 7, 8, 300, 301]):
        parts = [columns_of(spec, table.slice(a, b - a)) for a, b in itertools.pairwise(edges)]
        for name, values in whole.items():
            assert [value for made, _ in parts for value in made[name]] == values
        assert [row for _, left in parts for row in left] == gone
    frame = spec.input.apply(table, "rows")
    before = {field.name: plain_values(frame[field.name]) for field in spec.input.fields}
    for index, step in enumerate(spec.steps):
        step.apply(frame, f"/steps/{index}")
    assert {name: plain_values(frame[name]) for name in before} == before


@pytest.mark.parametrize("op", FITTED)
def test_what_an_op_learns_is_the_same_to_the_byte(op):
    """Fifty random partitionings of rows in random order, on one thread and on several, give one state to the byte."""
    table = rows(600, seed=3)
    expected = None
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shuffled = table.take(rng.permutation(table.num_rows)) if seed else table
        edges = sorted({0, table.num_rows, *rng.integers(0, table.num_rows, rng.integers(0, 9)).tolist()})
        batches = [shuffled.slice(a, b - a).combine_chunks().to_batches() for a, b in itertools.pairwise(edges)]
        pieces = [Piece("", part.copy) for part in batches]
        learned = fit(recipe(op), pieces, workers=1 + seed % 3).plain()
        states = json.dumps([learned["steps"], learned["reference"]])
        expected = states if expected is None else expected
        assert states == expected


def test_the_same_pieces_give_the_same_bytes_on_one_worker_or_eight(fitted):
    """A spec of every op, golden rows and digest included, is the same to the byte on one thread and on eight."""
    table = rows()
    pieces = [Piece("", [part].copy) for part in table.combine_chunks().to_batches(max_chunksize=37)]
    one, eight = (fit(recipe(), pieces, workers=workers) for workers in (1, 8))
    assert one.to_bytes() == eight.to_bytes()
    assert [step for step in one.steps if isinstance(step, FittedStep)] == [
        step for step in fitted.steps if isinstance(step, FittedStep)
    ]


def with_nan(table, double, single):
    """Return a table with NaN of a bit pattern of float64, or of float32, in the first row of its floats, lists too."""
    doubles = np.array([double], np.uint64).view(np.float64)
    singles = np.array([single], np.uint32).view(np.float32)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    for name in ("f", "g", "y"):
        columns[name] = pa.concat_arrays([pa.array(doubles), columns[name].slice(1)])
    lists = pa.ListArray.from_arrays([0, 1], pa.array(doubles))
    vectors = pa.ListArray.from_arrays([0, 3], pa.array(np.repeat(singles, 3)))
    columns.update(
        {name: pa.concat_arrays([one, columns[name].slice(1)]) for name, one in (("n", lists), ("v", vectors))}
    )
    return pa.table(columns)


def test_a_nan_that_signals_is_like_any_other():
    """Every op learns from, and makes of, a signalling NaN what it does of a quiet one, and no arithmetic warns."""
    quiet = with_nan(rows(60), 0x7FF8000000000000, 0x7FC00000)
    signalling = with_nan(rows(60), 0x7FF0000000000001, 0x7F800001)
    assert signalling["f"].chunk(0).view(pa.int64())[0].as_py() == 0x7FF0000000000001
    one, other = fit(recipe(), quiet), fit(recipe(), signalling)
    assert one.to_bytes() == other.to_bytes()
    assert columns_of(one, quiet) == columns_of(one, signalling)


def test_golden_rows_of_every_op_replay(fitted):
    """A spec of every op is read from its own bytes and makes of its golden rows what it made."""
    assert fitted.golden
    Pipeline(read_spec(fitted.to_bytes().decode(), "etl.json"), {})


def test_kept_rejected_and_filtered_rows_add_up(fitted):
    """Every row of a batch is kept, rejected or filtered, exactly once, whatever ops there are."""
    table = rows(500, seed=9)
    pipeline = Pipeline(fitted, {})
    made = pipeline.transform(pipeline.contract(table, "rows"))
    assert made.kept is not None
    parts = [made.kept, made.filtered, *(rejection.rows for rejection in made.rejections)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert made.filtered.size


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_step_is_refused_or_read(data):
    """A step of any op with one parameter replaced by anything is read, or refused by a line; never another error."""
    op = data.draw(st.sampled_from(sorted(STEPS)))
    value = copy.deepcopy(document(op))
    step = value["steps"][0]
    place = step.setdefault("params", {})
    junk = st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=3), st.just([]), st.just({})
    )
    keys = sorted({*place, *list(OPS[op].model_json_schema().get("properties", {})), "x"})
    key = data.draw(st.sampled_from(keys))
    (place if data.draw(st.booleans()) else step)[key] = data.draw(junk)
    refused = ""
    try:
        spec = read_spec(json.dumps(value), "spec.json", fitted=False)
    except SpecError as error:
        refused = str(error)
    else:
        assert read_spec(spec.to_bytes().decode(), "again.json", fitted=False) == spec
    assert all(line.startswith("spec.json:") for line in refused.splitlines())


def test_each_column_has_the_arrow_type_of_the_schema(fitted):
    """Every column that any op makes is an Arrow array of the type that the schema says."""
    pipeline = Pipeline(fitted, {})
    frame = pipeline.contract(rows(50, seed=1), "rows")
    pipeline.run_steps(frame)
    for name, type_ in fitted.schemas()[-1][1].items():
        assert frame.arrow(name).type == type_.arrow, name
