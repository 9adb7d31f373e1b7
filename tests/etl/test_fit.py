from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import compute as pc
from pyarrow import parquet
from pyarrow.dataset import HivePartitioning, dataset, write_dataset

from etl.errors import ContractError, InputChanged, ReadError, SpecError, TransformError
from etl.learning import fitting
from etl.learning.fitting import fit, passes
from etl.learning.pieces import Piece
from etl.ops.base import FittedStep
from etl.pipeline import Pipeline
from etl.spec import read_spec
from etl.training import Provenance
from jobs.authoring.fitting import fit_files
from tests.etl.nasty import INF, document, join_of, spec_of
from tests.etl.test_pipeline import RECIPE, REFERENCE, nasty_rows

FIELDS = [
    {"name": "x", "type": "float64", "range": {"min": -1e6, "max": 1e6}},
    {"name": "s", "type": "string"},
]
STEPS: list[dict[str, Any]] = [
    {"id": "i", "op": "impute", "in": ["x"], "out": ["xi"], "params": {"strategy": "median"}},
    {"id": "m", "op": "impute", "in": ["s"], "out": ["si"], "params": {"strategy": "mode"}},
    {"id": "c", "op": "clip", "in": ["xi"], "out": ["xc"], "params": {"lower": 0}},
    {"id": "z", "op": "standardize", "in": ["xc"], "out": ["xz"]},
    {"id": "o", "op": "one_hot", "in": ["si"], "out": ["so"]},
    {"id": "w", "op": "standardize", "in": ["xz"], "out": ["xw"]},
]


def rows(count=400, seed=1):
    """Return rows with missing values, and some that the contract rejects."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count) * 10
    x[rng.random(count) < 0.2] = np.nan
    x[::50] = 1e7
    return pa.record_batch(
        {"x": x, "s": pa.array(rng.choice(["a", "b", "ß", ""], count), mask=rng.random(count) < 0.1)}
    )


def batches_of(batch, *cuts):
    """Return a function that gives a batch in pieces, time and again."""
    edges = [0, *cuts, batch.num_rows]
    return lambda: (batch.slice(a, b - a) for a, b in itertools.pairwise(edges))


def states(spec) -> dict[str, Any]:
    """Return what the steps of a spec have learned, by step."""
    return {step.id: step.state for step in spec.steps if isinstance(step, FittedStep)}


def recipe():
    """Return a recipe of three passes."""
    return spec_of(FIELDS, STEPS, columns=["xw", "so"], fitted=False)


def test_passes_are_the_levels_of_what_is_learned():
    """A step is learned in the first pass that has everything it reads, and steps without state cost no pass."""
    assert passes(recipe()) == (("i", "m"), ("z", "o"), ("w",))
    fitted = fit(recipe(), batches_of(rows()), {})
    assert passes(fitted) == ()


def test_what_is_learned_is_what_sql_finds():
    """Median, mode, moments and vocabulary are what DuckDB finds in the rows that the contract kept."""
    batch = rows()
    spec = fit(recipe(), batches_of(batch, 10, 200), {})
    connection: Any = duckdb.connect()
    connection.register("raw", pa.table({"x": pa.array(batch["x"].to_numpy(), from_pandas=True), "s": batch["s"]}))
    connection.execute("CREATE VIEW kept AS SELECT * FROM raw WHERE x IS NULL OR x <= 1e6")
    state = states(spec)
    median, count = connection.execute("SELECT quantile_disc(x, 0.5), count(x) FROM kept").fetchone()
    assert (state["i"].value, state["i"].n) == (median, count)
    query = "SELECT avg(v), stddev_pop(v), count(v) FROM (SELECT greatest(coalesce(x, $1), 0) AS v FROM kept)"
    mean, std, count = connection.execute(query, [median]).fetchone()
    assert math.isclose(state["z"].mean, mean, rel_tol=1e-12)
    assert math.isclose(state["z"].std, std, rel_tol=1e-12)
    assert state["z"].n == count
    mode = state["m"].value
    query = "SELECT coalesce(s, $1), count(*) FROM kept GROUP BY 1 ORDER BY 2 DESC, encode(coalesce(s, $1))"
    assert list(zip(state["o"].vocab, state["o"].counts, strict=True)) == connection.execute(query, [mode]).fetchall()
    assert abs(state["w"].mean) < 1e-12
    assert math.isclose(state["w"].std, 1.0, rel_tol=1e-12)


def test_rejected_rows_teach_nothing_and_are_counted():
    """Rows that the contract or a step rejects are left out of what is learned, and provenance says how many."""
    batch = rows()
    spec = fit(recipe(), batches_of(batch, 37), {})
    assert spec.provenance == Provenance(rows=400, rejected=8, passes=3)
    clean = batch.filter(pa.array(~(batch["x"].to_numpy() > 1e6)))
    again = fit(recipe(), batches_of(clean), {})
    assert (states(again)["z"].n, states(again)["w"].n) == (392, 392)
    steps = [
        {"id": "n", "op": "cast", "in": ["s"], "out": ["n"], "params": {"to": "float64"}},
        {"id": "i", "op": "impute", "in": ["x"], "out": ["xi"], "params": {"strategy": "mean"}},
    ]
    by_step = spec_of([{"name": "x", "type": "float64"}, {"name": "s", "type": "string"}], steps, fitted=False)
    table = pa.record_batch({"x": [1.0, 100.0, 3.0], "s": ["1", "one", None]})
    assert states(fit(by_step, lambda: [table], {}))["i"].value == 2.0


def test_an_integer_that_is_no_float_is_left_out():
    """A row whose int64 cannot be a float64 teaches nothing, although only the learning step reads it."""
    step = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}
    spec = spec_of([{"name": "x", "type": "int64"}], [step], fitted=False)
    fitted = fit(spec, lambda: [pa.record_batch({"x": [1, 3, 2**60]})], {})
    assert (states(fitted)["z"].mean, (fitted.provenance or Provenance()).rejected) == (2.0, 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=8).map(sorted))
def test_what_is_learned_does_not_depend_on_the_batches(cuts):
    """Other batches of the same rows give the same counts, vocabularies and medians, and moments to 1e-12."""
    batch = rows()
    whole, pieces = (fit(recipe(), batches_of(batch, *c), {}) for c in ((), cuts))
    for name, one in states(whole).items():
        other = states(pieces)[name]
        if name in {"z", "w"}:
            assert math.isclose(one.mean, other.mean, rel_tol=1e-12, abs_tol=1e-12)
            assert math.isclose(one.std, other.std, rel_tol=1e-12)
            assert one.n == other.n
        else:
            assert one == other


def test_the_same_batches_give_the_same_bytes():
    """Fitting twice to the same batches gives the same spec to the byte."""
    first, second = (fit(recipe(), batches_of(rows(), 13, 99), {}) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    assert first.digest == second.digest


def test_a_fitted_spec_is_read_back():
    """What fit gives is a spec that reads back equal and runs."""
    spec = fit(recipe(), batches_of(rows()), {})
    assert spec.is_fitted
    assert read_spec(spec.to_bytes().decode(), "etl.json") == spec
    assert Pipeline(spec, {}).transform(Pipeline(spec, {}).contract(rows(), "b")).tensors["x"].shape == (392, 5)


def test_a_step_that_has_a_state_keeps_it():
    """Fitting learns what is absent, keeps what is there, and returns a fitted spec as it is."""
    steps = [{**STEPS[0], "state": {"value": 1.25, "n": 3}}, STEPS[2], STEPS[3]]
    spec = fit(spec_of(FIELDS, steps, fitted=False), batches_of(rows()), {})
    assert states(spec)["i"].value == 1.25
    assert fit(spec, batches_of(rows(seed=2)), {}) is spec


def test_all_that_cannot_be_learned_is_said_at_once():
    """Every step that finds nothing to learn from is named with its place and its reason."""
    steps = [STEPS[0], STEPS[1], {"id": "y", "op": "standardize", "in": ["x"], "out": ["y"]}]
    spec = spec_of(
        [{"name": "x", "type": "float64"}, {"name": "s", "type": "string"}], steps, columns=["xi"], fitted=False
    )
    batch = pa.record_batch({"x": [INF, INF], "s": pa.nulls(2, pa.string())})
    with pytest.raises(SpecError) as caught:
        fit(spec, lambda: [batch], {})
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["/steps/0", "/steps/1", "/steps/2"]
    assert "step 'm' (impute) cannot be fitted: column 's' has no value to learn from." in str(caught.value)
    with pytest.raises(SpecError, match=r"^/steps/0: step 'i'"):
        fit(recipe(), list, {})


def test_a_fit_whose_rows_are_all_rejected_says_by_what():
    """Where nothing is left to learn from, the rows that were left out are told with the rules that rejected them."""
    fields = [
        {"name": "x", "type": "float64", "range": {"min": 0}},
        {"name": "y", "type": "float64", "nullable": False},
    ]
    recipe = spec_of(fields, [{"id": "z", "op": "standardize", "in": ["x"], "out": ["xz"]}], fitted=False)
    data = pa.table({"x": [-1.0, -2.0, 3.0], "y": [1.0, 1.0, None]})
    with pytest.raises(SpecError) as caught:
        fit(recipe, data)
    told = "Of 3 rows 0 were filtered and 3 rejected: 2 by /input/fields/0/range, 1 by /input/fields/1/on_missing."
    assert str(caught.value).splitlines()[-1] == told


def test_a_batch_of_another_schema_names_itself():
    """A batch that breaks the contract's schema stops the fit with its number."""
    with pytest.raises(ContractError, match=r"^batch 1: breaks the input contract: column 'x' has type string"):
        fit(recipe(), lambda: [rows(), pa.record_batch({"x": ["a"], "s": ["b"]})], {})


def test_joined_columns_teach_too():
    """A step learns from columns of a reference table as from any other."""
    join = join_of(["string"], ["float64"]).model_dump(mode="json", by_alias=True)
    step = {"id": "z", "op": "standardize", "in": ["o0"], "out": ["z"]}
    spec = spec_of([{"name": "k0", "type": "string"}], [step], relational=[join], fitted=False)
    reference = pa.table({"k0": ["a", "b"], "r0": [1.0, 5.0]})
    fitted = fit(spec, lambda: [pa.record_batch({"k0": ["a", "b", "c", None]})], {"ref": reference})
    assert (states(fitted)["z"].mean, states(fitted)["z"].std, states(fitted)["z"].n) == (3.0, 2.0, 2)
    with pytest.raises(SpecError, match=r"reference table 'ref' is not given"):
        fit(spec, list, {})


def test_every_op_is_fitted_together():
    """A recipe of every op is fitted in as few passes as it needs, the same for each cut of the rows."""
    spec = read_spec(RECIPE, "recipe.json", fitted=False)
    assert passes(spec) == (("f_i", "s1", "s2", "i2"), ("f_z",))
    batch = nasty_rows(200, seed=0)
    batch = batch.filter(pa.array(np.isfinite(batch["f"].to_numpy(zero_copy_only=False))))
    whole = fit(spec, batches_of(batch), {"ref": REFERENCE})
    pieces = fit(spec, batches_of(batch, *range(1, batch.num_rows)), {"ref": REFERENCE})
    assert {k: v for k, v in states(whole).items() if k != "f_z"} == {
        k: v for k, v in states(pieces).items() if k != "f_z"
    }
    assert states(whole)["f_z"].n == states(pieces)["f_z"].n


def test_quantiles_see_the_same_rows_in_all_their_passes():
    """A step that is learned in the first pass and rejects rows does not take them from a quantile's second pass."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal(200_000)
    s = pa.array(rng.choice(["a", "b"], x.size), mask=rng.random(x.size) < 0.01)
    steps = [
        {"id": "o", "op": "one_hot", "in": ["s"], "out": ["so"], "params": {"missing": "reject"}},
        {"id": "m", "op": "impute", "in": ["x"], "out": ["xm"], "params": {"strategy": "median"}},
    ]
    fields = [{"name": "x", "type": "float64"}, {"name": "s", "type": "string"}]
    spec = fit(spec_of(fields, steps, columns=["xm"], fitted=False), pa.table({"x": x, "s": s}))
    assert spec.provenance is not None
    assert spec.provenance.passes == 2
    assert states(spec)["m"].value == np.quantile(x, 0.5, method="inverted_cdf")


def test_data_that_changes_between_passes_is_refused():
    """Rows that are others in the second pass are not learned from, and the step says so where nothing else does."""
    tables = iter([pa.table({"x": np.random.default_rng(seed).standard_normal(200_000)}) for seed in range(3)])
    pieces = [Piece("", lambda: next(tables).to_batches())]
    step = {"id": "m", "op": "impute", "in": ["x"], "out": ["xm"], "params": {"strategy": "median"}}
    spec = spec_of([{"name": "x", "type": "float64"}], [step], fitted=False)
    with pytest.raises(SpecError, match=r"cannot be fitted: column 'x' is not what it was in the pass before; fit"):
        fit(spec, pieces)


def two_passes():
    """Return a recipe of two passes without a quantile."""
    steps = [
        {"id": "o", "op": "one_hot", "in": ["s"], "out": ["o"]},
        {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]},
        {"id": "w", "op": "standardize", "in": ["z"], "out": ["w"]},
    ]
    return spec_of(
        [{"name": "x", "type": "float64"}, {"name": "s", "type": "string"}], steps, columns=["w"], fitted=False
    )


@pytest.mark.parametrize(
    "changed",
    [{"x": [1.0, 3.0], "s": ["a", "b"]}, {"x": [1.0, 2.0], "s": ["ab", ""]}, {"x": [1.0, None], "s": ["a", "b"]}],
)
def test_another_value_in_a_later_pass_is_noticed(changed):
    """A number, a text or a missing value that is another in the second pass stops a fit that learns no quantile."""
    passes_ = iter([{"x": [1.0, 2.0], "s": ["a", "b"]}, changed])
    with pytest.raises(InputChanged, match=r"^the data: is not what it was in the pass before\. Fit again"):
        fit(two_passes(), lambda: [pa.record_batch({**next(passes_), "extra": [0, 0]})])
    counts = iter([2, 3])
    pieces = [Piece("", lambda: [pa.record_batch({"x": np.ones(n), "s": ["a"] * n}) for n in [next(counts)]])]
    with pytest.raises(InputChanged, match=r"^the data has changed: 2 rows in the first pass, 3 in pass 2\. Fit"):
        fit(two_passes(), pieces)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_same_rows_in_another_form_are_no_change(is_large):
    """Columns that no field names, dictionaries, the width of text offsets, and what lies behind a null may differ."""
    one = pa.record_batch({"x": pa.array([1.0, 2.0, 9.0], mask=np.array([0, 0, 1], bool)), "s": ["a", "b", "a"]})
    other = pa.record_batch(
        {
            "s": pa.array(["a", "b", "a"]).dictionary_encode(),
            "x": pa.array([1.0, 2.0, 7.0], mask=np.array([0, 0, 1], bool)),
            "e": pa.nulls(3),
        }
    )
    if is_large:
        texts = pa.array(["a", "b", "a"], pa.large_string())
        other = other.set_column(0, "s", texts)
    given = itertools.cycle([one, other])
    assert states(fit(two_passes(), lambda: [next(given)]))["z"].mean == 1.5


@pytest.mark.parametrize("kind", ["string_view", "list<string_view>", "dictionary"])
def test_a_view_is_learned_from_as_a_string_is(kind):
    """Rows with string views, at any depth, are learned from, and transformed, although one is rejected."""
    s: dict[str, Any] = {"name": "s", "type": "list<string>" if "list" in kind else "string"}
    texts: Any = pa.array(["a", None, "b" * 40], pa.string_view())
    if kind == "dictionary":
        texts = pa.DictionaryArray.from_arrays([0, None, 1], pa.array(["a", "b" * 40], pa.string_view()))
    elif kind != "string_view":
        texts = pa.ListArray.from_arrays([0, 1, 2, 3], texts)
    step = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}
    spec = spec_of([FIELDS[0], s], [step], fitted=False)
    table = pa.table({"x": [1.0, 3.0, 1e9], "s": texts, "extra": pa.array([b"", None, b"b" * 40], pa.binary_view())})
    fitted = fit(spec, table)
    assert (fitted.provenance or Provenance()).rejected == 1
    assert fitted.golden[0].given["s"] == (["a"] if "list" in kind else "a")
    assert fitted.transform(table).tensors["x"].tolist() == [[-1.0], [1.0]]


def test_a_dataset_that_is_damaged_or_changes_is_named(tmp_path, monkeypatch):
    """A damaged page, and a file that goes or changes between two passes, are told by file and row group."""
    path = tmp_path / "a.parquet"

    def write(first):
        table = pa.table({"x": np.arange(1000.0) + first, "s": ["a"] * 1000})
        parquet.write_table(table, path, compression="NONE", use_dictionary=False, row_group_size=500)

    write(0)
    intact = path.read_bytes()
    at = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    path.write_bytes(intact[:at] + b"\xff" * 12 + intact[at + 12 :])
    with pytest.raises(ReadError, match=r"a\.parquet row groups \[1\]: cannot be read: .*\. Put it back"):
        fit(two_passes(), dataset(tmp_path))
    with pytest.raises(ReadError, match=r"a\.parquet: row group 1 cannot be decoded: "):
        fit_files(two_passes(), (str(tmp_path),), {})
    settle = fitting._settle
    for change, error in ((lambda: write(1), InputChanged), (path.unlink, ReadError)):
        write(0)
        monkeypatch.setattr(fitting, "_settle", lambda *given, change=change: (change(), settle(*given))[1])
        with pytest.raises(error, match=r"a\.parquet row groups \[0\]: "):
            fit(two_passes(), dataset(tmp_path))


KEYED = HivePartitioning(pa.schema([("s", pa.string())]))


@pytest.mark.parametrize(
    ("kind", "keys", "changed"),
    [("csv", None, "a.csv"), ("feather", None, "a.feather"), ("parquet", KEYED, "s=b/a.parquet"), ("", None, "")],
)
def test_a_dataset_of_any_format_is_learned_from(tmp_path, monkeypatch, kind, keys, changed):
    """Files of each format, keys in folders, and tables in memory teach what the rows do; a change is noticed."""
    table = pa.table({"x": [1.0, 2.0, 6.0], "s": ["a", "b", "b"]})
    options = {"format": kind, "partitioning": keys, "existing_data_behavior": "overwrite_or_ignore"}

    def write(rows):
        write_dataset(rows, tmp_path, basename_template=f"{{i}}.{kind}", **options)

    if kind:
        write(table)
    data = dataset(tmp_path, format=kind, partitioning=keys) if kind else dataset(table)
    want = fit(two_passes(), table).steps
    assert [fit(two_passes(), data, workers=workers).steps for workers in (1, 2)] == [want] * 2
    if not kind:
        return
    settle = fitting._settle
    other = table.set_column(0, "x", [[1.0, 3.0, 6.0]])
    monkeypatch.setattr(fitting, "_settle", lambda *given: (write(other), settle(*given))[1])
    with pytest.raises(InputChanged, match=changed.replace("a.", r"0\.", 1)):
        fit(two_passes(), data)


def test_a_filtered_dataset_teaches_its_rows_alone(tmp_path):
    """A filter of Arrow's leaves rows out, and a file that lacks a column is refused where Arrow would fill it in."""
    parquet.write_table(pa.table({"x": [1.0, 2.0, 6.0, 99.0], "s": ["a"] * 4}), tmp_path / "a.parquet")
    found = fit(two_passes(), dataset(tmp_path).filter(pc.field("x") < 50))
    assert ((found.provenance or Provenance()).rows, states(found)["z"].mean) == (3, 3.0)
    parquet.write_table(pa.table({"x": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(ContractError, match=r"b\.parquet row groups \[0\].*'s'"):
        fit(two_passes(), dataset(tmp_path))


def test_a_value_that_its_type_cannot_hold_is_in_no_golden_row():
    """Text that is not UTF-8 and an integer beyond float64, kept as missing or rounded or rejected, are fitted as any
    row is, and golden rows are of other rows."""  # noqa: D205, D209  one sentence
    texts = pa.array([b"a", b"\xff", b"c", b"d"])
    texts = pa.Array.from_buffers(pa.string(), 4, texts.buffers())
    table = pa.table({"x": [1, 2, 2**53 + 1, 5], "s": texts})
    step = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}
    for on_invalid, mean in (("as_missing", 8 / 3), ("reject", 3.0)):
        rule = {"on_invalid": on_invalid}
        fields = [{"name": "x", "type": "float64", **rule}, {"name": "s", "type": "string", **rule}]
        fitted = fit(spec_of(fields, [step], fitted=False), table)
        assert states(fitted)["z"].mean == mean
        assert [row.given for row in fitted.golden] == [{"x": 1.0, "s": "a"}, {"x": 5.0, "s": "d"}]
        gone = {int(row): r.code for r in fitted.transform(table).rejections for row in r.rows}
        assert gone == ({1: "NOT_UTF8", 2: "INEXACT"} if on_invalid == "reject" else {})


def test_a_label_is_pointed_to_where_it_is():
    """What is wrong with a label points below /input/labels."""
    label = {"name": "y", "type": "float64", "on_missing": "fail"}
    text = document([{"name": "s", "type": "string"}], [{"id": "l", "op": "length", "in": ["s"], "out": ["n"]}])
    text["input"]["labels"] = [{"name": "w", "type": "float64"}, label]
    recipe = read_spec(json.dumps(text), "spec.json", fitted=False)
    with pytest.raises(
        ContractError, match=r"'y' has no value .* the contract says fail at /input/labels/1/on_missing"
    ):
        fit(recipe, pa.table({"s": ["a"], "w": [1.0], "y": pa.array([None], pa.float64())}))


def test_a_fit_needs_a_thread():
    """No worker, or less, is refused before anything is read."""
    with pytest.raises(ValueError, match=r"1 or more; found 0$"):
        fit(two_passes(), list, workers=0)


def test_statistics_take_no_row_from_what_is_learned():
    """An integer that no float64 can hold, in a field that no step reads as a number, keeps its row."""
    fields = [{"name": "h", "type": "int64"}, {"name": "a", "type": "float64"}]
    step = {"id": "z", "op": "standardize", "in": ["a"], "out": ["z"]}
    data = pa.table({"h": [2**60, 2**60 + 1, 3, 4], "a": [100.0, 200.0, 1.0, 3.0]})
    spec = fit(spec_of(fields, [step], fitted=False), data)
    assert (states(spec)["z"].mean, states(spec)["z"].n) == (76.0, 4)
    assert (spec.reference["h"].n, spec.reference["h"].quantiles["1"]) == (4, float(2**60))


def test_a_spec_whose_golden_rows_do_not_replay_can_be_loaded(monkeypatch):
    """Where golden rows do not replay, a fitted spec has none and says why, and is loaded all the same."""

    def refuse(_):
        message = "/golden: a row is not one of spec test"
        raise SpecError(message)

    monkeypatch.setattr(fitting, "replay", refuse)
    spec = fit(two_passes(), pa.table({"x": [1.0, 2.0], "s": ["a", "b"]}))
    assert spec.golden == ()
    assert spec.provenance is not None
    assert spec.provenance.notes["golden"] == "none: /golden: a row is not one of spec test"
    Pipeline(read_spec(spec.to_bytes().decode(), "etl.json"), {})


EXPECTED = [
    {"id": "low", "row": {"cmp": ["x", "<", 100]}, "severity": "quarantine"},
    {"id": "filled", "batch": {"null_share": ["x", "<=", 0.2]}, "severity": "warn"},
    {"id": "once", "batch": {"unique": ["x"]}, "severity": "warn"},
]


def expecting(expectations):
    """Return a recipe that learns a mean and has expectations."""
    steps = [{"id": "i", "op": "impute", "in": ["x"], "out": ["xi"], "params": {"strategy": "mean"}}]
    fields = [{"name": "x", "type": "float64"}]
    value = {**document(fields, steps, columns=["xi"]), "expectations": expectations}
    return read_spec(json.dumps(value), "recipe", fitted=False)


def note(spec, name):
    """Return a note of a spec's provenance."""
    return spec.provenance.notes[name]


def test_a_fit_tells_what_its_rows_do_not_meet():
    """Rows that break an expectation teach, and one more pass counts them, those that are set aside in no later one."""
    table = pa.table({"x": [1.0, 3.0, 3.0, None, 1000.0]})
    fitted = fit(expecting(EXPECTED), table, {})
    assert states(fitted)["i"].value == 1007 / 4
    assert fitted.provenance is not None
    assert fitted.provenance.passes == 2
    low, filled, once = note(fitted, "expectations").splitlines()
    # A comparison with a missing value is false.
    assert low.startswith("expectation 'low': 2 of 5 rows do not meet it; they taught, too: put the rule into the con")
    assert filled == "expectation 'filled': null_share of x is 0 (0 of 3), as it should be <= 0.2"
    assert once.startswith("expectation 'once': 1 of 3 rows repeat x of another")
    assert "1000" not in note(fitted, "expectations")
    steps = [{"id": "f", "op": "missing_flag", "in": ["x"], "out": ["xi"]}]
    value = document([{"name": "x", "type": "float64"}], steps, columns=["xi"])
    empty = read_spec(json.dumps({**value, "expectations": EXPECTED}), "recipe", fitted=False)
    assert "'once': 0 of 0 rows repeat x" in note(fit(empty, table.slice(0, 0)), "expectations")
    batches = [Piece("", [part].copy) for part in table.to_batches(max_chunksize=2)]
    apart = [fit(expecting(EXPECTED), batches, {}, workers=workers) for workers in (1, 2)]
    assert apart[0].to_bytes() == apart[1].to_bytes()
    assert note(apart[0], "expectations").splitlines()[:2] == [low, filled]
    assert "expectation 'once' is not counted" in note(apart[0], "expectations")


def test_a_fit_whose_rows_break_an_expectation_that_fails_is_refused():
    """All expectations of severity `fail` that the training rows do not meet are told, and nothing is learned."""
    failing = [{**expectation, "severity": "fail"} for expectation in EXPECTED]
    with pytest.raises(TransformError) as refused:
        fit(expecting(failing), pa.table({"x": [1.0, None, 1000.0, 1000.0]}), {})
    found = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert found == ["/expectations/0", "/expectations/1", "/expectations/2"]
    kept = fit(expecting(failing), pa.table({"x": [1.0, 2.0]}), {})
    assert fit(kept, pa.table({"x": [1000.0]}), {}) is kept


def test_a_fit_notes_what_pins_its_references():
    """The SHA-256 that a fit notes of a table that it joined pins that table, in any order of rows, and no other."""
    batch = pa.record_batch({"k0": ["a", "b"]})
    step = {"id": "z", "op": "standardize", "in": ["o0"], "out": ["z"]}

    def recipe_of(**params):
        join = join_of(["string"], ["float64"], **params).model_dump(mode="json", by_alias=True)
        return spec_of([{"name": "k0", "type": "string"}], [step], relational=[join], fitted=False)

    reference = pa.table({"k0": ["a", "b"], "r0": [1.0, 5.0]})
    noted = note(fit(recipe_of(), batch, {"ref": reference}), "references")
    before, sha256 = noted.split(" sha256 ")
    assert before == "ref, by step 'j':"
    pinned = recipe_of(sha256=sha256)
    assert note(fit(pinned, batch, {"ref": reference.take([1, 0])}), "references") == noted
    with pytest.raises(ContractError, match=sha256):
        fit(pinned, batch, {"ref": pa.table({"k0": ["a", "b"], "r0": [1.0, 5.5]})})


@pytest.mark.parametrize("given", ["r.yaml", Path("r.yaml")])
def test_a_path_is_no_spec_and_no_data(given):
    """A path in place of a recipe, or of data, is refused with what reads it."""
    with pytest.raises(TypeError, match=r"give a Spec: etl\.load_spec\('r\.yaml', fitted=False\)$"):
        fit(given, pa.table({"x": [1.0]}))
    reader = r"pyarrow\.dataset\.dataset\('r\.yaml'\), tables of Spark by etl\.spark\.fit$"
    with pytest.raises(TypeError, match=reader):
        fit(recipe(), given)
    with pytest.raises(TypeError, match="cannot learn from str"):
        fit(recipe(), "")
