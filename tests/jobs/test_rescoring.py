"""What a bad model has scored is scored again: just that, once, with the new model's scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from etl.errors import Superseded
from jobs.cli import app
from jobs.config.job import read_config
from jobs.config.variables import ANY_DATE
from jobs.errors import ConfigError
from jobs.results import open_results
from jobs.run import RunRequest, run
from jobs.scheduling.errands import Asked
from jobs.scheduling.rescoring import errands_with, look_back, new_model, touched_by
from tests.jobs.days import BY_DAY, DAYS, daily_job, model_at, oracle, published, run_day, write_day
from tests.jobs.outputs import write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from typer.testing import Result


def rescore(job: Path, good: Path, bad: str, *words: object) -> Result:
    """Run the command in this process."""
    asked = ["backfill", str(job), "--rescore-with", str(good), "--touched-by", bad, *map(str, words)]
    return CliRunner().invoke(app, asked)


def rescored_here(job: Path, good: Path, bad: str) -> list[str]:
    """What the command does, with its runs in this process, one after the other; their ids."""
    asked = Asked(str(job))
    config = look_back(asked)
    new = new_model(config, str(good))
    errands = errands_with(asked, new, touched_by(asked, config, bad, new=new))
    for errand in errands:
        run(errand.request)
    return [errand.run_id for errand in errands]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the newest version, by path."""
    paths = open_results(str(folder / "out")).files.column("path").to_pylist()
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A good one and a bad one, told apart by their names."""
    return model_at(tmp_path / "good.onnx", 1.0), model_at(tmp_path / "bad.onnx", -1.0)


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path, models: tuple[Path, Path]) -> Path:
    """Four days, of which the bad model scored the second and the third."""
    del spark
    job = daily_job(tmp_path, models[0], BY_DAY, metrics={"uri": str(tmp_path / "metrics")})
    for day in DAYS:
        write_day(tmp_path, day)
        run_day(job, day, *([f"model.onnx={models[1]}"] if day in DAYS[1:3] else []))
    return job


def test_just_what_the_bad_model_scored_is_scored_again(job: Path, tmp_path: Path, models: tuple[Path, Path]) -> None:
    """Each row stands there once, with onnxruntime's score of the new model; files of other days are the same bytes;
    and a second call finds nothing to do.
    """  # noqa: D205  one sentence
    good, bad = models
    before = digests(tmp_path)
    assert published(tmp_path) == pytest.approx(
        {key: score for day in DAYS for key, score in oracle(tmp_path, day, bad if day in DAYS[1:3] else good).items()},
        abs=1e-6,
    )
    shown = rescore(job, good, "onnx-bad", "--dry-run")
    assert shown.exit_code == 0, shown.output
    lines = [line.split()[:2] for line in shown.stdout.splitlines()]
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    assert lines[1:3] == [[day, f"numbers-{day}"] for day in DAYS[1:3]]
    assert [line for line in lines[1:] if line[1:] == ["run"]] == [[day, "run"] for day in DAYS[1:3]]
    assert digests(tmp_path) == before
    assert rescored_here(job, good, "onnx-bad") == [f"numbers-{day}-with-{digest[:8]}" for day in DAYS[1:3]]
    wanted = {key: score for day in DAYS for key, score in oracle(tmp_path, day, good).items()}
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)
    after = digests(tmp_path)
    assert {path for path in before if f"day={DAYS[0]}" in path or f"day={DAYS[3]}" in path} == before.keys() & after
    assert all(after[path] == before[path] for path in before.keys() & after)
    again = rescore(job, good, "onnx-bad")
    assert (again.exit_code, "there is nothing to do" in again.stdout) == (0, True)
    # What a schedule runs again is published already, and does not bring the bad scores back.
    run_day(job, DAYS[1], f"model.onnx={bad}")
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)


def test_dates_bound_what_is_scored_again(job: Path, models: tuple[Path, Path]) -> None:
    """With `--from` and `--to` days outside of them are left; a model is named by version and digest, too."""
    record = json.loads(CliRunner().invoke(app, ["show", str(job), f"numbers-{DAYS[1]}", "--json"]).stdout)
    bad = record["model"]
    for name in ("onnx-bad", f"{bad['name']}:{bad['version']}", bad["bundle_sha256"][:8]):
        shown = rescore(job, models[0], name, "--from", DAYS[2], "--dry-run")
        assert [line.split()[0] for line in shown.stdout.splitlines()[1:2]] == [DAYS[2]]
        assert DAYS[1] not in shown.stdout
    shown = rescore(job, models[0], "onnx-bad", "--to", DAYS[0], "--dry-run")
    assert "there is nothing to do" in shown.stdout


def test_a_model_that_no_run_used_is_refused(job: Path, models: tuple[Path, Path]) -> None:
    """A name that is a slip is told, with those that there are; nothing is taken for done."""
    done = rescore(job, models[0], "onnx-bat")
    assert done.exit_code == 2
    assert "no run of this job was scored by 'onnx-bat'. Its runs were scored by: onnx-bad:" in done.stderr


def test_a_model_is_not_replaced_by_itself(job: Path, models: tuple[Path, Path]) -> None:
    """Where the new model is the one whose scores are to go, that is told, and not that there is nothing to do."""
    done = rescore(job, models[1], "onnx-bad", "--dry-run")
    assert done.exit_code == 2
    assert "so the new model is the one that is to be replaced" in done.stderr


def test_a_dry_run_with_nothing_to_do_shows_no_table(job: Path, models: tuple[Path, Path]) -> None:
    """One line says it all."""
    shown = rescore(job, models[0], "onnx-bad", "--to", DAYS[0], "--dry-run")
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 1), shown.stdout


def test_what_later_runs_replaced_does_not_come_back(
    spark: SparkSession, tmp_path: Path, models: tuple[Path, Path]
) -> None:
    """Where a later run replaced a folder of the bad one, that run is told and not scored again: its input has those
    rows, too.
    """  # noqa: D205  one sentence
    del spark
    good, bad = models
    job = daily_job(tmp_path, good, BY_DAY)
    write_day(tmp_path, DAYS[0], rows_of=DAYS[:2])
    write_day(tmp_path, DAYS[1])
    run_day(job, DAYS[0], f"model.onnx={bad}")
    run_day(job, DAYS[1])
    before = digests(tmp_path)
    done = rescore(job, good, "onnx-bad")
    assert done.exit_code == 2
    told = f"run numbers-{DAYS[0]} cannot be scored again: later runs replaced 1 folder of it, day={DAYS[1]} among them"
    assert told in done.stdout
    assert digests(tmp_path) == before


def test_a_run_without_a_date_is_scored_by_hand(spark: SparkSession, tmp_path: Path, models: tuple[Path, Path]) -> None:
    """A run by hand is told with the setting that publishes another in its place, which then does just that."""
    del spark
    good, bad = models
    write_day(tmp_path, DAYS[0])
    output = {"uri": str(tmp_path / "out"), **BY_DAY}
    by_hand = write_job(tmp_path, bad, input={"files": str(tmp_path / "in")}, output=output)
    run(RunRequest(config=read_config(str(by_hand)), run_id="by-hand"))
    job = daily_job(tmp_path, good, BY_DAY)
    done = rescore(job, good, "onnx-bad")
    assert (done.exit_code, "--set output.replaces=by-hand" in done.stdout) == (2, True)
    run_day(job, DAYS[0], "output.replaces=by-hand", run_id="mended")
    assert published(tmp_path) == pytest.approx(oracle(tmp_path, DAYS[0], good), abs=1e-6)


def test_a_run_replaces_the_other_whole_and_alone(
    spark: SparkSession, tmp_path: Path, models: tuple[Path, Path]
) -> None:
    """Where the input has rows of other days by now, or of fewer, nothing is published, and which day it is is told."""
    del spark
    good, bad = models
    job = daily_job(tmp_path, good, BY_DAY)
    write_day(tmp_path, DAYS[0], rows_of=DAYS[:2])
    run_day(job, DAYS[0], f"model.onnx={bad}")
    before = digests(tmp_path)
    replaces = f"output.replaces=numbers-{DAYS[0]}"
    write_day(tmp_path, DAYS[0], rows_of=DAYS[:3])
    with pytest.raises(Superseded, match=f"this run has rows in day={DAYS[2]} and numbers-{DAYS[0]} has none"):
        run_day(job, DAYS[0], replaces, run_id="more")
    write_day(tmp_path, DAYS[0], rows_of=DAYS[:1])
    with pytest.raises(Superseded, match=f"numbers-{DAYS[0]} has rows in day={DAYS[1]} and this run has none"):
        run_day(job, DAYS[0], replaces, run_id="fewer")
    assert digests(tmp_path) == before
    assert not list(tmp_path.rglob("*.inprogress"))


def test_a_run_that_is_not_published_cannot_be_replaced(
    spark: SparkSession, tmp_path: Path, models: tuple[Path, Path]
) -> None:
    """A run is refused before it scores, where the newest version does not hold the one in whose place it is to be."""
    del spark
    job = daily_job(tmp_path, models[0], BY_DAY)
    write_day(tmp_path, DAYS[0])
    done = CliRunner().invoke(app, ["run", str(job), "--logical-date", DAYS[0], "--set", "output.replaces=other"])
    assert done.exit_code == 2
    assert "version 0 does not hold run other, in whose place" in done.stderr


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"output": {"mode": "append"}},
            "output.mode is `append`, which replaces nothing",
        ),
        ({"output": BY_DAY, "model": None, "models": [{"name": "a", "onnx": "a.onnx"}]}, "the job has several models"),
    ],
)
def test_what_cannot_be_replaced_is_refused(tmp_path: Path, sections: dict[str, Any], told: str) -> None:
    """With what to do, before anything is looked for."""
    output = {"uri": str(tmp_path / "out"), **sections.pop("output")}
    job = write_job(tmp_path, tmp_path / "m.onnx", output=output, **sections)
    done = rescore(job, tmp_path / "m.onnx", "bad")
    assert (done.exit_code, told in done.stderr) == (2, True), done.stderr


def test_what_appends_replaces_nothing(tmp_path: Path) -> None:
    """A config that is to replace a run, and whose mode replaces nothing, is refused."""
    job = write_job(tmp_path, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="`mode: append` replaces nothing that is published"):
        read_config(str(job), ("output.replaces=r",), date=ANY_DATE)


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_drivers_score_again(job: Path, tmp_path: Path, models: tuple[Path, Path]) -> None:
    """The command as people give it, with drivers of its own, two at a time, does the same."""
    done = rescore(job, models[0], "onnx-bad", "--parallel", 2, "--set", "spark.master=local[1]")
    assert done.exit_code == 0, done.output
    lines = [line.split()[:3] for line in done.stdout.splitlines() if " published " in line]
    assert lines == [[day, "published", "60"] for day in DAYS[1:3]]
    wanted = {key: score for day in DAYS for key, score in oracle(tmp_path, day, models[0]).items()}
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)
