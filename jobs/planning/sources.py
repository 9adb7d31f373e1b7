"""What a run reads, by where it is: known from the config alone, before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from etl.documents import Strict, sha256_hex
from etl.errors import BatchscoreError
from etl.redaction import redacted
from etl.runs.storage import storage_for
from scoring.bundles.sources import is_of_mlflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.config.job import JobConfig
    from jobs.planning.plan import Plan

__all__ = ["Source", "place_of", "sources_of", "with_digests"]


class Source(Strict):
    """Something that a run reads."""

    kind: Literal["files", "table", "query", "reference", "model"]
    name: str = Field(default="", description="Of a reference table, or of one of several models.")
    place: str = Field(
        description="Of files and models the path or pattern, in its store's naming; of a table its name; of a query "
        "`sha256:` and its digest, since its text may hold what a variable put there."
    )
    sha256: str | None = Field(default=None, description="Of a reference table that workers join, as it was pinned.")

    @property
    def is_data(self) -> bool:
        """Whether rows come from it."""
        return self.kind != "model"


def sources_of(config: JobConfig) -> tuple[Source, ...]:
    """All that a job reads: its rows, its reference tables, its models."""
    return tuple(_sources(config))


def _sources(config: JobConfig) -> Iterator[Source]:
    for pattern in config.input.patterns:
        yield Source(kind="files", place=place_of(pattern))
    if config.input.table is not None:
        yield Source(kind="table", place=redacted(config.input.table))
    if config.input.sql is not None:
        yield Source(kind="query", place=f"sha256:{sha256_hex(config.input.sql.encode())}")
    for name, uri in sorted(config.references.items()):
        yield Source(kind="reference", name=name, place=place_of(uri))
    for entry in config.entries:
        yield Source(kind="model", name=entry.name, place=place_of(entry.model.bundle or entry.model.onnx or ""))


def with_digests(sources: tuple[Source, ...], plan: Plan) -> tuple[Source, ...]:
    """The same, with what the plan pinned of reference tables."""
    pinned = {name: sha256 for model in plan.order.models for name, sha256 in model.references.items()}
    return tuple(
        one.model_copy(update={"sha256": pinned.get(one.name)}) if one.kind == "reference" else one for one in sources
    )


def place_of(uri: str) -> str:
    """One name for what can be written in several ways: `s3a://b//k` is `s3://b/k`, and `in` the folder's whole path.

    What is in no store, such as a model of MLflow, is as it was written.
    """
    if is_of_mlflow(uri):
        return uri
    try:
        return storage_for(uri)[1]
    except BatchscoreError:
        return redacted(uri)
