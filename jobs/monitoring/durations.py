"""Lengths of time and times of day, as configs give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

__all__ = ["DayTime", "Duration", "deadline_after", "seconds_of"]

_PARTS = re.compile(
    r"(?=\d)(?:(?P<d>\d+(?:\.\d+)?)d)?\s*(?:(?P<h>\d+(?:\.\d+)?)h)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)m)?\s*(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_ISO = TypeAdapter(timedelta)
_DAY_TIME = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?\s+(?P<zone>\S+)")


def seconds_of(value: Any) -> Any:
    """Seconds of a number, of `1d2h3m4s` with any of its parts, or of a duration of ISO 8601, `PT2H30M`.

    Raises:
        ValueError: it is a text of none of these forms. What is neither text nor number comes back as it is.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if found := _PARTS.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for unit, number in found.groupdict().items() if number)
    if text.startswith("P"):
        try:
            return _ISO.validate_python(text).total_seconds()
        except ValidationError:
            pass
    message = "is no length of time: give seconds, or one as 2h, 1h30m, 45s or PT1H30M"
    raise ValueError(message)


Duration = Annotated[
    float, BeforeValidator(seconds_of, json_schema_input_type=float | str), Field(gt=0, allow_inf_nan=False)
]
"""Seconds, above 0."""


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        message = f"names the time zone {name}, which nobody knows here; give one as Europe/Berlin or UTC"
        raise ValueError(message) from error


def _day_time(text: str) -> str:
    _parsed(text)
    return text


def _parsed(text: str) -> datetime | tuple[time_of_day, ZoneInfo]:
    """A moment, or a time of day and its zone."""
    if found := _DAY_TIME.fullmatch(text.strip()):
        hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
        try:
            return time_of_day(hour, minute, second), _zone(found["zone"])
        except ValueError as error:
            raise ValueError(str(error)) from error
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        message = 'is no time: give one as "06:00 Europe/Berlin", or as 2026-11-27T06:00:00+01:00, with its zone'
        raise ValueError(message)
    return moment


DayTime = Annotated[str, AfterValidator(_day_time)]
"""`06:00 Europe/Berlin`, or a moment of ISO 8601 with its zone."""


def deadline_after(text: str, begun: datetime) -> datetime:
    """The moment that a `DayTime` names, in UTC: a time of day is the next one after `begun`, by the clock of its zone.

    A time that the clock skips in spring is told as the clock before would tell it, and so is an hour later; of one
    that comes twice in autumn it is the first.
    """
    parsed = _parsed(text)
    if isinstance(parsed, datetime):
        return parsed.astimezone(UTC)
    clock, zone = parsed
    day = begun.astimezone(zone).date()
    # Moments of one zone are compared by what the clock shows, so they are taken to UTC first.
    found = datetime.combine(day, clock, zone).astimezone(UTC)
    return found if found > begun else datetime.combine(day + timedelta(days=1), clock, zone).astimezone(UTC)
