"""Whoever is told of a run hears it once, in order; whoever does not answer holds nothing up, and is recorded."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.monitoring.cost import CostFacts
from jobs.monitoring.limits import Breach, LimitName
from jobs.monitoring.mlflow_tracking import MLflowTracking
from jobs.monitoring.prometheus import PrometheusTextfile, registry_of
from jobs.monitoring.settings import MLflow
from jobs.monitoring.sinks import Deliveries, Ended, Sinks
from jobs.monitoring.tasks import tasks_table
from jobs.record import RunRecord, RunState
from tests.jobs.nights import night
from tests.jobs.outputs import ROWS, run_job, write_input, write_job
from tests.numbers_job import published_scores
from tests.stores.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = Ended(night(), tasks_table((), ()))


class Listener:
    """Hears events, after it has failed so often."""

    def __init__(self, name: str = "listener", failures: int = 0) -> None:
        self.name = name
        self.heard: list[str] = []
        self._failures = failures

    def start(self, begun):
        """See `jobs.monitoring.sinks.Sink.start`."""
        self._hear(f"start {begun.run_id}")

    def finish(self, ended):
        """See `jobs.monitoring.sinks.Sink.finish`."""
        self._hear(f"finish {ended.record.run_id}")

    def _hear(self, event: str) -> None:
        if self._failures > 0:
            self._failures -= 1
            message = "https://me:secret@host/ does not answer"
            raise ConnectionError(message)
        self.heard.append(event)


class Deaf:
    """Answers when it is let go."""

    name = "deaf"

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def start(self, begun):
        """See `jobs.monitoring.sinks.Sink.start`."""
        del begun
        self.let_go.wait(30)

    def finish(self, ended):
        """See `jobs.monitoring.sinks.Sink.finish`."""
        del ended


def until_none_is_left() -> None:
    """Wait until no thread of a sink is left."""
    until = time.monotonic() + 30
    while any(thread.name.startswith("batchscore-") for thread in threading.enumerate()):
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.01)


@given(st.lists(st.integers(0, 2), max_size=4))
@settings(max_examples=5, deadline=None)
def test_each_hears_the_beginning_and_then_the_end(failures: list[int]) -> None:
    """Each sink hears both events once and in order, though its first tries failed."""
    listeners = [Listener(f"listener-{number}", count) for number, count in enumerate(failures)]
    sinks = Sinks(listeners, timeout=20, tries=3)
    sinks.start(ENDED.record)
    found = sinks.finish(ENDED)
    assert [one.heard for one in listeners] == [["start night-00", "finish night-00"]] * len(failures)
    assert [(one.sink, one.event, one.is_sent, one.tries) for one in found] == [
        (one.name, event, True, tries)
        for one, count in zip(listeners, failures, strict=True)
        for event, tries in (("start", count + 1), ("finish", 1))
    ]


def test_what_was_not_told_is_recorded_without_its_secrets() -> None:
    """A sink that fails as often as it is asked is told of, with the problem and without the password in it."""
    broken, other = Listener("broken", 99), Listener("other")
    found = Sinks([broken, other], timeout=20, tries=2).finish(ENDED)
    assert [(one.sink, one.is_sent, one.tries) for one in found] == [("broken", False, 2), ("other", True, 1)]
    until_none_is_left()
    assert found[0].problem is not None
    assert "does not answer" in found[0].problem
    assert "secret" not in found[0].problem


def test_nobody_waits_for_who_does_not_answer() -> None:
    """A sink that hangs costs the seconds that the config allows, once, and nothing where a run begins."""
    deaf, other_deaf, other = Deaf(), Deaf(), Listener("other")
    began = time.monotonic()
    sinks = Sinks([deaf, other, other_deaf], timeout=0.5, tries=3)
    sinks.start(ENDED.record)
    found = sinks.finish(ENDED)
    assert other.heard == ["start night-00", "finish night-00"]
    assert time.monotonic() - began < 10, "it waited for all of the thirty seconds"
    assert {(one.sink, one.is_sent) for one in found} == {("deaf", False), ("other", True)}
    assert {one.problem for one in found if not one.is_sent} == {"it has not answered in time"}
    for one in (deaf, other_deaf):
        one.let_go.set()
    until_none_is_left()


def test_the_file_for_prometheus_has_the_numbers_of_the_record(tmp_path) -> None:
    """What Prometheus parses from the file are the counts and seconds of the record, with its job and model."""
    record = night(rows=1000, quarantined=3, worker_seconds={"read": 1.5, "infer": 2.25})
    PrometheusTextfile(str(tmp_path / "batchscore.prom")).finish(Ended(record, ENDED.tasks))
    text = (tmp_path / "batchscore.prom").read_text()
    samples = {
        (sample.name, *(sample.labels.get(name) for name in ("outcome", "where", "phase", "state"))): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    values = {key: sample.value for key, sample in samples.items()}
    assert values["scoring_rows_total", "ok", None, None, None] == 997
    assert values["scoring_rows_total", "failed", None, None, None] == 3
    assert values["scoring_rows_total", "filtered", None, None, None] == 0
    assert values["scoring_phase_seconds", None, "worker", "infer", None] == 2.25
    assert values["scoring_phase_seconds", None, "driver", "score", None] == record.wall_seconds["score"]
    assert values["scoring_job_state", None, None, None, "PARTIALLY_SUCCEEDED"] == 1
    assert values["scoring_job_duration_seconds", None, None, None, None] == record.seconds
    assert values["scoring_rows_per_second", None, None, None, None] == pytest.approx(10)
    assert {sample.labels["model"] for sample in samples.values()} == {"late-flights:2026-11-01"}
    assert {sample.labels["job"] for sample in samples.values()} == {"flights"}


def test_prometheus_gets_the_documented_metrics_and_no_others() -> None:
    """Of a run that has all that can be told, the series are those of the table in docs/MONITORING.md."""
    cost = CostFacts(driver_hours=1, executor_hours=6, gpu_hours=3, amount=2.5, currency="EUR", per_million_rows=2.5)
    at = night().ended_at
    passed = Breach(limit="sla.finish_by", allowed=1, value=2, unit="s", at=at, is_projected=False)
    record = night(cost=cost, breaches=(passed,), peak_task_bytes=1 << 30)
    text = generate_latest(registry_of(record)).decode()
    page = (Path(__file__).parents[2] / "docs" / "MONITORING.md").read_text(encoding="utf-8")
    table = page.partition("| metric | labels | |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`(scoring_\w+)`", table))
    assert len(documented) > 10
    assert {line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")} == documented


def test_a_folder_that_is_not_there_is_named(tmp_path) -> None:
    """Where the textfile's folder is missing the message names the folder and the setting, and no temporary file."""
    path = tmp_path / "nowhere" / "batchscore.prom"
    [found] = Sinks([PrometheusTextfile(str(path))], timeout=20, tries=1).finish(ENDED)
    assert found.problem == (
        f"FileNotFoundError: {path.parent}: there is no such folder on the driver's host. "
        "Make it, or mend sinks.prometheus.textfile."
    )


def test_prometheus_has_cost_and_passed_limits() -> None:
    """Hours, money in its currency and limits that were passed are those of the record; an expected limit is not."""
    cost = CostFacts(driver_hours=1.5, executor_hours=6, gpu_hours=3, amount=2.5, earlier=1, currency="EUR")
    at = night().ended_at
    limits: tuple[LimitName, ...] = ("sla.finish_by", "cost.budget.run")
    breaches = tuple(
        Breach(limit=limit, allowed=1, value=2, unit="s", at=at, is_projected=limit == "cost.budget.run")
        for limit in limits
    )
    samples = [
        (sample.name, sample.labels, sample.value)
        for metric in registry_of(night(cost=cost, breaches=breaches)).collect()
        for sample in metric.samples
    ]
    hours = {labels["of"]: value for name, labels, value in samples if name == "scoring_machine_hours"}
    assert hours == {"driver": 1.5, "executors": 6, "gpus": 3}
    assert [(labels["currency"], value) for name, labels, value in samples if name == "scoring_cost"] == [("EUR", 3.5)]
    assert [labels["limit"] for name, labels, _ in samples if name == "scoring_limit_passed"] == ["sla.finish_by"]
    assert not [name for name, _, _ in samples if name == "scoring_cost_per_million_rows"]


def test_a_run_without_a_model_has_metrics_too() -> None:
    """A run that was refused before it knew its model is told as well."""
    names = {metric.name for metric in registry_of(night(model=None)).collect()}
    assert {"scoring_rows", "scoring_job_duration_seconds"} <= names


# MLflow takes seconds to be imported.
@pytest.mark.servers
def test_a_run_is_published_whoever_is_told(spark, tmp_path, logistic_onnx, monkeypatch) -> None:
    """A server that nobody runs and a folder that is not there fail no run: both are recorded, and warned of."""
    write_input(tmp_path)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    sinks = {
        "prometheus": {"textfile": str(tmp_path / "nowhere" / "batchscore.prom")},
        "mlflow": {"uri": f"http://127.0.0.1:{free_port()}"},
        "timeout": 30,
        "tries": 2,
    }
    job = write_job(tmp_path, logistic_onnx, sinks=sinks)
    with pytest.warns(UserWarning, match="was not told of the") as warned:
        record = run_job(job, "r")
    assert record.state is RunState.SUCCEEDED
    assert published_scores(tmp_path / "out" / "run_id=r").keys() == set(range(2 * ROWS))
    target = find_run(str(job), "r")
    kept = target.storage.read_bytes(target.layout.deliveries)
    assert kept is not None
    found = Deliveries.from_bytes(kept, where="deliveries").deliveries
    assert {(one.sink, one.event): one.is_sent for one in found} == {
        ("prometheus", "start"): True,
        ("prometheus", "finish"): False,
        ("mlflow", "start"): False,
        ("mlflow", "finish"): False,
    }
    assert sum("was not told of" in str(one.message) for one in warned) == 3
    until_none_is_left()


@contextlib.contextmanager
def answering(code: int) -> Iterator[str]:
    """A server that answers with this code, whatever it is asked; its address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_of_mlflow_that_is_not_there_is_given_up(monkeypatch) -> None:
    """Where nobody listens, or a proxy has nobody behind it, each try says so at once, and no variable has changed.

    By itself MLflow's client would try 8 times with pauses of minutes.
    """
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)
    gone = f"http://127.0.0.1:{free_port()}"
    with answering(503) as unavailable:
        for uri, problem in ((gone, "Connection refused"), (unavailable, "it answers with 503")):
            sink = MLflowTracking(MLflow(uri=uri), 10)
            began = time.monotonic()
            [found] = Sinks([sink], timeout=10, tries=2).finish(ENDED)
            assert time.monotonic() - began < 5
            assert (found.is_sent, found.tries) == (False, 2)
            assert found.problem is not None
            assert f"no server of MLflow at {uri}: " in found.problem
            assert problem in found.problem
    assert dict(os.environ) == before
    until_none_is_left()


@pytest.mark.parametrize("code", [200, 401, 404])
def test_who_answers_is_left_to_the_client(monkeypatch, code: int) -> None:
    """A server that is there, but has no `/health` or lets nobody in without credentials, is asked by the client."""
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    asked: list[str] = []

    def found(_: MLflowTracking, begun: RunRecord) -> str:
        asked.append(begun.run_id)
        return "run"

    monkeypatch.setattr(MLflowTracking, "_found", found)
    with answering(code) as uri:
        MLflowTracking(MLflow(uri=uri), 10).start(night())
    assert asked == ["night-00"]


def test_who_says_how_often_to_try_is_not_overruled(monkeypatch) -> None:
    """With MLflow's own variable set, its client is asked at once, be there a server or not."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "20")
    asked: list[str] = []

    def found(_: MLflowTracking, begun: RunRecord) -> str:
        asked.append(begun.run_id)
        return "run"

    monkeypatch.setattr(MLflowTracking, "_found", found)
    MLflowTracking(MLflow(uri=f"http://127.0.0.1:{free_port()}"), 10).start(night())
    assert asked == ["night-00"]


def test_what_hangs_after_it_failed_is_told_with_its_tries() -> None:
    """Of a sink that is given up at its second try, the tries count and the failure of the first one is known."""

    class FailsThenHangs(Deaf):
        failed = False

        def start(self, begun):
            if self.failed:
                super().start(begun)
            self.failed = True
            message = "refused"
            raise ConnectionError(message)

    one = FailsThenHangs()
    sinks = Sinks([one], timeout=1, tries=3)
    sinks.start(ENDED.record)
    start, finish = sinks.finish(ENDED)
    one.let_go.set()
    until_none_is_left()
    assert (start.tries, start.problem) == (2, "it has not answered in time; before that: ConnectionError: refused")
    assert (finish.tries, finish.problem) == (0, "it has not answered in time")


def test_a_trial_is_told_to_nobody(spark, tmp_path, logistic_onnx) -> None:
    """A trial neither replaces what Prometheus knows of the job, nor is recorded as told."""
    write_input(tmp_path)
    path = tmp_path / "batchscore.prom"
    job = write_job(tmp_path, logistic_onnx, sinks={"prometheus": {"textfile": str(path)}})
    run_job(job, "trial", limit=5)
    assert not path.exists()
    run_job(job, "r")
    assert 'scoring_rows_total{job="numbers"' in path.read_text()


def test_a_sink_that_is_not_installed_is_refused(tmp_path, logistic_onnx, monkeypatch) -> None:
    """A config that asks for a sink whose package is not there is refused before work starts, and told the extra."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, sinks={"prometheus": {"textfile": str(tmp_path / "b.prom")}})
    monkeypatch.setitem(sys.modules, "jobs.monitoring.prometheus", None)
    monkeypatch.delitem(sys.modules, "jobs.monitoring.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(Refused, match=r"needs prometheus_client: pip install batchscore\[prometheus\]"):
        run_job(job, "r")
