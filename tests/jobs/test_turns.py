"""Two drivers of one run: the second waits for the first, unless that has died."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etl.errors import StorageError
from etl.runs.layout import Layout
from etl.runs.local import LocalStorage
from jobs.errors import NotOurTurn
from jobs.planning.destination import Target
from jobs.scheduling import turns
from jobs.scheduling.turns import AtWork, Turn
from tests.jobs.days import BY_DAY, DAYS, daily_job, model_at, oracle, published, write_day

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]


def target_in(folder: Path, storage: Any = None) -> Target:
    """Where run `r` lies."""
    return Target(storage or LocalStorage(), Layout(str(folder), "r"))


def leave(folder: Path, **facts: Any) -> None:
    """Another driver's turn, as it lies in storage."""
    now = datetime.now(UTC)
    told = {"who": "ann@far", "host": "far", "pid": 1, "token": "hers", "began_at": now, "told_at": now, **facts}
    target = target_in(folder)
    target.storage.create_if_absent(f"{target.layout.drivers}/000001.json", AtWork(run_id="r", **told).to_bytes())


def take(folder: Path, told: list[str] | None = None) -> Turn:
    """A turn that was begun."""
    turn = Turn(target_in(folder), (told if told is not None else []).append)
    turn.take()
    return turn


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    """While one is at work another is told so; when that has ended, it is the other's turn."""
    with take(tmp_path) as first:
        first.take()
        with pytest.raises(NotOurTurn, match="run r is being worked on by "):
            take(tmp_path)
    with take(tmp_path):
        pass
    assert sorted(path.name for path in (tmp_path / "_batchscore/runs/r/drivers").iterdir()) == [
        "000001.json",
        "000002.json",
    ]


def test_of_many_at_once_one_has_the_turn(tmp_path: Path) -> None:
    """Of sixteen that ask at the same moment one has the turn, before anybody had it and after one has ended."""
    for _ in range(2):
        begin = threading.Barrier(16)
        got: list[Turn] = []

        def ask(begin: threading.Barrier = begin, got: list[Turn] = got) -> None:
            begin.wait()
            with contextlib.suppress(NotOurTurn):
                got.append(take(tmp_path))

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [turn] = got
        with turn:
            pass


@pytest.mark.parametrize(
    "facts",
    [
        {"has_ended": True},
        {"told_at": datetime.now(UTC) - timedelta(hours=1)},
        {"host": os.uname().nodename, "pid": 2**22 + 1},
        {"host": os.uname().nodename, "pid": os.getpid(), "began_at": datetime.now(UTC) - timedelta(days=1)},
    ],
    ids=["ended", "silent for an hour", "its process is gone", "its process had our number"],
)
def test_who_is_known_to_be_gone_is_not_waited_for(tmp_path: Path, facts: dict[str, Any]) -> None:
    """A driver that has ended, told nothing for an hour, or is no process of this host any more is not waited for."""
    leave(tmp_path, **facts)
    with take(tmp_path):
        pass


def test_who_falls_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of another host is waited for while it gives signs, and no more once it gives none; both is told."""
    monkeypatch.setattr(turns, "_SILENT", 0.5)
    monkeypatch.setattr(turns, "_PAUSE", 0.05)
    leave(tmp_path)
    told: list[str] = []
    turn, target = Turn(target_in(tmp_path), told.append), target_in(tmp_path)
    path = f"{target.layout.drivers}/000001.json"
    with pytest.raises(NotOurTurn):
        turn.take()
    end = threading.Event()

    def live() -> None:
        for _ in range(20):
            sign = AtWork.from_bytes(target.storage.read_bytes(path) or b"", where=path)
            target.storage.replace(path, sign.model_copy(update={"told_at": datetime.now(UTC)}).to_bytes())
            time.sleep(0.1)
        end.set()

    thread = threading.Thread(target=live)
    thread.start()
    with turn:
        turn.wait()
        assert end.is_set()
        turn.take()
    thread.join()
    assert len(told) == 2
    assert told[0].startswith("run r is being worked on by ann@far (process 1) since ")
    assert told[1].startswith("ann@far has given no sign for ")


def test_a_store_that_is_at_fault_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell whose turn it is, the run goes on, and says itself what is wrong with its store."""

    def broken(*_: object) -> list[str]:
        raise StorageError("no")

    monkeypatch.setattr(LocalStorage, "names", broken)
    with take(tmp_path) as turn:
        turn.wait()


def started(job: Path) -> subprocess.Popen[str]:
    """A driver of the first day."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.main", "run", str(job), "--logical-date", DAYS[0]],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
        start_new_session=True,
    )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of the first day."""
    write_day(tmp_path, DAYS[0])
    records = {"uri": str(tmp_path / "metrics")}
    local = {"master": "local[1]"}
    return daily_job(tmp_path, model_at(tmp_path / "m.onnx", 1.0), BY_DAY, metrics=records, spark=local)


@pytest.mark.servers
@pytest.mark.timeout(400)
def test_two_schedules_of_one_date(job: Path, tmp_path: Path) -> None:
    """Of two drivers that are started at once for one date, one scores, the other waits and finds it published; both
    end with 0, and one ending is recorded.
    """  # noqa: D205  one sentence
    drivers = [started(job) for _ in range(2)]
    said = [driver.communicate(timeout=300)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    waited = [errors for errors in said if "waiting until it has ended" in errors]
    assert len(waited) == 1
    assert "it was published before; nothing was done" in waited[0]
    assert len(list((tmp_path / "metrics/numbers/records").iterdir())) == 1
    assert published(tmp_path) == pytest.approx(oracle(tmp_path, DAYS[0], tmp_path / "m.onnx"), abs=1e-6)


@pytest.mark.servers
@pytest.mark.timeout(400)
def test_a_driver_that_was_killed_is_not_waited_for(job: Path, tmp_path: Path) -> None:
    """The same command right behind SIGKILL goes on at once."""
    folder = tmp_path / "out/_batchscore/runs" / f"numbers-{DAYS[0]}"
    first = started(job)
    wait_for((folder / "plan.json").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = started(job)
    errors = second.communicate(timeout=300)[1]
    assert (second.returncode, "waiting" in errors) == (0, False), errors
    signs = [json.loads(path.read_text()) for path in sorted((folder / "drivers").iterdir())]
    assert [sign["has_ended"] for sign in signs] == [False, True]


def wait_for(holds: Callable[[], bool]) -> None:
    """Look again and again."""
    end = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
