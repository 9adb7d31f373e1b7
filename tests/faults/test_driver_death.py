"""SIGKILL of the driver, anywhere, then the same command again."""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.dataset as ds
import pytest

from jobs.config.job import read_config
from jobs.history.runs import find_run, quarantined_rows
from jobs.record import RunState
from jobs.run import RunRequest, run
from tests.lookup_job import lookup_scores, write_config, write_lookup_job
from tests.numbers_job import published_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord
    from tests.faults.drivers import Driver

RUN_ID = "nightly"
PUBLISHED = "the same command publishes"
BEFORE_SCORING = ("claim", "list", "plan", "start_spark")
AFTER_SCORING = ("settle", "count", "publish", "complete", "commit", "mark", "record")
FILES = 3
SPLITS = FILES * 8


class SimulatedStop(BaseException):
    """Leaves a run where a death at this border would, so that a test need not start Spark for it."""


class Undisturbed(NamedTuple):
    """The input, and what a run that nobody kills makes of it."""

    folder: Path
    """Input, bundle and reference table."""
    splits: dict[str, int]
    scores: dict[int, float]
    quarantined: set[tuple[Any, ...]]
    publishing: float
    """Seconds from the last score to the record."""


def again(job: Path) -> RunRecord:
    """The same command, in this process, whose Spark is up."""
    return run(RunRequest(config=read_config(str(job)), run_id=RUN_ID))


def stop_before(phase: str, job: Path) -> None:
    """Leave the run where a death at the border of this phase would."""

    def stop(name: str) -> None:
        if name == phase:
            raise SimulatedStop

    with pytest.raises(SimulatedStop):
        run(RunRequest(config=read_config(str(job)), run_id=RUN_ID), stop)


def quarantined(job: Path) -> set[tuple[Any, ...]]:
    """File, row and reason of every row that was set aside; fails on one that was set aside twice."""
    rows = quarantined_rows(find_run(str(job), RUN_ID)).to_pylist()
    found: set[tuple[Any, ...]] = {(row["file"], row["row"], row["stage"], row["code"]) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A run of 24 splits over three ops and a look-up, with bad rows in quarantine; equal to the oracle in numpy."""
    folder = tmp_path_factory.mktemp("faults")
    write_lookup_job(folder, logistic_onnx, files=FILES, rows=40_000, row_group=5_000)
    largest = max(path.stat().st_size for path in (folder / "in").iterdir())
    splits = {"target_bytes": -(-largest // 8)}
    job = write_config(folder, folder / "undisturbed", splits=splits)
    record = again(job)
    assert (record.state, record.splits) == (RunState.PARTIALLY_SUCCEEDED, SPLITS)
    scores = published_scores(folder / "undisturbed" / f"run_id={RUN_ID}")
    expected = lookup_scores(ds.dataset(folder / "in", format="parquet").to_table())
    assert scores.keys() == expected.keys()
    assert max(abs(scores[key] - expected[key]) for key in expected) <= 1e-6
    assert len(quarantined(job)) == FILES * 40_000 // 5_000 * 3
    publishing = sum(record.wall_seconds[phase] for phase in ("settle", "count", "publish"))
    return Undisturbed(folder, splits, scores, quarantined(job), publishing)


@pytest.fixture
def job(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """The same request with an output of its own."""
    return write_config(undisturbed.folder, tmp_path / "out", splits=undisturbed.splits)


@pytest.fixture(scope="module")
def scored(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose splits are all scored and of which nothing is published; a copy of its output lies beside it."""
    job = write_config(undisturbed.folder, tmp_path_factory.mktemp("scored") / "out", splits=undisturbed.splits)

    stop_before("settle", job)
    assert len(receipts(job)) == SPLITS
    shutil.copytree(job.with_suffix(""), job.with_suffix(".scored"))
    return job


@pytest.fixture
def scored_job(scored: Path) -> Path:
    """The job of `scored`, as it was then."""
    shutil.rmtree(scored.with_suffix(""))
    shutil.copytree(scored.with_suffix(".scored"), scored.with_suffix(""))
    return scored


def receipts(job: Path) -> dict[str, bytes]:
    """Bytes of every receipt by name."""
    folder = job.with_suffix("") / "_batchscore" / "runs" / RUN_ID / "receipts"
    return {path.name: path.read_bytes() for path in folder.glob("[0-9]*.json")} if folder.exists() else {}


def check_as_if_nothing_happened(job: Path, undisturbed: Undisturbed) -> None:
    """Keys, scores and quarantine equal those of the undisturbed run bit by bit, and no split is published twice."""
    folder = job.with_suffix("") / f"run_id={RUN_ID}"
    assert published_scores(folder) == undisturbed.scores
    parts = {path.name.split("-")[1] for path in folder.glob("*.parquet")}
    assert len(parts) == len(list(folder.glob("*.parquet"))), "a split is published twice"


def check_quarantine(job: Path, undisturbed: Undisturbed) -> None:
    """The same rows of the same files were set aside for the same reasons."""
    assert quarantined(job) == undisturbed.quarantined


@pytest.mark.matrix("SIGKILL of the driver at each border before scoring, one after the other", PUBLISHED)
def test_death_before_scoring_is_made_good_by_the_same_command(
    drive: Callable[..., Driver], undisturbed: Undisturbed, job: Path
) -> None:
    """Drivers killed at each border before scoring, each after the one before, leave nothing that the same command does
    not complete.
    """  # noqa: D205  one sentence
    for phase in BEFORE_SCORING:
        assert drive(job, RUN_ID, dies_at=phase).killed(), phase
    assert again(job).splits_scored_now == SPLITS
    check_as_if_nothing_happened(job, undisturbed)
    check_quarantine(job, undisturbed)


@pytest.mark.matrix("SIGKILL of the driver around the freezing of a query", PUBLISHED)
def test_death_around_the_freezing_of_a_query_is_made_good(
    drive: Callable[..., Driver], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Of a query, a driver that stops before it is frozen and one killed when scoring begins lose and double no row."""
    query = f"select * from parquet.`{undisturbed.folder}/in`"  # noqa: S608  ours
    job = write_config(undisturbed.folder, tmp_path / "out", input={"sql": query}, splits={"target_bytes": "200KB"})
    frozen = tmp_path / "out.scratch" / f"run_id={RUN_ID}"
    stop_before("freeze", job)
    assert not frozen.exists()
    assert drive(job, RUN_ID, dies_at="score").killed()
    (folder,) = frozen.iterdir()
    assert again(job).state is RunState.PARTIALLY_SUCCEEDED
    assert list(frozen.iterdir()) == [folder]
    check_as_if_nothing_happened(job, undisturbed)


@pytest.mark.matrix("SIGKILL of the driver at the border of {phase}", f"{PUBLISHED}, without scoring again")
@pytest.mark.parametrize("phase", AFTER_SCORING)
def test_death_after_scoring_is_made_good_without_scoring_again(
    drive: Callable[..., Driver], undisturbed: Undisturbed, scored_job: Path, phase: str
) -> None:
    """A driver killed at a border after scoring is completed by the same command from the receipts that are there."""
    before = receipts(scored_job)
    assert drive(scored_job, RUN_ID, dies_at=phase).killed()
    assert again(scored_job).splits_scored_now == 0
    assert receipts(scored_job) == before
    check_as_if_nothing_happened(scored_job, undisturbed)
    check_quarantine(scored_job, undisturbed)


@pytest.mark.matrix("SIGKILL of the driver at a random moment before scoring", PUBLISHED)
def test_death_at_a_random_moment_before_scoring_is_made_good(
    drive: Callable[..., Driver], undisturbed: Undisturbed, job: Path
) -> None:
    """Drivers killed at any moment between their claim and the start of Spark are completed by the same command."""
    generator = random.Random(0)  # noqa: S311  the moments are the same in every run of the tests
    for _ in range(4):
        assert drive(job, RUN_ID, dies_at="claim", after=generator.uniform(0.01, 1.0)).killed()
    assert again(job).splits_scored_now == SPLITS
    check_as_if_nothing_happened(job, undisturbed)


@pytest.mark.matrix(
    "SIGKILL of the driver at two random moments of scoring", f"{PUBLISHED}; what has a receipt is not scored again"
)
def test_death_at_random_moments_of_scoring_is_made_good(
    drive: Callable[..., Driver], undisturbed: Undisturbed, job: Path
) -> None:
    """A driver killed while it scores, and its successor too, leave receipts whose splits are not scored again."""
    generator = random.Random(0)  # noqa: S311  as above
    before: dict[str, bytes] = {}
    for moment in sorted(generator.sample(range(1, SPLITS), 2)):
        driver = drive(job, RUN_ID)
        # Workers outlive their driver for a moment, and may have committed more than it knew.
        wanted = min(SPLITS, max(moment, len(before) + 1))
        while len(receipts(job)) < wanted and driver.is_alive():
            time.sleep(0.001)
        driver.kill()
        assert driver.killed()
        found = receipts(job)
        assert len(found) >= wanted
        assert {name: found[name] for name in before} == before
        before = found
    record = again(job)
    after = receipts(job)
    assert len(after) == SPLITS
    assert {name: after[name] for name in before} == before
    assert record.splits_scored_now <= SPLITS - len(before)
    check_as_if_nothing_happened(job, undisturbed)
    check_quarantine(job, undisturbed)


@pytest.mark.matrix("SIGKILL of the driver at a random moment of publishing", f"{PUBLISHED}, without scoring again")
@pytest.mark.parametrize("moment", range(3))
def test_death_at_a_random_moment_of_publishing_is_made_good(
    drive: Callable[..., Driver], undisturbed: Undisturbed, scored_job: Path, moment: int
) -> None:
    """A driver killed at any moment between the last score and the record is completed by the same command."""
    generator = random.Random(moment)  # noqa: S311  as above
    moment_of_death = undisturbed.publishing * generator.uniform(0.05, 0.8)
    assert drive(scored_job, RUN_ID, dies_at="settle", after=moment_of_death).killed()
    assert again(scored_job).splits_scored_now == 0
    check_as_if_nothing_happened(scored_job, undisturbed)
    check_quarantine(scored_job, undisturbed)
