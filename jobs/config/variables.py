"""`${NAME}` in a config: variables of the environment, and the logical date of the run that it is read for."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Any

from etl.format.positions import escape
from etl.format.problems import Problem, Source
from jobs.errors import Refused

__all__ = ["ANY_DATE", "Variables", "date_text", "logical_date", "set_variables", "yaml_value"]

ANY_DATE = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the date where a config is read to look back over the runs of all dates."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_OF_THE_DATE = {"LOGICAL_DATE": "%Y-%m-%d", "LOGICAL_HOUR": "%H"}
"""Variables that no environment sets: what they are of the logical date, in UTC."""
_SAME_FOR_ALL = ("/api_version", "/name", "/output", "/metrics", "/storage", "/scratch", "/gc")
"""What commands that look back read of a config."""


def logical_date(text: str) -> datetime:
    """The moment that a schedule means, in UTC and to the second; a text without a zone is UTC.

    Raises:
        Refused: the text is no date and no moment as ISO 8601 writes them.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{text!r} is no logical date: write 2026-11-26, or 2026-11-26T06:00:00+00:00.") from error
    return moment.replace(microsecond=0)


def date_text(moment: datetime) -> str:
    """A logical date as `--logical-date` takes it: a date where it is midnight in UTC."""
    moment = moment.astimezone(UTC)
    # Not by %Y, which pads no year.
    is_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.date().isoformat() if is_midnight else moment.isoformat()


class Variables:
    """Fills in `${NAME}` everywhere."""

    def __init__(self, scalars: frozenset[str], date: datetime | None) -> None:
        """At `scalars`, a text that is one variable and no more becomes the number or bool that it reads as."""
        self.problems: list[Problem] = []
        self._scalars = scalars
        self._date = date

    def fill(self, value: Any, pointer: str) -> Any:
        """The value with every variable in every text replaced."""
        if isinstance(value, str):
            text = _VARIABLE.sub(lambda match: self._look_up(match, pointer), value)
            return _scalar(text) if pointer in self._scalars and _VARIABLE.fullmatch(value) else text
        if isinstance(value, dict):
            return {key: self.fill(item, f"{pointer}/{escape(key)}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, f"{pointer}/{index}") for index, item in enumerate(value)]
        return value

    def _look_up(self, match: re.Match[str], pointer: str) -> str:
        name, default = match.groups()
        if name in _OF_THE_DATE:
            return self._of_the_date(name, default, pointer)
        found = os.environ.get(name)
        if not found and default is not None:  # an empty variable too, as in a shell
            return default
        if found is None:
            advice = f"Set it, or give ${{{name}:-default}}."
            self.problems.append(Problem(pointer, f"environment variable {name} is not set. {advice}"))
            return ""
        return found

    def _of_the_date(self, name: str, default: str | None, pointer: str) -> str:
        if default is not None and (self._date is None or self._date is ANY_DATE):
            return default
        if self._date is None:
            self._complain(pointer, f"{name} is not known: give --logical-date 2026-11-26, say, the date of the run.")
            return ""
        if self._date is ANY_DATE and pointer.startswith(_SAME_FOR_ALL):
            told = f"{name} gives each date a place of its own, and this looks back over all dates"
            self._complain(pointer, f"{told}: name the place itself in the stead of this file.")
        return self._date.strftime(_OF_THE_DATE[name])

    def _complain(self, pointer: str, message: str) -> None:
        self.problems.append(Problem(pointer, message))


def set_variables(value: Any) -> dict[str, str]:
    """The variables of the environment that a value is filled in with, and what they are, where they are set."""
    texts, found = [value], set[str]()
    while texts:
        one = texts.pop()
        if isinstance(one, str):
            found.update(match[1] for match in _VARIABLE.finditer(one))
        elif isinstance(one, dict | list):
            texts += one.values() if isinstance(one, dict) else one
    return {name: os.environ[name] for name in sorted(found - _OF_THE_DATE.keys()) if os.environ.get(name)}


def _scalar(text: str) -> Any:
    """The number or bool that a text is in YAML; the text itself where it is none, as an empty one or two lines are."""
    try:
        value = yaml_value(text) if text.split() == [text] else text
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def yaml_value(text: str) -> Any:
    """A value of YAML, read as one in a block: alone, `{a: 1}` would be taken for JSON."""
    return Source.read(f"value: {text}", "value").value["value"]
