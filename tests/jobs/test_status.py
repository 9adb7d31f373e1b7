"""What a driver is doing is told beside its run, for other machines and other tools, and costs the run nothing."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from etl.errors import StorageError
from jobs.cli import app
from jobs.config.job import read_config
from jobs.history.runs import find_run, look_at
from jobs.monitoring.status import RunStatus, StatusFile, load_status
from jobs.planning.destination import Target
from jobs.planning.plan import target_of
from jobs.progress import Tally
from jobs.record import RunState
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

HALF = Tally(5, 10, 500.0, 0.5, 250_000.0, 83.0, 0.01)


class Stopped(BaseException):
    """Leaves a run where a death would."""


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> Path:
    """A job over two files."""
    write_input(tmp_path)
    return write_job(tmp_path, logistic_onnx)


def asked(*words: object) -> Any:
    """A command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def target(job: Path) -> Target:
    """Where run `r` lies."""
    return target_of(read_config(str(job)), "r", scratch=False)


def test_progress_for_programs_is_a_document_a_line(job: Path) -> None:
    """With `--log-format json` standard error has the phases of the record, in order, one JSON document a line."""
    done = asked("run", job, "--run-id", "r", "--log-format", "json")
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    phases = [one["phase"] for one in told if one["event"] == "phase"]
    record = look_at(target(job)).record
    assert record is not None
    steps = {"complete", "commit", "mark", "record"}
    clocked = [phase for phase, _ in groupby(one.phase for one in record.timeline)]
    assert [phase for phase in phases if phase not in steps] == clocked
    assert [phase for phase in phases if phase in steps] == ["complete", "commit", "mark", "record"]
    times = [one["time"] for one in told]
    assert times == sorted(times)
    status = load_status(target(job))
    assert status is not None
    assert status.phase == "ended"


def test_a_run_is_asked_how_far_it_is(job: Path) -> None:
    """A run that is at work, or died, is unfinished with its splits; one that has ended is what its record says."""

    def stop(phase: str) -> None:
        if phase == "settle":
            raise Stopped

    with pytest.raises(Stopped):
        run_job(job, "r", on_phase=stop)
    told = json.loads(asked("status", job, "r", "--json").output)
    assert (told["state"], told["has_ended"], told["driver"]) == ("UNFINISHED", False, None)
    assert told["splits_done"] == told["splits"] > 0
    status = StatusFile(find_run(str(job), "r"))
    status.phase("score")
    status.tally(HALF)
    while load_status(find_run(str(job), "r")) is None:
        pass
    shown = asked("status", job, "r").output
    assert "phase: scoring, since" in shown
    run_job(job, "r")
    status.close()
    told = json.loads(asked("status", job, "r", "--json").output)
    assert (told["state"], told["has_ended"], told["driver"]["phase"]) == ("SUCCEEDED", True, "ended")
    assert told["driver"]["rows_per_second"] == HALF.rows_per_second


def test_following_ends_as_the_run_ended(job: Path, tmp_path: Path, logistic_onnx: Path) -> None:
    """Who follows a run is told its end, with the exit code of `run`; a run that begins meanwhile is waited for."""

    def stop(phase: str) -> None:
        if phase == "settle":
            raise Stopped

    with pytest.raises(Stopped):
        run_job(job, "r", on_phase=stop)
    found: list[Any] = []
    follower = threading.Thread(target=lambda: found.append(asked("status", job, "r", "--follow")))
    follower.start()
    run_job(job, "r")
    follower.join(60)
    assert found[0].exit_code == 0, found[0].output
    assert "state: SUCCEEDED" in found[0].output
    write_bad_input(tmp_path)
    held = write_job(tmp_path, logistic_onnx)
    assert run_job(held, "held").state is RunState.HELD_BACK
    assert asked("status", held, "held", "--follow").exit_code == 4
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"PAR1 is all that it has of a file")
    assert asked("run", held, "--run-id", "failed").exit_code != 0
    assert asked("status", held, "failed", "--follow").exit_code == 1


def test_a_damaged_status_hides_no_record(job: Path) -> None:
    """Where `status.json` is damaged, the run is as its record says."""
    run_job(job, "r")
    where = find_run(str(job), "r")
    where.storage.replace(where.layout.status, b'{"format": "batchscore.status/2"}')
    told = json.loads(asked("status", job, "r", "--json").output)
    assert (told["state"], told["driver"]) == ("SUCCEEDED", None)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_follower_is_told_that_a_driver_is_silent(job: Path, *, as_json: bool) -> None:
    """Whoever follows a run whose driver has told nothing for two minutes hears that once, and goes on to its end."""

    def stop(phase: str) -> None:
        if phase == "settle":
            raise Stopped

    with pytest.raises(Stopped):
        run_job(job, "r", on_phase=stop)
    where = find_run(str(job), "r")
    then = datetime.now(UTC) - timedelta(minutes=2)
    silent = RunStatus(run_id="r", phase="score", phase_began_at=then, told_at=then)
    where.storage.replace(where.layout.status, silent.to_bytes())
    found: list[Any] = []
    words = ["status", job, "r", "--follow", *(["--json"] if as_json else [])]
    follower = threading.Thread(target=lambda: found.append(asked(*words)))
    follower.start()
    # It looks at once, and then every two seconds.
    follower.join(5)
    run_job(job, "r")
    follower.join(60)
    assert found[0].exit_code == 0, found[0].output
    sign = '"event": "silent", "seconds": 12' if as_json else "no sign of its driver for 2 m "
    assert found[0].output.count(sign) == 1, found[0].output


def test_no_phase_waits_for_the_store(job: Path) -> None:
    """While the store hangs, and where it fails, phases go on; what was told last is written when it can be."""

    def stop(phase: str) -> None:
        if phase == "score":
            raise Stopped

    with pytest.raises(Stopped):
        run_job(job, "r", on_phase=stop)
    real = find_run(str(job), "r")
    is_asked, may_answer, tries = threading.Event(), threading.Event(), []

    class Slow:
        """A store that answers when it may, and fails the first time."""

        def __getattr__(self, name):
            return getattr(real.storage, name)

        def replace(self, path, data):
            """See `etl.runs.storage.Storage.replace`."""
            is_asked.set()
            assert may_answer.wait(30)
            tries.append(path)
            if len(tries) == 1:
                message = "it hiccups"
                raise StorageError(message)
            real.storage.replace(path, data)

    status = StatusFile(Target(Slow(), real.layout))
    status.phase("plan")
    assert is_asked.wait(30)
    for phase in ("score", "publish"):
        status.phase(phase)
    assert load_status(real) is None
    may_answer.set()
    status.close()
    found = load_status(real)
    assert found is not None
    assert found.phase == "ended"
    assert len(tries) == 2


def test_nobody_writes_beside_a_run_that_is_not_his(job: Path) -> None:
    """A driver that has only asked for the id writes nothing: it may be another one's."""
    status = StatusFile(target(job))
    status.phase("claim")
    status.close()
    assert not (job.parent / "out").exists()


def test_rows_that_are_set_aside_are_told(job: Path, tmp_path: Path, logistic_onnx: Path) -> None:
    """The share of rows set aside, as a follower sees it, is that of the receipts."""
    from jobs.planning.plan import load_plan
    from jobs.progress import ReceiptWatch

    write_bad_input(tmp_path)
    held = write_job(tmp_path, logistic_onnx)
    run_job(held, "held")
    where = find_run(str(held), "held")
    plan = load_plan(where)
    assert plan is not None
    tally = ReceiptWatch(where, plan).look()
    assert tally.quarantined_share == pytest.approx(4 / (2 * ROWS))
    assert f"{4 / (2 * ROWS):.2%} set aside" in str(tally)
