"""Configs that say the date of their run: who fills it in, who can do without, and who has to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.job import read_config
from jobs.config.variables import ANY_DATE, date_text, logical_date
from jobs.errors import ConfigError, Refused
from jobs.history.runs import find_run, look_at
from jobs.record import RunState
from tests.jobs.days import BY_DAY, daily_job, model_at, run_day, write_day
from tests.jobs.outputs import write_job

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from typer.testing import Result


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(app, [str(word) for word in words])


def doc_of(folder: Path, text: str, date: str | None) -> str | None:
    """What the doc of a config becomes that says `text` there."""
    job = write_job(folder, folder / "m.onnx", doc=text)
    return read_config(str(job), date=logical_date(date) if date is not None else None).doc


@pytest.mark.parametrize(
    ("text", "date", "found"),
    [
        ("day=${LOGICAL_DATE}", "2026-11-26", "day=2026-11-26"),
        ("${LOGICAL_DATE}/${LOGICAL_HOUR}", "2026-11-26T06:30:00+00:00", "2026-11-26/06"),
        ("${LOGICAL_DATE}/${LOGICAL_HOUR}", "2026-11-26T01:30:00+02:00", "2026-11-25/23"),
        ("${LOGICAL_DATE}/${LOGICAL_HOUR}", "2026-11-26T06:30:00", "2026-11-26/06"),
        ("${LOGICAL_DATE:-never}", None, "never"),
        ("${LOGICAL_DATE:-never}", "1970-01-01", "1970-01-01"),
    ],
)
def test_the_date_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, date: str | None, found: str
) -> None:
    """Date and hour are those of the logical date in UTC, whatever the environment and the clock's zone say."""
    monkeypatch.setenv("LOGICAL_DATE", "1999-09-09")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert doc_of(tmp_path, text, date) == found


def test_a_run_without_its_date_is_refused(tmp_path: Path) -> None:
    """A config that says the date, run without one, is refused with its place and what to give."""
    job = daily_job(tmp_path, tmp_path / "m.onnx", {})
    for command in ("run", "plan", "validate", "doctor"):
        done = batchscore(command, job)
        assert done.exit_code == 2
        assert "job.yaml:3:3: " in done.stderr
        assert "/input/files: LOGICAL_DATE is not known: give --logical-date 2026-11-26" in done.stderr


@given(st.datetimes(timezones=st.timezones()))
def test_a_date_is_read_as_it_is_told(moment: object) -> None:
    """What is told of a logical date names the same moment again, to the second."""
    once = logical_date(str(moment))
    assert logical_date(date_text(once)) == once
    assert once.utcoffset() is not None


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """A text that is no date, or one that UTC does not have, is refused with one that is."""
    with pytest.raises(Refused, match="is no logical date: write 2026-11-26"):
        logical_date(text)


@pytest.mark.parametrize("place", ["output", "metrics"])
def test_a_place_of_each_date_cannot_be_looked_back_over(tmp_path: Path, place: str) -> None:
    """Where the output, or the records, differ by date, who looks back over all dates is told to name the place."""
    uri = str(tmp_path / "${LOGICAL_DATE}")
    job = write_job(tmp_path, tmp_path / "m.onnx", **{place: {"uri": uri}})
    assert read_config(str(job), date=logical_date("2026-11-26")).name == "numbers"
    with pytest.raises(ConfigError, match=rf"/{place}/uri: LOGICAL_DATE gives each date a place of its own.*name the"):
        read_config(str(job), date=ANY_DATE)
    assert batchscore("history", job).exit_code == 2


def test_commands_look_back_without_a_date(spark: SparkSession, tmp_path: Path) -> None:
    """Whatever looks at what was published, or recorded, takes such a config as it is; what plans takes the date."""
    del spark
    write_day(tmp_path, "2026-11-01")
    model = model_at(tmp_path / "m.onnx", 1.0)
    job = daily_job(tmp_path, model, BY_DAY, metrics={"uri": str(tmp_path / "metrics")})
    record = run_day(job, "2026-11-01")
    assert (record.state, record.logical_date) == (RunState.SUCCEEDED, logical_date("2026-11-01"))
    assert look_at(find_run(str(job))).record == record
    run_id = "numbers-2026-11-01"
    for words in (
        ("history", job),
        ("show", job, run_id),
        ("results", job),
        ("status", job, run_id),
        ("report", job, run_id),
        ("versions", job),
        ("quarantine", job, run_id),
        ("audit", "--config", job),
        ("gc", job, "--dry-run"),
        ("plan", job, "--logical-date", "2026-11-01"),
        ("validate", job, "--logical-date", "2026-11-01"),
    ):
        done = batchscore(*words)
        assert done.exit_code == 0, (words, done.output)
    assert "logical date: 2026-11-01" in batchscore("show", job).stdout
    done = batchscore("run", job, "--logical-date", "2026-11-01")
    assert (done.exit_code, "it was published before" in done.stderr) == (0, True)


def test_rows_that_were_set_aside_are_scored_again_for_their_date(spark: SparkSession, tmp_path: Path) -> None:
    """Rows of a day that are resubmitted are read with the config of that day, and their run is of that day."""
    del spark
    write_day(tmp_path, "2026-11-01", f0=[None, *[1.0] * 59])
    job = daily_job(
        tmp_path, model_at(tmp_path / "m.onnx", 1.0), {"passthrough": ["id"]}, budgets={"contract": {"max_rows": 1}}
    )
    run_day(job, "2026-11-01")
    write_day(tmp_path, "2026-11-01")
    done = batchscore("quarantine", job, "numbers-2026-11-01", "--resubmit", "--run-id", "again")
    assert done.exit_code == 0, done.output
    record = look_at(find_run(str(job), "again")).record
    assert record is not None
    assert (record.account.scored.rows, record.logical_date) == (1, logical_date("2026-11-01"))
