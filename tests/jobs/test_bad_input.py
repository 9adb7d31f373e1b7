"""Bad input: what each kind ends with, word for word, and that nothing of it is published."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from etl.documents import canonical_json, sha256_hex
from etl.errors import BatchscoreError
from etl.runs.local import LocalStorage
from etl.spec import read_spec
from jobs import cli
from jobs.config.job import read_config
from jobs.errors import ExitCode, exit_code
from jobs.run import RunRequest, run
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.numbers_job import FEATURES, write_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

Job = dict[str, Any]


class Case(NamedTuple):
    """One kind of bad input."""

    name: str
    spoil: Callable[[Path, Job], None]
    """Spoils a good job in its folder."""
    code: int
    """Exit code."""
    message: str
    """The whole message; `{dir}` stands for the job's folder, `<attempt>` for a random part of a name."""
    within: tuple[str, ...] = ()
    """Command line that the real command is put behind, for a process of its own; none: it runs in this process."""


def good_job(folder: Path, model: Path) -> Job:
    """A job that would succeed: three files of 3,000 rows, scored by the logistic model in a bundle."""
    write_numbers(folder / "in", files=3, rows=3_000, row_group=1_000)
    make_bundle(folder, model)
    return {
        "api_version": "batchscore/1",
        "name": "numbers",
        "input": {"files": str(folder / "in")},
        "model": {"bundle": str(folder / "bundle")},
        "output": {"uri": str(folder / "out"), "passthrough": ["id"]},
    }


def make_bundle(folder: Path, model: Path) -> None:
    """The logistic model behind a spec that binds the four columns, one of them standardized."""
    spec = {
        "format": "scorespec/1",
        "spec_id": "numbers",
        "input": {"fields": [{"name": name, "type": "float32"} for name in FEATURES]},
        "steps": [
            {"id": "z", "op": "standardize", "in": ["f0"], "out": ["f0_z"], "state": {"mean": 0.0, "std": 1.0, "n": 3}}
        ],
        "outputs": {"tensors": [{"tensor": "X", "from": ["f0_z", "f1", "f2", "f3"]}]},
    }
    parts = BundleParts(
        name="numbers",
        version="1",
        model=model.read_bytes(),
        spec=read_spec(json.dumps(spec), "spec"),
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
        golden_rows=pq.read_table(folder / "in" / "part-0.parquet").slice(0, 5),
        references={},
        facts={},
    )
    create_bundle(LocalStorage(), str(folder / "bundle"), parts)


def rehash(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of the bundle together with its digest, as somebody who knows the format would."""
    (folder / "bundle" / name).write_bytes(data)
    bundle = json.loads((folder / "bundle" / "bundle.json").read_bytes())
    bundle["files"][name] = {"bytes": len(data), "sha256": sha256_hex(data)}
    (folder / "bundle" / "bundle.json").write_bytes(canonical_json(bundle))


def edit_spec(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the bundle's spec and its digest."""
    spec = json.loads((folder / "bundle" / "etl.json").read_bytes())
    edit(spec)
    rehash(folder, "etl.json", json.dumps(spec, indent=1).encode())


def rewrite(folder: Path, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change one input file."""
    path = folder / "in" / f"part-{number}.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def truncate(folder: Path, _job: Job) -> None:
    """Cut the second file in the middle."""
    path = folder / "in" / "part-1.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unknown_op(folder: Path, _job: Job) -> None:
    """Misspell an op."""
    edit_spec(folder, lambda spec: spec["steps"][0].update(op="standardise"))


def unfitted(folder: Path, _job: Job) -> None:
    """Take the state away."""
    edit_spec(folder, lambda spec: spec["steps"][0].pop("state"))


def changed_byte(folder: Path, _job: Job) -> None:
    """Flip a byte of the model."""
    path = folder / "bundle" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def not_a_model(folder: Path, job: Job) -> None:
    """Score with a text file."""
    (folder / "model.onnx").write_text("this is no model")
    job["model"] = {"onnx": str(folder / "model.onnx"), "inputs": {"X": list(FEATURES)}}


def unfed_input(folder: Path, job: Job) -> None:
    """Score with the bare model, whose input has no column of its name."""
    job["model"] = {"onnx": str(folder / "bundle" / "model.onnx")}


def published_before(folder: Path, job: Job, **changes: Any) -> None:
    """Publish the good job as run `earlier`, then change its output section."""
    run(RunRequest(config=load(folder, job), run_id="earlier"))
    job["output"] = {**job["output"], **changes}


def other_input(folder: Path, job: Job) -> None:
    """Publish the run, then change a file, add one and remove one."""
    run(RunRequest(config=load(folder, job), run_id="r"))
    rewrite(folder, 0, lambda table: table.slice(1))
    shutil.copy(folder / "in" / "part-1.parquet", folder / "in" / "part-9.parquet")
    (folder / "in" / "part-1.parquet").unlink()


def empty_folder(folder: Path, job: Job) -> None:
    """Score a folder without files."""
    (folder / "empty").mkdir()
    job["input"] = {"files": str(folder / "empty")}


def colliding_column(folder: Path, job: Job) -> None:
    """Pass through a column that has the name of the model's."""
    rewrite(folder, 0, lambda table: table.append_column("p", table.column("f0")))
    job["output"] = {**job["output"], "passthrough": ["id", "p"]}


def is_a_file(folder: Path, job: Job) -> None:
    """Write under something that is no folder."""
    (folder / "occupied").write_text("")
    job["output"] = {**job["output"], "uri": str(folder / "occupied" / "out")}


def not_ours(folder: Path, _job: Job) -> None:
    """Write into a folder that may be read only."""
    (folder / "out").mkdir(mode=0o500)


AS_DAEMON = ("unshare", "--user", "--map-user=1", "env", "LOGNAME=daemon")
"""As a user who owns the files and, other than root, is bound to their permissions."""


def larger_than_the_disk(folder: Path, _job: Job) -> None:
    """Score one split whose predictions are more than a small disk holds."""
    shutil.rmtree(folder / "in")
    write_numbers(folder / "in", files=1, rows=200_000, row_group=50_000)
    (folder / "out").mkdir()


SMALL_DISK = """
out=$(dirname "$5")/out
mount -t tmpfs -o size=600k tmpfs "$out" || exit 77
"$@"
code=$?
find "$out" -name '*.parquet' -exec echo VISIBLE {} \\;
exit $code
"""
ON_A_SMALL_DISK = ("unshare", "--map-root-user", "--user", "--mount", "sh", "-c", SMALL_DISK, "sh")
"""With a disk of 600 KB under `out`."""


CASES = (
    Case(
        "missing path",
        lambda folder, job: job.update(input={"files": str(folder / "nowhere")}),
        2,
        "{dir}/nowhere: no input file is there. Check the path; it is relative to the working folder.",
        within=("env", "PYTHONWARNINGS=error"),
    ),
    Case(
        "empty input",
        empty_folder,
        2,
        "{dir}/empty: no input file is there. Check the path; it is relative to the working folder.",
    ),
    Case(
        "truncated file among good ones",
        truncate,
        1,
        "1 of 3 splits cannot be scored; nothing was published.\n"
        "FileDamaged: {dir}/in/part-1.parquet (41,082 bytes, rows unknown): not a Parquet file, or a damaged one: "
        "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file. Replace "
        "or remove it.\n"
        "With `input.on_damaged: quarantine` the same id goes on without the damaged files.",
    ),
    Case(
        "file lacks a column",
        lambda folder, _job: rewrite(folder, 1, lambda table: table.rename_columns(["id", "f0", "f1", "f_2", "f3"])),
        1,
        "1 of 3 splits cannot be scored; nothing was published.\n"
        "ContractError: {dir}/in/part-1.parquet: breaks the input contract: "
        "column 'f2' is not there. Did you mean \"f_2\"?",
    ),
    Case(
        "file changes a type",
        lambda folder, _job: rewrite(
            folder, 2, lambda table: table.set_column(3, "f2", table.column("f2").cast(pa.string()))
        ),
        1,
        "1 of 3 splits cannot be scored; nothing was published.\n"
        "ContractError: {dir}/in/part-2.parquet: breaks the input contract: "
        "column 'f2' has type string, the contract says float32.",
    ),
    Case(
        "unknown op",
        unknown_op,
        2,
        '{dir}/bundle/etl.json:50:4: /steps/0/op: unknown op "standardise". Did you mean "standardize"? [E-UNKNOWN-OP]',
    ),
    Case(
        "spec not fitted",
        unfitted,
        2,
        "{dir}/bundle/etl.json:45:3: /steps/0: step 'z' (standardize) is not fitted. Run `batchscore fit` first; "
        "to fit it in Python, read it with fitted=False. [E-NOT-FITTED]",
    ),
    Case(
        "bundle with a changed byte",
        changed_byte,
        2,
        "{dir}/bundle: file model.onnx was changed: its SHA-256 is not the one in bundle.json. Nothing was loaded.",
    ),
    Case(
        "ONNX file that is not one",
        not_a_model,
        2,
        f"{{dir}}/model.onnx: onnxruntime {version('onnxruntime')} cannot load this model: "
        "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Failed to load model because protobuf parsing failed..",
    ),
    Case(
        "model input that nothing feeds",
        unfed_input,
        2,
        "{dir}/bundle/model.onnx: model input X float32[rows, 4] is fed by nothing: the input has no column 'X'. "
        "Bind it under `model.inputs`. There is: f0, f1, f2, f3, id.",
    ),
    Case(
        "output column that collides",
        colliding_column,
        2,
        "output columns collide: p would be published under one name. "
        "Rename the model's column, or leave it out of output.passthrough or output.stamps.",
    ),
    Case(
        "mode error on an existing output",
        lambda folder, job: published_before(folder, job, mode="error"),
        2,
        "{dir}/out: run earlier is published here, and output.mode is `error`. Use another output.uri, or mode append.",
    ),
    Case(
        "run id published with other input",
        other_input,
        2,
        "run id r was published with other input: {dir}/in/part-9.parquet is new; {dir}/in/part-1.parquet is gone; "
        "{dir}/in/part-0.parquet was changed. Use another --run-id to score the input as it is now.",
    ),
    Case(
        "append with another schema",
        lambda folder, job: published_before(folder, job, passthrough=["id", "f0"]),
        2,
        "{dir}/out: run earlier has columns (id int64, p float); this one has (id int64, f0 float, p float). "
        "Use another output.uri, or output.on_schema_change new_version.",
    ),
    Case(
        "no permission to write",
        not_ours,
        2,
        "{dir}/out/_batchscore/runs/r/claim.json: no permission to write. "
        "Give the user that runs the job that right on the folder.",
        within=AS_DAEMON,
    ),
    Case(
        "disk full",
        larger_than_the_disk,
        1,
        "1 of 1 split cannot be scored; nothing was published.\n"
        "StorageError: {dir}/out/run_id=r/.part-000000-<attempt>.parquet.inprogress: no space left to write. "
        "Free some; what is finished stays, and the same run id goes on.\n"
        f"  split 0, {{dir}}/in/part-0.parquet, on {socket.gethostname()} by {sys.executable}",
        within=ON_A_SMALL_DISK,
    ),
    Case(
        "no way to write",
        is_a_file,
        2,
        "{dir}/occupied/out/_batchscore/runs/r/plan.json: cannot read: Not a directory. Choose another folder.",
    ),
)


def load(folder: Path, job: Job) -> Any:
    """The job as its config file reads."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return read_config(str(path))


UNFIT = "This run is bound to its input as it is. Mend the input, or leave it out, under a new --run-id.\n"
"""Told of a run whose input is at fault: mended it is another input, which the same id would refuse."""


def visible(folder: Path) -> set[str]:
    """Runs that somebody who lists the output root would see files of."""
    return {path.parent.name for path in (folder / "out").rglob("*.parquet")}


def command(folder: Path, job: Job) -> list[str]:
    """The words after `batchscore` that run the job."""
    load(folder, job)
    return ["run", str(folder / "job.yaml"), "--run-id", "r"]


def check_ending(case: Case, folder: Path, code: int, errors: str) -> None:
    """The code and the whole message are as the table says; behind it stands only how to go on, and no traceback."""
    assert code == case.code, errors
    assert "Traceback" not in errors
    told = errors.partition("error: ")[2]
    message, _, notes = told.partition(UNFIT if UNFIT in told else "Go on with: ")
    message = re.sub(r"(?<=part-\d{6}-)[0-9a-f]+(?=\.parquet)", "<attempt>", message)
    assert message == case.message.replace("{dir}", str(folder)) + "\n"
    if case.code == ExitCode.FAILED and "StorageError" in case.message:
        assert notes.startswith(f"batchscore run {folder}/job.yaml --run-id r\n")
    else:
        assert (UNFIT in told, notes) == (case.code == ExitCode.FAILED, "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_told_in_full_and_publishes_nothing(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, case: Case
) -> None:
    """Each kind of bad input ends with its exit code and a message that says what, where and what to do."""
    job = good_job(tmp_path, logistic_onnx)
    case.spoil(tmp_path, job)
    before = visible(tmp_path)
    if case.within:
        words = [*case.within, sys.executable, "-m", "jobs.main", *command(tmp_path, job)]
        process = subprocess.run(words, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        check_ending(case, tmp_path, process.returncode, process.stderr)
        assert "VISIBLE" not in process.stdout
    else:
        done = CliRunner().invoke(cli.app, command(tmp_path, job))
        check_ending(case, tmp_path, done.exit_code, done.stderr)
    assert visible(tmp_path) == before


def test_files_may_order_their_columns_differently(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A file whose columns stand in another order is scored like the others."""
    job = good_job(tmp_path, logistic_onnx)
    rewrite(tmp_path, 1, lambda table: table.select(["f3", "f2", "id", "f1", "f0"]))
    record = run(RunRequest(config=load(tmp_path, job), run_id="r"))
    assert record.account.scored.rows == 9_000


@pytest.mark.parametrize("run_id", ["2026-11-01", "20261101", "Nightly", "a/b", "..", "", "a" * 101, "1e5"])
def test_malformed_run_id_is_refused_before_anything_is_written(
    tmp_path: Path, logistic_onnx: Path, run_id: str
) -> None:
    """A run id that is no safe name, or that Spark would read as a date or number, is refused with the rule."""
    job = good_job(tmp_path, logistic_onnx)
    with pytest.raises(BatchscoreError) as caught:
        run(RunRequest(config=load(tmp_path, job), run_id=run_id))
    assert exit_code(caught.value) == 2
    assert str(caught.value) == (
        f"run id {run_id!r} is not valid: a lower-case letter, then up to 99 of a-z 0-9 _ . - "
        "(Spark would read a folder named like a date or a number as one). Choose another --run-id."
    )
    assert not (tmp_path / "out").exists()


def test_files_without_rows_publish_an_empty_version(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """Files that are there and hold no row are an input like any other: a version of no rows, which can be read."""
    job = good_job(tmp_path, logistic_onnx)
    for number in range(3):
        rewrite(tmp_path, number, lambda table: table.slice(0, 0))
    done = CliRunner().invoke(cli.app, command(tmp_path, job))
    assert done.exit_code == 0, done.stderr
    assert "state: SUCCEEDED" in done.stdout.splitlines()
    assert (tmp_path / "out" / "run_id=r" / "_SUCCESS").exists()
    shown = CliRunner().invoke(cli.app, ["results", str(tmp_path / "job.yaml")])
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "0 of 0 rows of version 1")
