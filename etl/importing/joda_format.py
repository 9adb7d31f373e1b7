"""Joda-Time's formats as formats of ours, which read a part of the texts that Joda reads, and none in another way."""

from __future__ import annotations

import re

__all__ = ["format_of"]

_SAME = ("yyyy", "MM", "M", "MMM", "MMMM", "dd", "d", "HH", "H", "hh", "h", "a", "mm", "ss", "S", "SS", "SSS")
_LETTERS = {**dict.fromkeys(_SAME), "YYYY": "yyyy", "Z": "XX", "ZZ": "XXX"}
"""Our letters for each run of Joda's; None where they are the same. YYYY is the year of the era there."""

_TOKEN = re.compile(r"(?P<letters>(?P<one>[A-Za-z])(?P=one)*)|(?P<quoted>'(?:[^']|'')*')|(?P<sign>[^'])", re.DOTALL)


def format_of(text: str) -> str:
    """Translate a format.

    Raises:
        ValueError: it has letters that have no counterpart, or a quote without an end.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            message = "has a quote without an end"
            raise ValueError(message)
        letters = token["letters"]
        if letters is not None and letters not in _LETTERS:
            message = f"has {letters:.60}, which has no counterpart here"
            raise ValueError(message)
        parts.append(token[0] if letters is None else _LETTERS[letters] or letters)
        at = token.end()
    return "".join(parts)
