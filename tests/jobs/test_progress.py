"""How far scoring is, and how that is shown."""

from __future__ import annotations

import io
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from etl.runs.layout import Layout
from jobs.display.progress import display_for
from jobs.history.runs import find_run
from jobs.planning.plan import load_plan
from jobs.progress import PHASES, Observer, ReceiptWatch, Tally
from tests.jobs.outputs import ROWS, run_job, write_input, write_job

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

HALF = Tally(splits_done=5, splits=10, rows_done=500.0, share=0.5, rows_per_second=250_000.0, seconds_left=83.0)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What it was set to."""
        return self.now


@pytest.fixture(scope="module")
def done(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A run of six splits that is finished, each with one row group."""
    folder = tmp_path_factory.mktemp("progress")
    write_input(folder)
    size = max(path.stat().st_size for path in (folder / "in").iterdir())
    job = write_job(folder, logistic_onnx, splits={"target_bytes": -(-size // 3)})
    run_job(job, "done")
    return find_run(str(job), "done")


@pytest.fixture
def plan(done: Target) -> Plan:
    """Its plan."""
    found = load_plan(done)
    assert found is not None
    assert len(found.splits) == 6
    return found


@pytest.fixture
def running(done: Target, tmp_path: Path) -> Target:
    """The same run with no receipt yet, in a root of its own."""
    shutil.copytree(done.layout.state, tmp_path / "_batchscore" / "runs" / "done")
    target = done._replace(layout=Layout(str(tmp_path), "done"))
    shutil.rmtree(target.layout.receipts)
    return target


def finish(running: Target, done: Target, *splits: int) -> None:
    """Let a run have the receipts of some splits."""
    for split in splits:
        name = f"{split:06d}"
        running.storage.create_if_absent(
            running.layout.receipt(name), done.storage.read_bytes(done.layout.receipt(name)) or b""
        )


def test_a_watch_counts_receipts(running: Target, done: Target, plan: Plan) -> None:
    """Splits, rows and share are those of the receipts, pace and time left those since the watch began."""
    clock = Clock()
    watch = ReceiptWatch(running, plan, clock)
    assert watch.look() == Tally(0, 6, None, 0.0, None, None)
    finish(running, done, 0, 1, 2)
    clock.now = 4.0
    tally = watch.look()
    assert (tally.splits_done, tally.splits) == (3, 6)
    assert tally.rows_done == pytest.approx(ROWS)
    assert tally.share == pytest.approx(0.5, abs=0.01)
    assert tally.rows_per_second == pytest.approx(ROWS / 4)
    assert tally.seconds_left == pytest.approx(4.0, rel=0.02)
    finish(running, done, 3, 4, 5)
    clock.now = 5.0
    tally = watch.look()
    assert (tally.splits_done, tally.share) == (6, 1.0)
    assert tally.rows_done == pytest.approx(2 * ROWS)


def test_what_an_earlier_try_scored_is_not_pace(running: Target, done: Target, plan: Plan) -> None:
    """A resumed run begins with what is done, and its pace is what it adds."""
    finish(running, done, 0, 1, 2)
    clock = Clock()
    watch = ReceiptWatch(running, plan, clock)
    clock.now = 100.0
    first = watch.look()
    assert (first.splits_done, first.rows_per_second, first.seconds_left) == (3, None, None)
    finish(running, done, 3)
    clock.now = 200.0
    tally = watch.look()
    assert tally.rows_done is not None
    # One of four splits of equal size is new, in 200 seconds.
    assert tally.rows_per_second == pytest.approx(tally.rows_done / 4 / 200, rel=0.02)


def test_names_that_are_no_receipts_of_the_plan_do_not_count(running: Target, done: Target, plan: Plan) -> None:
    """Temporary files and receipts of unknown splits are not progress."""
    finish(running, done, 0)
    storage, layout = running
    storage.create_if_absent(layout.receipt("999999"), b"{}")
    storage.create_if_absent(f"{layout.receipts}/000001.tmp", b"")
    assert ReceiptWatch(running, plan).look().splits_done == 1


def test_a_run_with_a_watcher_has_its_phases_told(running: Target, done: Target) -> None:
    """While the run scores, what is shown comes from the listing; afterwards the watch is over."""
    shown: list[Tally] = []

    class Recorder:
        def phase(self, name: str) -> None:
            """Not of interest."""

        def tally(self, tally: Tally) -> None:
            shown.append(tally)

        def close(self) -> None:
            """Not of interest."""

    with Observer(running, Recorder()) as observer:
        observer("score")
        finish(running, done, 0, 1)
        deadline = time.monotonic() + 20
        while not (shown and shown[-1].splits_done == 2) and time.monotonic() < deadline:
            time.sleep(0.01)
        observer("settle")
        seen = len(shown)
        time.sleep(0.7)
    assert shown[-1].splits_done == 2
    assert len(shown) == seen
    assert observer.phases == ["score", "settle"]


def test_a_watcher_that_breaks_breaks_no_run(running: Target) -> None:
    """Neither a display nor a store that raises reaches the run that calls before each phase."""

    class Broken:
        def phase(self, name: str) -> None:
            raise RuntimeError(name)

        def tally(self, tally: Tally) -> None:
            raise RuntimeError(tally)

        def close(self) -> None:
            raise RuntimeError

    running.storage.replace(running.layout.plan, b"no plan")
    with Observer(running, Broken()) as observer:
        observer("score")
        time.sleep(0.1)
        observer("settle")
    assert observer.phases == ["score", "settle"]


def printed(*, terminal: bool, width: int = 80) -> tuple[Console, io.StringIO]:
    """A console that writes into memory."""
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=width, color_system=None), out


def test_a_log_has_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal each phase is one line that begins with its time, and progress one now and then."""
    console, out = printed(terminal=False)
    display = display_for(console)
    display.phase("start_spark")
    display.phase("score")
    display.tally(HALF)
    later = time.monotonic() + 11
    monkeypatch.setattr("jobs.progress.time.monotonic", lambda: later)
    display.tally(HALF)
    display.tally(HALF)
    display.close()
    lines = [line.partition("Z ")[2] for line in out.getvalue().splitlines()]
    assert lines == ["start_spark", "score", "score: 5 of 10 splits, 500 rows, 250,000 rows/s, 83 s left"]
    assert "\x1b" not in out.getvalue()


def test_a_terminal_has_a_bar_with_pace_and_time_left() -> None:
    """On a terminal of 80 columns the bar, splits, pace and time left fit one line, and nothing stays behind."""
    console, out = printed(terminal=True)
    display = display_for(console)
    for phase in ("list", "score"):
        display.phase(phase)
    display.tally(HALF._replace(splits=12_345, splits_done=12_000, seconds_left=3_700.0))
    display.close()
    text = out.getvalue()
    assert "listing the input" in text
    line = next(line for line in text.splitlines() if "rows/s" in line)
    assert "12,000/12,345 splits · 250.0 k rows/s · 1:01:40 left" in line
    # Back to the line's beginning and erased.
    assert text.rstrip().endswith("\x1b[2K")


def test_every_phase_of_a_run_has_words(done: Target, tmp_path: Path, logistic_onnx: Path) -> None:
    """Each phase that a run tells of has words for people, and is told once."""
    write_input(tmp_path)
    told: list[str] = []
    from jobs.config.job import read_config
    from jobs.run import RunRequest, run

    run(RunRequest(config=read_config(str(write_job(tmp_path, logistic_onnx))), run_id="r"), told.append)
    assert "score" in told
    assert set(told) <= set(PHASES)
    assert len(told) == len(set(told))
