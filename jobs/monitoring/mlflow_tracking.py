"""A run of MLflow tracking for each try at a run: parameters, metrics, its record and its table of tasks."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from jobs.record import RunState

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from jobs.monitoring.settings import MLflow
    from jobs.monitoring.sinks import Ended
    from jobs.record import RunRecord

__all__ = ["MLflowTracking"]

_LONGEST = 500
"""Characters of a parameter that every store of MLflow takes."""
_OWN_WAY = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""The variable by which a person says how often MLflow's client is to try."""
_UNAVAILABLE = {502, 503, 504}
_STATUS = {RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}


class MLflowTracking:
    """Credentials are those of MLflow's own environment variables.

    To import it takes seconds, so that is left to the thread that tells, and the run begins meanwhile.
    """

    name = "mlflow"

    def __init__(self, settings: MLflow, timeout: float) -> None:
        """`timeout` in seconds is how long a server may take to say that it is there. Nothing is asked yet.

        Raises:
            ModuleNotFoundError: MLflow is not installed.
        """
        if importlib.util.find_spec("mlflow") is None:
            message = "No module named 'mlflow'"
            raise ModuleNotFoundError(message, name="mlflow")
        self._settings, self._timeout = settings, timeout
        self._run: str | None = None

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415  takes seconds

        client = MlflowClient(tracking_uri=self._settings.uri)
        # It would print where the run is among the results of the command. Its variable against that, as a redirection,
        # would be the whole process's.
        if (tracking := getattr(client, "_tracking_client", None)) is not None:
            tracking._log_url = lambda _: None  # noqa: SLF001  MLflow has no other way for one client
        return client

    def start(self, begun: RunRecord) -> None:
        """Make the run; again, where its answer was lost, finds it.

        Raises:
            ConnectionError: the server is not there.
        """
        self._look()
        if self._run is None:
            self._run = self._found(begun) or self._made(begun)

    def finish(self, ended: Ended) -> None:
        """Tell all of it, and end the run. What was told already is told again."""
        record = ended.record
        self.start(record)
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415  takes seconds

        assert self._run is not None  # noqa: S101  it was made above
        at = int(record.ended_at.timestamp() * 1000)
        metrics = [Metric(name, value, at, 0) for name, value in _metrics(record).items()]
        params = [Param(name, value[:_LONGEST]) for name, value in _params(record).items()]
        self._client.log_batch(self._run, metrics, params, [RunTag("batchscore.state", str(record.state))])
        with tempfile.TemporaryDirectory(prefix="batchscore-mlflow-") as folder:
            (Path(folder) / "record.json").write_bytes(record.to_bytes())
            pq.write_table(ended.tasks, Path(folder) / "tasks.parquet", compression="zstd")
            self._client.log_artifacts(self._run, folder)
        self._client.set_terminated(self._run, _STATUS.get(record.state, "FINISHED"), at)

    def _look(self) -> None:
        """See that the server is there: the client would try for minutes, by variables that are the whole process's."""
        uri = self._settings.uri
        if not uri.startswith(("http://", "https://")) or os.environ.get(_OWN_WAY):
            return
        problem = None
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=self._timeout):  # noqa: S310  checked
                return
        except urllib.error.HTTPError as error:
            # Any other answer is that of somebody; whether they let the client in, it finds out.
            with contextlib.closing(error):
                if error.code in _UNAVAILABLE:
                    problem = f"it answers with {error.code}"
        except urllib.error.URLError as error:
            # The client has settings of its own for certificates.
            if not isinstance(error.reason, ssl.SSLError):
                problem = str(error.reason)
        if problem is not None:
            raise ConnectionError(f"no server of MLflow at {uri}: {problem}")

    def _experiment(self, job: str) -> str:
        name = self._settings.experiment or job
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def _found(self, begun: RunRecord) -> str | None:
        told = f"tags.`batchscore.try` = '{_try_of(begun)}'"
        runs = self._client.search_runs([self._experiment(begun.job)], told, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _made(self, begun: RunRecord) -> str:
        tags = {
            "batchscore.run_id": begun.run_id,
            "batchscore.try": _try_of(begun),
            "mlflow.user": begun.who,
        }
        made = self._client.create_run(
            self._experiment(begun.job), int(begun.started_at.timestamp() * 1000), tags, begun.run_id
        )
        return str(made.info.run_id)


def _try_of(record: RunRecord) -> str:
    return f"{record.run_id} {record.started_at.isoformat()}"


def _metrics(record: RunRecord) -> dict[str, float]:
    account = record.account
    found = {
        "seconds": record.seconds,
        "rows_in": account.rows_in.rows,
        "scored": account.scored.rows,
        "quarantined": account.quarantined.rows,
        "filtered": account.filtered.rows,
        "bytes_read": record.bytes_read,
        "bytes_written": record.bytes_written,
    }
    cost = record.cost
    if cost is not None:
        found |= {name: getattr(cost, name) for name in ("driver_hours", "executor_hours", "gpu_hours")}
        money = {"cost": cost.total, "cost_per_million_rows": cost.per_million_rows}
        found |= {name: amount for name, amount in money.items() if amount is not None}
    found |= {f"passed/{one.limit}": 1 for one in record.breaches if not one.is_projected}
    found |= {f"driver_seconds/{phase}": seconds for phase, seconds in record.wall_seconds.items()}
    return found | {f"worker_seconds/{phase}": seconds for phase, seconds in record.worker_seconds.items()}


def _params(record: RunRecord) -> dict[str, str]:
    found = {"job": record.job, "run_id": record.run_id, "output": record.output, "code": record.code}
    found["config"] = record.config
    for model in record.models or ((record.model,) if record.model is not None else ()):
        alias = f"{model.alias}/" if model.alias else ""
        found[f"{alias}model"] = f"{model.name}:{model.version}"
        found[f"{alias}bundle_sha256"] = model.bundle_sha256
        found[f"{alias}spec_digest"] = model.spec_digest
    if record.snapshot is not None:
        found["input_files"] = str(record.snapshot.files)
        found["input_digest"] = record.snapshot.digest
    return found
