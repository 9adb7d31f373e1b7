"""What a run used of machines, and what that cost.

    amount = driver hours · price of its instance + executor hours / executors an instance · price of theirs

Executors are counted while the run goes on, from when Spark has started until the run ends, and between two counts
there were the mean of both. With a `local` master there is one machine, which both are.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from etl.documents import Strict

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.monitoring.limit_settings import Cost
    from jobs.session import Cluster

__all__ = ["CostFacts", "Meter", "Used", "amount_of", "cost_facts", "money_text", "price_per_second"]

_HOUR = 3600.0
_FEW_ROWS = 10_000
"""Below, a million rows would cost what Spark's start does."""


class CostFacts(Strict):
    """What a try at a run used, and what that cost."""

    driver_hours: float = Field(ge=0, description="Wall clock of the driver.")
    executor_hours: float = Field(ge=0, description="Of all executors together, while the run had a session of Spark.")
    gpu_hours: float = Field(
        default=0.0, ge=0, description="Of all their GPUs together, whether they were busy or not."
    )
    executors: int = Field(default=0, ge=0, description="Most at a time.")
    cores: int = Field(default=0, ge=0, description="Most tasks at a time.")
    is_local: bool = Field(default=False, description="Whether driver and executor were one machine.")
    amount: float | None = Field(default=None, ge=0, description="None without a table of prices.")
    earlier: float = Field(
        default=0.0, ge=0, description="What earlier tries at the run cost, of which a record tells."
    )
    currency: str | None = None
    per_million_rows: float | None = Field(
        default=None, description="Of all tries together, by rows in; None of a run of less than 10,000 rows."
    )

    @property
    def total(self) -> float | None:
        """Of all tries."""
        return None if self.amount is None else self.amount + self.earlier


class Used(NamedTuple):
    """What a run used of machines, in seconds."""

    driver: float
    executors: float = 0.0
    """Of all executors together."""
    gpus: float = 0.0
    """Of all their GPUs together."""
    spark: float = 0.0
    """While there was a session."""
    most_executors: int = 0
    most_cores: int = 0
    is_local: bool = False

    def within(self, seconds: float) -> Used:
        """As much of it as falls into a run of so many seconds: the last look at the cluster comes after its end."""
        share = min(1.0, seconds / self.spark) if self.spark else 1.0
        return self._replace(
            driver=seconds, executors=self.executors * share, gpus=self.gpus * share, spark=self.spark * share
        )


class Meter:
    """Counts executors over time; safe to be used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """The driver's time begins now."""
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._probe: Callable[[], Cluster] | None = None
        self._last: tuple[float, Cluster] | None = None
        self._used = Used(0.0)

    def attach(self, probe: Callable[[], Cluster]) -> None:
        """Spark has started; `probe` looks at it."""
        self._probe = probe
        self.count()

    def count(self) -> None:
        """Look at the cluster; where it cannot be seen, it is as it was."""
        if self._probe is None:
            return
        now: Cluster | None
        try:
            now = self._probe()
        except Exception:  # noqa: BLE001  a session that ends raises errors of py4j and of sockets, and no run may fail
            now = self.cluster
        with self._lock:
            if now is not None:
                self._add(self._clock(), now)

    def _add(self, moment: float, now: Cluster) -> None:
        then, before = self._last or (moment, now)
        span, used = moment - then, self._used
        self._used = used._replace(
            executors=used.executors + span * (before.executors + now.executors) / 2,
            gpus=used.gpus + span * (before.gpus + now.gpus) / 2,
            spark=used.spark + span,
            most_executors=max(used.most_executors, now.executors),
            most_cores=max(used.most_cores, now.cores),
            is_local=now.is_local,
        )
        self._last = (moment, now)

    @property
    def cluster(self) -> Cluster | None:
        """As it was counted last."""
        return self._last[1] if self._last is not None else None

    def used(self) -> Used:
        """So far."""
        with self._lock:
            return self._used._replace(driver=self._clock() - self._began)


def amount_of(prices: Cost, used: Used) -> float:
    """What was used costs so much, in the currency of the prices."""
    if used.is_local:
        machine = prices.executors or prices.driver
        return prices.prices[machine.instance] * used.driver / _HOUR if machine is not None else 0.0
    driver = prices.prices[prices.driver.instance] * used.driver if prices.driver is not None else 0.0
    executors = 0.0
    if prices.executors is not None:
        executors = prices.prices[prices.executors.instance] * used.executors / prices.executors.per_instance
    return (driver + executors) / _HOUR


def price_per_second(prices: Cost, cluster: Cluster | None) -> float:
    """What the driver costs in a second, and the cluster where there is one."""
    if cluster is None:
        return amount_of(prices, Used(1.0))
    return amount_of(prices, Used(1.0, cluster.executors, is_local=cluster.is_local))


def money_text(amount: float | None, currency: str | None = None) -> str:
    """An amount to the cent, or to three digits where it is less than 1."""
    if amount is None:
        return "-"
    text = f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.3g}"
    return f"{text} {currency}" if currency else text


def cost_facts(prices: Cost | None, used: Used, *, earlier: float = 0.0, rows: int = 0) -> CostFacts:
    """What a run used, with what it cost where prices are known."""
    amount = amount_of(prices, used) if prices is not None else None
    known = amount is not None and rows >= _FEW_ROWS
    return CostFacts(
        driver_hours=used.driver / _HOUR,
        executor_hours=used.executors / _HOUR,
        gpu_hours=used.gpus / _HOUR,
        executors=used.most_executors,
        cores=used.most_cores,
        is_local=used.is_local,
        amount=amount,
        earlier=earlier,
        currency=prices.currency if prices is not None else None,
        per_million_rows=(amount + earlier) / rows * 1e6 if amount is not None and known else None,
    )
