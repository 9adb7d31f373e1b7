"""Config of who is told of runs."""

from __future__ import annotations

from pydantic import Field, FiniteFloat, model_validator

from etl.documents import Strict
from etl.redaction import Uri

__all__ = ["MLflow", "Metrics", "OpenLineage", "Prometheus", "SinkSettings"]


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


class OpenLineage(Strict):
    """Events of OpenLineage, in a file or to a server. Exactly one of `file` and `url`."""

    file: str | None = Field(
        default=None,
        min_length=1,
        description="A path on the driver's host; an event a line is appended. Give each job a file of its own.",
    )
    url: Uri | None = Field(
        default=None,
        pattern="^https?://",
        description="The server. Its key is that of the variable OPENLINEAGE_API_KEY, where it wants one.",
    )
    endpoint: str | None = Field(default=None, min_length=1, description="Path below `url`; `api/v1/lineage`.")
    namespace: str = Field(default="batchscore", min_length=1, description="Of the job's name.")

    @model_validator(mode="after")
    def _one_receiver(self) -> OpenLineage:
        if (self.file is None) == (self.url is None):
            message = "give exactly one of `file` and `url`"
            raise ValueError(message)
        if self.file is not None and "://" in self.file:
            message = "`file` is a path on the driver's host; events go to a server by `url`"
            raise ValueError(message)
        if self.url is None and self.endpoint is not None:
            message = "`endpoint` goes with `url`"
            raise ValueError(message)
        return self


class SinkSettings(Strict):
    """Who is told of the beginning and the end of a run. What cannot be told is recorded, and fails nothing."""

    prometheus: Prometheus | None = None
    mlflow: MLflow | None = None
    openlineage: OpenLineage | None = None
    timeout: FiniteFloat = Field(
        default=10.0, gt=0, le=600, description="Seconds that the end of a run waits for all of them together."
    )
    tries: int = Field(default=3, ge=1, le=10, description="How often each of them is asked.")
