"""`batchscore etl …`: what people type about specs, what they read, and what their scripts get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from jobs import cli
from tests.etl.nasty import document, join_of

if TYPE_CHECKING:
    from typer.testing import Result

BUNDLE = Path(__file__).parents[2] / "examples" / "flights" / "bundle"
RECIPE = """
format: scorespec/1
spec_id: people
input:
  fields:
    - {name: age, type: int32, range: {min: 0, max: 120}}
    - {name: city, type: string}
    - {name: name, type: string, pii: true}
steps:
  - {id: age_z, op: standardize, in: [age], out: [age_z]}
  - {id: city_id, op: string_index, in: [city], out: [city_id]}
outputs:
  tensors:
    - {tensor: dense, from: [age_z]}
    - {tensor: ids, dtype: int64, from: [city_id], shape: [-1]}
"""


FIELDS = (("age", "int32"), ("city", "string"), ("name", "string"))


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A recipe, its training rows with one that breaks a rule, and more cities than a spec holds itself."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    cities = [f"city {number}" for number in range(1500)]
    ages = np.arange(1500) % 90
    ages[7] = 500
    table = pa.table({"age": pa.array(ages, pa.int32()), "city": cities, "name": ["Jane"] * 1500})
    pq.write_table(table, tmp_path / "people.parquet")
    return tmp_path


def fitted(folder: Path, name: str = "etl.json") -> Path:
    """Fit the recipe with the command."""
    out = folder / name
    done = batchscore("fit", folder / "recipe.yaml", "--data", folder / "people.parquet", "--out", out)
    assert done.exit_code == 0, done.output
    return out


def test_a_spec_is_fitted_checked_and_tried(people: Path) -> None:
    """Fit writes the spec and its large state, validate replays it, sample shows rows before and after every step."""
    spec = fitted(people)
    assert len(list(people.glob("city_id-*.pq"))) == 1
    checked = batchscore("etl", "validate", spec)
    assert checked.exit_code == 0, checked.output
    assert "golden rows: 12 rows, replayed" in checked.stdout
    assert "1,500 rows in 1 pass, of which 1 rejected and 0 filtered" in checked.stdout
    assert "warning" not in checked.stdout
    tried = batchscore("etl", "sample", spec, "--data", people / "people.parquet", "-n", 9, "--json")
    found = json.loads(tried.stdout)
    columns = {column["name"]: column["values"] for column in found["columns"]}
    ages = [0, 1, 2, 3, 4, 5, 6, 500, 8]
    state = json.loads(spec.read_text())["steps"][0]["state"]
    assert columns["age"] == ages
    assert columns["age_z"] == [(age - state["mean"]) / state["std"] for age in ages]
    assert columns["name"] == ["•••"] * 9
    assert found["outcomes"][7].startswith("OUT_OF_RANGE: age is above 120")
    assert found["outcomes"][8] == "kept"
    assert "Jane" not in spec.read_text()


def test_a_recipe_is_explained(people: Path) -> None:
    """Explain tells a recipe's passes, and a fitted spec's cost, to people and to programs."""
    told = batchscore("etl", "explain", people / "recipe.yaml")
    assert told.exit_code == 0
    assert "passes over the data: 1" in told.stdout
    spec = fitted(people)
    assert "ns a row on one core here" in batchscore("etl", "explain", spec).stdout
    steps = json.loads(batchscore("etl", "explain", spec, "--json").stdout)
    assert [step["id"] for step in steps] == ["age_z", "city_id"]
    assert steps[0]["schema"] == [*map(list, FIELDS), ["age_z", "float64"]]
    listed = batchscore("etl", "explain", spec, "--schema").stdout
    behind = ", ".join(f"{name} {kind}" for name, kind in (*FIELDS, ("age_z", "float64"), ("city_id", "int64")))
    assert f"\ncity_id: {behind}\n" in listed


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (("integrity",), "the spec is not sealed: what no golden row shows of what it learned may have been changed"),
        (
            ("integrity", "golden"),
            "the spec is not sealed and has no golden rows: what it learned may have been changed",
        ),
    ],
)
def test_what_protects_no_state_is_said(people: Path, gone: tuple[str, ...], said: str) -> None:
    """Validate warns of a fitted spec that nothing protects; a recipe has nothing to protect."""
    spec = fitted(people)
    value = json.loads(spec.read_text())
    spec.write_text(json.dumps({key: part for key, part in value.items() if key not in gone}))
    checked = batchscore("etl", "validate", spec)
    assert checked.exit_code == 0
    assert f"warning: {said}" in checked.stdout
    assert "warning" not in batchscore("etl", "validate", people / "recipe.yaml").stdout


def test_a_width_that_a_fit_tells_is_not_invented(people: Path) -> None:
    """What a recipe's vectors hold is not known before the fit, and no command says otherwise."""
    text = RECIPE.replace("op: string_index", "op: one_hot").replace(", dtype: int64", "").replace(", shape: [-1]", "")
    (people / "recipe.yaml").write_text(text)
    assert "city_id float32[?]" in batchscore("etl", "explain", people / "recipe.yaml").stdout
    checked = batchscore("etl", "validate", people / "recipe.yaml").stdout
    assert "ids float32[rows, ?], known behind the fit" in checked
    assert "| `ids` | float32[rows, ?] |" in batchscore("etl", "docs", people / "recipe.yaml").stdout
    done = batchscore("etl", "diff", people / "recipe.yaml", fitted(people))
    assert (done.exit_code, "means something else" in done.stdout) == (5, True)


ODD = """
format: scorespec/1
spec_id: odd
input:
  fields:
    - {name: l, type: list<timestamp>}
    - {name: s, type: "struct<d: date, n: float64>"}
    - {name: t, type: string}
steps: [{id: f, op: missing_flag, in: [t], out: [f]}]
outputs: {tensors: [{tensor: x, from: [f]}]}
"""


def test_values_of_every_kind_are_shown_and_none_is_obeyed(tmp_path: Path) -> None:
    """Sample shows instants in lists and structs of days; what would steer the terminal is written out."""
    (tmp_path / "odd.yaml").write_text(ODD)
    rows = pa.table(
        {
            "l": pa.array([[0, None]], pa.list_(pa.timestamp("us", "UTC"))),
            "s": pa.array([{"d": 1, "n": 0.5}], pa.struct({"d": pa.date32(), "n": pa.float64()})),
            "t": ["\x1b[2J\u202ered\n"],
        }
    )
    pq.write_table(rows, tmp_path / "odd.parquet")
    words = ("etl", "sample", tmp_path / "odd.yaml", "--data", tmp_path / "odd.parquet")
    done = batchscore(*words)
    assert done.exit_code == 0, done.output
    for text in ("[1970-01-01T00:00:00Z, ·]", '{"d": "1970-01-02", "n": 0.5}', r"\x1b[2J\u202ered\x0a"):
        assert text in done.stdout
    assert json.loads(batchscore(*words, "--json").stdout)["columns"][1]["values"] == [{"d": "1970-01-02", "n": 0.5}]


def test_diff_ends_with_its_verdict(people: Path) -> None:
    """Diff exits 0 for the same numbers, 5 for a model to be trained again, 6 for one that cannot be fed."""
    first = fitted(people, "first.json")
    assert batchscore("etl", "diff", first, first).exit_code == 0
    table = pq.read_table(people / "people.parquet").slice(0, 1400)
    pq.write_table(table, people / "people.parquet")
    second = people / "second" / "etl.json"
    second.parent.mkdir()
    fitted(people, "second/etl.json")
    done = batchscore("etl", "diff", first, second)
    assert done.exit_code == 5, done.output
    assert "100 removed" in done.stdout
    assert "verdict: refit-model" in done.stdout
    found = json.loads(batchscore("etl", "diff", first, second, "--json").stdout)
    assert found["verdict"] == "refit-model"
    told = batchscore("etl", "diff", people / "recipe.yaml", first).stdout
    assert "2 steps were not fitted: 'age_z', 'city_id'" in told
    assert "was not fitted" not in told
    done = batchscore("etl", "diff", first, BUNDLE)
    assert done.exit_code == 6
    assert "tensor 'dense' is gone" in done.stdout


def test_a_spec_has_a_page(people: Path) -> None:
    """Docs prints a page, or writes it, and ops prints what an op means."""
    spec = fitted(people)
    page = batchscore("etl", "docs", spec)
    assert page.stdout.startswith("# people\n")
    done = batchscore("etl", "docs", spec, "--out", people / "page.md")
    assert done.exit_code == 0
    assert (people / "page.md").read_text() == page.stdout
    assert batchscore("etl", "docs", BUNDLE).stdout.startswith("# flights\n")
    assert batchscore("etl", "ops", "clip").stdout.startswith("### `clip`")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("validate", "nowhere.yaml"), "nowhere.yaml: the spec cannot be read: No such file or directory."),
        (("explain", "."), ".: the spec cannot be read: Is a directory."),
        (("ops", "clipp"), "no op 'clipp'. Did you mean \"clip\"?"),
        (("sample", str(BUNDLE), "--data", "x", "--reference", "weather"), "--reference weather: give NAME=URI."),
        (("docs", str(BUNDLE), "--out", "/nowhere/page.md"), "/nowhere/page.md: the page cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], message: str) -> None:
    """A command that cannot do what it is asked says why in one line and exits 2."""
    done = batchscore("etl", *words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_every_fault_of_a_spec_is_told_at_once(people: Path) -> None:
    """Validate tells every fault with file, line, column, pointer and code, and the nearest right name."""
    text = RECIPE.replace("op: standardize", "op: standardise").replace("shape: [-1]", "shap: [-1]")
    (people / "recipe.yaml").write_text(text)
    done = batchscore("etl", "validate", people / "recipe.yaml")
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert any('/steps/0/op: unknown op "standardise". Did you mean "standardize"? [E-UNKNOWN-OP]' in x for x in lines)
    assert any('/outputs/tensors/1/shap: unknown key "shap". Did you mean "shape"? [E-UNKNOWN-KEY]' in x for x in lines)


def test_a_spec_that_means_something_else_here_is_refused(people: Path) -> None:
    """Validate refuses a spec whose golden rows become something else, and names the step."""
    spec = fitted(people)
    value: dict[str, Any] = json.loads(spec.read_text())
    value["steps"][0]["state"]["std"] *= 2
    value.pop("integrity")
    spec.write_text(json.dumps(value))
    done = batchscore("etl", "validate", spec)
    assert done.exit_code == 2
    assert "/steps/0: step 'age_z' (standardize) makes another 'age_z' of golden row" in done.stderr


def test_a_sample_of_prepared_rows(tmp_path: Path) -> None:
    """Sample prepares the whole table for steps that need other rows, and reads on where the first file is empty."""
    (tmp_path / "orders.yaml").write_text("""
format: scorespec/1
spec_id: orders
input:
  fields: [{name: who, type: string}, {name: amount, type: float64}]
relational:
  - id: all
    op: group_aggregate
    in: [amount]
    out: [total]
    params: {keys: [who], aggregates: [sum], leak: acknowledged}
outputs: {tensors: [{tensor: x, from: [total]}]}
""")
    table = pa.table({"who": ["ann", "bob", "ann"], "amount": [1.0, 2.0, 4.0]})
    (tmp_path / "data").mkdir()
    pq.write_table(table.slice(0, 0), tmp_path / "data" / "a.parquet")
    pq.write_table(table, tmp_path / "data" / "b.parquet")
    done = batchscore("etl", "sample", tmp_path / "orders.yaml", "--data", tmp_path / "data", "-n", 2, "--json")
    assert done.exit_code == 0, done.output
    columns = {column["name"]: column["values"] for column in json.loads(done.stdout)["columns"]}
    assert columns == {"who": ["ann", "bob"], "amount": [1.0, 2.0], "total": [5.0, 2.0]}


TABLE = """
format: scorespec/1
spec_id: orders
input:
  fields: [{name: who, type: string}, {name: amount, type: float64}]
relational:
  - {id: some, op: filter, params: {keep: {cmp: [amount, ">", 0]}}}
  - {id: one, op: dedupe, params: {keys: [who], order_by: [amount], leak: acknowledged}}
  - id: region
    op: lookup_join
    in: [who]
    out: [risk]
    params: {reference: risks, keys: [{name: who, type: string}], columns: [{name: risk, type: float64}]}
steps:
  - {id: q, op: impute, in: [amount], out: [a], params: {strategy: mean}}
  - {id: z, op: standardize, in: [a], out: [az]}
outputs: {tensors: [{tensor: x, from: [az, risk]}]}
expectations: [{id: cheap, row: {cmp: [amount, "<", 0]}, severity: quarantine}]
"""


def test_a_fit_tells_what_it_took(tmp_path: Path) -> None:
    """Fit tells the passes that it took and what the steps on the table left out, and notes the latter in the spec."""
    (tmp_path / "orders.yaml").write_text(TABLE)
    table = pa.table({"who": ["ann", "bob", "ann", "eve"], "amount": [1.0, 2.0, 4.0, -1.0]})
    pq.write_table(table, tmp_path / "orders.parquet")
    pq.write_table(pa.table({"who": ["ann"], "risk": [0.5]}), tmp_path / "risks.parquet")
    words = ("fit", tmp_path / "orders.yaml", "--data", tmp_path / "orders.parquet")
    done = batchscore(*words, "--out", tmp_path / "orders.json")
    assert done.exit_code == 2
    assert "say where it is: --reference risks=URI" in done.stderr
    out = tmp_path / "new" / "orders.json"
    done = batchscore(*words, "--reference", f"risks={tmp_path / 'risks.parquet'}", "--out", out)
    assert done.exit_code == 0, done.output
    left_out = "4 rows, of which 1 filtered and 1 deduplicated"
    assert f"\npasses: 3, for expectations too\ntable: {left_out}\nrows: 2, of which" in done.stdout
    broken = "expectation 'cheap': 2 of 2 rows do not meet it; they taught, too: put the rule into the contract"
    assert f"\ntraining rows: {broken}" in done.stdout
    provenance = json.loads(out.read_text())["provenance"]
    sha256 = provenance["notes"].pop("references").removeprefix("risks, by step 'region': sha256 ")
    assert provenance["notes"].pop("expectations").startswith(broken)
    assert provenance["notes"] == {"table": left_out}
    assert (provenance["passes"], provenance["rows"]) == (3, 2)
    planned = batchscore("etl", "explain", tmp_path / "orders.yaml").stdout
    assert "passes over the data: 3, the last of them for expectations, and up to" in planned
    free = "warning: reference table risks: not pinned, any content is joined. Give `sha256` to the join; "
    assert free in batchscore("etl", "validate", tmp_path / "orders.yaml").stdout
    assert f"{free}the note `references` of the provenance says which." in batchscore("etl", "validate", out).stdout
    page = batchscore("etl", "docs", out).stdout
    assert "Not pinned, so joined whatever is in them: `risks`." in page
    assert sha256 in page
    assert "2 of 2 rows do not meet it" in page
    (tmp_path / "pinned.yaml").write_text(TABLE.replace("{reference: risks,", f"{{reference: risks, sha256: {sha256},"))
    assert "warning" not in batchscore("etl", "validate", tmp_path / "pinned.yaml").stdout


def test_exit_codes_are_in_the_help() -> None:
    """The codes of `etl diff` are where a person looks for them."""
    for words in (("etl", "--help"), ("etl", "diff", "--help")):
        told = " ".join(batchscore(*words).stdout.replace("│", "").split())
        assert re.search(r"0 compatible.*5 .*trained again.*6 .*cannot", told), told


@pytest.mark.parametrize(
    ("out", "named"),
    [
        ("recipe.yaml", "would replace {0}/recipe.yaml"),
        ("people.parquet", "would replace, or lie in, the training data {0}/people.parquet"),
        ("link.parquet", "would replace, or lie in, the training data {0}/people.parquet"),
        ("more/etl.json", "would replace, or lie in, the training data {0}/more"),
        ("more", "is a folder"),
        ("cities/a.parquet", "would replace, or lie in, reference table 'cities' {0}/cities"),
        ("d/spec.parquet", "would replace, or lie in, the training data {0}/d/*.p*"),
        ("d/spec.json", "would replace, or lie in, the training data {0}/d/*.p*"),
        ("e/new/spec.json", "would replace, or lie in, the training data {0}/**/new"),
        ("vocab.txt", "would replace {0}/recipe.yaml, or a part of it"),
        ("h-1b906c3a91e5.pq", ".pq is the ending of data. Give a name"),
        ("recipe.yaml/x/spec.json", "{0}/recipe.yaml is a file"),
    ],
)
def test_a_fit_replaces_nothing_that_it_reads(people: Path, out: str, named: str) -> None:
    """A spec that would replace its recipe, data or reference is refused before any pass, and all is as it was."""
    (people / "more").mkdir()
    (people / "cities").mkdir()
    for copy in ("more/a.parquet", "cities/a.parquet"):
        (people / copy).write_bytes((people / "people.parquet").read_bytes())
    (people / "link.parquet").symlink_to(people / "people.parquet")
    for folder in ("d", "e/new"):
        (people / folder).mkdir(parents=True)
        (people / folder / "a.parquet").write_bytes((people / "people.parquet").read_bytes())
    (people / "vocab.txt").write_text("[UNK]\n[PAD]\na\n")
    params = {"max_len": 3, "vocabulary_file": "vocab.txt"}
    pieces = {"id": "w", "op": "wordpiece", "in": ["city"], "out": ["w"], "params": params}
    recipe = yaml.safe_load((people / "recipe.yaml").read_text())
    recipe["steps"].append(pieces)
    (people / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    before = {path: path.read_bytes() for path in people.rglob("*") if path.is_file()}
    data = (
        "--data",
        people / "people.parquet",
        "--data",
        people / "more",
        "--data",
        people / "d/*.p*",
        "--data",
        people / "**/new",
        "--reference",
        f"cities={people}/cities",
    )
    done = batchscore("fit", people / "recipe.yaml", *data, "--out", people / out)
    assert done.exit_code == 2, done.output
    said = f"--out {people / out}: {named.format(people)}"
    assert "".join(said.split()) in "".join(done.output.split())
    assert {path: path.read_bytes() for path in people.rglob("*") if path.is_file()} == before


def test_a_page_takes_the_place_of_no_spec(people: Path) -> None:
    """The page of a spec is not written over the spec."""
    done = batchscore("etl", "docs", people / "recipe.yaml", "--out", people / "recipe.yaml")
    assert (done.exit_code, (people / "recipe.yaml").read_text()) == (2, RECIPE)


def test_a_fit_says_where_it_wrote(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that are not there are made, and the paths that were written are told from the root."""
    monkeypatch.chdir(people)
    done = batchscore("fit", "recipe.yaml", "--data", "people.parquet", "--out", "a/b/etl.json")
    assert done.exit_code == 0, done.output
    assert f"{people}/a/b/etl.json" in done.stdout.replace("\n", "")


def test_a_join_that_reads_values_as_stored_is_told(tmp_path: Path) -> None:
    """A join before a step that needs other rows does not see what the contract makes of its key; people are told."""
    key = {"name": "k0", "type": "string", "on_missing": {"as_value": "p"}}
    join = join_of(["string"], ["float64"]).model_dump(mode="json", by_alias=True)
    copies = {"id": "d", "op": "dedupe", "params": {"keys": ["k0"], "leak": "acknowledged"}}
    for relational, is_told in (([join, copies], True), ([copies, join], False)):
        (tmp_path / "s.json").write_text(json.dumps(document([key], relational=relational, columns=["o0"])))
        for command in ("validate", "explain"):
            shown = " ".join(batchscore("etl", command, tmp_path / "s.json").output.split())
            assert ("step 'j' reads k0 as it is stored, not as the contract treats it" in shown) == is_told
