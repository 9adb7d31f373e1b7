"""Runs of many dates: which they are, in what order and how many at a time, and what one of them says of the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.variables import date_text, logical_date
from jobs.errors import Refused
from jobs.scheduling import drivers
from jobs.scheduling.dates import dates_between, last_moment, step_of
from jobs.scheduling.drivers import Drivers, Outcome, worst
from jobs.scheduling.errands import Asked, errand_of
from tests.jobs.days import BY_DAY, DAYS, daily_job, model_at, oracle, published, run_day, write_day
from tests.jobs.outputs import write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from typer.testing import Result

    from jobs.request import RunRequest
    from jobs.scheduling.drivers import Ending

REPOSITORY = Path(__file__).parents[2]

DRIVER = """
import json, os, signal, sys, time
folder, date = os.environ["TOLD"], sys.argv[sys.argv.index("--logical-date") + 1]
code, said = json.loads(os.environ["ENDINGS"]).get(date, [0, ""])
def stop(*_):
    open(f"{folder}/{date}.stopped", "w").close()
    print(f"error: run of {date} was stopped by a signal.", file=sys.stderr)
    sys.exit(1)
for number in (signal.SIGINT, signal.SIGTERM):  # as a driver does
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, stop)
began = time.time()
open(f"{folder}/{date}.began", "w").close()
time.sleep(float(os.environ["TAKES"]))
json.dump([began, time.time(), sys.argv[1:]], open(f"{folder}/{date}.json", "w"))
print("something else", said, sep="\\n", file=sys.stderr)
sys.exit(code)
"""
"""In the place of a driver: leaves when it was at work and what it was told, and ends as the test says."""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drivers leave what they were told; they take no time and end well."""
    told = tmp_path / "told"
    told.mkdir()
    (tmp_path / "driver.py").write_text(DRIVER)
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setenv("ENDINGS", "{}")
    monkeypatch.setenv("TAKES", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return told


def backfill(job: Path, *words: object, stub: Path | None = None) -> Result:
    """Run the command in this process; with `stub` its drivers are none."""
    behind = ["--", sys.executable, str(stub.parent / "driver.py")] if stub is not None else []
    return CliRunner().invoke(app, ["backfill", str(job), *map(str, words), *behind])


def range_of(first: str, last: str) -> tuple[str, ...]:
    """As options."""
    return ("--from", first, "--to", last)


DATES = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  the zone is given
STEPS = st.integers(1, 400).map(lambda hours: timedelta(hours=hours))


@given(DATES, DATES, STEPS)
def test_dates_are_those_of_the_range(first: datetime, last: datetime, every: timedelta) -> None:
    """From the first to the last, both included, in order, each once, and each a step behind the one before."""
    if last < first:
        assert dates_between(first, last, every) == ()
        return
    if (last - first) // every >= 5_000:
        with pytest.raises(Refused):
            dates_between(first, last, every)
        return
    found = dates_between(first, last, every)
    assert found[0] == first
    assert found[-1] <= last < found[-1] + every
    assert {later - one for one, later in pairwise(found)} <= {every}
    assert len(set(map(date_text, found))) == len(found)


@given(st.dates(datetime(2000, 1, 1).date(), datetime(2030, 1, 1).date()), st.integers(0, 60))  # noqa: DTZ001  days alone
def test_a_range_of_days_is_counted_as_people_do(first: Any, more: int) -> None:
    """A range of days has those of the calendar, the last included, and 24 hours a day, where clocks turn, too."""
    last = first + timedelta(days=more)
    days = dates_between(logical_date(str(first)), last_moment(str(last)), step_of("1d"))
    assert [date_text(day) for day in days] == [str(first + timedelta(days=number)) for number in range(more + 1)]
    hours = dates_between(logical_date(str(first)), last_moment(str(last)), step_of("1h"))
    assert len(hours) == 24 * (more + 1)


@pytest.mark.parametrize("text", ["0d", "1", "1w", "-1d", "1.5h", ""])
def test_a_step_is_days_or_hours(text: str) -> None:
    """What is no number of days or hours is refused."""
    with pytest.raises(Refused, match="give days or hours, as 1d or 6h"):
        step_of(text)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        ([Outcome.PUBLISHED, Outcome.BEFORE, Outcome.NOT_STARTED], 0),
        ([Outcome.PUBLISHED, Outcome.NOT_PUBLISHED], 4),
        ([Outcome.NOT_PUBLISHED, Outcome.REFUSED], 2),
        ([Outcome.REFUSED, Outcome.FAILED, Outcome.NOT_PUBLISHED], 1),
        ([Outcome.CANCELLED, Outcome.REFUSED, Outcome.NOT_STARTED], 1),
        ([Outcome.FAILED, Outcome.UNKNOWN], 3),
    ],
)
def test_the_worst_outcome_is_the_exit_code(outcomes: list[Outcome], code: int) -> None:
    """Unknown before failed, refused, and not published."""
    assert worst(outcomes) == code


def test_each_date_is_run_as_a_schedule_does(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each date has a driver of its own with the words of a scheduled run, at most so many at a time; no log stays."""
    monkeypatch.setenv("TAKES", "0.4")
    job = daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY)
    words = (*range_of(DAYS[0], DAYS[3]), "--parallel", 2, "--set", "report=false", "--limit", 5)
    done = backfill(job, *words, stub=stub)
    assert done.exit_code == 0, done.output
    told = {path.stem: json.loads(path.read_text()) for path in stub.glob("*.json")}
    assert sorted(told) == list(DAYS)
    for day, (_, _, given_words) in told.items():
        assert given_words == [str(job), "--logical-date", day, "--set", "report=false", "--limit", "5"]
    moments = sorted((when, step) for began, ended, _ in told.values() for when, step in ((began, 1), (ended, -1)))
    at_once = [sum(step for _, step in moments[: number + 1]) for number in range(len(moments))]
    assert max(at_once) == 2
    assert not list(tmp_path.glob("batchscore-backfill-*"))
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [[day, "published"] for day in DAYS]


def test_a_date_that_fails_stops_no_other(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are run, the reason and the log are told, and the exit code is that of the worst."""
    endings = {DAYS[0]: [1, "error: the disk is full"], DAYS[1]: [2, f"error: no file for {DAYS[1]}"], DAYS[2]: [4, ""]}
    monkeypatch.setenv("ENDINGS", json.dumps(endings))
    done = backfill(daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY), *range_of(DAYS[0], DAYS[3]), stub=stub)
    assert done.exit_code == 1
    assert len(list(stub.glob("*.json"))) == 4
    lines = done.stdout.splitlines()
    assert [" ".join(line.split()[1:3]) for line in lines[1:5]] == [
        "failed -",
        "refused -",
        "not published",
        "published -",
    ]
    assert lines[5].startswith(f"{DAYS[0]} failed: the disk is full Its log: ")
    assert "the disk is full" in Path(lines[5].rpartition(" ")[2]).read_text()
    assert lines[6].startswith(f"{DAYS[1]} refused: no file for {DAYS[1]} Its log: ")


def test_what_refuses_all_dates_is_told_once(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a date is refused for a reason that names neither date nor run, no more drivers are started."""
    monkeypatch.setenv("ENDINGS", json.dumps({day: [2, "error: no bundle is there"] for day in DAYS}))
    done = backfill(daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY), *range_of(DAYS[0], DAYS[3]), stub=stub)
    assert done.exit_code == 2
    assert len(list(stub.glob("*.json"))) == 1
    lines = done.stdout.splitlines()
    assert [" ".join(line.split()[1:3]) for line in lines[1:5]] == ["refused -", *["not started"] * 3]
    assert lines[6] == f"What refused {DAYS[0]} has to do with no date, so no more were started."


@pytest.mark.parametrize(
    ("number", "before"), [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGTERM, "trap '' INT; ")]
)
def test_a_signal_ends_every_driver(stub: Path, tmp_path: Path, number: int, before: str) -> None:
    """Drivers at work are stopped once each and waited for, no more are started, and the way to go on is told; so it
    is where SIGINT is ignored, as it is of whatever a script starts in the background.
    """  # noqa: D205  one sentence
    job = daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY)
    words = ["backfill", str(job), *range_of(DAYS[0], DAYS[3]), "--parallel", "2"]
    with subprocess.Popen(
        [
            *("sh", "-c", f'{before}exec "$@"', "sh", sys.executable, "-W", "error", "-m", "jobs.main", *words),
            *("--", sys.executable, str(tmp_path / "driver.py")),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TAKES": "60"},
        start_new_session=True,
    ) as process:
        end = time.monotonic() + 60
        while len(list(stub.glob("*.began"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert sorted(path.stem for path in stub.glob("*.stopped")) == list(DAYS[:2])
    outcomes = [" ".join(line.split()[1:3]) for line in out.splitlines()[1:5]]
    assert outcomes == [*["cancelled -"] * 2, *["not started"] * 2]
    assert errors.splitlines()[-1] == "error: stopped by a signal. The same command goes on; what is published stays."


def test_a_store_that_fails_once_costs_one_date(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The date that it failed for has failed, with what the store said; drivers go on, and all others are run."""

    def published(request: RunRequest) -> None:
        if request.run_id.endswith(DAYS[1]):
            raise ConnectionError("the store did not answer")

    monkeypatch.setattr(drivers, "published_before", published)
    done = backfill(daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY), *range_of(DAYS[0], DAYS[3]), stub=stub)
    assert done.exit_code == 1
    assert sorted(path.stem for path in stub.glob("*.json")) == [DAYS[0], *DAYS[2:]]
    assert f"{DAYS[1]} failed: the store did not answer" in done.stdout


def test_no_driver_is_left_behind(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a backfill, be it a fault of ours, its drivers are stopped and waited for."""
    monkeypatch.setenv("TAKES", "60")
    job = daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY)
    dates = tuple(logical_date(day) for day in DAYS[:2])

    def tell(_: Ending | None, at_work: list[str]) -> None:
        while at_work and not list(stub.glob("*.began")):
            time.sleep(0.05)
        if at_work:
            raise ZeroDivisionError

    command = (sys.executable, str(tmp_path / "driver.py"))
    with pytest.raises(ZeroDivisionError):
        Drivers(command, parallel=2, tell=tell).run([errand_of(Asked(str(job)), date) for date in dates])
    assert [path.stem for path in stub.glob("*.stopped")] == [DAYS[0]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Give --from and --to, both of them included"),
        (
            range_of("2026-11-02", "2026-11-01"),
            "--to 2026-11-01 is before --from 2026-11-02: there is no date between them",
        ),
        (
            range_of("1900-01-01", "2026-11-01"),
            "from 1900-01-01 on there are 46,326 dates: give a range of up to 5,000",
        ),
        (
            (*range_of(DAYS[0], DAYS[1]), "--every", "1h"),
            "2026-11-01T01:00:00+00:00 in what chooses rows or where they go, so each date",
        ),
        (
            ("--rescore-with", "m.onnx", "--touched-by", "bad", *range_of("2026-11-02", "2026-11-01")),
            "is before --from",
        ),
        (range_of("0001-01-01", "0001-01-02"), "--from 0001-01-01: there is no date a step before it"),
        ((*range_of("0005-01-01", "0005-01-01"), "--every", "9999d"), "--from 0005-01-01: there is no date a step"),
        (("--rescore-with", "m.onnx"), "give both, or neither"),
        (("--touched-by", "bad"), "give both, or neither"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """With what to give, before anything is started."""
    done = backfill(daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY), *words)
    assert (done.exit_code, told in done.stderr) == (2, True), done.stderr


def test_dates_that_score_the_same_rows_are_refused(tmp_path: Path) -> None:
    """A config that says no date where rows are chosen would score the same ones each time; so it is refused, also for
    a single date, and no date is named that nobody asked for. What else says the date changes nothing of that.
    """  # noqa: D205  one sentence
    elsewhere = {"doc": "${LOGICAL_DATE}", "metrics": {"uri": str(tmp_path / "${LOGICAL_DATE}")}}
    for sections in ({}, elsewhere):
        job = write_job(tmp_path, tmp_path / "m.onnx", **sections)
        one, two = (backfill(job, *range_of(DAYS[0], last)) for last in DAYS[:2])
        assert (one.exit_code, two.exit_code) == (2, 2)
        assert "does not say ${LOGICAL_DATE} in what chooses rows or where they go" in one.stderr
        assert f"says the same for {DAYS[0]} and {DAYS[1]} in what chooses rows" in two.stderr
        assert "2026-10-31" not in one.stderr + two.stderr


@pytest.mark.parametrize(
    "sections",
    [
        {"output": {"uri": "out/${LOGICAL_DATE}"}},
        {"model": {"onnx": "${LOGICAL_DATE}.onnx"}},
        {"references": {"weather": "weather/${LOGICAL_DATE}"}},
        {"input": {"sql": "SELECT * FROM t WHERE day = '${LOGICAL_DATE}'"}},
    ],
    ids=lambda sections: next(iter(sections)),
)
def test_dates_that_score_other_rows_or_elsewhere_are_run(stub: Path, tmp_path: Path, sections: dict[str, Any]) -> None:
    """Whatever chooses rows or scores, or where they go, may be what the dates differ in."""
    job = write_job(tmp_path, tmp_path / "m.onnx", **{"output": {"uri": str(tmp_path / "out")}, **sections})
    job.write_text(job.read_text().replace("out/$", f"{tmp_path}/out/$"))
    done = backfill(job, *range_of(DAYS[0], DAYS[1]), stub=stub)
    assert (done.exit_code, len(list(stub.glob("*.json")))) == (0, 2), done.output


def test_an_hour_is_asked_for_where_dates_are_hours(tmp_path: Path) -> None:
    """Of a job of the day that is run for an hour, what is missing is the hour."""
    hour = f"{DAYS[0]}T05:00:00"
    job = daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY)
    done = backfill(job, *range_of(hour, hour), "--every", "1h")
    assert (done.exit_code, "does not say ${LOGICAL_HOUR} in what" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("mode", ["overwrite", "error"])
def test_dates_that_replace_each_other_are_refused(tmp_path: Path, mode: str) -> None:
    """Where each date would take the place of all others, or need an empty root, it is said what to do."""
    job = daily_job(tmp_path, tmp_path / "m.onnx", {"mode": mode})
    done = backfill(job, *range_of(DAYS[0], DAYS[1]))
    assert (done.exit_code, "use `append`, or `overwrite_partitions`" in done.stderr) == (2, True)


def test_a_command_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It is told before any date is looked at; one that this system cannot start is told by the first date alone."""
    job = daily_job(tmp_path, tmp_path / "m.onnx", BY_DAY)
    no_program = tmp_path / "program"
    no_program.write_bytes(b"\x7fELF, not quite")
    for name in ("./no-such-script", str(job)):
        done = CliRunner().invoke(app, ["backfill", str(job), *range_of(DAYS[0], DAYS[1]), "--", name])
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{name} cannot be started: there is no such program" in done.stderr
    no_program.chmod(0o755)
    done = CliRunner().invoke(app, ["backfill", str(job), *range_of(DAYS[0], DAYS[1]), "--", str(no_program)])
    assert done.exit_code == 2
    assert f"{no_program} cannot be started: Exec format error" in done.stdout
    assert "not started" in done.stdout


def test_a_date_that_was_published_is_left(spark: SparkSession, stub: Path, tmp_path: Path) -> None:
    """A date that a schedule has run is not run again, and one whose input is another by now is refused by itself."""
    del spark
    job = daily_job(tmp_path, model_at(tmp_path / "m.onnx", 1.0), BY_DAY)
    for day in DAYS[:2]:
        write_day(tmp_path, day)
        run_day(job, day)
    write_day(tmp_path, DAYS[1], f0=[1.0] * 60)
    shown = backfill(job, *range_of(DAYS[0], DAYS[2]), "--dry-run")
    assert [line.split()[1] for line in shown.stdout.splitlines()[1:4]] == ["left:", "refused", "run"]
    done = backfill(job, *range_of(DAYS[0], DAYS[2]), stub=stub)
    assert done.exit_code == 2
    assert [path.stem for path in stub.glob("*.json")] == [DAYS[2]]
    rows = [line.split() for line in done.stdout.splitlines()[1:4]]
    assert [row[1:3] for row in rows] == [["published", "before"], ["refused", "-"], ["published", "-"]]
    assert "numbers-2026-11-02 was published with other input" in done.stdout


@pytest.mark.servers
@pytest.mark.timeout(600)
@pytest.mark.parametrize("output", [{"mode": "append", "passthrough": ["id"]}, BY_DAY], ids=["append", "by day"])
def test_counts_of_parallel_dates_add_up(tmp_path: Path, output: dict[str, Any]) -> None:
    """Dates that drivers run side by side into one output stand there whole and once, also after a second call."""
    model = model_at(tmp_path / "m.onnx", 1.0)
    for day in DAYS[:3]:
        write_day(tmp_path, day)
    job = daily_job(tmp_path, model, output, spark={"master": "local[1]"})
    words = (*range_of(DAYS[0], DAYS[2]), "--parallel", 2)
    done = backfill(job, *words)
    assert done.exit_code == 0, done.output
    wanted = {key: score for day in DAYS[:3] for key, score in oracle(tmp_path, day, model).items()}
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)
    assert [line.split()[1:3] for line in done.stdout.splitlines()[1:]] == [["published", "60"]] * 3
    again = backfill(job, *words)
    assert (again.exit_code, again.stdout.count("published before")) == (0, 3)
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)
