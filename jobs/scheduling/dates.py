"""The dates of a schedule between two days, all of them moments in UTC, which has no hour twice and none missing."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from jobs.config.variables import date_text, logical_date
from jobs.errors import Refused

__all__ = ["dates_between", "last_moment", "step_of"]

_STEP = re.compile(r"([1-9][0-9]{0,3})(h|d)")
_MOST = 10_000
"""More dates than that are a slip of the pen: 27 years of days, or a year of hours."""


def step_of(text: str) -> timedelta:
    """Hours or days between two runs of a schedule: `1d`, `6h`.

    Raises:
        Refused: it is no such step.
    """
    found = _STEP.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is no step from one date to the next: give days or hours, as 1d or 6h.")
    return timedelta(**{{"h": "hours", "d": "days"}[found[2]]: int(found[1])})


def last_moment(text: str) -> datetime:
    """The last second that is meant by the end of a range: of a date without a time, that of its day.

    Raises:
        Refused: it is no date and no moment.
    """
    moment = logical_date(text)
    try:
        date.fromisoformat(text)
    except ValueError:
        return moment
    return moment + timedelta(days=1, seconds=-1)


def dates_between(first: datetime, last: datetime, every: timedelta) -> tuple[datetime, ...]:
    """From `first`, in steps, up to `last` where a step ends there; in order, each once.

    Raises:
        Refused: there is none, or there are more than anybody means.
    """
    if last < first:
        raise Refused(f"--to {date_text(last)} is before --from {date_text(first)}: there is no date between them.")
    count = (last - first) // every + 1
    if count > _MOST:
        raise Refused(f"from {date_text(first)} to {date_text(last)} there are {count:,} dates: give up to {_MOST:,}.")
    return tuple(first + number * every for number in range(count))
