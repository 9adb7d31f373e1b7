"""Which columns the published ones of a job depend on, of several models too; asked of plans, which start nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.config.job import read_config
from jobs.planning.plan import Plan
from jobs.planning.preview import preview
from jobs.request import RunRequest
from tests.jobs.outputs import write_input, write_job
from tests.numbers_job import FEATURES, WEIGHTS
from tests.scoring.workshop import logistic_model, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IDENTITY = ("", "id", "identity")
FED = {("", name, "transformation") for name in FEATURES}
FEWER = {("", name, "transformation") for name in FEATURES[1:]}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Two bare models; the second is not fed the first of the columns, but one of the first model in its place."""
    (tmp_path / "in").mkdir()
    pq.write_table(numbers(20), tmp_path / "in" / "a.parquet")
    found = {}
    for name, weights in (("first", WEIGHTS), ("second", -3 * WEIGHTS)):
        (tmp_path / f"{name}.onnx").write_bytes(logistic_model(np.asarray(weights)))
        found[name] = {"name": name, "onnx": str(tmp_path / f"{name}.onnx"), "inputs": {"X": list(FEATURES)}}
    return found


@pytest.fixture
def lineage(job_file: Callable[..., Path]) -> Callable[..., dict[str, tuple[set[Any], int]]]:
    """By published column, what it depends on and how many models made it."""

    def ask(**sections: Any) -> dict[str, tuple[set[Any], int]]:
        job = job_file(model=None, **sections)
        plan = preview(RunRequest(config=read_config(str(job)), run_id="r")).plan
        assert Plan.from_bytes(plan.to_bytes(), where="plan").lineage == plan.lineage
        found = plan.lineage.published
        told = {name: (set(one.origins), len(one.made_by)) for one in found for name in one.columns}
        stamps = [column.name for column in plan.columns][len(told) :]
        assert {*told, *stamps} == {column.name for column in plan.columns}
        return {name: ({tuple(origin) for origin in origins}, made) for name, (origins, made) in told.items()}

    return ask


def test_models_side_by_side(models: dict[str, Any], lineage: Callable[..., Any]) -> None:
    """Each model's column depends on what it is fed; a mean of them on what both are."""
    models["second"]["inputs"] = {"X": [*FEATURES[1:], FEATURES[1]]}
    ensemble = {"column": "mean", "of": ["first_p", "second_p"], "how": "mean"}
    assert lineage(models=list(models.values()), combine={"ensembles": [ensemble]}) == {
        "id": ({IDENTITY}, 0),
        "first_p": (FED, 1),
        "second_p": (FEWER, 1),
        "mean": (FED, 2),
    }


def test_a_chain_depends_on_what_its_first_model_is_fed(models: dict[str, Any], lineage: Callable[..., Any]) -> None:
    """A model that reads another one's score depends on the columns of the input that this was made of."""
    models["first"]["inputs"] = {"X": [FEATURES[0]] * 4}
    models["second"]["inputs"] = {"X": ["first_p", *FEATURES[1:]]}
    assert lineage(models=list(models.values())) == {
        "id": ({IDENTITY}, 0),
        "first_p": ({("", FEATURES[0], "transformation")}, 1),
        "second_p": (FED, 1),
    }


def test_what_picks_the_model_bears_on_the_score(models: dict[str, Any], lineage: Callable[..., Any]) -> None:
    """Where each row is one model's, its score depends on what all of them are fed, and on what picks one."""
    combine = {"assign_by": ["id"], "shares": {"first": 0.5, "second": 0.5}}
    picks = ("", "id", "conditional")
    assert lineage(models=list(models.values()), combine=combine) == {
        "id": ({IDENTITY}, 0),
        "variant": ({picks}, 0),
        "p": (FED | {picks}, 2),
    }


def test_a_plan_of_an_older_release_has_no_lineage(tmp_path: Path, logistic_onnx: Path) -> None:
    """A plan without the newer keys is read; who is told of the run then has no lineage and no sinks."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, sinks={"openlineage": {"file": "events"}})
    plan = preview(RunRequest(config=read_config(str(job)), run_id="r")).plan
    assert plan.sinks.openlineage is not None
    old = plan.model_dump(mode="json", by_alias=True, exclude={"lineage", "sinks"})
    read = Plan.from_bytes(json.dumps(old).encode(), where="plan")
    assert (read.lineage.published, read.sinks.openlineage) == ((), None)
    assert preview(RunRequest(config=read_config(str(job)), run_id="r", limit=3)).plan.sinks.openlineage is None
