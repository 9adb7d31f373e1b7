"""Run our own code over the Arrow batches of a DataFrame: the one place that calls `mapInArrow`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from etl.code import digest_of_packages
from etl.errors import EtlError
from etl.given import is_spark_frame
from etl.runs.store_settings import bound
from etl.spark.schema import arrow_schema, column, spark_schema
from etl.spark.shipping import bring_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

__all__ = ["MapBatches", "check_code", "map_batches", "need_frame"]

MapBatches: TypeAlias = Callable[[Iterator[pa.RecordBatch]], Iterable[pa.RecordBatch]]
"""What a task does: the batches of its partition in, batches out. A function of a module, or a partial of one, since it
is pickled."""


def need_frame(df: Any, instead: str) -> None:
    """Refuse what is no Spark DataFrame; `instead` is the verb for tables in memory.

    Raises:
        TypeError: with what was found.
    """
    if not is_spark_frame(df):
        found = f"{type(df).__module__.partition('.')[0]}'s {type(df).__name__}"
        message = f"takes a Spark DataFrame, found {found}; for a table in memory there is {instead}"
        raise TypeError(message)


def map_batches(df: DataFrame, names: Sequence[str], run: MapBatches, *, declared: pa.Schema) -> DataFrame:
    """The named columns through `run`, which gives batches of the declared schema; in types that Spark has.

    Spark resolves the columns of a `mapInArrow` by names in which a dot leads into a struct, so under way they have
    plain ones.
    """
    given = df.select(*(column(name).alias(f"c{at}") for at, name in enumerate(names)))
    schema = spark_schema(pa.schema([pa.field(f"c{at}", field.type) for at, field in enumerate(declared)]))
    plain = arrow_schema(schema)
    bring_code(df.sparkSession, "etl")
    task = functools.partial(_run, run=run, names=tuple(names), plain=plain, code=digest_of_packages("etl"))
    made = given.mapInArrow(bound(task), schema)
    return made.select(*(column(f"c{at}").alias(name) for at, name in enumerate(declared.names)))


def _run(
    batches: Iterable[pa.RecordBatch], *, run: MapBatches, names: tuple[str, ...], plain: pa.Schema, code: str
) -> Iterator[pa.RecordBatch]:
    """Runs on a worker."""
    check_code(code)
    renamed = (pa.RecordBatch.from_arrays(batch.columns, names=list(names)) for batch in batches)
    for made in run(renamed):
        columns = [part if part.type == kind else part.cast(kind) for part, kind in zip(made, plain.types, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=plain)


def check_code(expected: str) -> None:
    """Refuse to work for a driver that runs other code.

    Raises:
        EtlError: naming both digests.
    """
    mine = digest_of_packages("etl")
    if mine != expected:
        message = (
            f"This worker runs batchscore's etl {mine}, the driver runs {expected}. "
            "Ship the code with spark-submit.sh, and keep folders called etl out of the way."
        )
        raise EtlError(message)
