"""Who scored what with what, by the collected records; and what was done to them since shows."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from etl.runs.storage import storage_for
from jobs.cli import app
from jobs.monitoring.collected import collect
from jobs.monitoring.sealing import KEY, Seal, check_seals, seal_ending
from jobs.monitoring.tasks import tasks_table
from jobs.planning.models import ModelFacts
from jobs.planning.sources import Source
from jobs.record import RunRecord, RunState, Snapshot
from tests.jobs.nights import night
from tests.jobs.outputs import run_job, write_input, write_job

if TYPE_CHECKING:
    from pathlib import Path

NIGHTS = 5


def model(name: str, version: str, digest: str) -> ModelFacts:
    """A model whose bundle's digest begins so."""
    return ModelFacts(name=name, version=version, bundle_sha256=digest * 8, spec_digest="5" * 64, facts={})


def files(*places: str) -> tuple[Source, ...]:
    """Patterns of a run's input."""
    return tuple(Source(kind="files", place=place) for place in places)


def records() -> list[RunRecord]:
    """Nights of a job, as several people ran them."""
    return [
        night(0, who="ann@a", inputs=files("s3://b/in/*.parquet"), output="s3://b/out/run_id=night-00"),
        night(1, who="ben@b", model=model("late", "2", "0123abcd"), inputs=files("s3://b/other/in")),
        night(2, who="ann@c", state=RunState.FAILED, model=None, manifest=None),
        night(3, who="svc@c", decided_by="ann@a", accepted="known", quarantined=3, inputs=files("s3://b/in/x.parquet")),
        night(4, job="boats", who="ben@b", snapshot=Snapshot(files=3, bytes=9, digest="d" * 64)),
    ]


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """Where they are collected."""
    for record in records():
        collect(str(tmp_path / "metrics"), record, tasks_table((), ()))
    return tmp_path / "metrics"


def asked(metrics: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """What the command says to programs."""
    done = CliRunner().invoke(app, ["audit", "--metrics", str(metrics), "--json", *options])
    assert done.exit_code == code, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def runs_of(told: dict[str, Any]) -> list[str]:
    """Ids, the newest first."""
    return [one["run_id"] for one in told["endings"]]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], "4 3 2 1 0"),
        (["--job", "boats"], "4"),
        (["--user", "ann"], "3 2 0"),
        (["--user", "ann@a"], "3 0"),
        (["--model", "late-flights"], "4 3 0"),
        (["--model", "late-flights:2026-11-01"], "4 3 0"),
        (["--model", "late:2"], "1"),
        (["--model", "late:3"], ""),
        (["--model", "0123abcd01"], "1"),
        (["--model", "0123"], ""),
        (["--data", "s3://b/in"], "3 0"),
        (["--data", "s3a://b//in"], "3 0"),
        (["--data", "s3://b/out"], "0"),
        (["--data", "s3://b/in/part-1.parquet"], "0"),
        (["--data", "s3://b/other/in/part-1.parquet"], "1"),
        (["--data", "s3://b/in/part-1.csv"], ""),
        (["--since", "2026-10-04"], "4 3"),
        (["--since", "2026-10-02T02:00", "--until", "2026-10-03"], "1"),
        (["--user", "ann", "--data", "s3://b/in", "--since", "2026-10-02"], "3"),
    ],
)
def test_each_question_has_its_answer(metrics: Path, options: list[str], wanted: str) -> None:
    """Of five nights those are told to which all that is said applies, the newest first."""
    assert runs_of(asked(metrics, *options)) == [f"night-0{number}" for number in wanted.split()]


def test_seals_are_told_of_where_no_run_is_asked_for(metrics: Path) -> None:
    """Where no ending matches, people still read whether all is as it was sealed."""
    words = ["audit", "--metrics", str(metrics), "--model", "none"]
    shown = CliRunner().invoke(app, words).stdout
    assert shown.splitlines()[:2] == ["No record is of such a run.", "all seals are ok"]
    in_folder(metrics, "records", 0).write_bytes(b"{}")
    done = CliRunner().invoke(app, [*words, "--since", "2026-10-09"])
    assert (done.exit_code, "all seals are ok" in done.stdout) == (1, False)
    assert "changed: flights: night-00" in done.stdout
    shutil.rmtree(metrics / "flights" / "seals")
    assert "there are no seals" in CliRunner().invoke(app, [*words, "--job", "flights", "--since", "2026-10-09"]).stdout


def test_an_answer_says_who_scored_what_with_what(metrics: Path) -> None:
    """All of a record that an auditor asks for is told, to people and to programs."""
    [told] = asked(metrics, "--job", "flights", "--since", "2026-10-04")["endings"]
    record = records()[3]
    assert record.model is not None
    assert (told["who"], told["decided_by"], told["accepted"]) == ("svc@c", "ann@a", "known")
    assert told["models"][0]["bundle_sha256"] == record.model.bundle_sha256
    assert told["models"][0]["spec_digest"] == record.model.spec_digest
    assert told["rows"] == {"in": 1_000_000, "scored": 999_997, "quarantined": 3, "filtered": 0}
    assert [one["place"] for one in told["inputs"]] == ["s3://b/in/x.parquet"]
    assert (told["state"], told["seal"]) == ("PARTIALLY_SUCCEEDED", "ok")
    shown = CliRunner().invoke(app, ["audit", "--metrics", str(metrics), "--user", "ann"]).output
    for word in ("night-03", "ann@a", "late-flights:2026-11-01", "ok", "newest seal of flights: "):
        assert word in shown


def shown_at(width: int, metrics: Path) -> str:
    """What a person sees on a terminal of so many columns; its exit code is 0."""
    done = CliRunner().invoke(
        app, ["audit", "--metrics", str(metrics)], env={"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "dumb"}
    )
    assert done.exit_code in {0, 1}, done.output
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_eighty_columns_say_who_scored_what_with_what_and_when(metrics: Path) -> None:
    """On a terminal of 80 columns each of these is there, whole or folded, of every ending.

    A line says that all seals are ok; they take a column only where one is not.
    """
    shown = shown_at(80, metrics)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split("  ")[0] == "when (UTC)"
    assert {"who", "state", "model", "input"} <= set(lines[0].split())
    assert "seal" not in lines[0].split()
    assert "all seals are ok" in lines
    assert "inputs are below s3://b/" in lines
    # A cell is folded into lines of its own column.
    starts = [lines[0].index(name) for name in ("when (UTC)", "who", "state", "model", "input")]
    ends = [*starts[1:], 80]
    body = lines[2 : lines.index("inputs are below s3://b/")]
    columns = ["".join(line[start:end].strip() for line in body) for start, end in zip(starts, ends, strict=True)]
    for record in records():
        assert f"{record.recorded_at:%Y-%m-%d}" in columns[0]
        assert (record.decided_by or record.who) in columns[1]
        assert str(record.state).replace("PARTIALLY_SUCCEEDED", "PARTIAL") in columns[2]
    assert columns[3].count("late-flights:2026-11-01") == 3
    assert columns[4].startswith("-in/x.parquet")
    assert "other/in" in columns[4]
    place, user = "s3://history-of-all-flights/carrier=LH/year=2026/*.parquet", "svc-scoring@ip-10-0-12-7"
    collect(str(metrics), night(5, who=user, inputs=files(place)), tasks_table((), ()))
    lines = shown_at(80, metrics).splitlines()
    assert max(map(len, lines)) <= 80
    start = lines[0].index("input")
    until = next(at for at, line in enumerate(lines) if "2026-10-05" in line)
    assert "".join(line[start:80].strip() for line in lines[2:until]) == place
    next((metrics / "flights" / "records").glob("night-01.*")).write_bytes(b"\xff{")
    broken = shown_at(80, metrics)
    assert broken.split()[0] == "seal"
    assert "all seals are ok" not in broken


def test_a_run_is_audited_from_what_it_left(spark, tmp_path, logistic_onnx) -> None:
    """A real run is found by its input, its model and its user; two endings of one run are two lines."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, metrics={"uri": str(tmp_path / "metrics")})
    record = run_job(job, "r")
    for options in (["--data", str(tmp_path / "in")], ["--user", record.who], ["--data", str(tmp_path / "out")]):
        done = CliRunner().invoke(app, ["audit", "--config", str(job), "--json", *options])
        assert done.exit_code == 0, done.output
        [told] = json.loads(done.stdout)["endings"]
        assert (told["run_id"], told["manifest"], told["seal"]) == ("r", 1, "ok")
        assert [one["place"] for one in told["inputs"]] == [str(tmp_path / "in"), str(logistic_onnx)]
    collect(str(tmp_path / "metrics"), record.model_copy(update={"recorded_at": datetime.now(UTC)}))
    assert runs_of(asked(tmp_path / "metrics")) == ["r", "r"]


def test_a_record_of_an_older_release_is_read_and_unsealed(metrics: Path) -> None:
    """Records without the newer keys, from before seals, are told, are not called tampered, and do not fail."""
    for path in (metrics / "flights" / "seals").iterdir():
        path.unlink()
    for path in (metrics / "flights" / "records").iterdir():
        plain = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in plain.items() if key not in {"inputs", "decided_by"}}))
    told = asked(metrics, "--job", "flights")
    assert {one["seal"] for one in told["endings"]} == {"unsealed"}
    assert told["findings"] == []
    assert runs_of(asked(metrics, "--data", "s3://b/in")) == []
    collect(str(metrics), night(9), tasks_table((), ()))
    told = asked(metrics, "--job", "flights")
    assert [one["seal"] for one in told["endings"]] == ["ok", *["unsealed"] * 4]
    next((metrics / "flights" / "records").glob("night-01.*")).unlink()
    [found] = asked(metrics, "--job", "flights", code=1)["findings"]
    assert (found["what"], found["ending"].partition(".")[0]) == ("missing", "night-01")


def test_a_record_that_cannot_be_read_is_a_line(metrics: Path) -> None:
    """Of a damaged record nobody knows what it says, so it is told whatever was asked; the others are told as well."""
    next((metrics / "flights" / "records").glob("night-01.*")).write_bytes(b"\xff{")
    told = asked(metrics, "--user", "ann", code=1)
    assert [(one["run_id"], one["state"], one["seal"]) for one in told["endings"]] == [
        ("night-03", "PARTIALLY_SUCCEEDED", "ok"),
        ("night-02", "FAILED", "ok"),
        ("night-01", "UNREADABLE", "changed"),
        ("night-00", "SUCCEEDED", "ok"),
    ]


def in_folder(metrics: Path, kind: str, number: int) -> Path:
    """The file of a night."""
    [found] = (metrics / "flights" / kind).glob(f"night-{number:02}.*")
    return found


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five nights of one job, sealed."""
    folder = tmp_path_factory.mktemp("sealed") / "metrics"
    for number in range(NIGHTS):
        collect(str(folder), night(number), tasks_table((), ()))
    return folder


def findings(metrics: Path) -> set[tuple[str, str]]:
    """Night and kind of all that is wrong."""
    found = check_seals(*storage_for(f"{metrics}/flights"))
    return {(one.ending.partition(".")[0].removeprefix("night-"), one.what) for one in found.findings}


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_shows(untouched: Path, data: st.DataObject) -> None:
    """Whichever byte of a record, of a table or of any seal but the newest is another, its ending is called changed."""
    kind = data.draw(st.sampled_from(["records", "tasks", "seals"]))
    number = data.draw(st.integers(0, NIGHTS - 1 - (kind == "seals")))
    path = in_folder(untouched, kind, number)
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    other = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(before[:place] + bytes([before[place] ^ other]) + before[place + 1 :])
        found = findings(untouched)
    finally:
        path.write_bytes(before)
    assert (f"{number:02}", "changed") in found
    assert findings(untouched) == set()


@pytest.fixture
def sealed(untouched: Path, tmp_path: Path) -> Path:
    """A copy, to be tampered with."""
    shutil.copytree(untouched, tmp_path / "metrics")
    return tmp_path / "metrics"


@pytest.mark.parametrize("kind", ["records", "tasks", "seals"])
def test_a_folder_in_the_place_of_a_file_hides_no_other_ending(sealed: Path, kind: str) -> None:
    """It is told as unreadable, once; every ending is a line still, and later ones are sealed, whole where it goes."""
    path = in_folder(sealed, kind, 1)
    before = path.read_bytes()
    path.unlink()
    path.mkdir()
    told = asked(sealed, "--user", "nobody" if kind == "records" else "me", code=1)
    [found] = told["findings"]
    assert (found["what"], found["ending"].partition(".")[0]) == ("unreadable", "night-01")
    assert str(path) in found["told"]
    assert "another folder" not in found["told"]
    lines = {one["run_id"]: (one["state"] == "UNREADABLE", one["seal"]) for one in told["endings"]}
    assert lines["night-01"] == (kind == "records", "unreadable")
    assert len(lines) == (1 if kind == "records" else NIGHTS)
    assert collect(str(sealed), night(NIGHTS), tasks_table((), ())) is not None
    assert findings(sealed) == {("01", "unreadable")}
    path.rmdir()
    path.write_bytes(before)
    assert findings(sealed) == set()


def test_what_is_whole_is_called_whole(sealed: Path) -> None:
    """Nothing is found where nothing was done."""
    assert findings(sealed) == set()
    assert asked(sealed)["findings"] == []


@pytest.mark.parametrize("number", range(NIGHTS))
def test_a_record_that_is_gone_shows(sealed: Path, number: int) -> None:
    """A record that was removed is missing; so is a table of tasks."""
    in_folder(sealed, "records", number).unlink()
    assert findings(sealed) == {(f"{number:02}", "missing")}
    in_folder(sealed, "tasks", (number + 1) % NIGHTS).unlink()
    assert len(findings(sealed)) == 2
    done = CliRunner().invoke(app, ["audit", "--metrics", str(sealed)])
    assert done.exit_code == 1
    assert f"missing: flights: {'night-'}{number:02}" in done.output.replace("\n", " ")


@pytest.mark.parametrize("number", range(NIGHTS - 1))
def test_an_ending_that_is_gone_with_its_seal_shows(sealed: Path, number: int) -> None:
    """Whoever removes an ending and its seal is told by the seals that follow it."""
    for kind in ("records", "tasks", "seals"):
        in_folder(sealed, kind, number).unlink()
    assert findings(sealed) == {(f"{number:02}", "missing")}


def test_records_that_change_places_show(sealed: Path) -> None:
    """Two records under each other's names are both changed, where their seals stay and where they move along."""
    for kinds in (["records"], ["records", "tasks", "seals"]):
        for kind in kinds:
            one, other = in_folder(sealed, kind, 1), in_folder(sealed, kind, 3)
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
        assert {("01", "changed"), ("03", "changed")} <= findings(sealed)


def test_a_record_that_was_added_shows(sealed: Path) -> None:
    """A record that no run sealed is told, whenever it says that it was written."""
    for number in (7, 2):
        forged = night(number, run_id="night-99", who="nobody@nowhere")
        name = in_folder(sealed, "records", 0).name.replace("night-00", "night-99")
        (sealed / "flights" / "records" / name).write_bytes(forged.to_bytes())
        assert findings(sealed) == {("99", "added")}
        assert asked(sealed, "--user", "nobody", code=1)["endings"][0]["seal"] == "added"


def test_the_newest_ending_is_missed_by_who_knows_its_seal(sealed: Path) -> None:
    """Nobody follows the newest seal: that it is gone shows to those to whom it was told, and to no one else."""
    newest = asked(sealed)["newest_seals"]["flights"]
    asked(sealed, "--seal", newest)
    for kind in ("records", "tasks", "seals"):
        in_folder(sealed, kind, NIGHTS - 1).unlink()
    assert asked(sealed)["findings"] == []
    [found] = asked(sealed, "--seal", newest, code=1)["findings"]
    assert (found["what"], newest in found["told"]) == ("missing", True)


def test_runs_that_end_together_are_all_followed(tmp_path: Path) -> None:
    """Seals that were made without each other are followed by later ones, so that none of them can be taken away."""
    place = tmp_path / "metrics" / "flights" / "seals"
    for number in range(3):
        collect(str(tmp_path / "metrics"), night(number), tasks_table((), ()))
        if number:
            # As though both had looked before the other was there.
            seal = Seal.from_bytes(in_folder(tmp_path / "metrics", "seals", number).read_bytes(), where="seal")
            kept = tuple(one for one in seal.follows if one.ending.startswith("night-00"))
            in_folder(tmp_path / "metrics", "seals", number).write_bytes(
                seal.model_copy(update={"follows": kept}).to_bytes()
            )
    collect(str(tmp_path / "metrics"), night(3), tasks_table((), ()))
    assert findings(tmp_path / "metrics") == set()
    assert len(list(place.iterdir())) == 4
    for kind in ("records", "tasks", "seals"):
        in_folder(tmp_path / "metrics", kind, 1).unlink()
    assert findings(tmp_path / "metrics") == {("01", "missing")}


def test_a_chain_that_is_made_anew_shows_to_who_has_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key a forged ending with a seal of its own is whole; with it neither that nor another key passes."""
    metrics = tmp_path / "metrics"
    monkeypatch.setenv(KEY, "a key that is long enough")
    for number in range(2):
        collect(str(metrics), night(number), tasks_table((), ()))
    assert findings(metrics) == set()
    monkeypatch.delenv(KEY)
    collect(str(metrics), night(2, who="nobody@nowhere"), tasks_table((), ()))
    assert findings(metrics) == set()
    monkeypatch.setenv(KEY, "another key, by guessing")
    collect(str(metrics), night(3), tasks_table((), ()))
    monkeypatch.setenv(KEY, "a key that is long enough")
    assert findings(metrics) == {("02", "unsigned"), ("03", "changed")}


def test_a_chain_without_any_signature_shows_to_who_has_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no key may change a record and make all seals anew: to who has it, the newest of them lacks its own."""
    monkeypatch.setenv(KEY, "a key that is long enough")
    for number in range(3):
        collect(str(tmp_path), night(number))
    assert findings(tmp_path) == set()
    monkeypatch.delenv(KEY)
    storage, folder = storage_for(str(tmp_path / "flights"))
    records = sorted((tmp_path / "flights" / "records").iterdir())
    records[1].write_bytes(records[1].read_bytes() + b"\n")
    for path in records:
        (tmp_path / "flights" / "seals" / path.name).unlink()
    for path in records:
        seal = Seal(job="flights", ending=path.stem, record_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        seal_ending(storage, folder, seal)
    assert findings(tmp_path) == set(), "without the key nobody can tell"
    monkeypatch.setenv(KEY, "a key that is long enough")
    assert findings(tmp_path) == {("02", "unsigned")}


def test_a_seal_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    """A run whose record cannot be sealed has ended as its record says."""
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "seals").write_text("in the way")
    with pytest.warns(UserWarning, match="not collected, or not sealed"):
        assert collect(str(tmp_path), night(0), tasks_table((), ())) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "give one of --metrics and --config"),
        (["--metrics", "{metrics}", "--config", "x.yaml"], "give one of --metrics and --config"),
        (["--metrics", "{metrics}", "--job", "fligths"], "There are: boats, flights"),
        (["--metrics", "{metrics}/nowhere"], "no record at all is here. Give the place that `metrics.uri`"),
        (["--metrics", "{metrics}/flights"], "records of job 'flights' alone. Give {metrics}, and --job flights"),
        (["--metrics", "{metrics}", "--since", "yesterday"], "'yesterday' is no time"),
    ],
)
def test_what_cannot_be_asked_is_refused(metrics: Path, options: list[str], told: str) -> None:
    """A question that has no answer is refused with what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(app, ["audit", *(one.format(metrics=metrics) for one in options)])
    assert done.exit_code == 2
    assert told.format(metrics=metrics) in done.output.replace("\n", " ")
