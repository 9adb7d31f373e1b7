"""A run's numbers for Prometheus, in the file that its node exporter reads (`--collector.textfile.directory`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from jobs.monitoring.sinks import Ended
    from jobs.record import RunRecord

__all__ = ["PrometheusTextfile", "registry_of"]


class PrometheusTextfile:
    """Writes the file anew at the end of each run, all or nothing."""

    name = "prometheus"

    def __init__(self, path: str) -> None:
        """`path` is a file of the driver's host."""
        self._path = path

    def start(self, begun: RunRecord) -> None:
        """Nothing is told of a run that has only begun: the file goes on to tell of the last one that ended."""

    def finish(self, ended: Ended) -> None:
        """Replace the file.

        Raises:
            OSError: its folder is not there, or the file cannot be written.
        """
        folder = Path(self._path).absolute().parent
        if not folder.is_dir():
            message = (
                f"{folder}: there is no such folder on the driver's host. Make it, or mend sinks.prometheus.textfile."
            )
            raise FileNotFoundError(message)
        write_to_textfile(self._path, registry_of(ended.record))


def registry_of(record: RunRecord) -> CollectorRegistry:
    """The numbers of a run under the names of docs/MONITORING.md, in base units; labels `job` and `model` on each."""
    registry = CollectorRegistry()
    registry.register(_OfRecord(record))
    return registry


class _OfRecord(Collector):
    """Families as they stand in the record: an instrument would add when it was made, as a metric of its own."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        model = f"{record.model.name}:{record.model.version}" if record.model is not None else ""
        self._common = {"job": record.job, "model": model}

    def collect(self) -> Iterator[Metric]:
        record, account = self._record, self._record.account
        rows = CounterMetricFamily("scoring_rows", "Rows by what became of them.", labels=[*self._common, "outcome"])
        for outcome, tally in (("ok", account.scored), ("failed", account.quarantined), ("filtered", account.filtered)):
            rows.add_metric([*self._common.values(), outcome], tally.rows)
        yield rows
        phases = self._gauge("phase_seconds", "Seconds by phase.", "where", "phase")
        for where, seconds in (("driver", record.wall_seconds), ("worker", record.worker_seconds)):
            for phase, spent in seconds.items():
                self._add(phases, spent, where, phase)
        yield phases
        state = self._gauge("job_state", "1 for the state that the run ended in.", "state")
        self._add(state, 1, str(record.state))
        yield state
        yield from self._plain()
        yield from self._cost()

    def _plain(self) -> Iterator[Metric]:
        """Numbers without further labels."""
        record, ended = self._record, self._record.ended_at.timestamp()
        yield self._one("job_duration_seconds", "Wall clock of the run.", record.seconds)
        yield self._one("job_ended_timestamp_seconds", "When it ended, in seconds since the epoch.", ended)
        yield self._one("read_bytes", "Bytes of the input that were read.", record.bytes_read)
        yield self._one("written_bytes", "Bytes of predictions.", record.bytes_written)
        yield self._one("model_loads", "Times that a model was loaded.", record.model_loads)
        yield self._one("oom_retries", "Calls that were too large for memory, and halved.", record.engine.out_of_memory)
        if record.peak_task_bytes is not None:
            yield self._one("worker_peak_bytes", "Largest resident size of a worker.", record.peak_task_bytes)
        if record.seconds > 0 and record.splits_scored_now == record.splits:
            pace = record.account.rows_in.rows / record.seconds
            yield self._one("rows_per_second", "Rows in, over the wall clock.", pace)

    def _cost(self) -> Iterator[Metric]:
        """What the run cost, as far as that is known, and the limits that it passed."""
        cost = self._record.cost
        if cost is not None:
            hours = self._gauge("machine_hours", "Hours of machines.", "of")
            spent = {"driver": cost.driver_hours, "executors": cost.executor_hours, "gpus": cost.gpu_hours}
            for of, amount in spent.items():
                self._add(hours, amount, of)
            yield hours
            money = {
                "cost": ("Of all tries.", cost.total),
                "cost_per_million_rows": ("Of all tries, by rows in.", cost.per_million_rows),
            }
            for name, (told, much) in money.items():
                if much is not None:
                    yield self._add(self._gauge(name, told, "currency"), much, cost.currency)
        passed = self._gauge("limit_passed", "1 for a limit that was passed.", "limit")
        for breach in self._record.breaches:
            if not breach.is_projected:
                self._add(passed, 1, breach.limit)
        yield passed

    def _gauge(self, name: str, told: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"scoring_{name}", told, labels=[*self._common, *labels])

    def _add(self, gauge: GaugeMetricFamily, value: float, *labels: str | None) -> GaugeMetricFamily:
        gauge.add_metric([*self._common.values(), *(str(label) for label in labels)], value)
        return gauge

    def _one(self, name: str, told: str, value: float) -> GaugeMetricFamily:
        return self._add(self._gauge(name, told), value)
