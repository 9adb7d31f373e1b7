"""Watch what a run takes and costs: measure it, notice limits while it goes on, and stop it where that is asked."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from jobs.errors import LimitPassed
from jobs.monitoring.cost import Meter, amount_of, cost_facts, price_per_second
from jobs.monitoring.limits import Limits, Moment
from jobs.planning.plan import load_claim
from jobs.progress import Observer
from jobs.record import RunState, load_record
from jobs.session import cluster_of, stoppable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from pyspark.sql import SparkSession

    from etl.runs.receipt import Receipt
    from jobs.config.job import JobConfig
    from jobs.monitoring.cost import Used
    from jobs.monitoring.limits import Breach
    from jobs.planning.destination import Target
    from jobs.progress import Tally
    from jobs.record import RunRecord

__all__ = ["Guard"]

_LOOK_SECONDS = 0.5
_STOPPED = frozenset({"start_spark", "freeze", "prepare", "score"})
"""Phases of Spark, which a passed limit ends."""
_BEFORE_SCORES = _STOPPED | {"claim", "list", "plan"}
_SETTLED = frozenset({RunState.SUCCEEDED, RunState.PARTIALLY_SUCCEEDED, RunState.HELD_BACK})
_CPU = "CPUExecutionProvider"


class Guard:
    """Of one try at a run; a trial has no limits, and is measured all the same."""

    def __init__(self, config: JobConfig, target: Target, *, is_trial: bool, tell: Callable[[Breach], None]) -> None:
        """`tell` is called once for each limit that is expected to be passed, and once where it is, from any thread."""
        self._config, self._target, self._tell = config, target, tell
        has_limits = bool(config.sla.max_duration or config.sla.finish_by or config.cost is not None)
        self._is_held = has_limits and not is_trial
        self._meter = Meter()
        self._limits: Limits | None = None
        self._earlier = 0.0
        self._noticed: dict[tuple[str, bool], Breach] = {}
        self._lock = threading.Lock()
        self._phase = ""
        self._tally: tuple[float, Tally] | None = None
        self._done_before: int | None = None
        self._over: Breach | None = None
        self._cancel: Callable[[], None] | None = None
        self._problem: Exception | None = None
        self._end = threading.Event()
        self._exits = contextlib.ExitStack()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Watch what goes on inside.

        Raises:
            LimitPassed: the run was stopped, which came up as whatever error Spark made of it.
        """
        try:
            yield
        except Exception as error:
            if self._over is None or isinstance(error, LimitPassed):
                raise
            raise self._stopped(self._over) from error
        finally:
            self._end.set()
            self._exits.close()

    def begin(self, begun: RunRecord) -> None:
        """The id is claimed: find what earlier tries cost and when the first one began, and look from now on."""
        if not self._is_held:
            return
        try:
            before = load_record(self._target.storage, self._target.layout.record)
            self._earlier = (before.cost.total or 0.0) if before is not None and before.cost is not None else 0.0
        except BatchscoreError as error:
            warnings.warn(f"what earlier tries cost is not known, and not held to the budget: {error}", stacklevel=2)
        claim = load_claim(self._target)
        claimed_at = claim.claimed_at if claim is not None else begun.started_at
        config = self._config
        self._limits = Limits.of(config.sla, config.cost, started_at=begun.started_at, claimed_at=claimed_at)
        self._observer = self._exits.enter_context(Observer(self._target, _Listener(self)))
        thread = threading.Thread(target=self._work, name="batchscore-guard", daemon=True)
        self._exits.callback(self._await, thread)
        thread.start()

    @staticmethod
    def _await(thread: threading.Thread) -> None:
        # One that a signal kept from starting cannot be waited for.
        if thread.is_alive():
            # A look asks Spark how many executors it has, which may hang with it; the run does not wait for long.
            thread.join(1.0)

    def attach(self, spark: SparkSession) -> None:
        """Spark has started."""
        self._meter.attach(lambda: cluster_of(spark))
        if self._limits is not None:
            self._cancel = self._exits.enter_context(stoppable(spark))

    def phase(self, name: str) -> None:
        """A phase begins.

        Raises:
            LimitPassed: the run is to be stopped before it.
        """
        self._phase, self._tally, self._done_before = name, None, None
        if self._limits is not None:
            self._observer(name)
        if name in _STOPPED:
            self._look()
        if self._over is not None and name in _STOPPED:
            raise self._stopped(self._over)
        if name not in _BEFORE_SCORES:
            # All is scored: whether it may be published is asked once more.
            self._over = None

    def tally(self, tally: Tally) -> None:
        """Scoring is so far."""
        self._tally = (time.monotonic(), tally)
        if self._done_before is None:
            self._done_before = tally.splits_done

    def withheld(self, record: RunRecord) -> list[str]:
        """Why what is scored may not be published, in the words of the limits that are passed."""
        if self._limits is None:
            return []
        found = self._limits.passed(self._moment(rows=record.account.rows_in.rows))
        return [str(one) for one in found if self._limits.on_breach(one.limit) == "fail"]

    def facts(self, record: RunRecord, receipts: Iterable[Receipt]) -> dict[str, object]:
        """What the record says of cost and of limits; tells of limits that nobody was told of."""
        self._meter.count()
        rows = record.account.rows_in.rows if record.state in _SETTLED else 0
        used = self._meter.used().within(record.seconds)
        if record.provider not in {None, _CPU} or (used.spark and not used.most_executors):
            used = _by_receipts(used, receipts)
        cost = cost_facts(self._config.cost, used, earlier=self._earlier, rows=rows)
        if self._limits is not None:
            moment = Moment(record.ended_at, record.seconds, spent=cost.total or 0.0, rows=rows or None)
            self._notice(self._limits.passed(moment))
        if self._problem is not None:
            told = f"{type(self._problem).__name__}: {self._problem}"
            warnings.warn(f"limits were not looked at all the time: {told}", stacklevel=2)
        return {"cost": cost, "breaches": self._kept()}

    def _kept(self) -> tuple[Breach, ...]:
        """Of each limit the last that was noticed, as passed where it was."""
        passed = {limit for limit, is_projected in self._noticed if not is_projected}
        return tuple(one for one in self._noticed.values() if not (one.is_projected and one.limit in passed))

    def _stopped(self, breach: Breach) -> LimitPassed:
        return LimitPassed(
            f"run {self._target.layout.run_id} was stopped: {breach}. What is scored is kept: raise the limit and run "
            "the same id again, which goes on."
        )

    def _work(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            self._meter.count()
            self._look()

    def _look(self) -> None:
        """Notice limits, and stop what is over; whatever goes wrong here is no reason to end a run that scores."""
        if self._limits is not None:
            try:
                self._hold(self._limits)
            except Exception as error:  # noqa: BLE001  told when the run ends
                self._problem = error

    def _hold(self, limits: Limits) -> None:
        found = limits.expected(self._moment())
        self._notice(found)
        hard = [one for one in found if not one.is_projected and limits.on_breach(one.limit) == "fail"]
        if hard and self._phase in _BEFORE_SCORES and not self._end.is_set():
            self._over = hard[0]
            # Again at each look: the job may begin only now.
            if self._cancel is not None:
                self._cancel()

    def _notice(self, breaches: Iterable[Breach]) -> None:
        for one in breaches:
            with self._lock:
                is_new = (one.limit, one.is_projected) not in self._noticed
                self._noticed[one.limit, one.is_projected] = one
            if is_new:
                self._tell(one)

    def _moment(self, rows: float | None = None) -> Moment:
        """As things stand now; `rows` are those of the whole run, where they are known."""
        assert self._limits is not None  # noqa: S101  who calls has looked
        now = datetime.now(UTC)
        seconds = (now - self._limits.started_at).total_seconds()
        prices = self._config.cost
        spent = amount_of(prices, self._meter.used()) + self._earlier if prices is not None else 0.0
        spending = price_per_second(prices, self._meter.cluster) if prices is not None else 0.0
        told = self._tally
        if rows is not None or told is None:
            return Moment(now, seconds, spent=spent, spending=spending, rows=rows)
        tally = told[1]
        rows = tally.rows_done / tally.share if tally.rows_done and tally.share else None
        left = None
        if tally.seconds_left is not None and self._is_settled(tally):
            left = max(0.0, tally.seconds_left - (time.monotonic() - told[0]))
        return Moment(now, seconds, left, spent, spending, rows)

    def _is_settled(self, tally: Tally) -> bool:
        """Whether the pace can be relied on: before as many splits are done as are scored at once it is too low."""
        cluster = self._meter.cluster
        return tally.splits_done - (self._done_before or 0) >= max(1, cluster.cores if cluster is not None else 1)


class _Listener:
    """Hears of progress for the guard, which knows the phases already."""

    def __init__(self, guard: Guard) -> None:
        self.tally = guard.tally

    def phase(self, name: str) -> None:
        """See `jobs.progress.Display`."""

    def close(self) -> None:
        """See `jobs.progress.Display`."""


def _by_receipts(used: Used, receipts: Iterable[Receipt]) -> Used:
    """What Spark does not tell, by the hosts and GPUs that scored, for as long as there was a session."""
    workers = [receipt.worker for receipt in receipts]
    gpus = len({(one.host, one.device_id) for one in workers if one.device_id is not None})
    if used.spark and not used.most_executors:
        hosts = len({one.host for one in workers})
        used = used._replace(executors=hosts * used.spark, most_executors=hosts)
    return used if used.gpus else used._replace(gpus=gpus * used.spark)
