"""`score`: the rows of a Spark DataFrame with their scores, by the engine of a job.

Only the columns that the bundle reads and those that are handed through go to the workers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.arrivals import arrivals, check_entry
from etl.pipeline import Pipeline
from etl.runs.store_settings import bound
from etl.spark.batches import need_frame
from etl.spark.preparing import WHERE, frames_of, moved_joins, prepare
from etl.spark.schema import arrow_schema, column
from scoring.engine.stream import ScoreOptions, check_choice, pinned_tables
from scoring.errors import BundleError
from scoring.spark.streaming import Work, declared_types, published_fields, scored_batches, spark_columns, work_for
from scoring.tables import ON_BAD, REJECTED, BundleLike, OnBad, audited_bundle, check_names, kept_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from etl.spark.preparing import References

__all__ = ["score"]


class _Task(NamedTuple):
    """What a task of `score` is told."""

    work: Work
    read: tuple[str, ...]
    """Names of the columns that come, by place."""
    passthrough: tuple[str, ...]
    published: list[pa.Field]
    on_bad_row: OnBad


def score(
    df: DataFrame,
    bundle: BundleLike,
    references: References | None = None,
    *,
    passthrough: Sequence[str] | None = None,
    on_bad_row: OnBad = "null",
    options: ScoreOptions | None = None,
    shared: str | None = None,
    profile: Any = None,
) -> DataFrame:
    """The rows of a DataFrame with the columns that the bundle publishes behind its own; lazy, as Spark is.

    `passthrough` are the columns of the DataFrame that are in the result, as they are, by default all: name those that
    are needed, since each of them goes through the workers. A row that the contract, a step or the model refuses stays
    with null, and the column `rejected` says why, without its values (`on_bad_row="null"`); it is not there
    (`"drop"`); or the query fails (`"fail"`). Rows that a filter of the spec leaves out are not there.

    `references` are the tables that the spec joins, by name: an Arrow table or a pandas frame is joined by the workers,
    a DataFrame by Spark. `shared` is a folder that this process can write to and all workers can read, in which the
    bundle is put; without it, it is sent with the session. `profile` is a ResourceProfile for the tasks (Spark 4).

    Raises:
        TypeError: `df` is no Spark DataFrame.
        BundleError: there is no bundle, it is not sound, two columns would have one name, or Spark has no profiles.
        SpecError, ContractError: a reference is not given or is not as declared; the DataFrame lacks a column or has
            one of another type; `on_bad_row` is another word. When it runs, RowsRefused where `on_bad_row` is `"fail"`.
    """
    check_choice("on_bad_row", on_bad_row, ON_BAD)
    need_frame(df, "scoring.score_table")
    audited = audited_bundle(bundle)
    spec = audited.spec
    names = tuple(df.columns if passthrough is None else passthrough)
    check_names(audited, names, df.columns, has_reasons=on_bad_row == "null")
    given, moved = dict(references or {}), moved_joins(spec, references)
    tables = {name: given[name] for name in given.keys() - frames_of(given).keys()}
    Pipeline(spec, tables, moved=moved)
    rows = prepare(df, spec, references, others=names)
    check_entry(spec, arrow_schema(rows.schema), WHERE, others=names, moved=moved)
    read = tuple(dict.fromkeys([*(field.name for field in spec.input.fields), *arrivals(spec, moved), *names]))
    work = work_for(
        df.sparkSession,
        audited,
        pinned_tables(audited, tables, moved=moved),
        options=options,
        moved=moved,
        on_bad_row="fail" if on_bad_row == "fail" else "null",
        shared=shared,
        profile=profile,
    )
    return _mapped(rows, _Task(work, read, names, published_fields(audited), on_bad_row), profile)


def _mapped(df: DataFrame, task: _Task, profile: Any) -> DataFrame:
    """Spark takes a dot in a column's name for a step into a struct, so under way columns have plain names."""
    given: Any = df.select(*(column(name).alias(f"c{at}") for at, name in enumerate(task.read)))
    names = [*task.passthrough, *(field.name for field in task.published)]
    if task.on_bad_row == "null":
        names.append(REJECTED)
    more = {} if profile is None else {"profile": profile}
    try:
        made = given.mapInArrow(bound(functools.partial(_run, task=task)), _schema(df, task), **more)
    except TypeError as error:
        if profile is None:
            raise
        message = "profile: this Spark takes no resource profile for a DataFrame; Spark 4 does. Leave it out."
        raise BundleError(message) from error
    scored: DataFrame = made.select(*(column(f"c{at}").alias(name) for at, name in enumerate(names)))
    return scored


def _schema(df: DataFrame, task: _Task) -> StructType:
    from pyspark.sql.types import StringType, StructField, StructType  # noqa: PLC0415  only who has a frame needs Spark

    types = [df.schema[name].dataType for name in task.passthrough] + declared_types(task.published)
    if task.on_bad_row == "null":
        types.append(StringType())
    return StructType([StructField(f"c{at}", kind) for at, kind in enumerate(types)])


def _run(batches: Iterable[pa.RecordBatch], *, task: _Task) -> Iterator[pa.RecordBatch]:
    """Runs on a worker."""
    named = (pa.RecordBatch.from_arrays(batch.columns, names=list(task.read)) for batch in batches)
    for found in scored_batches(task.work, named, WHERE):
        arrays = [*(found.batch.column(name) for name in task.passthrough), *spark_columns(found, task.published)]
        if task.on_bad_row == "null":
            arrays.append(found.rejected)
        rows = kept_rows(found, task.on_bad_row)
        kept = arrays if rows is None else [array.take(rows) for array in arrays]
        yield pa.RecordBatch.from_arrays(kept, names=[f"c{at}" for at in range(len(kept))])
