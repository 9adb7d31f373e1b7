"""What a task of Spark does with the rows that come to it, and what it is told; see `scoring.engine.stream`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.runs.storage import storage_for
from etl.spark.schema import spark_type
from scoring.bundles.bundle import output_schema
from scoring.code import CODE, check_code, code_digest
from scoring.engine.stream import ScoreOptions, score_batches, stream_order
from scoring.order import Order
from scoring.outputs.arrays import without_fixed_sizes
from scoring.scorer import borrowed_scorer
from scoring.spark.devices import task_placement, tasks_per_gpu
from scoring.spark.shipping import Place, Shipment, put

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from pyspark.sql import SparkSession

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.stream import OnBadRow, Scored

__all__ = ["Work", "declared_types", "published_fields", "scored_batches", "spark_columns", "work_for"]


class Work(NamedTuple):
    """What a task is told. Nothing in it is loaded: a worker does that when the first rows come, and keeps it."""

    code: str
    """Digest of the driver's code."""
    order: str
    """The order as JSON, so that other code than the driver's is told before it is used."""
    place: Place
    on_bad_row: OnBadRow
    workers_per_gpu: int
    has_own_threads: bool
    """Whether the options say how many threads a model has; else those that Spark reserves for a task."""


def work_for(
    spark: SparkSession,
    audited: AuditedBundle,
    tables: Mapping[str, bytes],
    *,
    options: ScoreOptions | None,
    moved: tuple[str, ...] = (),
    on_bad_row: OnBadRow,
    shared: str | None,
    profile: Any = None,
) -> Work:
    """Bring the bundle to the workers of a session, and say what they do with it.

    Raises:
        BundleError: there is no way to them.
    """
    chosen = options or ScoreOptions()
    order = stream_order(audited, tables, chosen, moved=moved)
    return Work(
        code=code_digest(*CODE),
        order=order.model_dump_json(),
        place=put(spark, Shipment(audited, tables, order), shared=shared),
        on_bad_row=on_bad_row,
        workers_per_gpu=_workers_per_gpu(spark, profile),
        has_own_threads="intra_op_threads" in chosen.model_fields_set,
    )


def _workers_per_gpu(spark: SparkSession, profile: Any) -> int:
    asked = None if profile is None else profile.taskResources.get("gpu")
    return tasks_per_gpu(spark) if asked is None else max(1, int(1 / asked.amount + 1e-6))


def scored_batches(work: Work, batches: Iterable[pa.RecordBatch], where: str) -> Generator[Scored]:
    """Runs on a worker: rows with their scores. Without rows nothing is loaded."""
    check_code(work.code, *CODE)
    incoming = iter(batches)
    first = next(incoming, None)
    if first is None:
        return
    order = Order.model_validate_json(work.order)
    [model] = order.models
    if not work.has_own_threads:
        runtime = model.runtime.model_copy(update={"intra_op_threads": _task_cores()})
        model = model.model_copy(update={"runtime": runtime})
    storage, root = storage_for(work.place.on_worker())
    order = order.model_copy(update={"root": root, "models": (model,)})
    placement = task_placement(work.workers_per_gpu)
    with borrowed_scorer(storage, order, model, placement=placement) as scorer:
        rows = itertools.chain([first], incoming)
        yield from score_batches(order, scorer, rows, where=where, on_bad_row=work.on_bad_row)


def _task_cores() -> int:
    from pyspark import TaskContext  # noqa: PLC0415  only a task of Spark needs it

    context = TaskContext.get()
    return max(1, int(context.cpus())) if context is not None else 1


def published_fields(audited: AuditedBundle) -> list[pa.Field]:
    """The published columns in types that Spark's workers give: lists have no fixed size there."""
    fields = output_schema(audited.bundle)
    return [pa.field(field.name, without_fixed_sizes(field.type)) for field in fields]


def spark_columns(found: Scored, fields: list[pa.Field]) -> list[ArrowArray]:
    """The published columns of a batch in these types, without a copy of what is in lists."""
    return [column.cast(field.type) for column, field in zip(found.columns, fields, strict=True)]


def declared_types(fields: list[pa.Field]) -> list[Any]:
    """Spark's types of these columns."""
    return [spark_type(field.type) for field in fields]
