"""What is wrong with the meaning of a spec whose form is wrong, too: what is sound is checked without what is broken.

A step or an input field that cannot be parsed is left out, and with it every complaint about a column that it would
have made, or about the type of one that is made of such a column. So one reading tells a misspelt type here and a
misspelt column there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from etl.format.problems import Problem

__all__ = ["Sound", "sound_part"]

_STEPS = ("relational", "steps")
_FIELDS = ("fields", "labels")

_PLACE = re.compile(r"/(relational|steps|input/fields|input/labels)/([0-9]+)")
_READER = re.compile(r"/(relational|steps|expectations|outputs/tensors)/([0-9]+)")

_OF_NAMES = frozenset({"E-CYCLE", "E-DUP-OUTPUT", "E-NO-COLUMN"})
"""Codes of problems that there are whatever the types of columns."""

_MAKES_NONE = ("dedupe", "drop", "filter")
"""Ops whose steps have no `out`."""


class Sound(NamedTuple):
    """A spec without its broken steps and input fields."""

    value: dict[str, Any]
    """Its JSON value."""
    places: dict[str, list[int]]
    """For each list that something may be left out of, by its pointer, the place that each part had."""
    unknown: frozenset[str]
    """Columns that the broken parts would have made."""
    untyped: frozenset[str]
    """Those, and what steps make of them: nobody knows their types."""

    def told(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems of the sound part that are problems of the whole, with their places in it."""
        found = []
        for problem in problems:
            if any(repr(name) in problem.message for name in self.unknown) or self._is_of_types(problem):
                continue
            place = _PLACE.match(problem.pointer)
            pointer = problem.pointer
            if place is not None:
                pointer = f"/{place[1]}/{self.places[place[1]][int(place[2])]}{pointer[place.end() :]}"
            found.append(problem._replace(pointer=pointer))
        return found

    def _is_of_types(self, problem: Problem) -> bool:
        """Whether it may be there only because a column was taken for a float64, for want of its type."""
        place = _READER.match(problem.pointer)
        if place is None or problem.code in _OF_NAMES:
            return False
        part: Any = self.value
        for key in place[1].split("/"):
            part = part[key]
        return not self.untyped.isdisjoint(_texts(part[int(place[2])]))


def sound_part(value: Any, problems: Sequence[Problem]) -> Sound | None:
    """The spec without the steps and input fields that have problems; None where something else has, or where nobody
    knows which columns such a part would have made.
    """  # noqa: D205  one sentence
    broken = {(place[1], int(place[2])) if (place := _PLACE.match(problem.pointer)) else None for problem in problems}
    if None in broken or not isinstance(value, dict):
        return None
    given = value.get("input", {})
    lists = {section: value.get(section, []) for section in _STEPS}
    lists |= {f"input/{section}": given.get(section, []) for section in _FIELDS}
    places = {
        section: [index for index in range(len(parts)) if (section, index) not in broken]
        for section, parts in lists.items()
    }
    unknown: set[str] = set()
    for section, index in filter(None, broken):
        part = lists[section][index]
        made = _made(part) if section in _STEPS else _of_field(part)
        if made is None:
            return None
        unknown.update(made)
    kept = {section: [parts[index] for index in places[section]] for section, parts in lists.items()}
    fields = {key: kept[f"input/{key}"] for key in _FIELDS if key in given}
    # What was learned of a field that is left out would look like too much.
    beside = {key: part for key, part in value.items() if key not in {"golden", "reference"} or not _has_field(broken)}
    sound = {**beside, "input": {**given, **fields}, **{section: kept[section] for section in _STEPS}}
    steps = [step for section in _STEPS for step in kept[section]]
    return Sound(sound, places, frozenset(unknown), frozenset(_reached(steps, unknown)))


def _has_field(broken: Iterable[tuple[str, int] | None]) -> bool:
    return any(part is not None and part[0] not in _STEPS for part in broken)


def _reached(steps: Iterable[Any], unknown: set[str]) -> set[str]:
    """The columns, and what steps that read them make, and so on."""
    reached = set(unknown)
    for step in steps:
        if not reached.isdisjoint(_texts({key: part for key, part in step.items() if key in {"in", "params"}})):
            reached.update(_made(step) or ())
    return reached


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, column names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _of_field(field: Any) -> list[str] | None:
    """Names of the columns that an input field would have been and have made; None where that cannot be told."""
    if not isinstance(field, dict) or not isinstance(field.get("name"), str):
        return None
    treatments = [part for part in field.values() if isinstance(part, dict)]
    return [field["name"], *(part["flag"] for part in treatments if isinstance(part.get("flag"), str))]


def _made(step: Any) -> list[str] | None:
    """Names of the columns that a step would have made; None where that cannot be told."""
    names = step.get("out") if isinstance(step, dict) else None
    if names is None and isinstance(step, dict) and step.get("op") in _MAKES_NONE:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
