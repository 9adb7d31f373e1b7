"""Seconds from a fault to the publication, kept by test for docs/RELIABILITY.md."""

from __future__ import annotations

import json
import time
from pathlib import Path

__all__ = ["Stopwatch", "measured"]

_LINES = Path(__file__).parents[2] / ".cache" / "faults.jsonl"
"""A line a test that has passed here, the newest last; processes that run side by side append to it."""


def measured() -> dict[str, float]:
    """Seconds of each test, as it was last measured here. No test looks at them."""
    lines = _LINES.read_text(encoding="utf-8").splitlines() if _LINES.exists() else []
    return dict(json.loads(line) for line in lines)


class Stopwatch:
    """Of one test."""

    def __init__(self, test: str) -> None:
        self._test = test
        self._start = time.monotonic()
        self._seconds: float | None = None

    def start(self) -> None:
        """The fault has come, or the command is given again."""
        self._start = time.monotonic()

    def stop(self) -> None:
        """It is published."""
        self._seconds = round(time.monotonic() - self._start, 1)

    def keep(self) -> None:
        """The test has passed."""
        if self._seconds is None:
            return
        _LINES.parent.mkdir(exist_ok=True)
        with _LINES.open("a", encoding="utf-8") as lines:
            lines.write(f"{json.dumps([self._test, self._seconds])}\n")
