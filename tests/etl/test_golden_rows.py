from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.golden import MOST_BYTES, MOST_ROWS, replay
from etl.inspection.page import page_of
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.plain import array_of, plain_values
from etl.spec import Spec, read_spec
from etl.types import ColumnType
from tests.etl.nasty import DATES, FLOATS, INSTANTS, INT64S, TEXTS, arrow, document, join_of, spec_of
from tests.etl.test_pipeline import RECIPE, REFERENCE, nasty_rows

FIELDS: list[dict[str, Any]] = [
    {"name": "x", "type": "float64"},
    {"name": "s", "type": "string"},
    {"name": "t", "type": "timestamp"},
]
STEPS: list[dict[str, Any]] = [
    {"id": "i", "op": "impute", "in": ["x"], "out": ["xi"], "params": {"strategy": "mean"}},
    {"id": "z", "op": "standardize", "in": ["xi"], "out": ["xz"]},
    {"id": "o", "op": "one_hot", "in": ["s"], "out": ["so"]},
    {"id": "h", "op": "date_part", "in": ["t"], "out": ["th"], "params": {"part": "hour"}},
    {"id": "c", "op": "cyclical", "in": ["th"], "out": ["ts", "tc"], "params": {"period": 24}},
]


def rows(**changed):
    """Return training rows, some of them without values."""
    rng = np.random.default_rng(3)
    count = 200
    x = rng.standard_normal(count) * 10
    x[7] = np.nan
    columns = {
        "x": pa.array(x),
        "s": pa.array(rng.choice(["a", "b", "ß"], count), mask=np.arange(count) == 30),
        "t": pa.array(rng.integers(-(10**15), 10**15, count), pa.timestamp("us", "UTC")),
    }
    return pa.table({**columns, **changed})


def fitted(fields=FIELDS, steps=STEPS, data=None):
    """Return a spec with golden rows."""
    recipe = spec_of(fields, steps, columns=["xz", "so", "ts", "tc"], fitted=False)
    return fit(recipe, rows() if data is None else data)


def damaged(spec: Spec, *path, to) -> Spec:
    """Return a spec with one value changed, sealed anew: as if the op itself had changed."""
    value = json.loads(spec.to_bytes())
    value.pop("integrity")
    node = value
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = to(node[path[-1]])
    return read_spec(json.dumps(value), "etl.json").sealed()


def test_a_fit_keeps_rows_that_exercise_the_spec():
    """Golden rows hold a row without each value, the least and the largest number, and every column that is made."""
    spec = fitted()
    assert 0 < len(spec.golden) <= MOST_ROWS
    data = rows()
    x = data["x"].to_numpy()
    given = [row.given for row in spec.golden]
    assert {"x": "nan"}.items() <= next(row for row in given if row["x"] == "nan").items()
    assert any(row["s"] is None for row in given)
    finite = [row["x"] for row in given if row["x"] != "nan"]
    assert (min(finite), max(finite)) == (np.nanmin(x), np.nanmax(x))
    assert all(set(row.made) == {"xi", "xz", "so", "th", "ts", "tc"} for row in spec.golden)


def test_golden_rows_survive_the_bytes_of_the_spec():
    """A fitted spec reads back equal, golden rows and digest included, and replays."""
    spec = fitted()
    again = read_spec(spec.to_bytes().decode(), "etl.json")
    assert again == spec
    assert again.to_bytes() == spec.to_bytes()
    Pipeline(again, {})


@pytest.mark.parametrize(
    ("path", "to", "step"),
    [
        (("steps", 0, "state", "value"), lambda value: value + 1e-3, "/steps/0: step 'i' (impute) makes another 'xi'"),
        (
            ("steps", 1, "state", "std"),
            lambda value: value * 1.01,
            "/steps/1: step 'z' (standardize) makes another 'xz'",
        ),
        (("steps", 2, "state", "vocab"), lambda vocab: vocab[::-1], "/steps/2: step 'o' (one_hot) makes another 'so'"),
        (("steps", 3, "params", "part"), lambda _: "minute", "/steps/3: step 'h' (date_part) makes another 'th'"),
        (("steps", 4, "params", "period"), lambda _: 24.1, "/steps/4: step 'c' (cyclical) makes another 'ts'"),
    ],
)
def test_a_step_that_means_something_else_is_named(path, to, step):
    """A spec that makes something else of a golden row is refused with the first step that does."""
    other = damaged(fitted(), *path, to=to)
    with pytest.raises(SpecError) as caught:
        Pipeline(other, {})
    assert str(caught.value).startswith(step)


def test_a_rule_that_rejects_a_golden_row_is_named():
    """A contract that rejects a golden row, which it did not where the spec was fitted, refuses the spec."""
    other = damaged(fitted(), "input", "fields", 0, to=lambda field: {**field, "range": {"max": 0.0}})
    with pytest.raises(SpecError, match=r"^/golden/\d+: the row is rejected by /input/fields/0/range"):
        Pipeline(other, {})


def test_one_unit_in_the_last_place_is_forgiven_behind_a_transcendental_step_alone():
    """A sine may be off by one unit of float32 but not by two, and a mean by none."""
    spec = fitted()
    off_by_one = damaged(spec, "golden", 0, "out", "ts", to=lambda value: float(np.nextafter(np.float32(value), 2)))
    Pipeline(off_by_one, {})
    twice = damaged(off_by_one, "golden", 0, "out", "ts", to=lambda value: float(np.nextafter(np.float32(value), 2)))
    with pytest.raises(SpecError, match="another 'ts' of golden row 0"):
        Pipeline(twice, {})
    plain = damaged(spec, "golden", 0, "out", "xz", to=lambda value: float(np.nextafter(np.float32(value), 2)))
    with pytest.raises(SpecError, match="another 'xz' of golden row 0"):
        Pipeline(plain, {})


def test_a_wide_vector_behind_a_transcendental_step_is_compared():
    """Of 300 values one may be off by one unit in the last place, but not by ten; no two of them can change places."""
    steps = [
        {"id": "l", "op": "log1p", "in": ["x"], "out": ["xl"]},
        {"id": "a", "op": "assemble", "in": ["v", "xl"], "out": ["a"]},
        {"id": "b", "op": "assemble", "in": ["v", "x"], "out": ["b"]},
    ]
    fields = [{"name": "v", "type": "float32[299]"}, FIELDS[0]]
    vector = np.random.default_rng(4).standard_normal(299).astype(np.float32)
    spec = fit(spec_of(fields, steps, columns=["a", "b"]), pa.table({"v": [vector.tolist()], "x": [1.5]}))
    assert set(spec.golden[0].made["b"]) == {"sha256"}
    wide = np.append(vector, np.float32(np.log1p(1.5)))

    def stored(*changes):
        made = wide.astype(np.float64)
        for place, value in changes:
            made[place] = value
        folded = np.pad(made, (0, 84)).reshape(3, 128) * [[1], [2], [3]]
        return {"sha256": "0" * 64, "sums": [*folded.clip(0, None).sum(axis=0), *folded.clip(None, 0).sum(axis=0)]}

    def wanted(value):
        return damaged(spec, "golden", 0, "out", "a", to=lambda _: value)

    np.testing.assert_allclose(spec.golden[0].made["a"]["sums"], stored()["sums"], rtol=1e-15)
    replay(wanted(stored((7, np.nextafter(wide[7], np.float32(9))))))
    replay(wanted({"sha256": "0" * 64}))
    for changes in (((7, wide[7] * (1 + 1e-6)),), ((7, wide[135]), (135, wide[7])), ((299, 0.0),)):
        with pytest.raises(SpecError, match="another 'a' of golden row 0"):
            replay(wanted(stored(*changes)))


def test_a_float64_tensor_is_compared_as_float64():
    """A difference that float32 cannot hold counts where a tensor can, and only there."""
    for dtype in ("float32", "float64"):
        spec = fit(spec_of([FIELDS[0]], STEPS[:1], columns=["xi"], dtype=dtype, fitted=False), rows().select(["x"]))
        off = damaged(spec, "golden", 0, "out", "xi", to=lambda value: float(np.nextafter(value, 9)))
        if dtype == "float32":
            replay(off)
            continue
        with pytest.raises(SpecError, match="another 'xi' of golden row 0"):
            replay(off)


def test_instants_in_lists_and_structs_are_golden_too():
    """A spec of lists and structs of instants has golden rows, and they replay from its bytes."""
    fields = [{"name": "l", "type": "list<timestamp>"}, {"name": "s", "type": "struct<at: date, n: float64>"}]
    step = {"id": "at", "op": "struct_get", "in": ["s"], "out": ["at"], "params": {"field": "at"}}
    flag = {"id": "f", "op": "missing_flag", "in": ["l"], "out": ["lf"]}
    data = pa.table({"l": [[DATES[1], None], None], "s": [{"n": 0.1, "at": DATES[2]}, {"n": None, "at": None}]})
    data = data.set_column(0, "l", data["l"].cast(pa.list_(pa.timestamp("ms"))))
    spec = fit(spec_of(fields, [step, flag], columns=["lf"]), data)
    assert spec.golden[0].given["l"] == ["0001-01-01T00:00:00Z", None]
    replay(read_spec(spec.to_bytes().decode(), "etl.json"))


def test_golden_rows_hold_no_personal_data():
    """A field of personal data is missing in every golden row, and a spec that needs it has none."""
    secret = rows(s=pa.array(["Jane Doe"] * 200))
    optional = fitted([FIELDS[0], {**FIELDS[1], "pii": True}, FIELDS[2]], data=secret)
    assert optional.golden
    assert b"Jane Doe" not in json.dumps([row.model_dump() for row in optional.golden]).encode()
    Pipeline(optional, {})
    for need in ({"nullable": False}, {"on_missing": "fail"}):
        assert fitted([FIELDS[0], {**FIELDS[1], "pii": True, **need}, FIELDS[2]], data=secret).golden == ()


def test_golden_rows_hold_no_personal_label():
    """A mean of personal answers is in no golden row: the step is given no category, directly or by a step before."""
    steps = [
        {"id": "l", "op": "lower", "in": ["s"], "out": ["sl"]},
        {
            "id": "t",
            "op": "target_encode",
            "in": ["sl"],
            "out": ["st"],
            "params": {"target": "y", "leak": "acknowledged", "smoothing": 0},
        },
    ]
    value = document([{"name": "s", "type": "string"}], steps, columns=["st"])
    value["input"]["labels"] = [{"name": "y", "type": "float64", "pii": True}]
    data = pa.table({"s": ["a", "b", "c"], "y": [1.0, 2.0, 70321.0]})
    found = fit(read_spec(json.dumps(value), "recipe", fitted=False), data)
    assert [(row.given, row.made["st"]) for row in found.golden] == [({"s": None}, 70324 / 3)] * len(found.golden)
    assert found.golden
    assert "70321" not in page_of(found)


def test_what_is_joined_by_personal_data_is_no_part_of_a_golden_row():
    """A column that is looked up by personal data, and what is made of it, is missing in golden rows."""
    join = join_of(["string"], ["string"]).model_dump(mode="json", by_alias=True)
    step = {"id": "l", "op": "lower", "in": ["o0"], "out": ["ol"]}
    recipe = spec_of(
        [{"name": "k0", "type": "string", "pii": True}],
        [step],
        relational=[join],
        columns=["ol"],
        dtype="string",
        fitted=False,
    )
    reference = pa.table({"k0": ["a@b.org"], "r0": ["Jane Doe"]})
    spec = fit(recipe, pa.table({"k0": ["a@b.org"]}), {"ref": reference})
    assert len(spec.golden) == 1
    assert spec.golden[0].given == {"k0": None, "o0": None}
    assert b"jane" not in spec.to_bytes().lower()


def test_a_recipe_that_learns_nothing_has_golden_rows_too():
    """A recipe without anything to learn is read once, for its golden rows and statistics, and sealed."""
    recipe = spec_of([FIELDS[0]], [{"id": "f", "op": "missing_flag", "in": ["x"], "out": ["xn"]}])
    first = pa.table({"x": [1.0, None]})
    spec = fit(recipe, first)
    assert [row.made for row in spec.golden] == [{"xn": 0.0}, {"xn": 1.0}]
    assert (spec.reference["x"].missing, spec.integrity is not None) == (1, True)
    assert fit(spec, pa.table({"x": [5.0]})) is spec


def test_golden_rows_come_from_the_first_batch_that_has_one():
    """A first batch whose rows are all rejected does not leave the spec without golden rows."""
    recipe = spec_of([{**FIELDS[0], "range": {"min": 0.0}}], [STEPS[0]], fitted=False)
    batches = [pa.record_batch({"x": [-1.0, -2.0]}), pa.record_batch({"x": [3.0]})]
    assert [row.given for row in fit(recipe, lambda: batches).golden] == [{"x": 3.0}]


def test_golden_rows_of_every_kind_of_column():
    """A spec of every op, over nasty rows and a joined table, replays from its own bytes without that table's rows."""
    batch = nasty_rows(200, seed=0)
    batch = batch.filter(pa.array(np.isfinite(batch["f"].to_numpy(zero_copy_only=False))))
    spec = fit(read_spec(RECIPE, "recipe.json", fitted=False), batch, {"ref": REFERENCE})
    assert spec.golden
    again = read_spec(spec.to_bytes().decode(), "etl.json")
    Pipeline(again, {"ref": REFERENCE})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("float64", FLOATS),
        ("float32", [None, 0.1, 1e-45, float("inf")]),
        ("int64", INT64S),
        ("uint64", [None, 2**64 - 1]),
        ("bool", [None, True, False]),
        ("string", [*TEXTS, "nan", "inf"]),
        ("timestamp", INSTANTS),
        ("date", DATES),
        ("float32[2]", [[1.0, float("nan")], None]),
        ("list<string>", [["a", None], [], None]),
        ("list<timestamp>", [[INSTANTS[1], None], [], None]),
        ("list<date>", [[1, None], None]),
        ("list<float32>", [[0.1, float("nan"), -0.0, None], None]),
        ("list<uint64>", [[2**64 - 1]]),
        ("struct<a: int64, b: string>", [{"a": 1, "b": None}, None]),
        ("struct<a: timestamp, b: date, c: float32>", [{"a": 1, "b": 10_000, "c": float("inf")}, None]),
    ],
)
def test_values_survive_json(kind, values):
    """Every value of every type is the same behind JSON."""
    column = arrow(values, kind) if "<" not in kind else pa.array(values, ColumnType.parse(kind).arrow)
    found = array_of(json.loads(json.dumps(plain_values(column))), ColumnType.parse(kind))
    assert found.type == column.type
    assert repr(found.to_pylist()) == repr(column.to_pylist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_instants_beyond_the_calendar_survive_json(micros):
    """An instant outside of the years 1 to 9999, which has no text, is the same behind JSON too."""
    column = pa.array(micros, pa.int64()).view(pa.timestamp("us", "UTC"))
    listed = pa.ListArray.from_arrays([0, len(micros)], column)
    for one, kind in ((column, "timestamp"), (listed, "list<timestamp>")):
        found = array_of(json.loads(json.dumps(plain_values(one))), ColumnType.parse(kind))
        assert (found if one is column else found.flatten()).cast(pa.int64()).to_pylist() == micros


def test_the_draft_before_1_is_read():
    """A spec of the draft form is read: the flights spec of then has the steps and the tensor of the one of now."""
    draft = (Path(__file__).parent / "specs" / "flights-draft.json").read_text(encoding="utf-8")
    bundle = Path(__file__).parents[2] / "examples" / "flights" / "bundle" / "etl.json"
    now = read_spec(bundle.read_text(encoding="utf-8"), "etl.json")
    before = read_spec(draft, "draft.json")
    assert [step.model_copy(update={"state": None}) for step in before.steps if hasattr(step, "state")] == [
        step.model_copy(update={"state": None}) for step in now.steps if hasattr(step, "state")
    ]
    assert before.outputs == now.outputs
    assert before.provenance is not None
    assert before.provenance.rows == 252_484
    value = json.loads(draft)
    assert value["format"] == "scorespec/0"
    assert value["outputs"]["tensors"][0]["rank"] == 2


def test_long_texts_are_golden_as_their_digest():
    """What a step makes of a long text is kept as SHA-256 and told apart, and the text is in no statistics."""
    steps = [
        {"id": "u", "op": "upper", "in": ["s"], "out": ["su"]},
        {"id": "t", "op": "tokenize", "in": ["su"], "out": ["st"], "params": {"split": " "}},
        {"id": "n", "op": "missing_flag", "in": ["st"], "out": ["sn"]},
    ]
    text = "lorem ß " * 700
    spec = fit(spec_of([FIELDS[1]], steps, columns=["sn"]), pa.table({"s": [text, "a b"]}))
    upper = "LOREM ß " * 700
    assert spec.golden[0].made["su"] == {"sha256": hashlib.sha256(upper.encode()).hexdigest()}
    assert set(spec.golden[0].made["st"]) == {"sha256"}
    assert spec.golden[1].made == {"su": "A B", "st": ["A", "B"], "sn": 0.0}
    assert spec.reference["s"].top == (("a b", 1),)
    replay(read_spec(spec.to_bytes().decode(), "etl.json"))
    # As a release wrote it that had no digests.
    replay(damaged(spec, "golden", 0, "out", "su", to=lambda _: upper))
    for other in ("0" * 64, None):
        with pytest.raises(SpecError, match="another 'su' of golden row 0"):
            replay(damaged(spec, "golden", 0, "out", "su", to=lambda _, sha256=other: {"sha256": sha256}))


@pytest.mark.parametrize("kind", ["string", "list<string>", "struct<a: string, n: int64>"])
def test_rows_of_very_long_values_are_not_golden(kind):
    """Golden rows are those that are short enough; where there are none, the provenance says so."""
    forms = {"string": lambda text: text, "list<string>": lambda text: [text, None]}
    form = forms.get(kind, lambda text: {"a": text, "n": 1})
    recipe = spec_of([{"name": "s", "type": kind}], [{"id": "f", "op": "missing_flag", "in": ["s"], "out": ["x"]}])
    long = [form(str(number) * 4_300_000) for number in range(2)]
    type_ = ColumnType.parse(kind).arrow
    spec = fit(recipe, pa.table({"s": pa.array([long[0], form("a"), long[1], form("b")], type_)}))
    assert [row.given["s"] for row in spec.golden] == [form("a"), form("b")]
    spec = fit(recipe, pa.table({"s": pa.array(long, type_)}))
    assert spec.golden == ()
    assert spec.provenance
    assert spec.provenance.notes == {"golden": "none: every row that was looked at is too long to be kept"}


def test_golden_rows_are_together_no_longer_than_they_may_be():
    """Of rows that are long, though not too long, as many are golden as there is room for."""
    recipe = spec_of([FIELDS[1]], [{"id": "f", "op": "missing_flag", "in": ["s"], "out": ["x"]}])
    spec = fit(recipe, pa.table({"s": [chr(97 + number) * 600_000 for number in range(12)]}))
    assert [row.given["s"][0] for row in spec.golden] == list("abcdef")
    assert len(spec.to_bytes()) < MOST_BYTES
    assert spec.provenance
    assert "golden" not in spec.provenance.notes


def test_a_fitted_spec_is_replayed_where_it_is_fitted_again():
    """A fitted spec whose state was changed, and whose seal was taken out, is not handed back by a fit."""
    value = json.loads(fitted().to_bytes())
    del value["integrity"]
    value["steps"][1]["state"]["std"] *= 2
    with pytest.raises(SpecError, match="step 'z'"):
        fit(read_spec(json.dumps(value), "etl.json"), rows())
