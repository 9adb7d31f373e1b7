"""What an import writes, whatever it reads: steps and expectations of a spec, and notes and problems for the report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from etl.format.problems import Problem

__all__ = ["Draft"]


class Draft:
    """What has been written so far."""

    set_aside: ClassVar[str] = "Such a row is set aside here."
    """What the report says of a row that breaks an expectation."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.steps: list[dict[str, Any]] = []
        self.guards: list[dict[str, Any]] = []
        """Expectations that set rows aside on which the source fails."""
        self.notes: list[str] = []
        """Of the current part of the source."""
        self.problems: list[Problem] = []
        self.required: set[str] = set()
        """Input fields on whose missing values the source fails."""
        self.used: set[str] = set()
        """Input fields that something reads."""
        self._names: set[str] = set()
        self._prefix = "a0"
        self._doc = ""

    def begin(self, prefix: str, doc: str) -> None:
        """Name the steps that follow for an action of the source."""
        self._prefix, self._doc = prefix, doc
        self.notes = []

    def note(self, text: str) -> None:
        """Say in the report where the meaning of the current action differs."""
        if text not in self.notes:
            self.notes.append(text)

    def step(self, op: str, inputs: list[str], base: str, **keys: Any) -> str:
        """Append a step of one output, and return its name: the base, or the base and a number."""
        name = self.fresh(base)
        self._append(op, (inputs, [name]), keys)
        return name

    def guard(self, condition: dict[str, Any], why: str) -> None:
        """Set rows aside for which a condition is false."""
        identifier = f"{self._prefix}_guard_{len(self.guards)}"
        self.guards.append({"id": identifier, "row": condition, "severity": "quarantine", "doc": why})
        self.note(f"{why} {self.set_aside}")

    def fresh(self, base: str) -> str:
        """A name that no column of ours has had."""
        base = base[:240] or "column"
        number, name = 1, base
        while name in self._names:
            number += 1
            name = f"{base}__{number}"
        self._names.add(name)
        return name

    def _append(self, op: str, wires: tuple[list[str], list[str]], keys: dict[str, Any]) -> None:
        count = sum(step["id"].startswith(f"{self._prefix}_") for step in self.steps) + 1
        identifier = re.sub("[^a-z0-9_]", "_", f"{self._prefix}_{count}_{op}")
        inputs, outputs = wires
        wired = {"in": inputs, "out": outputs} if outputs else {}
        self.steps.append({"id": identifier, "op": op, **wired, **keys, "doc": self._doc})
