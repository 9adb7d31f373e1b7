"""A month of a job that runs every night, with what was planted in it: each command names the night and the cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from etl.errors import BatchscoreError
from jobs.cli import app
from jobs.history.runs import find_run
from jobs.record import RunState
from tests.jobs.outputs import run_job, write_job
from tests.jobs.pages import Page
from tests.numbers_job import FEATURES, WEIGHTS, write_numbers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

NIGHTS = 30
SLOW, MOVED, BROKEN = 14, 18, 22
"""The nights of another, slower model, of a column that has moved, and of a file that ends too early."""
ROWS = 2_000
WIDE = 2_048


def name_of(night: int) -> str:
    """The id of a night's run."""
    return f"night-{night:02}"


def write_slow_model(path: Path) -> None:
    """As `logistic_onnx`, and beside it a product of WIDE x WIDE weights for each row, of which nothing is kept."""
    wide = numpy_helper.from_array(np.zeros((WIDE, WIDE), np.float32), "square")
    weights = [
        numpy_helper.from_array(WEIGHTS, "W"),
        numpy_helper.from_array(np.ones((4, WIDE), np.float32), "widen"),
        wide,
        numpy_helper.from_array(np.zeros((WIDE, 1), np.float32), "narrow"),
    ]
    nodes = [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("MatMul", ["X", "widen"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{layer}", "square"], [f"h{layer + 1}"]) for layer in range(4)]
    nodes += [
        helper.make_node("MatMul", ["h4", "narrow"], ["nothing"]),
        helper.make_node("Add", ["z", "nothing"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["p"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def move(folder: Path) -> None:
    """Add one to the third feature of a night's rows."""
    [path] = folder.iterdir()
    table = pq.read_table(path)
    moved = pc.add(table["f2"], pa.scalar(1.0, pa.float32()))
    pq.write_table(table.set_column(table.schema.get_field_index("f2"), "f2", moved), path)


def cut_short(folder: Path) -> None:
    """Take the footer of a night's file away."""
    [path] = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-20])


@pytest.fixture(scope="module")
def month(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of the last night; the others' records lie where it says."""
    folder = tmp_path_factory.mktemp("month")
    slow = folder / "slow.onnx"
    write_slow_model(slow)
    job = folder / "job.yaml"
    for night in range(NIGHTS):
        place = folder / name_of(night)
        write_numbers(place / "in", files=1, rows=ROWS, row_group=ROWS, seed=night)
        if night == MOVED:
            move(place / "in")
        if night == BROKEN:
            cut_short(place / "in")
        # The first night is what the others are compared with.
        first = {"baseline": name_of(0)} if night else {}
        job = write_job(
            place,
            slow if night == SLOW else logistic_onnx,
            output={"uri": str(folder / "out"), "passthrough": ["id"]},
            metrics={"uri": str(folder / "metrics")},
            drift={"reference": [], "warn": {"ks": 0.2}, **first},
        )
        if night == BROKEN:
            with pytest.raises(BatchscoreError):
                run_job(job, name_of(night))
        else:
            assert run_job(job, name_of(night)).state is RunState.SUCCEEDED
    return job


def told(*command: str) -> Any:
    """What a command prints with `--json`."""
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_history_has_every_night_and_the_one_that_failed(month: Path) -> None:
    """History has thirty runs, the newest first; one failed, and one took far longer than all others."""
    nights = told("history", str(month), "--last", "100")
    assert [line["run_id"] for line in nights] == [name_of(night) for night in reversed(range(NIGHTS))]
    assert [line["run_id"] for line in nights if line["state"] != "SUCCEEDED"] == [name_of(BROKEN)]
    seconds = {line["run_id"]: line["worker_infer_seconds"] for line in nights if line["state"] == "SUCCEEDED"}
    slow = seconds.pop(name_of(SLOW))
    assert slow > 3 * max(seconds.values())
    assert {line["scored"] for line in nights if line["state"] == "SUCCEEDED"} == {ROWS}


def test_the_slow_night_is_explained_by_its_model(month: Path) -> None:
    """The largest part of the slow night's change is that of the model, which is another one; the parts add up."""
    [found] = told("explain-duration", str(month), name_of(SLOW))
    largest = max(found["parts"], key=lambda part: part["change"])
    assert largest["name"] == "infer"
    assert "model" in largest["note"]
    assert sum(part["change"] for part in found["parts"]) == pytest.approx(found["change"], abs=0.02 * found["change"])


def test_the_night_whose_data_moved_is_named_with_the_column(month: Path) -> None:
    """Beyond the limit are the feature that was moved, and the score that is made of it, on that night and no other."""
    beyond = {}
    for night in range(1, NIGHTS):
        if night != BROKEN:
            done = CliRunner().invoke(app, ["drift", str(month), name_of(night), "--json"])
            assert done.exit_code == 0, done.output
            found = {one["column"] for one in json.loads(done.stdout)["values"] if one["verdict"] != "ok"}
            if found:
                beyond[night] = found
    assert beyond == {MOVED: {"f2", "p"}}
    page = Page(Path(find_run(str(month), name_of(MOVED)).layout.report).read_text(encoding="utf-8"))
    assert page.text.count("ks against baseline") == len((*FEATURES, "p"))


def test_the_broken_night_says_which_file(month: Path) -> None:
    """What history keeps of the failed night names the file that cannot be read."""
    done = CliRunner().invoke(app, ["show", str(month), name_of(BROKEN)])
    assert done.exit_code == 0, done.output
    assert f"{name_of(BROKEN)}/in/part-0.parquet" in "".join(done.output.split())


def test_audit_names_the_night_of_another_model_and_who_ran_it(month: Path) -> None:
    """One bundle scored one night only, the slow one; asked for it, or for the broken data, audit names the night."""
    [everything] = told("audit", "--config", str(month))
    assert [one["run_id"] for one in everything["endings"]] == [name_of(night) for night in reversed(range(NIGHTS))]
    assert {one["seal"] for one in everything["endings"]} == {"ok"}
    nights: dict[str, list[str]] = {}
    for one in everything["endings"]:
        for model in one["models"]:
            nights.setdefault(model["bundle_sha256"], []).append(one["run_id"])
    [(slow, found)] = [(sha, runs) for sha, runs in nights.items() if len(runs) == 1]
    assert found == [name_of(SLOW)]
    [asked] = told("audit", "--config", str(month), "--model", slow[:12])
    assert [one["run_id"] for one in asked["endings"]] == [name_of(SLOW)]
    data = str(month.parent.parent / name_of(BROKEN) / "in")
    [asked] = told("audit", "--config", str(month), "--data", data)
    assert [(one["run_id"], one["state"]) for one in asked["endings"]] == [(name_of(BROKEN), "FAILED")]
