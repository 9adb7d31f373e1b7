"""Names of what a model publishes: checked against the columns beside them before any work, whatever the model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.planning.plan import target_of
from jobs.planning.resolving import list_inputs, make_plan
from scoring.bundles.create import create_bundle
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from tests.jobs.outputs import write_input, write_job
from tests.numbers_job import FEATURES
from tests.scoring.workshop import LOGISTIC_SPEC, STORE, numbers, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPEC = "\n".join(line for line in LOGISTIC_SPEC.splitlines() if "name: name" not in line)


def model_of(kind: str, folder: Path, onnx: Path, columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The model of a job, as a bundle or bare, that publishes columns."""
    if kind == "bare":
        return {"onnx": str(onnx), "inputs": {"X": list(FEATURES)}, "outputs": list(columns)}
    published = [OutputColumn.model_validate(column) for column in columns]
    create_bundle(STORE, str(folder / "bundle"), parts_of(SPEC, onnx.read_bytes(), numbers(3), published))
    return {"bundle": str(folder / "bundle")}


def planned(job: Path) -> list[str]:
    """The names of the published table."""
    config = read_config(str(job))
    target = target_of(config, "r", scratch=False)
    plan = make_plan(target, config, list_inputs(config.input.patterns), latest=None).plan
    return [column.name for column in plan.columns]


@pytest.mark.parametrize("kind", ["bundle", "bare"])
@pytest.mark.parametrize(("name", "is_free"), [("score", True), ("f1", False), ("F1", False), ("run_id", False)])
def test_a_column_has_a_name_of_its_own(
    tmp_path: Path, logistic_onnx: Path, *, kind: str, name: str, is_free: bool
) -> None:
    """A column called like a passthrough column or a stamp, in any case, is refused by the plan, in a bundle or not."""
    write_input(tmp_path)
    model = model_of(kind, tmp_path, logistic_onnx, [{"column": name, "tensor": "p", "apply": [{"threshold": 0.5}]}])
    output = {"uri": str(tmp_path / "out"), "passthrough": ["id", "f1"], "stamps": ["run_id"]}
    job = write_job(tmp_path, logistic_onnx, model=model, output=output)
    if is_free:
        assert planned(job) == ["id", "f1", name, "run_id"]
        return
    with pytest.raises(Refused, match=r"output columns collide: .* would be published under one name"):
        planned(job)


@pytest.mark.parametrize(
    ("column", "passthrough"), [("run_id", ["id"]), ("Run_ID", ["id"]), ("score", ["id", "run_id"])]
)
def test_no_column_is_lost_behind_the_name_of_a_run_s_folder(
    tmp_path: Path, logistic_onnx: Path, column: str, passthrough: list[str]
) -> None:
    """Readers make a column of the folder `run_id=…`: no column but the stamp, which says the same, has that name."""
    write_input(tmp_path)
    for path in (tmp_path / "in").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.append_column("run_id", table.column("id")), path)
    model = model_of("bare", tmp_path, logistic_onnx, [{"column": column, "tensor": "p"}])
    output = {"uri": str(tmp_path / "out"), "passthrough": passthrough}
    with pytest.raises(Refused, match="readers take run_id from the name of the run's folder"):
        planned(write_job(tmp_path, logistic_onnx, model=model, output=output))
    model = model_of("bare", tmp_path, logistic_onnx, [{"column": "score", "tensor": "p"}])
    output = {"uri": str(tmp_path / "out"), "passthrough": ["id"], "stamps": ["run_id"]}
    assert planned(write_job(tmp_path, logistic_onnx, model=model, output=output)) == ["id", "score", "run_id"]


@pytest.mark.parametrize(("kind", "error"), [("bundle", BundleError), ("bare", Refused)])
def test_two_columns_of_one_name_are_refused(
    tmp_path: Path, logistic_onnx: Path, kind: str, error: type[Exception]
) -> None:
    """Two columns of one tensor need two names."""
    write_input(tmp_path)
    columns: list[dict[str, Any]] = [
        {"column": "p", "tensor": "p"},
        {"column": "p", "tensor": "p", "apply": [{"threshold": 0.5}]},
    ]
    with pytest.raises(error, match="column 'p' is published twice"):
        planned(write_job(tmp_path, logistic_onnx, model=model_of(kind, tmp_path, logistic_onnx, columns)))


@pytest.mark.parametrize(("kind", "error"), [("bundle", BundleError), ("bare", Refused)])
def test_a_step_that_does_not_fit_is_refused(
    tmp_path: Path, logistic_onnx: Path, kind: str, error: type[Exception]
) -> None:
    """A step that does not go with the model's tensor is told by the plan, with column, tensor and step."""
    write_input(tmp_path)
    columns = [{"column": "q", "tensor": "p", "apply": ["softmax"]}]
    said = r"column 'q': tensor p float32\[rows, 1\]: step 1 of `apply`, softmax, is 1 for every row"
    with pytest.raises(error, match=said):
        planned(write_job(tmp_path, logistic_onnx, model=model_of(kind, tmp_path, logistic_onnx, columns)))
