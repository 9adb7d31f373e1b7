"""The page of a run: it tells what the record tells, obeys nothing that it shows, and fails no run."""

from __future__ import annotations

import json
import math
import re
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from etl.runs.local import LocalStorage
from jobs.cli import app
from jobs.history.runs import find_run
from jobs.record import RunRecord, RunState, load_record
from jobs.report import gathered, leaving
from jobs.report.as_run import AsRun, config_bytes
from jobs.report.gathered import DriftRow, Ended, ended_run, gather
from jobs.report.leaving import leave_report, make_report
from jobs.report.page import page
from tests.jobs.nights import night
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job
from tests.jobs.pages import HOSTILE, PERSONAL, Page, hostile_job
from tests.numbers_job import published_scores

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.planning.destination import Target

PLAIN = AsRun("", "absent")


def asked(*words: object) -> Any:
    """A command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def stored(target: Target) -> str:
    """The page beside a run."""
    return Path(target.layout.report).read_text(encoding="utf-8")


def seconds_made(text: str) -> str:
    """The page without the time at which it was made."""
    return re.sub(r"Made by batchscore .*? from the record", "", text)


@pytest.fixture(scope="module")
def hostile(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A published run all of whose texts are hostile."""
    job = hostile_job(tmp_path_factory.mktemp("hostile"), logistic_onnx)
    assert run_job(job, "r").state is RunState.PARTIALLY_SUCCEEDED
    return find_run(str(job), "r")


def record_of(target: Target) -> RunRecord:
    """The record of a run."""
    record = load_record(target.storage, target.layout.record)
    assert record is not None
    return record


def test_the_page_has_the_numbers_of_the_record(hostile: Target) -> None:
    """Every count and every duration of the page is that of the record, to the last digit."""
    found, record = Page(stored(hostile)), record_of(hostile)
    account = record.account
    for name in ("rows_in", "scored", "quarantined", "filtered"):
        assert found.number(f"account.{name}") == getattr(account, name).rows
    for name in ("rows_in", "scored", "quarantined"):
        assert found.number(name) == getattr(account, name).rows
    assert found.number("seconds") == record.seconds
    for kind, expected in (("wall", record.wall_seconds), ("worker", record.worker_seconds)):
        told = {name.partition(".")[2]: found.number(name) for name in found.facts if name.startswith(f"{kind}.")}
        told.pop("other", None)
        assert told == expected
    assert {name: found.number(f"reason.{name}") for name in record.reasons} == record.reasons
    assert found.number("workers") == record.workers
    assert record.snapshot is not None
    assert found.number("snapshot.files") == record.snapshot.files
    rest = record.seconds - math.fsum(record.wall_seconds.values())
    assert found.number("wall.other") == rest
    assert found.facts["state"] == [record.state.value]
    assert found.facts["run_id"] == ["r"]


def test_scores_are_those_that_were_published(hostile: Target) -> None:
    """Bins and quantiles are numpy's over the published rows, whose number they add up to."""
    [shown] = gather(ended_run(hostile), PLAIN).scores.columns
    folder = Path(hostile.layout.data)
    scores = np.array([*published_scores(folder, "p<b>").values()], dtype=np.float64)
    assert shown.numbers is not None
    assert (shown.rows, shown.nulls, shown.non_finite) == (scores.size, 0, 0)
    assert list(shown.numbers.counts) == np.histogram(scores, shown.numbers.edges)[0].tolist()
    assert sum(shown.numbers.counts) == scores.size == record_of(hostile).account.scored.rows
    quantiles = np.quantile(scores, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), method="inverted_cdf")
    assert list(shown.numbers.quantiles) == quantiles.tolist()
    assert shown.numbers.mean == pytest.approx(scores.mean(), rel=1e-12)


def test_throughput_adds_up_to_the_rows(hostile: Target) -> None:
    """Rows per second by bucket, times the width of a bucket, are the rows; the slowest split comes first."""
    work = gather(ended_run(hostile), PLAIN).work
    assert work.pace is not None
    rows = sum(work.pace.rows_per_second) * work.pace.width
    assert rows == pytest.approx(record_of(hostile).account.rows_in.rows, rel=1e-9)
    spent = [one.seconds for one in work.slowest]
    assert spent == sorted(spent, reverse=True)
    assert sum(one.rows for one in work.slowest) == record_of(hostile).account.rows_in.rows


def test_nothing_from_outside_becomes_markup(hostile: Target) -> None:
    """Names, values, messages and paths with markup in them are shown as they are, and make no element."""
    text = stored(hostile)
    found = Page(text)
    assert "<script" not in text
    assert "<img" not in text
    assert not {tag for tag, _ in found.tags} & {"script", "img", "b>"}
    assert HOSTILE in found.text
    assert "a<b>&c.parquet" in found.text
    assert "p<b>" in found.text
    events = {name for _, attributes in found.tags for name in attributes if name.startswith("on")}
    assert not events


def test_the_page_needs_nothing_but_itself(hostile: Target) -> None:
    """No element refers to anything outside of the page, and its policy lets none be fetched."""
    found = Page(stored(hostile))
    links = [
        attributes.get(name) or ""
        for _, attributes in found.tags
        for name in ("href", "src", "srcset", "action", "data")
        if name in attributes
    ]
    ids = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    assert links
    assert all(link == "data:," or link.removeprefix("#") in ids for link in links)
    policies = [
        attributes["content"]
        for _, attributes in found.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert "@import" not in stored(hostile)
    assert "url(" not in stored(hostile)


def test_rows_that_were_set_aside_are_shown_without_personal_data(hostile: Target) -> None:
    """Three rows of a reason are shown with their place and values; what is personal is masked, as elsewhere."""
    text = stored(hostile)
    assert PERSONAL not in text
    [reason] = gather(ended_run(hostile), PLAIN).reasons.reasons
    assert (reason.name, reason.rows, len(reason.samples)) == ("contract/NOT_ALLOWED", 8, 3)
    lines = [json.loads(line) for line in asked("quarantine", hostile.layout.root, "r", "--json").output.splitlines()]
    expected = [(one["file"], one["row"], one["values"]["person"]) for one in lines[0]["samples"]]
    assert [(one.file, one.row, dict(one.values)["person"]) for one in reason.samples] == expected
    assert dict(reason.samples[0].values)[HOSTILE] == HOSTILE
    assert Page(text).text.count("•••") == 3


def test_the_page_is_made_anew_from_what_is_stored(hostile: Target, tmp_path: Path) -> None:
    """`batchscore report` gives the page that the run left; --out touches nothing beside the run."""
    left = stored(hostile)
    done = asked("report", hostile.layout.root, "r", "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    assert seconds_made((tmp_path / "r.html").read_text(encoding="utf-8")) == seconds_made(left)
    assert stored(hostile) == left
    assert asked("report", hostile.layout.root, "r", "--out", tmp_path / "no" / "r.html").exit_code == 2
    folder = asked("report", hostile.layout.root, "r", "--out", tmp_path)
    told = f"--out {tmp_path}: it is a folder. Name a file, as {tmp_path}/report.html."
    assert (folder.exit_code, told in folder.stderr.replace("\n", " ")) == (2, True)
    loop = tmp_path / "loop.html"
    loop.symlink_to(loop)
    assert asked("report", hostile.layout.root, "r", "--out", loop).exit_code == 2
    Path(hostile.layout.report).unlink()
    assert hostile.layout.report in asked("report", hostile.layout.root).output.replace("\n", "")
    assert seconds_made(stored(hostile)) == seconds_made(left)


def test_the_config_is_kept_as_it_ran(hostile: Target, logistic_onnx: Path) -> None:
    """`config.json` has the bytes whose digest is in the record; the page says where they were changed since."""
    kept = Path(hostile.layout.config)
    before = kept.read_bytes()
    assert sha256(before).hexdigest() == record_of(hostile).config
    assert "Its digest is the record's" in stored(hostile)
    try:
        kept.write_bytes(before.replace(b'"max_rows":100', b'"max_rows":999'))
        assert "it was changed since" in make_report(hostile)
        kept.write_bytes(b"{")
        assert "it was changed since" in make_report(hostile)
        kept.unlink()
        assert "None was kept beside this run" in make_report(hostile)
    finally:
        kept.write_bytes(before)


def test_secrets_are_taken_out_of_the_config(
    tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of the environment that stands in a text of the config is in neither file, and the page says so."""
    from jobs.config.job import read_config

    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    job = write_job(tmp_path, logistic_onnx, doc="made with ${DB_PASSWORD}")
    config = read_config(str(job))
    kept = config_bytes(config)
    assert b"correct horse" not in kept
    assert json.loads(kept)["doc"] == "made with ***"
    record = night(config=sha256(config.model_dump_json().encode()).hexdigest())
    from jobs.report.as_run import as_run_of

    assert as_run_of(kept, record).verdict == "redacted"
    monkeypatch.delenv("DB_PASSWORD")
    plain = read_config(str(write_job(tmp_path, logistic_onnx)))
    assert config_bytes(plain) == plain.model_dump_json().encode()
    assert yaml.safe_load(as_run_of(config_bytes(plain), record).text)["name"] == "numbers"


@pytest.fixture
def held(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> Target:
    """A run that is held back."""
    write_bad_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    assert run_job(job, "held").state is RunState.HELD_BACK
    return find_run(str(job), "held")


def test_a_run_that_is_held_back_shows_what_it_holds(held: Target) -> None:
    """The page has the scores that wait, the reason and the ways on; once a person has decided, it says so."""
    found = Page(stored(held))
    assert found.facts["state"] == ["HELD_BACK"]
    assert f"batchscore publish {held.layout.root} held --accept-errors 4 --reason TEXT" in found.text
    [shown] = gather(ended_run(held), PLAIN).scores.columns
    assert shown.rows == 2 * ROWS - 4
    done = asked("publish", held.layout.root, "held", "--accept-errors", 4, "--reason", "known <b>sensor</b>")
    assert done.exit_code == 0, done.output
    after = Page(stored(held))
    assert after.facts["state"] == ["PARTIALLY_SUCCEEDED"]
    assert "known <b>sensor</b>" in after.text


def test_a_run_that_was_thrown_away_says_so(held: Target) -> None:
    """After `discard` the page tells it, and shows no scores."""
    assert asked("discard", held.layout.root, "held", "--reason", "no use").exit_code == 0
    found = Page(stored(held))
    assert found.facts["state"] == ["DISCARDED"]
    assert "it has no predictions" in found.text


def test_every_ending_leaves_a_page(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A run that failed, one that was stopped and a trial have one; a run that was published before is left alone."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)

    def stop(phase: str) -> None:
        if phase == "settle":
            raise KeyboardInterrupt

    with pytest.raises(Exception, match="stopped by a signal"):
        run_job(job, "r", on_phase=stop)
    assert Page(stored(find_run(str(job), "r"))).facts["state"] == ["CANCELLED"]
    run_job(job, "r")
    target = find_run(str(job), "r")
    found = Page(stored(target))
    assert found.facts["state"] == ["SUCCEEDED"]
    assert found.number("splits_scored_now") == 0
    when = Path(target.layout.report).stat().st_mtime_ns
    run_job(job, "r")
    assert Path(target.layout.report).stat().st_mtime_ns == when
    trial = run_job(job, "t", limit=50)
    page_of_trial = Page(stored(find_run(str(job), "t")))
    assert page_of_trial.number("scored") == trial.account.scored.rows == 50
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"PAR1 is all that it has of a file")
    failed = asked("run", job, "--run-id", "f")
    assert failed.exit_code != 0
    found = Page(stored(find_run(str(job), "f")))
    assert found.facts["state"] == ["FAILED"]
    assert "part-0.parquet" in found.text


def test_a_page_that_is_not_wanted_is_not_made(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """With `report: false` there is none; the config is kept all the same."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, report=False)
    record = run_job(job, "r")
    target = find_run(str(job), "r")
    assert not Path(target.layout.report).exists()
    assert sha256(Path(target.layout.config).read_bytes()).hexdigest() == record.config


def test_a_page_that_cannot_be_written_fails_nothing(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A folder stands where the page is to be: the run is published, and a warning says how to make it."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    (tmp_path / "out" / "_batchscore" / "runs" / "r" / "report.html" / "x").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"the report of run r was not written: .*`batchscore report` makes it"):
        assert run_job(job, "r").state is RunState.SUCCEEDED


def test_a_store_that_hangs_is_given_up(hostile: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run waits for its page for a stated time, and no longer."""
    from jobs.config.job import read_config

    may_answer = threading.Event()

    class Hanging(LocalStorage):
        """A store that answers when it may."""

        def replace(self, path, data):  # noqa: ARG002  it gets no further
            """See `etl.runs.storage.Storage.replace`."""
            may_answer.wait(30)

    monkeypatch.setattr(leaving, "_PATIENCE", 0.05)
    ended = ended_run(hostile)
    config = read_config(str(Path(hostile.layout.root).with_name("job.yaml")))
    with pytest.warns(UserWarning, match="it was not done after"):
        leave_report(ended._replace(target=ended.target._replace(storage=Hanging())), config)
    may_answer.set()
    for thread in threading.enumerate():
        if thread.name == "batchscore-report":
            thread.join(30)


def test_what_there_is_no_time_for_is_told(hostile: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time left the page has the record's numbers, and says what it lacks."""
    monkeypatch.setattr(gathered, "PATIENCE", -1.0)
    found = Page(page(gather(ended_run(hostile), PLAIN)))
    assert found.number("scored") == record_of(hostile).account.scored.rows
    assert "There was no time to read all receipts" in found.text


def test_at_most_so_many_files_are_read(hostile: Target) -> None:
    """Of 10,000 files sixteen are opened at most; what cannot be opened is told."""
    from jobs.report.scores import MOST_FILES, MOST_ROWS, _choose

    ended = ended_run(hostile)
    [first, *_] = ended.receipts
    [written] = first.predictions
    many = [written.model_copy(update={"rows": 1 + 37 * (number % 90)}) for number in range(10_000)]
    chosen = _choose(many)
    assert len(chosen) <= MOST_FILES
    assert sum(one.rows for one in chosen) <= MOST_ROWS
    huge = [written.model_copy(update={"rows": rows}) for rows in (10, 5_000_000)]
    assert [one.rows for one in _choose(huge)] == [1, 99_999]
    gone = written.model_copy(update={"pending": written.pending.model_copy(update={"path": "/gone"})})
    receipt = first.model_copy(update={"predictions": (gone,) * 40})
    shown = page(gather(Ended(ended.target, ended.record, ended.plan, [receipt]), PLAIN))
    assert "16 files cannot be read any more." in Page(shown).text


def test_an_old_record_is_shown(tmp_path: Path) -> None:
    """A record of an older release, without timeline, waiting, versions or model, has a page with what it tells."""
    told = {"run_id", "job", "who", "started_at", "ended_at", "recorded_at", "resumed", "code", "config", "output"}
    plain = night(quarantined=20).model_dump(mode="json", include=told | {"state", "account", "wall_seconds"})
    record = RunRecord.from_bytes(json.dumps({"format": "batchscore.record/1", **plain}).encode(), where="old")
    storage = LocalStorage()
    from etl.runs.layout import Layout
    from jobs.planning.destination import Target

    ended = Ended(Target(storage, Layout(str(tmp_path), record.run_id)), record, None, ())
    found = Page(page(gather(ended, PLAIN)))
    assert found.number("account.scored") == 999_980
    assert found.number("wall.score") == record.wall_seconds["score"]
    assert "None was kept beside this run" in found.text


def test_drift_is_shown_where_there_is_any(hostile: Target) -> None:
    """A row for each measure, with what a sample may put it off by, and its verdict; without rows there is no such
    section.
    """  # noqa: D205  one sentence
    rows = (
        DriftRow(HOSTILE, "psi of the training profile", 0.31, 0.2, "fail", error=0.0123),
        DriftRow("f1", "null rate", None, None, "ok"),
    )
    ended = ended_run(hostile)
    text = page(gather(ended, PLAIN, rows))
    found = Page(text)
    told = " ".join(found.text[found.text.index("Verdict") :].split())
    assert told.startswith(f"Verdict {HOSTILE}psi of the training profile0.31 ± 0.0120.2fail")
    assert re.search("f1null rate[^±]*ok", told)
    assert "<script" not in text
    assert 'id="drift"' not in page(gather(ended, PLAIN))


def test_a_run_without_a_record_is_refused(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A run that is at work, or died, has no page yet."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)

    class Stopped(BaseException):
        """Leaves a run where a death would."""

    def stop(phase: str) -> None:
        if phase == "settle":
            raise Stopped

    with pytest.raises(Stopped):
        run_job(job, "r", on_phase=stop)
    refused = asked("report", job, "r")
    assert refused.exit_code == 2
    assert "batchscore status" in refused.output
