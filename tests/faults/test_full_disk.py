"""A worker whose folders for temporary files and for caches are on a disk that is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobs.errors import ExitCode
from tests.faults.full import batchscore_with_full, worker_folders
from tests.numbers_job import logistic_scores, published_scores, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.numbers_job import JobWriter


@pytest.mark.servers
@pytest.mark.matrix(
    "The disk of the workers' temporary folder is full", "the run is published: what needs it is done without"
)
def test_a_worker_without_room_for_breadcrumbs_scores_all_rows(tmp_path: Path, job_file: JobWriter) -> None:
    """Where only notes for a next try find no room the run is published, with every key and score."""
    table = write_numbers(tmp_path / "in", files=2, rows=300, row_group=100)
    (tmp_path / "full").mkdir()
    job = job_file(spark=worker_folders(tmp_path / "full"), splits={"target_bytes": "1MB", "task_bytes": 1})
    done = batchscore_with_full(tmp_path / "full", "run", str(job), "--run-id", "r")
    assert done.returncode == ExitCode.PUBLISHED, done.stderr
    assert "FREE 0" in done.stdout
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)
