"""Tell webhooks and commands what happens to a run. Each has a thread of its own; nobody holds the run up."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, get_args
from urllib.parse import urlsplit

from etl.printable import counted
from etl.redaction import redacted
from jobs.monitoring.sinks import Delivery, Event, Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobs.monitoring.hook_settings import Hook, HookSettings
    from jobs.monitoring.limits import Breach
    from jobs.record import RunRecord

__all__ = ["Hooks", "hook_problems", "told_of"]

_EVERY_EVENT: tuple[Event, ...] = get_args(Event)
_RUNNING = "RUNNING"
"""State of a run that has not ended, in what hooks are told."""
_GRACE = 1.0
"""Seconds in which a hook that took too long is given up, and says so."""
_SAID = 200
"""Characters of what a command said."""


def told_of(event: Event, record: RunRecord, breach: Breach | None = None) -> dict[str, Any]:
    """The document that hooks get of a run. `text` says it to people: chats show that of a webhook."""
    has_ended = record.ended_at > record.started_at
    state = str(record.state) if has_ended else _RUNNING
    account = record.account
    told = {"run_id", "job", "output", "error", "cost", "breaches", "decided_by", "accepted"}
    facts = record.model_dump(mode="json", include=told)
    if breach is not None:
        facts["breach"] = breach.model_dump(mode="json") | {"text": str(breach)}
    model = record.model
    return {
        "format": "batchscore.event/1",
        "event": event,
        "text": redacted(_text(event, record, state, breach=breach)),
        "state": state,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat() if has_ended else None,
        "seconds": record.seconds if has_ended else None,
        "rows": {name: getattr(account, name).rows for name in ("rows_in", "scored", "quarantined", "filtered")},
        "model": f"{model.name}:{model.version}" if model is not None else None,
        **facts,
    }


def _text(event: Event, record: RunRecord, state: str, *, breach: Breach | None) -> str:
    what = f"batchscore: run {record.run_id} of {record.job}"
    if event == "start":
        return f"{what} has begun."
    if breach is not None:
        return f"{what} ({state}): {breach}."
    rows = f"{record.account.scored.rows:,} of {counted(record.account.rows_in.rows, 'row')}"
    if record.decided_by is not None:
        return f"{what} is {state} by decision of {record.decided_by}, {rows} scored"
    why = f": {record.error.message}" if record.error is not None else ""
    return f"{what} has ended as {state}, {rows} scored in {record.seconds:,.0f} s{why}"


class Hooks:
    """Those of one run."""

    def __init__(self, settings: HookSettings, *, starts_programs: bool = True) -> None:
        """Nobody is told yet. A hook that lacks a variable of the environment will not be, and silences no other.

        What a stored plan names must start no program: who may write to the store is not who decides on a run.
        """
        self._settings = settings
        self._hooks: dict[Event, list[_Told]] = {event: [] for event in _EVERY_EVENT}
        self._lacking: dict[Event, list[Delivery]] = {event: [] for event in _EVERY_EVENT}
        self._untold: list[Delivery] = []
        for event, place, hook in _named(settings):
            problems = list(_problems_of(place, hook))
            if hook.command is not None and not starts_programs:
                problems = [f"{place.pointer}: a decision starts no program, it tells webhooks only."]
            if problems:
                told = Delivery(sink=place.name, event=event, is_sent=False, tries=0, problem=" ".join(problems))
                self._lacking[event].append(told)
            else:
                self._hooks[event].append(_made(hook, place.name, timeout=settings.timeout))
        self._lines = {hook.name: Line(hook.name, settings.tries) for hooks in self._hooks.values() for hook in hooks}

    def start(self, begun: RunRecord) -> None:
        """A run has begun."""
        self._ask("start", told_of("start", begun))

    def breached(self, record: RunRecord, breach: Breach) -> None:
        """A limit is passed, or expected to be."""
        self._ask("sla", told_of("sla", record, breach))

    def finish(self, record: RunRecord) -> tuple[Delivery, ...]:
        """It has ended; waits for so long as may be, and ends whatever still runs."""
        self._ask("finish", told_of("finish", record))
        if not record.state.is_published:
            self._ask("failure", told_of("failure", record))
        deadline = time.monotonic() + self._settings.timeout + _GRACE
        found = [delivery for line in self._lines.values() for delivery in line.told(deadline)]
        for hooks in self._hooks.values():
            for hook in hooks:
                hook.end()
        return (*found, *self._untold)

    def _ask(self, event: Event, document: dict[str, Any]) -> None:
        self._untold += self._lacking[event]
        body = json.dumps(document, ensure_ascii=False).encode()
        facts = {f"BATCHSCORE_{name.upper()}": str(document[name]) for name in ("event", "run_id", "job", "state")}
        for hook in self._hooks[event]:
            self._lines[hook.name].ask(event, partial(hook.tell, body, facts))


class _Told(Protocol):
    """Somebody who is told."""

    name: str

    def tell(self, body: bytes, facts: Mapping[str, str]) -> None:
        """Tell once. Whatever is raised counts as not told."""

    def end(self) -> None:
        """End what still runs."""


def hook_problems(settings: HookSettings) -> list[str]:
    """What the environment lacks for hooks, a sentence each, by JSON pointer into the config."""
    return [problem for _, place, hook in _named(settings) for problem in _problems_of(place, hook)]


def _problems_of(place: _Place, hook: Hook) -> Iterator[str]:
    for key in ("url_env", "signing_key_env"):
        variable = getattr(hook, key)
        if variable is None:
            continue
        value = _variable(variable)
        if not value:
            yield f"{place.pointer}/{key}: the environment variable {variable} is not set. Set it for the driver."
        elif key == "url_env" and urlsplit(value).scheme not in {"http", "https"}:
            told = f"what the environment variable {variable} has is no URL that begins with http."
            yield f"{place.pointer}/{key}: {told}"


class _Place(NamedTuple):
    """Where a hook stands in the config."""

    name: str
    """As deliveries name it."""
    pointer: str
    """JSON pointer."""


def _named(settings: HookSettings) -> Iterator[tuple[Event, _Place, Hook]]:
    for event in _EVERY_EVENT:
        hooks: tuple[Hook, ...] = getattr(settings, event)
        for at, hook in enumerate(hooks):
            yield event, _Place(f"hooks.{event}[{at}]", f"/hooks/{event}/{at}"), hook


def _made(hook: Hook, name: str, *, timeout: float) -> _Told:
    if hook.command is not None:
        return _Command(name, hook.command, timeout=timeout)
    url = hook.url if hook.url_env is None else _variable(hook.url_env)
    assert url is not None  # noqa: S101  one of the three is given
    key = _variable(hook.signing_key_env) if hook.signing_key_env is not None else None
    return _Webhook(name, url, key, timeout=timeout)


def _variable(name: str) -> str:
    """Empty where it is not set."""
    return os.environ.get(name, "").strip()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other that is not a success: nobody else is told."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Webhook:
    def __init__(self, name: str, url: str, key: str | None, *, timeout: float) -> None:
        self.name = name
        self._url, self._key, self._timeout = url, key, timeout
        self._opener = urllib.request.build_opener(_NoRedirects)

    def tell(self, body: bytes, facts: Mapping[str, str]) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "batchscore",
            "X-Batchscore-Event": facts["BATCHSCORE_EVENT"],
        }
        if self._key is not None:
            digest = hmac.new(self._key.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Batchscore-Signature"] = f"sha256={digest}"
        try:
            asked = urllib.request.Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310  checked
            with self._opener.open(asked, timeout=self._timeout):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise ConnectionError(f"it answered with {error.code}") from None
        except Exception as error:  # noqa: BLE001  of sockets, TLS and HTTP; none may show the URL
            raise ConnectionError(self._without_url(f"{type(error).__name__}: {error}")) from None

    def _without_url(self, text: str) -> str:
        parts = urlsplit(self._url)
        for secret in (self._url, f"{parts.path}?{parts.query}", parts.path, parts.query):
            if len(secret) > 1:
                text = text.replace(secret, "***")
        return text

    def end(self) -> None:
        """A request ends with its time."""


class _Command:
    def __init__(self, name: str, words: tuple[str, ...], *, timeout: float) -> None:
        self.name = name
        self._words, self._timeout = words, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False

    def tell(self, body: bytes, facts: Mapping[str, str]) -> None:
        if self._is_over:
            return
        # A group of its own, so that what the command has started ends with it.
        with subprocess.Popen(  # noqa: S603  the config names it, and no shell reads it
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **facts},
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                _, said = process.communicate(body, timeout=self._timeout)
            except subprocess.TimeoutExpired:
                self._kill()
                raise TimeoutError(f"it ran longer than {self._timeout:g} s, and was ended") from None
            finally:
                self._process = None
        if process.returncode:
            last = next(iter(said.decode(errors="replace").strip().splitlines()[::-1]), "it said nothing")
            raise ChildProcessError(f"it ended with {process.returncode}: {last[:_SAID]}")

    def end(self) -> None:
        self._is_over = True
        self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
