"""What is wrong with the meaning of a spec whose form is wrong, too: what is sound is checked without what is broken.

A step that cannot be parsed is left out, and with it every complaint about a column that it would have made. So one
reading tells a misspelt op here and a misspelt column there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etl.problems import Problem

__all__ = ["Sound", "sound_part"]

_SECTIONS = ("relational", "steps")

_MAKES_NONE = ("dedupe", "drop", "filter")
"""Ops whose steps have no `out`."""


class Sound(NamedTuple):
    """A spec without its broken steps."""

    value: dict[str, Any]
    """Its JSON value."""
    places: dict[str, list[int]]
    """For each list of steps, the place that each step had."""
    unknown: frozenset[str]
    """Columns that the broken steps would have made."""

    def told(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems of the sound part that are problems of the whole, with their places in it."""
        found = []
        for problem in problems:
            if any(repr(name) in problem.message for name in self.unknown):
                continue
            place = re.match(r"/(relational|steps)/([0-9]+)", problem.pointer)
            pointer = problem.pointer
            if place is not None:
                pointer = f"/{place[1]}/{self.places[place[1]][int(place[2])]}{pointer[place.end() :]}"
            found.append(problem._replace(pointer=pointer))
        return found


def sound_part(value: Any, problems: Sequence[Problem]) -> Sound | None:
    """The spec without the steps that have problems; None where something else than steps has, or where nobody knows
    which columns such a step would have made.
    """  # noqa: D205  one sentence
    broken = {
        (place[1], int(place[2])) if (place := re.match(r"/(relational|steps)/([0-9]+)", problem.pointer)) else None
        for problem in problems
    }
    if None in broken or not isinstance(value, dict):
        return None
    kept: dict[str, Any] = {}
    places: dict[str, list[int]] = {}
    unknown: set[str] = set()
    for section in _SECTIONS:
        steps = value.get(section, [])
        places[section] = [index for index in range(len(steps)) if (section, index) not in broken]
        kept[section] = [steps[index] for index in places[section]]
        for index in range(len(steps)):
            made = _made(steps[index]) if (section, index) in broken else ()
            if made is None:
                return None
            unknown.update(made)
    return Sound({**value, **kept}, places, frozenset(unknown))


def _made(step: Any) -> list[str] | None:
    """Names of the columns that a step would have made; None where that cannot be told."""
    names = step.get("out") if isinstance(step, dict) else None
    if names is None and isinstance(step, dict) and step.get("op") in _MAKES_NONE:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
