"""The dates of a schedule between two days, all of them moments in UTC, which has no hour twice and none missing."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from jobs.config.variables import date_text, logical_date
from jobs.errors import Refused

__all__ = ["bounds", "date_before", "dates_between", "last_moment", "step_of"]

_STEP = re.compile(r"([1-9][0-9]{0,3})(h|d)")
_MOST = 5_000
"""More dates than that are a slip of the pen, or a long wait for what a store says of each: 13 years of days."""


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


def bounds(first: str | None, last: str | None) -> tuple[datetime, datetime]:
    """The moments that a range begins and ends with; where one is not given, the first or the last that there is.

    Raises:
        Refused: one is no date and no moment, or the last is before the first.
    """
    begin = logical_date(first) if first is not None else datetime.min.replace(tzinfo=UTC)
    end = last_moment(last) if last is not None else datetime.max.replace(tzinfo=UTC)
    if end < begin:
        raise Refused(f"--to {last} is before --from {first}: there is no date between them.")
    return begin, end


def date_before(first: datetime, every: timedelta) -> datetime:
    """A step before a range.

    Raises:
        Refused: no calendar goes back that far.
    """
    try:
        return first - every
    except OverflowError as error:
        raise Refused(
            f"--from {date_text(first)}: there is no date a step before it, so it is none of a schedule. Give a later "
            "one, or a smaller --every."
        ) from error


def dates_between(first: datetime, last: datetime, every: timedelta) -> tuple[datetime, ...]:
    """From `first`, in steps, up to `last` where a step ends there; in order, each once. None where `last` is before.

    Raises:
        Refused: there are more than anybody means.
    """
    count = (last - first) // every + 1
    if count > _MOST:
        raise Refused(
            f"from {date_text(first)} on there are {count:,} dates: give a range of up to {_MOST:,}, then the next one."
        )
    return tuple(first + number * every for number in range(count))
