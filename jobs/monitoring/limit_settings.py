"""Config of how long a run may take and what it may cost, and of what machines cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from etl.documents import Strict
from jobs.monitoring.durations import DayTime, Duration

__all__ = ["Cost", "CostBudget", "Executors", "Machine", "OnBreach", "Sla"]

OnBreach = Literal["warn", "fail"]
"""What becomes of a run that is over a limit."""
_ON_BREACH = (
    "`warn` records it and tells hooks; `fail` also stops scoring once the limit is passed, keeping what is scored, "
    "and holds back what was scored by then."
)


class Sla(Strict):
    """When a run has to be done."""

    max_duration: Duration | None = Field(
        default=None, description="Of one try at a run: seconds, or as 2h, 1h30m or PT1H30M."
    )
    finish_by: DayTime | None = Field(
        default=None,
        description='"06:00 Europe/Berlin": the next one after the run id was first claimed; or a moment with a zone.',
    )
    on_breach: OnBreach = Field(default="warn", description=_ON_BREACH)


class Machine(Strict):
    """What the driver runs on."""

    instance: str = Field(min_length=1, description="A name in `cost.prices`.")


class Executors(Machine):
    """What executors run on."""

    per_instance: int = Field(default=1, ge=1, description="Executors that share one instance.")


class CostBudget(Strict):
    """What a run may cost, in `cost.currency`. Both limits hold where both are given."""

    run: FiniteFloat | None = Field(default=None, gt=0, description="Of all tries at a run together.")
    per_million_rows: FiniteFloat | None = Field(
        default=None, gt=0, description="Of rows in; a run of less than 10,000 rows is not held to it."
    )


class Cost(Strict):
    """What machines cost, and so what a run does."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(
        default="USD", description="Of all prices and budgets, in three letters."
    )
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        min_length=1, description="Of an hour, by instance type."
    )
    driver: Machine | None = Field(default=None, description="Without it the driver costs nothing.")
    executors: Executors | None = Field(
        default=None, description="Without it executors cost nothing, as with `local` masters, where there are none."
    )
    budget: CostBudget = CostBudget()
    on_breach: OnBreach = Field(default="warn", description=_ON_BREACH)

    @model_validator(mode="after")
    def _priced(self) -> Cost:
        named = [one.instance for one in (self.driver, self.executors) if one is not None]
        if not named:
            message = "name the instance type of `driver`, of `executors`, or of both"
            raise ValueError(message)
        missing = [name for name in named if name not in self.prices]
        if missing:
            message = f"`prices` has none of {', '.join(missing)}"
            raise ValueError(message)
        return self
