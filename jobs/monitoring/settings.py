"""Config of who is told of runs."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from etl.documents import Strict
from etl.redaction import Uri

__all__ = ["MLflow", "Metrics", "Prometheus", "SinkSettings"]


class Metrics(Strict):
    """Where run records of all jobs are collected."""

    uri: Uri = Field(min_length=1)


class Prometheus(Strict):
    """A file for the textfile collector of Prometheus' node exporter."""

    textfile: str = Field(
        pattern=r".+\.prom$", description="A path on the driver's host that ends in .prom; written anew by each run."
    )


class MLflow(Strict):
    """A run in MLflow tracking for each run."""

    uri: Uri = Field(min_length=1, description="Tracking server, or a folder as file:///…; as MLFLOW_TRACKING_URI.")
    experiment: str | None = Field(default=None, min_length=1, description="Its name; the job's where none is given.")


class SinkSettings(Strict):
    """Who is told of the beginning and the end of a run. What cannot be told is recorded, and fails nothing."""

    prometheus: Prometheus | None = None
    mlflow: MLflow | None = None
    timeout: FiniteFloat = Field(
        default=10.0, gt=0, le=600, description="Seconds that the end of a run waits for all of them together."
    )
    tries: int = Field(default=3, ge=1, le=10, description="How often each of them is asked.")
