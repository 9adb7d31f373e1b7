"""A run's numbers for Prometheus, in the file that its node exporter reads (`--collector.textfile.directory`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

if TYPE_CHECKING:
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
        """Replace the file."""
        write_to_textfile(self._path, registry_of(ended.record))


def registry_of(record: RunRecord) -> CollectorRegistry:
    """The numbers of a run under the names of docs/MONITORING.md, in base units; labels `job` and `model` on each."""
    registry = CollectorRegistry()
    model = f"{record.model.name}:{record.model.version}" if record.model is not None else ""
    common = {"job": record.job, "model": model}

    def gauge(name: str, told: str, value: float, **labels: str) -> None:
        Gauge(f"scoring_{name}", told, list(common), registry=registry).labels(**common, **labels).set(value)

    rows = Counter("scoring_rows", "Rows by what became of them.", [*common, "outcome"], registry=registry)
    account = record.account
    for outcome, tally in (("ok", account.scored), ("failed", account.quarantined), ("filtered", account.filtered)):
        rows.labels(**common, outcome=outcome).inc(tally.rows)
    phases = Gauge("scoring_phase_seconds", "Seconds by phase.", [*common, "where", "phase"], registry=registry)
    for where, seconds in (("driver", record.wall_seconds), ("worker", record.worker_seconds)):
        for phase, spent in seconds.items():
            phases.labels(**common, where=where, phase=phase).set(spent)
    state = Gauge("scoring_job_state", "1 for the state that the run ended in.", [*common, "state"], registry=registry)
    state.labels(**common, state=str(record.state)).set(1)
    gauge("job_duration_seconds", "Wall clock of the run.", record.seconds)
    gauge("job_ended_timestamp_seconds", "When it ended, in seconds since the epoch.", record.ended_at.timestamp())
    gauge("read_bytes", "Bytes of the input that were read.", record.bytes_read)
    gauge("written_bytes", "Bytes of predictions.", record.bytes_written)
    gauge("model_loads", "Times that a model was loaded.", record.model_loads)
    gauge("oom_retries", "Calls that were too large for memory, and halved.", record.engine.out_of_memory)
    if record.peak_task_bytes is not None:
        gauge("worker_peak_bytes", "Largest resident size of a worker.", record.peak_task_bytes)
    if record.seconds > 0 and record.splits_scored_now == record.splits:
        gauge("rows_per_second", "Rows in, over the wall clock.", account.rows_in.rows / record.seconds)
    _cost(record, common, registry)
    return registry


def _cost(record: RunRecord, common: dict[str, str], registry: CollectorRegistry) -> None:
    """What the run cost, as far as that is known, and the limits that it passed."""
    cost = record.cost
    if cost is not None:
        hours = Gauge("scoring_machine_hours", "Hours of machines.", [*common, "of"], registry=registry)
        for of, spent in (("driver", cost.driver_hours), ("executors", cost.executor_hours), ("gpus", cost.gpu_hours)):
            hours.labels(**common, of=of).set(spent)
    money = ("scoring_cost", "Of all tries."), ("scoring_cost_per_million_rows", "Of all tries, by rows in.")
    amounts = (cost.total, cost.per_million_rows) if cost is not None else ()
    for (name, told), amount in zip(money, amounts, strict=False):
        if amount is not None and cost is not None:
            gauge = Gauge(name, told, [*common, "currency"], registry=registry)
            gauge.labels(**common, currency=cost.currency).set(amount)
    passed = Gauge("scoring_limit_passed", "1 for a limit that was passed.", [*common, "limit"], registry=registry)
    for breach in record.breaches:
        if not breach.is_projected:
            passed.labels(**common, limit=breach.limit).set(1)
