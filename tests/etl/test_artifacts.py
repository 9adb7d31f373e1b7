from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import etl
import etl.format.artifacts
import etl.format.files
from etl.documents import sha256_hex
from etl.errors import SpecError
from etl.format.artifacts import MOST_INLINE, stored
from etl.format.json_schema import spec_schema
from etl.format.problems import Source
from etl.learning.fitting import fit
from etl.spec import read_spec
from tests.etl.nasty import spec_of

STEPS = [
    {"id": "few", "op": "string_index", "in": ["a"], "out": ["ai"]},
    {"id": "many", "op": "string_index", "in": ["b"], "out": ["bi"]},
]


def fitted(entries):
    """Return a spec with a small vocabulary and one of so many entries."""
    fields = [{"name": name, "type": "string"} for name in ("a", "b")]
    recipe = spec_of(fields, STEPS, dtype="int64", fitted=False)
    texts = [f"entry\n{number} 漢" for number in range(entries)]
    return fit(recipe, pa.table({"a": ["x"] * entries, "b": texts}))


def test_a_large_state_lies_beside_the_spec():
    """A state above 1,000 entries is a Parquet file of its own, one of 1,000 stands in the spec."""
    assert stored(fitted(MOST_INLINE)).artifacts == {}
    spec = fitted(MOST_INLINE + 1)
    files = stored(spec)
    [name] = files.artifacts
    assert re.fullmatch(r"many-[0-9a-f]{12}\.pq", name)
    steps = {step["id"]: step["state"] for step in json.loads(files.text)["steps"]}
    assert set(steps["many"]) == {"$artifact", "sha256", "rows"}
    assert "vocab" in steps["few"]
    table = pq.read_table(pa.BufferReader(files.artifacts[name]))
    assert sorted(table["vocab"].to_pylist()) == sorted(f"entry\n{number} 漢" for number in range(MOST_INLINE + 1))


def test_where_the_state_lies_changes_nothing():
    """A spec read with its files is equal to the one that was stored, and so is its digest."""
    spec = fitted(3000)
    files = stored(spec)
    again = read_spec(files.text.decode(), "etl.json", artifacts=files.artifacts.get)
    assert again == spec
    assert again.digest == spec.digest
    assert stored(again) == files


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def schema():
    """The JSON Schema of specs as files."""
    return jsonschema.Draft202012Validator(spec_schema())


@pytest.mark.parametrize(
    "file", ["flights/bundle/etl.json", "flights/recipe.yaml", "specs/credit.yaml", "specs/tickets.yaml"]
)
def test_the_schema_accepts_the_examples(file, schema):
    """The JSON Schema that editors get accepts every spec of the examples, fitted or not."""
    schema.validate(Source.read((EXAMPLES / file).read_text(), file).value)


def test_a_state_with_rows_of_its_own_comes_back(schema):
    """A state that counts rows itself, as tfidf's does, keeps its number beside that of its file."""
    step = {"id": "t", "op": "tfidf", "in": ["w"], "out": ["o"], "params": {"max_size": 1500}}
    recipe = spec_of([{"name": "w", "type": "list<string>"}], [step], fitted=False)
    spec = fit(recipe, pa.table({"w": pa.array([[f"a{number}", f"b{number}"] for number in range(900)])}))
    files = stored(spec)
    assert len(files.artifacts) == 1
    assert read_spec(files.text.decode(), "etl.json", artifacts=files.artifacts.get) == spec
    schema.validate(json.loads(files.text))


def test_the_schema_accepts_a_state_in_a_file(schema):
    """It accepts a state that names a file, and refuses one that says less, more, or has the lists besides."""
    value = json.loads(stored(fitted(3000)).text)
    schema.validate(value)
    state = value["steps"][1]["state"]
    assert "$artifact" in state
    for other in ({"rows": None}, {"$artifact": "../x.pq"}, {"vocab": ["x"]}, {"sha256": "x"}, {"rosw": 3}):
        value["steps"][1]["state"] = {key: part for key, part in {**state, **other}.items() if part is not None}
        assert not schema.is_valid(value), other


def changed(**state):
    """Return the text of a spec whose large state says something else, and its files."""
    files = stored(fitted(2000))
    value = json.loads(files.text)
    value["steps"][1]["state"].update(state)
    return json.dumps(value), files.artifacts


@pytest.mark.parametrize(
    ("state", "files", "pointer", "message"),
    [
        ({}, {}, "/steps/1/state/$artifact", "is not beside the spec."),
        ({"$artifact": "../many.pq"}, None, "/steps/1/state/$artifact", "the name of a file beside the spec is"),
        ({"$artifact": "/etc/passwd"}, None, "/steps/1/state/$artifact", "the name of a file beside the spec is"),
        ({"$artifact": 5}, None, "/steps/1/state/$artifact", "the name of a file beside the spec is"),
        ({"sha256": "0" * 64}, None, "/steps/1/state/sha256", "it is not the one that the spec was fitted with."),
        ({}, b"PAR1", "/steps/1/state/sha256", "it is not the one that the spec was fitted with."),
        ({"rows": 7}, None, "/steps/1/state/rows", "has 2000 rows, found 7."),
        ({"counts": [1]}, None, "/steps/1/state/counts", "already; a state has it once."),
    ],
)
def test_a_file_that_is_not_the_one_is_refused(state, files, pointer, message):
    """A file that is absent, elsewhere, changed or of another length is refused with its place."""
    text, there = changed(**state)
    there = there if files is None else dict.fromkeys(there, files) if files else {}
    with pytest.raises(SpecError) as caught:
        read_spec(text, "etl.json", artifacts=there.get)
    assert f" {pointer}: " in str(caught.value)
    assert message in str(caught.value)


def test_bytes_that_are_no_parquet_are_refused():
    """A file with the right digest that is no Parquet is refused, not raised as an error of pyarrow."""
    text, files = changed(sha256=sha256_hex(b"nonsense"))
    with pytest.raises(SpecError, match=r"file many-\w+\.pq is no Parquet"):
        read_spec(text, "etl.json", artifacts=dict.fromkeys(files, b"nonsense").get)


def test_a_sealed_spec_that_was_changed_is_refused():
    """A spec whose content is no longer what its own digest says is refused, with the digest that it has."""
    spec = fitted(5)
    value = json.loads(spec.to_bytes())
    value["steps"][0]["state"]["counts"] = [6]
    with pytest.raises(SpecError, match=r"/integrity/content_sha256: the content has SHA-256 [0-9a-f]{64}: it was cha"):
        read_spec(json.dumps(value), "etl.json")


def test_two_specs_in_a_folder_keep_their_states(tmp_path):
    """A second fit into the folder of a first one leaves the first one's large state as it is."""
    etl.save_spec(fitted(1500), tmp_path / "first.json")
    etl.save_spec(fitted(1600), tmp_path / "second.json")
    assert etl.load_spec(tmp_path / "first.json") == fitted(1500)
    assert etl.load_spec(tmp_path / "second.json") == fitted(1600)


@pytest.mark.parametrize("damage", ["page", "text"])
def test_a_damaged_file_with_the_right_digest_is_refused(damage):
    """A file whose pages are damaged, or whose text is no UTF-8, is told as that, whatever its digest says."""
    _, files = changed()
    [data] = files.values()
    sink = pa.BufferOutputStream()
    broken = pa.array([b"\xff"] * 2000).cast(pa.string(), safe=False) if damage == "text" else None
    if broken is not None:
        pq.write_table(pa.table({"vocab": broken, "counts": [1] * 2000}), sink)
        data = sink.getvalue().to_pybytes()
    else:
        data = data[:200] + bytes(200) + data[400:]
    text, _ = changed(sha256=sha256_hex(data))
    with pytest.raises(
        SpecError, match=r"/steps/1/state/\$artifact: file many-\w+\.pq (is no Parquet|holds text that)"
    ):
        read_spec(text, "etl.json", artifacts=dict.fromkeys(files, data).get)


def artifact_of(table, **options):
    """Return the text of a spec whose large state is this table, and its files."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    data = sink.getvalue().to_pybytes()
    text, files = changed(sha256=sha256_hex(data), rows=table.num_rows)
    return text, dict.fromkeys(files, data)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a"] * 5),
        pa.array([18_000] * 5, pa.date32()),
        pa.array([1] * 5, pa.timestamp("us", "UTC")),
        pa.array(["1.5"] * 5).cast(pa.decimal128(5, 2)),
        pa.array([{"a": 1}] * 5),
        pa.array([[b"a"]] * 5, pa.list_(pa.field("element", pa.binary()))),
    ],
    ids=lambda column: str(column.type),
)
def test_a_column_that_no_state_has_is_refused_by_name(column):
    """A column of bytes, dates, decimals or structs is refused with its name, its type and the types that there are."""
    text, files = artifact_of(pa.table({"vocab": column, "counts": [1] * 5}))
    with pytest.raises(SpecError) as caught:
        read_spec(text, "etl.json", artifacts=files.get)
    told = f"has column 'vocab' of {column.type}; a state has texts, whole numbers, floats of 32 or 64 bits"
    assert "/steps/1/state/$artifact: " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_ROWS"])
def test_a_file_that_would_grow_is_refused_before_it_is_read(limit, monkeypatch):
    """A small file of very many rows, or of one long text in each of them, is refused by what it would be in memory."""
    text, files = artifact_of(pa.table({"vocab": ["x" * 10_000] * 2000, "counts": [1] * 2000}))
    assert len(files.popitem()[1]) < 5000
    text, files = artifact_of(pa.table({"vocab": ["x" * 10_000] * 2000, "counts": [1] * 2000}))
    monkeypatch.setattr(etl.format.artifacts, limit, 1999 if limit == "MOST_ROWS" else 15_000_000)
    with pytest.raises(SpecError, match=r"/steps/1/state/\$artifact: file many-\w+\.pq has more than .* \[E-SIZE\]"):
        read_spec(text, "etl.json", artifacts=files.get)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    """A large state that is a link within the folder is read, as a mounted folder has it, and one out of it is not."""
    folder = tmp_path / "spec"
    (folder / "data").mkdir(parents=True)
    etl.save_spec(fitted(1500), folder / "etl.json")
    [state] = folder.glob("*.pq")
    state.rename(folder / "data" / state.name)
    state.symlink_to(folder / "data" / state.name)
    assert etl.load_spec(folder / "etl.json") == fitted(1500)
    (folder / "data" / state.name).rename(tmp_path / state.name)
    state.unlink()
    state.symlink_to(tmp_path / state.name)
    with pytest.raises(SpecError, match=r"cannot be read: it is a link that leaves the folder of the spec\. \[E-ARTIF"):
        etl.load_spec(folder / "etl.json")


def test_a_file_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    """A large state of more bytes than a state can have is refused, however many they are."""
    etl.save_spec(fitted(1500), tmp_path / "etl.json")
    monkeypatch.setattr(etl.format.files, "MOST_ARTIFACT_BYTES", 2**20 - 1)
    [state] = tmp_path.glob("*.pq")
    state.write_bytes(bytes(2**20))
    with pytest.raises(SpecError, match=r"cannot be read: it has more than 0 MiB"):
        etl.load_spec(tmp_path / "etl.json")


def test_states_that_are_together_too_much_lie_beside_the_spec(monkeypatch, tmp_path):
    """Where small states would make a spec too long, the largest of them become files, and it reads back equal."""
    spec = fitted(200)
    assert stored(spec).artifacts == {}
    monkeypatch.setattr(etl.format.artifacts, "_MOST_INLINE_TEXT", len(spec.to_bytes()) - 1)
    [name] = stored(spec).artifacts
    assert name.startswith("many-")
    etl.save_spec(spec, tmp_path / "etl.json")
    assert etl.load_spec(tmp_path / "etl.json") == spec


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("MOST_TEXT", 1000, r"^/: the spec cannot be written: .* bytes beside its large states, above .* \[E-SIZE\]$"),
        ("MOST_ROWS", 1499, r"^/steps/1/state: the state of step 'many' cannot be written: .* \[E-SIZE\]$"),
        ("MOST_BYTES", 5000, r"^/steps/1/state: the state of step 'many' cannot be written: .* \[E-SIZE\]$"),
    ],
)
def test_what_could_not_be_read_is_not_written(limit, most, said, monkeypatch, tmp_path):
    """A spec or state above what may be read is refused before anything is written, and an older file stays."""
    (tmp_path / "etl.json").write_text("before")
    spec = fitted(1500)
    monkeypatch.setattr(etl.format.artifacts, limit, most)
    with pytest.raises(SpecError, match=said):
        etl.save_spec(spec, tmp_path / "etl.json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
