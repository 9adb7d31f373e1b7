"""Who is told of a run: the place where records of all jobs are collected, and the sinks of its config."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from jobs.errors import Refused
from jobs.monitoring.collected import collect
from jobs.monitoring.hooks import Hooks, hook_problems
from jobs.monitoring.sinks import Deliveries, Delivery, Ended, Sink, Sinks
from jobs.monitoring.tasks import tasks_table
from jobs.settling.receipts import receipts_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from etl.runs.receipt import Receipt
    from jobs.config.job import JobConfig
    from jobs.monitoring.limits import Breach
    from jobs.monitoring.settings import SinkSettings
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan
    from jobs.record import RunRecord

__all__ = ["Telling", "sinks_of", "tell_decision"]


_EXTRAS = {"prometheus_client": "prometheus", "mlflow": "mlflow", "openlineage": "openlineage"}
"""By package, the extra that brings it."""


class Telling:
    """Of one run; a trial is nobody's business."""

    def __init__(self, config: JobConfig, target: Target, *, is_trial: bool) -> None:
        self._target = target
        self._uri = config.metrics.uri if config.metrics is not None and not is_trial else None
        self._settings = None if is_trial else config.sinks
        self._hook_settings = None if is_trial else config.hooks
        self._sinks: Sinks | None = None
        self._hooks: Hooks | None = None

    def prepare(self) -> None:
        """Make the sinks, before the id is claimed; a run that was published before does without, and is quicker.

        Raises:
            Refused: see `sinks_of`; or hooks, of any event, lack variables of the environment. All are named.
        """
        if self._settings is not None:
            self._sinks = _made(self._settings)
        if self._hook_settings is not None:
            if problems := hook_problems(self._hook_settings):
                raise Refused("\n".join(problems))
            self._hooks = Hooks(self._hook_settings)

    def start(self, begun: RunRecord) -> None:
        """The run has begun."""
        if self._sinks is not None:
            self._sinks.start(begun)
        if self._hooks is not None:
            self._hooks.start(begun)

    def breached(self, record: RunRecord, breach: Breach) -> None:
        """A limit is passed, or expected to be."""
        if self._hooks is not None:
            self._hooks.breached(record, breach)

    def finish(self, record: RunRecord, receipts: Iterable[Receipt], plan: Plan | None) -> None:
        """The run has ended as its record says, which is stored by now. What cannot be told is a warning."""
        if self._uri is None and self._sinks is None and self._hooks is None:
            return
        tasks = tasks_table(receipts, plan.splits if plan is not None else ())
        seal = collect(self._uri, record, tasks) if self._uri is not None else None
        told = self._hooks.finish(record) if self._hooks is not None else ()
        if self._sinks is not None:
            told += self._sinks.finish(Ended(record, tasks, plan, seal))
        if told:
            _keep(self._target, record.run_id, told)


def tell_decision(target: Target, plan: Plan, record: RunRecord) -> None:
    """Tell those whom the run's config named what a person decided on it. What cannot be told is a warning."""
    seal = collect(plan.metrics_uri, record) if plan.metrics_uri is not None else None
    sinks = None
    try:
        sinks = _made(plan.sinks)
    except Refused as error:
        warnings.warn(f"no sink was told what was decided on run {record.run_id}: {error}", stacklevel=3)
    found = Hooks(plan.hooks, starts_programs=False).finish(record) if plan.hooks is not None else ()
    if sinks is not None:
        tasks = tasks_table(receipts_of(target, plan), plan.splits)
        found += sinks.finish(Ended(record, tasks, plan, seal))
    if found:
        _keep(target, record.run_id, found, before=_kept(target))


def _made(settings: SinkSettings) -> Sinks | None:
    found = sinks_of(settings)
    return Sinks(found, timeout=settings.timeout, tries=settings.tries) if found else None


def _kept(target: Target) -> tuple[Delivery, ...]:
    """Who was told of the run before; what cannot be read any more is a warning."""
    path = target.layout.deliveries
    try:
        data = target.storage.read_bytes(path)
        return Deliveries.from_bytes(data, where=path).deliveries if data is not None else ()
    except (BatchscoreError, OSError) as error:
        warnings.warn(f"who was told of the run before is lost: {error}", stacklevel=2)
        return ()


def _keep(target: Target, run_id: str, found: tuple[Delivery, ...], *, before: tuple[Delivery, ...] = ()) -> None:
    for one in found:
        if not one.is_sent:
            warnings.warn(f"{one.sink} was not told of the {one.event} of run {run_id}: {one.problem}", stacklevel=2)
    kept = Deliveries(run_id=run_id, deliveries=(*before, *found))
    try:
        target.storage.replace(target.layout.deliveries, kept.to_bytes())
    except (BatchscoreError, OSError) as error:
        warnings.warn(f"who was told of run {run_id} is not recorded: {error}", stacklevel=2)


def sinks_of(settings: SinkSettings) -> list[Sink]:
    """Those that a config asks for.

    Raises:
        Refused: one of them needs what is not installed.
    """
    found: list[Sink] = []
    with _installed():
        if settings.prometheus is not None:
            from jobs.monitoring.prometheus import PrometheusTextfile  # noqa: PLC0415  an extra

            found.append(PrometheusTextfile(settings.prometheus.textfile))
        if settings.mlflow is not None:
            from jobs.monitoring.mlflow_tracking import MLflowTracking  # noqa: PLC0415  an extra

            found.append(MLflowTracking(settings.mlflow, settings.timeout))
        if settings.openlineage is not None:
            from jobs.monitoring.openlineage_sink import OpenLineageSink  # noqa: PLC0415  an extra

            found.append(OpenLineageSink(settings.openlineage, settings.timeout))
    return found


@contextlib.contextmanager
def _installed() -> Generator[None]:
    """Say which extra a sink needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise Refused(f"sinks.{extra} needs {error.name}: pip install batchscore[{extra}].") from error
