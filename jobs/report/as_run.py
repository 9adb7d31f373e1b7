"""The config beside a run: resolved, with every default, as its last try had it, and without secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml

from etl.documents import sha256_hex
from etl.redaction import is_secret_name, redacted

if TYPE_CHECKING:
    from jobs.config.job import JobConfig
    from jobs.planning.destination import Target
    from jobs.record import RunRecord

__all__ = ["AsRun", "as_run_of", "config_bytes", "load_as_run"]

_HIDDEN = "***"


class AsRun(NamedTuple):
    """The config of a run, and whether it is the one that its record names by digest."""

    text: str
    """As YAML; empty where there is none."""
    verdict: Literal["same", "redacted", "other", "absent"]
    """`redacted`: secrets were taken out, so that the digest of what is kept is another one."""


def config_bytes(config: JobConfig) -> bytes:
    """What is kept: the very bytes that the record's digest is of, unless a secret has to be taken out."""
    text = config.model_dump_json()
    plain = json.loads(text)
    shown = _without_secrets(plain)
    return text.encode() if shown == plain else json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()


def as_run_of(kept: bytes, record: RunRecord) -> AsRun:
    """A kept config as a person reads it."""
    value = _without_secrets(json.loads(kept))
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**6)
    if sha256_hex(kept) == record.config:
        return AsRun(text, "same")
    return AsRun(text, "redacted" if _HIDDEN in text else "other")


def load_as_run(target: Target, record: RunRecord) -> AsRun:
    """The one beside a run; runs of older releases have none."""
    kept = target.storage.read_bytes(target.layout.config)
    if kept is None:
        return AsRun("", "absent")
    try:
        return as_run_of(kept, record)
    except ValueError:
        return AsRun("", "other")


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, name) for item in value]
    if isinstance(value, str):
        return _HIDDEN if value and is_secret_name(name) else redacted(value)
    return value
