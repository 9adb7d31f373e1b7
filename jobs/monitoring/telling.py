"""Who is told of a run: the place where records of all jobs are collected, and the sinks of its config."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from jobs.errors import Refused
from jobs.monitoring.collected import collect
from jobs.monitoring.sinks import Deliveries, Ended, Sink, Sinks
from jobs.monitoring.tasks import tasks_table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split
    from jobs.config import JobConfig
    from jobs.destination import Target
    from jobs.record import RunRecord

__all__ = ["Telling", "sinks_of"]


class Telling:
    """Of one run; a trial is nobody's business."""

    def __init__(self, config: JobConfig, target: Target, *, is_trial: bool) -> None:
        self._target = target
        self._uri = config.metrics.uri if config.metrics is not None and not is_trial else None
        self._config = None if is_trial else config
        self._sinks: Sinks | None = None

    def prepare(self) -> None:
        """Make the sinks, before the id is claimed; a run that was published before does without, and is quicker.

        Raises:
            Refused: see `sinks_of`.
        """
        found = sinks_of(self._config) if self._config is not None else []
        if self._config is not None and found:
            settings = self._config.sinks
            self._sinks = Sinks(found, timeout=settings.timeout, tries=settings.tries)

    def start(self, begun: RunRecord) -> None:
        """The run has begun."""
        if self._sinks is not None:
            self._sinks.start(begun)

    def finish(self, record: RunRecord, receipts: Iterable[Receipt], splits: Iterable[Split]) -> None:
        """The run has ended as its record says, which is stored by now. What cannot be told is a warning."""
        if self._uri is None and self._sinks is None:
            return
        tasks = tasks_table(receipts, splits)
        if self._uri is not None:
            collect(self._uri, record, tasks)
        if self._sinks is not None:
            found = Deliveries(run_id=record.run_id, deliveries=self._sinks.finish(Ended(record, tasks)))
            self._keep(found)

    def _keep(self, found: Deliveries) -> None:
        unsent = [one for one in found.deliveries if not one.is_sent]
        for one in unsent:
            warnings.warn(
                f"{one.sink} was not told of the {one.event} of run {found.run_id}: {one.problem}", stacklevel=2
            )
        try:
            self._target.storage.replace(self._target.layout.deliveries, found.to_bytes())
        except (BatchscoreError, OSError) as error:
            warnings.warn(f"who was told of run {found.run_id} is not recorded: {error}", stacklevel=2)


def sinks_of(config: JobConfig) -> list[Sink]:
    """Those that a config asks for.

    Raises:
        Refused: one of them needs what is not installed.
    """
    found: list[Sink] = []
    with _installed():
        if config.sinks.prometheus is not None:
            from jobs.monitoring.prometheus import PrometheusTextfile  # noqa: PLC0415  an extra

            found.append(PrometheusTextfile(config.sinks.prometheus.textfile))
        if config.sinks.mlflow is not None:
            from jobs.monitoring.mlflow_tracking import MLflowTracking  # noqa: PLC0415  an extra

            found.append(MLflowTracking(config.sinks.mlflow))
    return found


@contextlib.contextmanager
def _installed() -> Generator[None]:
    """Say which extra a sink needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = {"prometheus_client": "prometheus", "mlflow": "mlflow"}.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise Refused(f"sinks.{extra} needs {error.name}: pip install batchscore[{extra}].") from error
