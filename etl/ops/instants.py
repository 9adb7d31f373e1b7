"""Instants in the text of a spec."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

__all__ = ["EPOCH", "days_of", "micros_of"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DATE = "([0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = r"[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?"
_ZONE = "(Z|([+-])(0[0-9]|1[0-4]):([0-5][0-9]))"
_TIMESTAMP = re.compile(f"{_DATE}(?:{_TIME}{_ZONE}?)?")


def days_of(text: str) -> int | None:
    """Days since 1970 of `YYYY-MM-DD`, from year 1; None where the text is none."""
    if not re.fullmatch(_DATE, text):
        return None
    try:
        return date.fromisoformat(text).toordinal() - EPOCH.toordinal()
    except ValueError:
        return None


def micros_of(text: str) -> int | None:
    """µs since 1970 of a date (its midnight), or of a date, `T` or a space, `hh:mm[:ss[.f…]]` and optionally `Z` or
    `±hh:mm` (without: UTC; digits of a second behind the sixth are cut off); None where the text is none.
    """  # noqa: D205  the form is one sentence
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second, fraction, zone, sign, hours, minutes = match.groups()
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    zone = UTC if zone in {None, "Z"} else timezone(-away if sign == "-" else away)
    try:
        instant = datetime.fromisoformat(day).replace(
            hour=int(hour or 0),
            minute=int(minute or 0),
            second=int(second or 0),
            microsecond=int((fraction or "0")[:6].ljust(6, "0")),
            tzinfo=zone,
        )
    except ValueError:
        return None
    return (instant - EPOCH) // timedelta(microseconds=1)
