"""Older forms of a spec, brought forward: pure functions from JSON value to JSON value, one a version, kept for ever.

A release never changes what a version means. It adds a version and a function from the one before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CURRENT", "migrated"]

CURRENT = 1
"""Version of `scorespec` that this release reads and writes."""

_READ = tuple(str(version) for version in range(CURRENT + 1))
_VERSION = re.compile(r"scorespec/(.*)", re.DOTALL)

_FACTS = ("rows", "rejected", "filtered", "passes")


def migrated(value: Any) -> Any:
    """The value in the current form; one that is of it already, or is no spec at all, as it is.

    Raises:
        ValueError: a newer release wrote it.
    """
    named = value.get("format") if isinstance(value, dict) else None
    found = _VERSION.fullmatch(named) if isinstance(named, str) else None
    if found is None:
        return value
    if found[1] not in _READ:
        read = " and ".join(f"scorespec/{version}" for version in _READ)
        message = (
            f"the format is scorespec/{found[1]:.20}, and this release reads {read}. Upgrade batchscore to read it"
        )
        raise ValueError(message)
    version = int(found[1])
    for older in range(version, CURRENT):
        value = _FORWARD[older](value)
    return value


def _from_0(value: dict[str, Any]) -> dict[str, Any]:
    """The draft before 1: a tensor had a `rank` for its `shape`, and provenance was free text."""
    outputs = value.get("outputs")
    if isinstance(outputs, dict) and isinstance(outputs.get("tensors"), list):
        value = {**value, "outputs": {**outputs, "tensors": [_with_shape(tensor) for tensor in outputs["tensors"]]}}
    texts = value.get("provenance")
    if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
        facts = {key: int(text) for key, text in texts.items() if key in _FACTS and re.fullmatch("[0-9]{1,18}", text)}
        notes = {key: text for key, text in texts.items() if key not in facts}
        value = {**value, "provenance": {**facts, **({"notes": notes} if notes else {})}}
    return {**value, "format": "scorespec/1"}


def _with_shape(tensor: Any) -> Any:
    if not isinstance(tensor, dict) or "rank" not in tensor:
        return tensor
    kept = {key: part for key, part in tensor.items() if key != "rank"}
    return {**kept, "shape": [-1]} if tensor["rank"] == 1 else kept


_FORWARD: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {0: _from_0}
"""To each version's successor."""
