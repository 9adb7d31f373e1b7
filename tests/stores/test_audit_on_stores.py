"""Lineage and audit of a job whose data and records lie in a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.job import read_config
from jobs.run import RunRequest, run
from tests.jobs.openlineage_schema import problems
from tests.numbers_job import write_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.stores.places import Place

pytestmark = pytest.mark.stores


def test_lineage_and_audit_of_a_job_in_a_store(
    spark: SparkSession, place: Place, tmp_path: Path, job_file: Callable[..., Path]
) -> None:
    """Datasets are named by the store, the run is found by its input, and a record that is changed there shows."""
    write_numbers(tmp_path / "made", files=1, rows=100, row_group=50)
    place.put("in/part-0.parquet", (tmp_path / "made" / "part-0.parquet").read_bytes())
    events = tmp_path / "events.jsonl"
    job = job_file(
        input={"files": f"{place.uri}/in/*.parquet"},
        output={"uri": f"{place.uri}/out", "passthrough": ["id"]},
        metrics={"uri": f"{place.uri}/metrics"},
        sinks={"openlineage": {"file": str(events)}},
        storage=[one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings],
    )
    for run_id in ("a", "b"):
        run(RunRequest(config=read_config(str(job)), run_id=run_id))
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [problems(event) for event in told] == [[]] * 4
    scheme, _, rest = place.uri.partition("://")
    authority, _, folder = rest.partition("/")
    space, folder = ("file", f"/{folder}") if scheme == "file" else (f"{scheme}://{authority}", folder)
    folder = f"/{folder}" if scheme == "hdfs" else folder
    assert (told[1]["inputs"][0]["namespace"], told[1]["inputs"][0]["name"]) == (space, f"{folder}/in")
    assert (told[1]["outputs"][0]["namespace"], told[1]["outputs"][0]["name"]) == (space, f"{folder}/out")

    def audit(code: int) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["audit", "--config", str(job), "--json", "--data", f"{place.uri}/in"])
        assert done.exit_code == code, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert [(one["run_id"], one["seal"]) for one in audit(0)["endings"]] == [("b", "ok"), ("a", "ok")]
    [name] = [name for name in place.sizes("metrics") if "/records/a." in name]
    place.put(f"metrics/{name}", place.get(f"metrics/{name}").replace(b'"who":"', b'"who":"not-'))
    assert [(one["run_id"], one["seal"]) for one in audit(1)["endings"]] == [("b", "ok"), ("a", "changed")]
