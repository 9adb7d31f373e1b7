"""Hooks are told what happens to a run, at most for so long, and show nothing that is secret."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from etl.errors import BatchscoreError
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.monitoring.cost import CostFacts
from jobs.monitoring.hook_settings import HookSettings
from jobs.monitoring.hooks import Hooks, told_of
from jobs.monitoring.sinks import Deliveries, Delivery
from jobs.planning.preview import Check, validate
from jobs.record import RunState
from jobs.settling.decisions import discard_run, publish_run
from tests.jobs.nights import night
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job
from tests.jobs.test_sinks import until_none_is_left
from tests.stores.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGUN = night(ended_at=night().started_at, state=RunState.FAILED)


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with the codes that it was given, the last one again and again, and keeps what it heard."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.codes = [200]
        self.pause = threading.Event()
        self.pause.set()
        self.heard: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Of a hook whose path is a secret."""
        return f"http://127.0.0.1:{self.server_port}/services/T000/s3cr3tpath"

    @property
    def events(self) -> list[str]:
        """What it was told of, tries that it refused too."""
        return [json.loads(body)["event"] for _, _, body in self.heard]


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, dict(self.headers), body))
        self.server.pause.wait(30)
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        with contextlib.suppress(ConnectionError):
            self.send_response(code)
            if code == 302:
                self.send_header("Location", self.server.url)
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real server."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.pause.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def hook(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A hook whose URL is in the environment."""
    monkeypatch.setenv("NIGHTLY_CHAT", receiver.url)
    return {"url_env": "NIGHTLY_CHAT"}


def hooks(**settings: Any) -> Hooks:
    """Hooks of these settings."""
    return Hooks(HookSettings.model_validate(settings))


def deliveries_of(job: Path, run_id: str) -> tuple[Delivery, ...]:
    """Who was told of a run, as it lies beside it."""
    target = find_run(str(job), run_id)
    kept = target.storage.read_bytes(target.layout.deliveries) or b""
    return Deliveries.from_bytes(kept, where="deliveries").deliveries


def test_each_event_is_told_to_those_who_asked(receiver: Receiver, hook: dict[str, str]) -> None:
    """A run that fails is told to start, finish and failure, one that is published not to failure; with its numbers."""
    every = {event: [hook] for event in ("start", "finish", "failure", "sla")}
    cost = CostFacts(driver_hours=1, executor_hours=2, amount=3.5, currency="EUR")
    for record in (night(state=RunState.FAILED, cost=cost), night(quarantined=3)):
        receiver.heard.clear()
        told = hooks(**every)
        told.start(BEGUN)
        found = told.finish(record)
        assert all(one.is_sent for one in found)
        expected = ["finish", "start"] if record.state.is_published else ["failure", "finish", "start"]
        assert sorted(receiver.events) == expected == sorted(one.event for one in found)
        by_event = {json.loads(body)["event"]: json.loads(body) for _, _, body in receiver.heard}
        assert by_event["start"]["state"] == "RUNNING"
        assert by_event["finish"] == told_of("finish", record)
        assert by_event["finish"]["rows"]["scored"] == record.account.scored.rows
        assert by_event["finish"]["seconds"] == record.seconds
        assert (by_event["finish"]["cost"] or {}).get("amount") == (3.5 if record.cost else None)
        assert record.run_id in by_event["finish"]["text"]
    until_none_is_left()


def test_a_document_is_signed(receiver: Receiver, hook: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is the HMAC-SHA256 of the bytes that were sent, by the key of the environment."""
    monkeypatch.setenv("HOOK_KEY", "a key of ours")
    assert hooks(finish=[{**hook, "signing_key_env": "HOOK_KEY"}]).finish(night())[0].is_sent
    [(_, headers, body)] = receiver.heard
    assert headers["X-Batchscore-Signature"] == f"sha256={hmac.new(b'a key of ours', body, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize(
    ("codes", "tries", "is_sent"), [([500, 503, 200], 3, True), ([500], 2, False), ([302], 2, False)]
)
def test_an_error_is_tried_again(
    receiver: Receiver, hook: dict[str, str], codes: list[int], *, tries: int, is_sent: bool
) -> None:
    """A server that fails is asked again, so often; a redirect is followed to nobody. No message has the URL."""
    receiver.codes = codes
    [found] = hooks(finish=[hook], tries=tries).finish(night())
    assert (found.is_sent, found.tries, found.sink) == (is_sent, tries, "hooks.finish[0]")
    assert len(receiver.heard) == tries
    assert "s3cr3tpath" not in found.model_dump_json()
    if not is_sent:
        assert str(codes[0]) in str(found.problem)


def test_a_server_that_is_slow_or_gone_costs_its_time(receiver: Receiver, hook: dict[str, str], monkeypatch) -> None:
    """Who does not answer is waited for no longer than the config says, and who is not there is recorded."""
    monkeypatch.setenv("GONE", f"http://127.0.0.1:{free_port()}/s3cr3tpath")
    monkeypatch.setenv("NO_HOST", "http://no.such.host.invalid/s3cr3tpath")
    receiver.pause.clear()
    began = time.monotonic()
    told = hooks(start=[hook], finish=[hook, {"url_env": "GONE"}, {"url_env": "NO_HOST"}], timeout=0.5, tries=1)
    told.start(BEGUN)
    assert time.monotonic() - began < 0.4, "the beginning waited"
    found = told.finish(night())
    assert time.monotonic() - began < 10
    assert [one.is_sent for one in found] == [False] * 4
    assert "s3cr3tpath" not in "".join(str(one.problem) for one in found)
    receiver.pause.set()
    until_none_is_left()


def test_a_command_gets_the_document_and_the_run(tmp_path: Path) -> None:
    """A command reads the document from its input, and has the run in its environment; no shell reads its words."""
    out = tmp_path / "heard.json"
    program = (
        "import json, os, sys; told = json.load(sys.stdin); told['environment'] = dict(os.environ); "
        "told['word'] = sys.argv[1]; json.dump(told, open(sys.argv[2], 'w'))"
    )
    command = [sys.executable, "-c", program, "$(touch no); *", str(out)]
    [found] = hooks(finish=[{"command": command}]).finish(night(7))
    assert found.is_sent, found.problem
    heard = json.loads(out.read_text())
    assert heard["word"] == "$(touch no); *"
    assert heard["run_id"] == heard["environment"]["BATCHSCORE_RUN_ID"] == "night-07"
    assert heard["environment"]["BATCHSCORE_EVENT"] == "finish"
    assert heard["environment"]["BATCHSCORE_STATE"] == "SUCCEEDED"


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """Neither a command that hangs nor its child is there any more, once the run's end has been told."""
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()
    [found] = hooks(finish=[{"command": ["sh", "-c", script]}], timeout=1, tries=3).finish(night())
    assert time.monotonic() - began < 10
    assert not found.is_sent
    until_none_is_left()
    for pid in pids.read_text().split():
        until = time.monotonic() + 10
        while _is_there(int(pid)):
            assert time.monotonic() < until, "it is there still"
            time.sleep(0.01)


def _is_there(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent is nobody of ours, does not."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123  a pseudo file
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["sh", "-c", "echo no such channel >&2; exit 3"], "it ended with 3: no such channel"),
        (["/no/such/program"], "No such file or directory"),
        (["sh", "-c", "exec 0<&-; exit 0"], None),
    ],
)
def test_a_command_tells_by_its_exit_code(command: list[str], problem: str | None) -> None:
    """Another code than 0 is no success, and its last line is kept; one that reads nothing may succeed."""
    [found] = hooks(finish=[{"command": command}], tries=1).finish(night())
    assert found.is_sent == (problem is None)
    assert (problem or "") in (found.problem or "")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"url": "https://a.example", "command": ["x"]},
        {"url": "ftp://a.example"},
        {"url": "https://me:pass@a.example/"},
        {"url": "https://hooks.slack.com/services/T0/B0/xyzzysecret"},
        {"url": "https://discord.com/api/webhooks/1/xyzzysecret"},
        {"url": "https://a.example/?token=xyzzysecret"},
        {"command": []},
        {"command": ["curl", "--header", "Authorization: Bearer xyzzysecret"]},
        {"command": ["x"], "signing_key_env": "KEY"},
    ],
)
def test_a_hook_that_is_wrong_or_shows_a_secret_is_refused(wrong: dict[str, Any]) -> None:
    """One way to be told, by HTTP or a command, and no secret in it: that belongs into the environment."""
    with pytest.raises(ValidationError):
        HookSettings.model_validate({"finish": [wrong]})


def test_a_variable_that_is_not_set_is_refused_before_work(spark, tmp_path, logistic_onnx, monkeypatch) -> None:
    """The run does not begin, and the message names the place and the variable, never what another one holds."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, hooks={"failure": [{"url_env": "NOT_SET"}]})
    with pytest.raises(Refused, match="/hooks/failure/0/url_env: the environment variable NOT_SET is not set"):
        run_job(job, "r")
    monkeypatch.setenv("NOT_SET", "gopher://s3cr3t")
    with pytest.raises(Refused, match="is no URL") as refused:
        run_job(job, "r")
    assert "s3cr3t" not in str(refused.value)


def test_a_run_is_published_though_no_hook_hears(spark, tmp_path, logistic_onnx, receiver, hook, monkeypatch) -> None:
    """Hooks that fail cost a warning each and stand in the deliveries, without the URL; the run is published."""
    monkeypatch.setenv("GONE", f"http://127.0.0.1:{free_port()}/s3cr3tpath")
    write_input(tmp_path)
    settings = {"start": [hook], "finish": [{"url_env": "GONE"}, {"command": ["false"]}], "tries": 1, "timeout": 5}
    job = write_job(tmp_path, logistic_onnx, hooks=settings)
    with pytest.warns(UserWarning, match="was not told of the finish") as warned:
        record = run_job(job, "r")
    assert record.state is RunState.SUCCEEDED
    assert record.account.scored.rows == 2 * ROWS
    assert sum("was not told of" in str(one.message) for one in warned) == 2
    found = deliveries_of(job, "r")
    assert {one.sink: one.is_sent for one in found} == {
        "hooks.start[0]": True,
        "hooks.finish[0]": False,
        "hooks.finish[1]": False,
    }
    assert receiver.events == ["start"]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.json"))
    assert b"s3cr3tpath" not in everything + "".join(str(one.message) for one in warned).encode()
    until_none_is_left()


def test_a_failing_run_tells_of_its_error(spark, tmp_path, logistic_onnx, receiver, hook) -> None:
    """A run that fails because its input was damaged tells `failure` why, and fails with its own error."""
    write_input(tmp_path)
    (tmp_path / "in" / "part-1.parquet").write_bytes(b"PAR1 no parquet PAR1")
    job = write_job(tmp_path, logistic_onnx, hooks={"failure": [hook], "finish": [dict(hook)]})
    with pytest.raises(BatchscoreError, match=r"part-1\.parquet"):
        run_job(job, "r")
    told = [json.loads(body) for _, _, body in receiver.heard]
    assert sorted(one["event"] for one in told) == ["failure", "finish"]
    assert {one["state"] for one in told} == {"FAILED"}
    assert all("part-1.parquet" in one["error"]["message"] for one in told)
    until_none_is_left()


def test_a_decision_is_told(spark, tmp_path, logistic_onnx, receiver, hook, monkeypatch) -> None:
    """Of a held-back run `finish` hears that it is published, and `failure` too that it is discarded, and who did it.

    A person who lacks the variable of one hook decides all the same, is warned, and the others hear it; a variable of a
    hook that does not apply is asked of nobody. Who was told before stays recorded.
    """
    write_bad_input(tmp_path)
    other = {"url_env": "OTHER_CHAT"}
    monkeypatch.setenv("OTHER_CHAT", receiver.url)
    settings = {"start": [dict(hook)], "finish": [dict(hook)], "failure": [dict(hook), other]}
    job = write_job(tmp_path, logistic_onnx, hooks=settings)
    for run_id in ("a", "b", "c"):
        assert run_job(job, run_id).state is RunState.HELD_BACK
    receiver.heard.clear()
    monkeypatch.delenv("OTHER_CHAT")
    published = publish_run(find_run(str(job), "a"), accept_errors=4, reason="known")
    [told] = [json.loads(body) for _, _, body in receiver.heard]
    assert told == told_of("finish", published)
    assert (told["state"], told["accepted"]) == ("PARTIALLY_SUCCEEDED", "known")
    assert told["text"].endswith(f"by decision of {published.decided_by}, 1,196 of 1,200 rows scored")
    receiver.heard.clear()
    with pytest.warns(UserWarning, match=r"hooks\.failure\[1\] was not told of the failure of run b") as warned:
        discarded = discard_run(find_run(str(job), "b"), reason="wrong input")
    [told] = [str(one.message) for one in warned if "not told" in str(one.message)]
    assert "/hooks/failure/1/url_env: the environment variable OTHER_CHAT is not set" in told
    heard = [json.loads(body) for _, _, body in receiver.heard]
    assert sorted(one["event"] for one in heard) == ["failure", "finish"]
    assert {(one["state"], one["decided_by"]) for one in heard} == {("DISCARDED", discarded.decided_by)}
    found = deliveries_of(job, "b")
    begun, decided = found[:4], found[4:]
    assert sorted(one.event for one in begun) == ["failure", "failure", "finish", "start"]
    assert {one.sink: (one.is_sent, one.tries) for one in decided} == {
        "hooks.finish[0]": (True, 1),
        "hooks.failure[0]": (True, 1),
        "hooks.failure[1]": (False, 0),
    }
    monkeypatch.delenv("NIGHTLY_CHAT")
    receiver.heard.clear()
    with pytest.warns(UserWarning, match="was not told"):
        assert discard_run(find_run(str(job), "c"), reason="wrong input").state is RunState.DISCARDED
    assert {one.sink for one in deliveries_of(job, "c") if not one.is_sent} == {one.sink for one in decided}, (
        "of a beginning nobody is told here"
    )
    assert receiver.heard == []
    until_none_is_left()


def test_a_decision_starts_no_program(spark, tmp_path, logistic_onnx) -> None:
    """Who may write to the store might name one in the plan: a command is not started, and that is recorded."""
    write_bad_input(tmp_path)
    trace = tmp_path / "trace"
    job = write_job(tmp_path, logistic_onnx, hooks={"finish": [{"command": ["touch", str(trace)]}]})
    assert run_job(job, "a").state is RunState.HELD_BACK
    until_none_is_left()
    assert trace.exists(), "the run itself tells it"
    trace.unlink()
    with pytest.warns(UserWarning, match="a decision starts no program"):
        discard_run(find_run(str(job), "a"), reason="wrong input")
    target = find_run(str(job), "a")
    kept = Deliveries.from_bytes(target.storage.read_bytes(target.layout.deliveries) or b"", where="deliveries")
    assert [(one.event, one.is_sent) for one in kept.deliveries] == [("finish", True), ("finish", False)]
    assert not trace.exists()


def test_validate_names_every_variable_that_hooks_lack(tmp_path, logistic_onnx, monkeypatch) -> None:
    """All variables that are missing or hold no URL are told at once, by JSON pointer, and none of what they hold."""
    write_input(tmp_path)
    hook = {"url_env": "GOPHER", "signing_key_env": "NO_KEY"}
    settings = {"start": [{"url": "https://a.example"}, {"url_env": "NO_URL"}], "sla": [hook]}
    job = write_job(tmp_path, logistic_onnx, hooks=settings)
    monkeypatch.setenv("GOPHER", "gopher://s3cr3t")

    def checked() -> Check:
        [found] = [check for check in validate(read_config(str(job))) if check.name == "hooks"]
        return found

    found = checked()
    assert found.state == "failed"
    assert [line.partition(": ")[0] for line in found.detail.splitlines()] == [
        "/hooks/start/1/url_env",
        "/hooks/sla/0/url_env",
        "/hooks/sla/0/signing_key_env",
    ]
    assert "s3cr3t" not in found.detail
    lines = CliRunner().invoke(app, ["validate", str(job)]).stdout.splitlines()
    shown = [line for line in lines if "/hooks/" in line]
    assert shown[0].startswith("hooks ")
    assert [line[line.index("/hooks/") :] for line in shown] == found.detail.splitlines(), "a line each"
    for name in ("NO_URL", "GOPHER", "NO_KEY"):
        monkeypatch.setenv(name, "https://a.example/s3cr3t")
    assert checked().state == "ok"
