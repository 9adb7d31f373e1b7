"""Drift of a job whose output lies in a store: sketches and what is measured are those of the same job on a disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jobs.record import RunState
from tests.jobs.outputs import run_job, write_job
from tests.jobs.test_drift import MOVED, USUAL, bundle_of, write_rows
from tests.stores.places import PLACES

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.stores.places import Place

pytestmark = pytest.mark.stores


def measured(place: Place, run_id: str) -> tuple[bytes, dict[str, Any]]:
    """The sketch of a run, and its `drift.json` without clocks and the name of the place."""
    state = f"out/_batchscore/runs/{run_id}"
    report = json.loads(place.get(f"{state}/drift.json").decode().replace(place.uri, "PLACE"))
    report["cost"] = report["measured_at"] = None
    return place.get(f"{state}/sketch.arrow"), report


@pytest.mark.parametrize("store", ["versitygw", "hdfs"])
def test_drift_is_that_of_the_same_job_on_a_disk(
    spark: SparkSession, request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    """The same sample, to the byte, and the same values against the training profile, the run before, and a sketch that
    is named by its URI; nothing is left of the sketches of splits.
    """  # noqa: D205  one sentence
    found = []
    for place in (PLACES["local"](request), PLACES[store](request)):
        job = {
            "model": {"bundle": str(bundle_of(tmp_path))},
            "output": {"uri": f"{place.uri}/out", "passthrough": ["id"]},
            "storage": [one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings],
        }
        baseline = f"{place.uri}/out/_batchscore/runs/monday/sketch.arrow"
        for day, rows, drift in (("monday", USUAL, {}), ("tuesday", MOVED, {"baseline": baseline})):
            write_rows(tmp_path, rows)
            record = run_job(write_job(tmp_path, tmp_path, **job, drift={"rows": 1000, **drift}), day)
            assert record.state is RunState.SUCCEEDED
        assert place.files("out/_batchscore/runs/tuesday/sketches") == {}
        found.append([measured(place, day) for day in ("monday", "tuesday")])
    assert found[0] == found[1]
    _, (_, report) = found[1]
    assert set(report["references"]) == {"training", "previous", "baseline"}
    assert report["sampled"] < report["rows"]
