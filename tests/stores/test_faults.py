"""A job over a store whose answers are lost, that says it is busy, or hangs up, at each step of the protocol."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from jobs.config import read_config
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import logistic_scores, write_numbers
from tests.stores.places import S3Place, scores_of
from tests.stores.proxy import Asked, Fault, proxied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stores

STEPS = {
    "claim": r"PUT .*/claim\.json",
    "plan": r"PUT .*/plan\.json",
    "model": r"PUT .*/models/.*",
    "begin": r"POST .*\.parquet\?uploads",
    "part": r"PUT .*\.parquet\?.*partNumber=",
    "receipt": r"PUT .*/receipts/.*",
    "completion": r"POST .*\.parquet\?uploadId=",
    "table": r"PUT .*/files\.arrow",
    "commit": r"PUT .*/manifests/.*",
    "mark": r"PUT .*/_SUCCESS",
    "record": r"PUT .*/record\.json",
}
"""Requests by what they are for."""


def requests_of(step: str) -> re.Pattern[str]:
    """Those of a step."""
    return re.compile(STEPS[step])


@pytest.mark.parametrize("fault", ["lost", "busy", "reset"])
@pytest.mark.parametrize("step", list(STEPS))
def test_a_request_that_fails_once_changes_nothing(
    spark: SparkSession, bucket: str, tmp_path: Path, job_file: Callable[..., Path], step: str, fault: Fault
) -> None:
    """Whichever request of a run fails at its first try, applied or not, each key is published once, in one version."""
    place = S3Place(bucket, None)
    table = write_numbers(tmp_path / "made", files=2, rows=200, row_group=100)
    for path in (tmp_path / "made").iterdir():
        place.put(f"in/{path.name}", path.read_bytes())
    wanted, met = requests_of(step), list[str]()

    def judge(asked: Asked) -> Fault | None:
        if asked.number or not wanted.match(f"{asked.method} {asked.path}"):
            return None
        met.append(asked.path)
        return fault

    with proxied(os.environ["AWS_ENDPOINT_URL_S3"], judge) as url:
        job = job_file(
            input={"files": f"{place.uri}/in"},
            output={"uri": f"{place.uri}/out", "passthrough": ["id"]},
            splits={"target_bytes": "1MB", "task_bytes": 1},
            storage=[{"uri": place.uri, "endpoint": url, "attempts": 4}],
        )
        record = run(RunRequest(config=read_config(str(job)), run_id="r"))
        assert open_results(str(job)).seq == 1
    assert met, f"no request was one of {step}"
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    files = place.files("out")
    assert scores_of(files) == pytest.approx(logistic_scores(table), abs=1e-6)
    assert [name for name in files if "/manifests/" in name] == ["_batchscore/manifests/000000000001.json"]
    assert place.uploads() == []
