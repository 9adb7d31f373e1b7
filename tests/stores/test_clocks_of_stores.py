"""A store that minds when a request was signed, and a driver whose clock is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.test_clocks import drive
from tests.numbers_job import logistic_scores, write_numbers
from tests.stores.places import PLACES, scores_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.numbers_job import JobWriter

pytestmark = pytest.mark.stores


@pytest.mark.matrix(
    "A clock {minutes} minutes off that of S3", "published, or refused from 15 minutes on", store="versitygw"
)
@pytest.mark.parametrize(("minutes", "is_served"), [(10, True), (-10, True), (20, False), (-20, False)])
def test_a_clock_that_is_a_quarter_of_an_hour_off_is_told(
    request: pytest.FixtureRequest, tmp_path: Path, job_file: JobWriter, minutes: int, *, is_served: bool
) -> None:
    """Up to there the run is published; beyond, it is refused with what to do, and nothing is written."""
    place = PLACES["versitygw"](request)
    table = write_numbers(tmp_path / "in", files=1, rows=100, row_group=100)
    settings = [one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings]
    job = job_file(output={"uri": f"{place.uri}/out", "passthrough": ["id"]}, storage=settings)
    done = drive(job, f"{minutes * 60}:r:")
    if is_served:
        assert done.returncode == 0, done.stderr
        assert scores_of(place.files("out")) == pytest.approx(logistic_scores(table), abs=1e-6)
    else:
        assert "RequestTimeTooSkewed" in done.stderr
        assert "The machine's clock is wrong: S3 refuses one that is 15 minutes off. Set it." in done.stderr
        assert place.files("out") == {}
