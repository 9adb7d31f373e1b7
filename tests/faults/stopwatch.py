"""Seconds from a fault to the publication, kept by test for docs/RELIABILITY.md."""

from __future__ import annotations

import json
import time
from pathlib import Path

__all__ = ["SECONDS", "Stopwatch"]

SECONDS = Path(__file__).parents[2] / ".cache" / "faults.json"
"""Of each test, as it was last measured here. No test looks at it."""


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
        found = json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.exists() else {}
        found[self._test] = self._seconds
        SECONDS.parent.mkdir(exist_ok=True)
        SECONDS.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
