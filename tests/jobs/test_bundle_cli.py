"""`batchscore bundle`: what is made, what is shown, what is proven, and how a fault is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from jobs import cli
from scoring.bundles.bundle import audit
from scoring.bundles.golden import arrow_table
from tests.numbers_job import FEATURES
from tests.scoring.workshop import STORE, logistic_model, logistic_scores, model_of, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

RECIPE = """
format: scorespec/1
spec_id: scaled
input:
  fields:
  - {name: f0, type: float32, nullable: false}
  - {name: f1, type: float32, nullable: false}
  - {name: f2, type: float32, nullable: false}
  - {name: f3, type: float32, nullable: false}
  - {name: id, type: int64, role: id}
steps:
- {id: halved, op: arith, in: [f0], out: [half], params: {operator: mul, right: 0.5}}
outputs: {tensors: [{tensor: X, from: [f0, f1, f2, f3]}]}
"""


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows, and the spec that was fitted to them."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "model.onnx").write_bytes(logistic_model())
    pq.write_table(numbers(300), folder / "rows.parquet")
    spec = "\n".join(line for line in RECIPE.splitlines() if "halved" not in line).replace("steps:", "steps: []")
    (folder / "recipe.yaml").write_text(spec)
    done = batchscore("fit", folder / "recipe.yaml", "--data", folder / "rows.parquet", "--out", folder / "etl.json")
    assert done.exit_code == 0, done.output
    return folder


def create(parts: Path, out: Path, *more: object) -> Result:
    """Make a bundle of the parts."""
    options: dict[str, Any] = {
        "--model": parts / "model.onnx",
        "--spec": parts / "etl.json",
        "--rows": parts / "rows.parquet",
        "--name": "numbers",
        "--version": "7",
        "--out": out,
    }
    words = [word for pair in options.items() for word in pair]
    return batchscore("bundle", "create", *words, *more)


@pytest.fixture(scope="module")
def made(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that the command made."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    done = create(parts, folder, "--most", 20, "--fact", "auc=0.7")
    assert done.exit_code == 0, done.output
    return folder


def test_a_bundle_of_the_command_holds_the_scores_of_plain_onnxruntime(made: Path) -> None:
    """Of so many golden rows as were asked for, the outputs are what plain onnxruntime gives, and facts are kept."""
    audited = audit(STORE, str(made))
    golden = audited.bundle.golden
    assert golden is not None
    outputs = arrow_table(audited.files[golden.outputs])
    np.testing.assert_array_equal(outputs.column("p").to_numpy(), logistic_scores(numbers(300).slice(0, 20)))
    assert (audited.bundle.name, audited.bundle.version, audited.bundle.facts) == ("numbers", "7", {"auc": "0.7"})


@pytest.mark.parametrize("key", ["outputs:\n", ""])
def test_what_is_published_may_be_said_in_a_file(parts: Path, tmp_path: Path, key: str) -> None:
    """`--outputs` has the list that a job has, under its key or alone; its columns are published under their names."""
    (tmp_path / "outputs.yaml").write_text(f"{key}- {{column: score, tensor: p}}\n")
    done = create(parts, tmp_path / "bundle", "--outputs", tmp_path / "outputs.yaml")
    assert done.exit_code == 0, done.output
    assert [column.column for column in audit(STORE, str(tmp_path / "bundle")).bundle.columns] == ["score"]


@pytest.mark.parametrize("key", ["outputs:\n", "\n"])
def test_a_wrong_key_of_the_outputs_is_told_with_its_place(parts: Path, tmp_path: Path, key: str) -> None:
    """A key that is none is refused with file, line and the nearest right one, and nothing is written."""
    (tmp_path / "outputs.yaml").write_text(f"{key}- {{colum: score, tensor: p}}\n")
    done = create(parts, tmp_path / "bundle", "--outputs", tmp_path / "outputs.yaml")
    assert done.exit_code == 2
    assert "outputs.yaml:2" in done.stderr
    assert "column" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_not_made_over_another(parts: Path, made: Path) -> None:
    """A folder that holds a bundle is refused, and the bundle stays as it is."""
    before = (made / "bundle.json").read_bytes()
    done = create(parts, made)
    assert done.exit_code == 2
    assert "there is a bundle here" in done.stderr
    assert (made / "bundle.json").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--name", "Im G", "name: begins with a lower-case letter"),
        ("--version", "", "version: has 1 to 100 characters"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_rule(
    parts: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    """What a name, or a version, has to be is told, and nothing is written."""
    done = create(parts, tmp_path / "bundle", option, value)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "bundle").exists()


def test_parts_that_do_not_fit_are_refused_before_anything_is_written(parts: Path, tmp_path: Path) -> None:
    """A model that takes more values than the spec makes is refused with both."""
    wider = model_of(
        [helper.make_node("MatMul", ["X", "W"], ["p"])],
        {"X": (TensorProto.FLOAT, [None, 5])},
        {"p": (TensorProto.FLOAT, [None, 1])},
        W=np.ones((5, 1), np.float32),
    )
    (tmp_path / "wide.onnx").write_bytes(wider)
    done = create(parts, tmp_path / "bundle", "--model", tmp_path / "wide.onnx")
    assert done.exit_code == 2
    assert "model input X float32[rows, 5] is fed with 4 columns" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_inspect_shows_what_a_bundle_is(made: Path) -> None:
    """Signature, columns, steps, every file with its digest, golden rows, tolerances and facts are printed."""
    done = batchscore("bundle", "inspect", made)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "bundle: numbers:7" in lines
    assert f"sha256: {hashlib.sha256((made / 'bundle.json').read_bytes()).hexdigest()}" in lines
    assert any(line.split() == ["X", "float32[rows,", "4]", "input", "f0,", "f1,", "f2,", "f3"] for line in lines)
    digest = hashlib.sha256((made / "model.onnx").read_bytes()).hexdigest()[:12]
    assert any(line.startswith("model.onnx") and line.endswith(digest) for line in lines)
    assert "proof: 20 rows that every machine must reproduce" in lines
    assert "fact auc: 0.7" in lines


def test_inspect_tells_programs_the_same(made: Path) -> None:
    """`--json` has the digest of bundle.json, the bundle as it is stored, and the fields of its spec."""
    told = json.loads(batchscore("bundle", "inspect", made, "--json").stdout)
    assert told["sha256"] == hashlib.sha256((made / "bundle.json").read_bytes()).hexdigest()
    assert told["bundle"] == json.loads((made / "bundle.json").read_bytes())
    assert told["etl"]["fields"] == {**dict.fromkeys(FEATURES, "float32"), "id": "int64"}


def test_inspect_shows_a_bare_model(parts: Path) -> None:
    """An .onnx file has tensors and no ETL."""
    done = batchscore("bundle", "inspect", parts / "model.onnx")
    assert done.exit_code == 0, done.output
    assert "etl: none" in done.stdout.splitlines()
    assert "X float32[rows, 4]" in done.stdout
    assert json.loads(batchscore("bundle", "inspect", parts / "model.onnx", "--json").stdout)["kind"] == "onnx"


def test_a_sound_bundle_is_verified_with_its_deviations(made: Path) -> None:
    """Where it was made, the golden rows come out as they were: off by nothing, exit 0."""
    done = batchscore("bundle", "verify", made)
    assert done.exit_code == 0, done.output
    assert "features: off by 0 units in the last place at most" in done.stdout.splitlines()
    told = json.loads(batchscore("bundle", "verify", made, "--json").stdout)
    assert told["deviation"] == {"features_ulp": 0, "outputs_abs": 0.0}


def changed(made: Path, folder: Path, name: str, data: bytes, *, sealed: bool) -> Path:
    """A copy of the bundle with another file; `sealed`: bundle.json names the digest of what is there now."""
    shutil.copytree(made, folder)
    (folder / name).write_bytes(data)
    if sealed:
        document = json.loads((folder / "bundle.json").read_bytes())
        document["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / "bundle.json").write_text(json.dumps(document))
    return folder


def test_a_changed_file_is_found(made: Path, tmp_path: Path) -> None:
    """A bundle one of whose files was exchanged is refused, exit 2, with the file."""
    other = changed(made, tmp_path / "b", "model.onnx", logistic_model(np.ones((4, 1), np.float32)), sealed=False)
    done = batchscore("bundle", "verify", other)
    assert done.exit_code == 2
    assert "file model.onnx was changed" in done.stderr


def test_a_model_that_computes_otherwise_is_found(made: Path, tmp_path: Path) -> None:
    """Digests that fit are no proof: a model with other weights fails at its first golden row, exit 2."""
    other = changed(made, tmp_path / "b", "model.onnx", logistic_model(np.ones((4, 1), np.float32)), sealed=True)
    done = batchscore("bundle", "verify", other)
    assert done.exit_code == 2
    assert "output 'p' is off by" in done.stderr


def test_a_tolerance_of_nothing_holds(made: Path, tmp_path: Path) -> None:
    """Zero is a tolerance like another: it is not taken for one that was not given (trap 4)."""
    document = json.loads((made / "bundle.json").read_bytes())
    document["tolerances"]["cpu"] = {"atol": 0.0, "rtol": 0.0}
    golden = document["golden"]["outputs"]
    table = arrow_table((made / golden).read_bytes())
    off = np.nextafter(table.column("p").to_numpy(), np.float32(2))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(pa.table({"p": off}, table.schema))
    shutil.copytree(made, tmp_path / "a")
    (tmp_path / "a" / "bundle.json").write_text(json.dumps(document))
    assert batchscore("bundle", "verify", tmp_path / "a").exit_code == 0
    other = changed(tmp_path / "a", tmp_path / "b", golden, sink.getvalue().to_pybytes(), sealed=True)
    done = batchscore("bundle", "verify", other)
    assert done.exit_code == 2
    assert "0 is allowed (atol 0, rtol 0)" in done.stderr


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_place_without_a_model_is_refused(tmp_path: Path, command: str) -> None:
    """A folder that is empty, and a file that is not there, are refused with what to give, exit 2."""
    for place in (tmp_path, tmp_path / "none.onnx"):
        done = batchscore("bundle", command, place)
        assert done.exit_code == 2
        assert "Traceback" not in done.output


def test_a_file_that_is_no_model_is_refused(parts: Path) -> None:
    """A Parquet file in place of a model is told as what it is, and an empty folder as one without a bundle."""
    rows = parts / "rows.parquet"
    for words in (("bundle", "inspect", rows), ("init", rows, rows)):
        told = " ".join(batchscore(*words).stderr.split())
        assert f"{rows}: is a file, and by its name no ONNX model. Give the folder of a bundle" in told
    (parts / "empty").mkdir()
    told = " ".join(batchscore("init", parts / "empty", rows).stderr.split())
    assert "there is no bundle.json here. Give the folder of a bundle, or an .onnx file." in told


def test_the_steps_are_told(parts: Path, tmp_path: Path) -> None:
    """Each step of the spec has a line: what it reads and what it makes."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    fitted = batchscore("fit", tmp_path / "recipe.yaml", "--data", parts / "rows.parquet", "--out", tmp_path / "e.json")
    assert fitted.exit_code == 0, fitted.output
    assert create(parts, tmp_path / "bundle", "--spec", tmp_path / "e.json").exit_code == 0
    done = batchscore("bundle", "inspect", tmp_path / "bundle")
    assert any(line.split()[:2] == ["halved", "arith"] for line in done.stdout.splitlines() if line)
