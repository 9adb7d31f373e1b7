"""Hold a run against what its config allows it to take and to cost, while it goes on and when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from etl.documents import Strict
from jobs.monitoring.cost import money_text
from jobs.monitoring.durations import deadline_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from jobs.monitoring.limit_settings import Cost, OnBreach, Sla

__all__ = ["Breach", "LimitName", "Limits", "Moment"]

LimitName = Literal["sla.max_duration", "sla.finish_by", "cost.budget.run", "cost.budget.per_million_rows"]
"""Limits by their place in the config."""

_FEW_ROWS = 10_000


class Breach(Strict):
    """A limit that a run has passed, or was expected to pass."""

    limit: LimitName
    allowed: float = Field(description="Seconds since the run began, or money.")
    value: float = Field(description="What it took or cost, or was expected to.")
    unit: str = Field(description="`s`, or the currency.")
    deadline: AwareDatetime | None = Field(default=None, description="Of `sla.finish_by`.")
    at: AwareDatetime = Field(description="When this was noticed.")
    is_projected: bool = Field(
        description="Whether it was expected at the pace of scoring and, in the record of a run, did not happen."
    )

    def __str__(self) -> str:
        """A sentence's worth, without its stop."""
        verb = "is expected to take" if self.is_projected else "took"
        if self.unit != "s":
            verb = "is expected to cost" if self.is_projected else "cost"
            what = " a million rows" if self.limit == "cost.budget.per_million_rows" else ""
            value, allowed = _apart(self.value, self.allowed, _money)
            return f"it {verb} {value} {self.unit}{what}; {self.limit} is {allowed}"
        if self.deadline is not None:
            late, _ = _apart(self.value - self.allowed, 0, _seconds)
            verb = "is expected to be" if self.is_projected else "was"
            return f"it {verb} {late} s later than {self.deadline:%Y-%m-%d %H:%M:%S} UTC ({self.limit})"
        value, allowed = _apart(self.value, self.allowed, _seconds)
        return f"it {verb} {value} s; {self.limit} is {allowed} s"


_DIGITS = 12


def _apart(value: float, limit: float, text: Callable[[float, int], str]) -> tuple[str, str]:
    """Both as texts, with as few further digits as tell them apart: a limit that was passed must not read as it was."""
    pairs = ((text(value, more), text(limit, more)) for more in range(_DIGITS))
    # As numbers: 1.00 and 1 are different texts.
    apart = (pair for pair in pairs if len({float(one.replace(",", "")) for one in pair}) > 1)
    return next(apart, (text(value, 0), text(limit, 0)))


def _seconds(amount: float, more: int) -> str:
    return f"{amount:,.{more}f}"


def _money(amount: float, more: int) -> str:
    return f"{amount:,.{2 + more}f}" if more else money_text(amount)


class Moment(NamedTuple):
    """How a run stands at a moment."""

    at: datetime
    seconds: float
    """Since this try began."""
    seconds_left: float | None = None
    """Of scoring, at the pace so far; None while nobody knows, and where it is over."""
    spent: float = 0.0
    """Money, all tries together."""
    spending: float = 0.0
    """Money in a second."""
    rows: float | None = None
    """Rows in of the whole run, as estimated while it goes on."""


class Limits(NamedTuple):
    """Those of one run."""

    sla: Sla
    cost: Cost | None
    started_at: datetime
    deadline: datetime | None
    """What `sla.finish_by` names."""

    @classmethod
    def of(cls, sla: Sla, cost: Cost | None, *, started_at: datetime, claimed_at: datetime) -> Limits:
        """`started_at` is when this try began, `claimed_at` when the first one did."""
        deadline = deadline_after(sla.finish_by, claimed_at) if sla.finish_by is not None else None
        return cls(sla, cost, started_at, deadline)

    def passed(self, moment: Moment) -> list[Breach]:
        """Limits that are passed now."""
        return [one for one in self._found(moment) if not one.is_projected]

    def expected(self, moment: Moment) -> list[Breach]:
        """Limits that are passed now, or will be at the pace so far."""
        return list(self._found(moment))

    def on_breach(self, limit: LimitName) -> OnBreach:
        """What the config says of a limit that is passed."""
        if limit.startswith("sla."):
            return self.sla.on_breach
        return self.cost.on_breach if self.cost is not None else "warn"

    def _found(self, moment: Moment) -> Iterator[Breach]:
        seconds, left = moment.seconds, moment.seconds_left or 0.0
        if self.sla.max_duration is not None:
            yield from _against("sla.max_duration", self.sla.max_duration, (seconds, seconds + left), moment=moment)
        if self.deadline is not None:
            allowed = (self.deadline - self.started_at).total_seconds()
            found = _against("sla.finish_by", allowed, (seconds, seconds + left), moment=moment)
            yield from (one.model_copy(update={"deadline": self.deadline}) for one in found)
        if self.cost is None:
            return
        unit, budget = self.cost.currency, self.cost.budget
        spent, in_all = moment.spent, moment.spent + moment.spending * left
        if budget.run is not None:
            yield from _against("cost.budget.run", budget.run, (spent, in_all), moment=moment, unit=unit)
        if budget.per_million_rows is not None and moment.rows is not None and moment.rows >= _FEW_ROWS:
            share = 1e6 / moment.rows
            values = (spent * share, in_all * share)
            yield from _against(
                "cost.budget.per_million_rows", budget.per_million_rows, values, moment=moment, unit=unit
            )


def _against(
    limit: LimitName, allowed: float, values: tuple[float, float], *, moment: Moment, unit: str = "s"
) -> Iterator[Breach]:
    """`values` are the one now and the one to be expected."""
    now, later = values
    if later > allowed:
        is_projected = now <= allowed
        value = later if is_projected else now
        yield Breach(limit=limit, allowed=allowed, value=value, unit=unit, at=moment.at, is_projected=is_projected)
