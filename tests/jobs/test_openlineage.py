"""What OpenLineage is told of runs: valid events, the datasets by their names, and where each column comes from."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.monitoring.openlineage_events import event_of_end, run_uuid
from jobs.monitoring.openlineage_names import DatasetName, data_names, name_of_place, name_of_source
from jobs.monitoring.settings import OpenLineage
from jobs.monitoring.sinks import Deliveries, Ended
from jobs.monitoring.tasks import tasks_table
from jobs.planning.sources import Source
from jobs.record import ErrorFacts, RunState
from jobs.settling.decisions import discard_run, publish_run
from tests.jobs.nights import night
from tests.jobs.openlineage_schema import problems
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job
from tests.jobs.test_sinks import until_none_is_left
from tests.lookup_job import write_lookup_job
from tests.stores.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobs.record import RunRecord


def events_of(path: Path) -> list[dict[str, Any]]:
    """Events of a file, each of which is valid."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [problems(event) for event in found] == [[]] * len(found)
    return found


def dataset(of: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The one of this name."""
    [found] = [one for one in of if one["name"] == name]
    return found


def test_a_run_is_told_with_its_datasets_and_where_its_columns_come_from(spark, tmp_path, logistic_onnx) -> None:
    """START and COMPLETE are one run; counts are those of the files, and columns come from where the spec has them."""
    file = tmp_path / "events.jsonl"
    sinks = {"openlineage": {"file": str(file), "namespace": "nightly"}}
    job = write_lookup_job(tmp_path, logistic_onnx, files=2, rows=300, row_group=100, sinks=sinks)
    record = run_job(job, "lookup-2026-11-25")
    start, end = events_of(file)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"] == run_uuid(record)
    assert (end["job"]["namespace"], end["job"]["name"]) == ("nightly", "lookup")
    places = {str(tmp_path / name) for name in ("in", "words.parquet", "bundle")}
    for event in (start, end):
        assert {one["name"] for one in event["inputs"]} == places
        assert [one["name"] for one in event["outputs"]] == [str(tmp_path / "out")]
        assert {one["namespace"] for one in [*event["inputs"], *event["outputs"]]} == {"file"}
        assert event["run"]["facets"]["nominalTime"]["nominalStartTime"].startswith("2026-11-25T00:00:00")
    rows = dataset(end["inputs"], str(tmp_path / "in"))
    assert rows["inputFacets"]["inputStatistics"]["rowCount"] == 600
    assert record.snapshot is not None
    assert rows["facets"]["version"]["datasetVersion"] == record.snapshot.digest
    model = dataset(end["inputs"], str(tmp_path / "bundle"))["facets"]
    assert (model["datasetType"]["datasetType"], model["version"]["datasetVersion"]) == ("MODEL", "1")
    assert record.model is not None
    assert model["batchscore_model"]["bundle_sha256"] == record.model.bundle_sha256
    [output] = end["outputs"]
    published = pq.read_table(tmp_path / "out" / "run_id=lookup-2026-11-25")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == published.num_rows == 597
    assert output["facets"]["version"]["datasetVersion"] == "1"
    assert [one["name"] for one in output["facets"]["schema"]["fields"]][:2] == ["id", "p"]
    rows_told = end["run"]["facets"]["batchscore"]["rows"]
    assert rows_told == {"in": 600, "scored": 597, "quarantined": 3, "filtered": 0}
    lineage = output["facets"]["columnLineage"]["fields"]
    assert {name: found_in(fields) for name, fields in lineage.items()} == {
        "id": {("in", "id", "IDENTITY")},
        "p": {
            ("in", "f0", "TRANSFORMATION"),
            ("in", "f1", "TRANSFORMATION"),
            ("in", "f2", "TRANSFORMATION"),
            ("in", "word", "JOIN"),
            ("words.parquet", "weight", "TRANSFORMATION"),
        },
    }


def found_in(fields: dict[str, Any]) -> set[tuple[str, str, str]]:
    """File, column and kind of all that a column comes from."""
    return {
        (one["name"].rpartition("/")[2], one["field"], kind["subtype"])
        for one in fields["inputFields"]
        for kind in one["transformations"]
    }


def test_a_run_that_is_held_back_is_not_over_until_somebody_decides(spark, tmp_path, logistic_onnx) -> None:
    """Held back is OTHER; published it is COMPLETE, and discarded ABORT, of the same run; others are told as well."""
    write_bad_input(tmp_path)
    file, prometheus = tmp_path / "events.jsonl", tmp_path / "b.prom"
    sinks = {"openlineage": {"file": str(file)}, "prometheus": {"textfile": str(prometheus)}}
    job = write_job(tmp_path, logistic_onnx, sinks=sinks)
    for run_id in ("a", "b"):
        assert run_job(job, run_id).state is RunState.HELD_BACK
    held = events_of(file)
    assert [event["eventType"] for event in held] == ["START", "OTHER"] * 2
    assert "outputStatistics" not in held[1]["outputs"][0]["outputFacets"]
    assert "HeldBack" in held[1]["run"]["facets"]["errorMessage"]["message"]
    target = find_run(str(job), "a")
    record = publish_run(target, accept_errors=4, reason="known")
    discard_run(find_run(str(job), "b"), reason="wrong input")
    published, discarded = events_of(file)[4:]
    assert (published["eventType"], published["run"]["runId"]) == ("COMPLETE", held[0]["run"]["runId"])
    assert (discarded["eventType"], discarded["run"]["runId"]) == ("ABORT", held[2]["run"]["runId"])
    told = published["run"]["facets"]["batchscore"]
    assert (told["accepted"], told["decided_by"]) == ("known", record.decided_by)
    assert published["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 2 * ROWS - 4
    assert 'state="DISCARDED"' in prometheus.read_text()
    kept = Deliveries.from_bytes(target.storage.read_bytes(target.layout.deliveries) or b"", where="deliveries")
    assert [(one.sink, one.event, one.is_sent) for one in kept.deliveries if one.sink == "openlineage"] == [
        ("openlineage", "start", True),
        ("openlineage", "finish", True),
        ("openlineage", "finish", True),
    ]


@pytest.mark.parametrize("state", list(RunState))
def test_each_state_is_a_valid_event(state: RunState) -> None:
    """Whatever a run ended in, with or without a plan, is told by a valid event."""
    error = None if state.is_published else ErrorFacts(kind="BatchscoreError", message="so it is")
    record = night(state=state, error=error, versions={"batchscore": "not installed as a package"})
    from openlineage.client.serde import Serde

    event = Serde.to_dict(event_of_end(Ended(record, tasks_table((), ()), None, "0" * 64), "batchscore"))
    assert problems(event) == []
    wanted = {"SUCCEEDED": "COMPLETE", "PARTIALLY_SUCCEEDED": "COMPLETE", "FAILED": "FAIL", "HELD_BACK": "OTHER"}
    assert event["eventType"] == wanted.get(state, "ABORT")
    assert ("errorMessage" in event["run"]["facets"]) is not state.is_published


def test_an_event_that_is_not_valid_is_known() -> None:
    """What these tests hold events against refuses a key that is missing, one too many, and a value of another type."""
    from openlineage.client.serde import Serde

    event = Serde.to_dict(event_of_end(Ended(night(), tasks_table((), ())), "batchscore"))
    text = json.dumps(event)
    for before, after in (
        ('"eventType": "COMPLETE"', '"eventType": "DONE"'),
        ('"processingType"', '"processing_type"'),
        ('"rowCount": 1000000', '"rowCount": "many"'),
        ('"DatasetVersionDatasetFacet"', '"DatasetFacet"'),
        ('"job": {', '"jobs": 1, "job": {'),
        ("DatasetVersionDatasetFacet.json", "Other.json"),
    ):
        if before in text:
            assert problems(json.loads(text.replace(before, after))), before


def test_all_tries_at_a_run_are_one_run() -> None:
    """The UUID is that of the output, job and id: the same for another try, another one for another of the three."""
    first = night()
    again = night(started_at=first.ended_at, ended_at=first.ended_at)
    assert run_uuid(first) == run_uuid(again)
    others = [night(1), night(job="boats"), night(output="/elsewhere")]
    assert len({run_uuid(one) for one in [first, *others]}) == 4


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("s3://bucket/a/b", DatasetName("s3://bucket", "a/b")),
        ("s3://bucket", DatasetName("s3://bucket", "/")),
        ("hdfs://host:8020/a/b", DatasetName("hdfs://host:8020", "/a/b")),
        ("gs://bucket/a", DatasetName("gs://bucket", "a")),
        (
            "abfss://box@here.dfs.core.windows.net/a",
            DatasetName("abfss://box@here.dfs.core.windows.net", "a"),
        ),
        ("/a/b", DatasetName("file", "/a/b")),
    ],
)
def test_datasets_are_named_as_the_specification_says(place: str, name: DatasetName) -> None:
    """The client's own naming gives the same, where it knows the store."""
    from openlineage.client.naming import dataset as naming

    assert name_of_place(place) == name
    own: dict[str, Any] = {
        "s3": lambda: naming.S3("bucket", "a/b"),
        "hdfs": lambda: naming.HDFS("host", "8020", "/a/b"),
        "gs": lambda: naming.GCS("bucket", "a"),
        "abfss": lambda: naming.ABFSS("box", "here", "a"),
        "": lambda: naming.LocalFileSystem("/a/b"),
    }
    theirs = own[place.partition("://")[0] if "://" in place else ""]()
    if name.name != "/":
        assert (theirs.get_namespace(), theirs.get_name()) == name


def test_sources_are_named_by_where_they_are() -> None:
    """Patterns are one dataset where they have a folder in common; a model of MLflow has its registered name."""

    def files(*places: str) -> tuple[DatasetName, ...]:
        return data_names(Source(kind="files", place=place) for place in places)

    assert files("s3://b/in/*.parquet") == (("s3://b", "in"),)
    assert files("s3://b/in/day=*/x.parquet", "s3://b/in/late.parquet") == (("s3://b", "in"),)
    assert files("s3://b/in/a", "s3://c/in/b") == (("s3://b", "in/a"), ("s3://c", "in/b"))
    assert files("/in/a", "/out/b") == (("file", "/in/a"), ("file", "/out/b"))
    assert files("/*.parquet") == (("file", "/"),)
    query = Source(kind="query", place="sha256:" + "ab" * 32)
    assert name_of_source(query) == ("spark", "query/abababababab")
    for uri, name in (
        ("models:/late@champion", "late"),
        ("models:/late/3", "late"),
        ("runs:/0f/model", "runs/0f/model"),
    ):
        assert name_of_source(Source(kind="model", place=uri)) == ("mlflow", name)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "exactly one of `file` and `url`"),
        ({"file": "a", "url": "https://h"}, "exactly one of `file` and `url`"),
        ({"file": "s3://b/events"}, "a path on the driver's host"),
        ({"file": "a", "endpoint": "e"}, "`endpoint` goes with `url`"),
        ({"url": "ftp://h"}, "pattern"),
        ({"url": "https://me:password@h"}, "has a user or a password in it"),
        ({"url": "https://h", "api_key": "k"}, "Extra inputs"),
    ],
)
def test_settings_that_go_together(settings: dict[str, str], told: str) -> None:
    """A file or a server, and no key: that is of the environment."""
    with pytest.raises(ValidationError, match=told):
        OpenLineage(**settings)


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.let_go.wait(30)
        server.heard.append((self.path, self.headers.get("Authorization"), json.loads(body)))
        self.send_response(server.answers.pop(0) if server.answers else 201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A server that takes events, and answers once it is let go."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    server.heard, server.answers, server.let_go = [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


def deliveries_of(job: Path, run_id: str) -> dict[str, tuple[bool, str | None]]:
    """Of each event, whether it was sent, and why not."""
    target = find_run(str(job), run_id)
    kept = Deliveries.from_bytes(target.storage.read_bytes(target.layout.deliveries) or b"", where="deliveries")
    return {one.event: (one.is_sent, one.problem) for one in kept.deliveries}


def told_by_http(url: str, folder: Path, onnx: Path, **settings: Any) -> tuple[Path, RunRecord]:
    """A run of a job that tells a server."""
    write_input(folder)
    job = write_job(folder, onnx, sinks={"openlineage": {"url": url, "endpoint": "lineage"}, **settings})
    return job, run_job(job, "r")


@pytest.mark.servers
def test_a_server_hears_of_a_run_once(spark, tmp_path, logistic_onnx, receiver, monkeypatch) -> None:
    """Both events arrive with the environment's key, though the server refused one of them at first."""
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "not-for-the-config")
    receiver.let_go.set()
    receiver.answers = [503]
    job, record = told_by_http(f"http://127.0.0.1:{receiver.server_port}", tmp_path, logistic_onnx)
    heard = receiver.heard
    assert [(path, key) for path, key, _ in heard] == [("/lineage", "Bearer not-for-the-config")] * 3
    assert [event["eventType"] for _, _, event in heard] == ["START", "START", "COMPLETE"]
    assert [problems(event) for _, _, event in heard] == [[], [], []]
    assert {event["run"]["runId"] for _, _, event in heard} == {run_uuid(record)}
    assert deliveries_of(job, "r") == {"start": (True, None), "finish": (True, None)}
    assert all(b"not-for-the-config" not in path.read_bytes() for path in tmp_path.rglob("*.json"))


@pytest.mark.servers
def test_a_server_that_does_not_answer_holds_nothing_up(spark, tmp_path, logistic_onnx, receiver) -> None:
    """A run whose server is slow is published, waits no longer than its config says, and says that nobody was told."""
    url = f"http://127.0.0.1:{receiver.server_port}"
    with pytest.warns(UserWarning, match="openlineage was not told of the"):
        job, record = told_by_http(url, tmp_path, logistic_onnx, timeout=1.0, tries=1)
    waited = time.time() - record.ended_at.timestamp()
    assert record.state is RunState.SUCCEEDED
    assert waited < 10
    assert all(not is_sent and problem for is_sent, problem in deliveries_of(job, "r").values())
    receiver.let_go.set()
    until_none_is_left()


@pytest.mark.servers
def test_a_server_that_is_not_there_fails_no_run(spark, tmp_path, logistic_onnx) -> None:
    """A run is published though nobody listens, and says so."""
    with pytest.warns(UserWarning, match="openlineage was not told of the"):
        job, record = told_by_http(f"http://127.0.0.1:{free_port()}", tmp_path, logistic_onnx, tries=2)
    assert record.state is RunState.SUCCEEDED
    assert "Connection refused" in str(deliveries_of(job, "r")["finish"])
    until_none_is_left()


def test_a_client_that_is_not_installed_is_refused(tmp_path, logistic_onnx, monkeypatch) -> None:
    """The extra is named before work starts."""
    import sys

    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, sinks={"openlineage": {"file": str(tmp_path / "e")}})
    monkeypatch.delitem(sys.modules, "jobs.monitoring.openlineage_sink", raising=False)
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.file", None)
    with pytest.raises(Refused, match=r"pip install batchscore\[openlineage\]"):
        run_job(job, "r")
