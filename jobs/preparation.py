"""The table of a job whose spec has relational steps that run on all of it: read, prepared and frozen by Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from pydantic import Field

from etl.documents import Strict
from etl.ops.relations import on_table
from etl.references import pin_references
from etl.spark.freeze import storing
from etl.spark.preparing import freeze_prepared
from etl.spark.reading import Cuts, read_files
from etl.spark.schema import column
from etl.splits import InputFile
from jobs.model import resolve_model
from jobs.session import parallelism
from scoring.golden import arrow_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from etl.references import PinnedReference
    from etl.spec import Spec
    from jobs.config import JobConfig

__all__ = ["Preparation", "PreparedInput", "RowCounts", "prepare_input", "spec_on_table"]


class RowCounts(Strict):
    """What became of the rows of the table."""

    rows_in: int = Field(ge=0, description="Rows of the table as it was given.")
    filtered: int = Field(ge=0, description="Rows that a filter on the table left out.")
    deduplicated: int = Field(ge=0, description="Rows that were copies of others.")


class Preparation(Strict):
    """Where the prepared rows come from; the plan's inputs are those rows, frozen."""

    source: tuple[InputFile, ...] = Field(description="The pinned files that were read; none of a table or query.")
    counts: RowCounts


class PreparedInput(NamedTuple):
    """What was frozen, and of what."""

    folder: str
    """Where the rows are that are to be scored."""
    preparation: Preparation
    references: dict[str, PinnedReference]
    """The reference tables, those of the worker too."""


def spec_on_table(config: JobConfig) -> Spec | None:
    """The spec of the job's bundle, where it has relational steps that run on the whole table; else None.

    Raises:
        BundleError: the bundle cannot be used.
    """
    if config.model.bundle is None:
        return None
    spec = resolve_model(config.model, pa.schema([])).spec
    return spec if on_table(spec.relational) else None


def prepare_input(
    spark: SparkSession, config: JobConfig, spec: Spec, *, source: tuple[InputFile, ...], folder: str
) -> PreparedInput:
    """Run the relational steps of a spec on a job's table, and freeze the rows into a new folder.

    All rows are prepared, in a trial too, for other rows decide what a row is told.

    Raises:
        ContractError: the table or a reference table is not as the spec declares it.
        InputMissing, ReadError: Spark cannot give, read or write the rows.
    """
    pinned = pin_references(spec, config.references)
    tables = {name: arrow_table(reference.data) for name, reference in pinned.items()}
    carried = config.output.passthrough
    frozen = freeze_prepared(_rows(spark, config, spec, source=source), spec, tables, folder=folder, others=carried)
    rows_in, filtered, deduplicated = frozen.counts
    counts = RowCounts(rows_in=rows_in, filtered=filtered, deduplicated=deduplicated)
    return PreparedInput(frozen.folder, Preparation(source=source, counts=counts), pinned)


def _rows(spark: SparkSession, config: JobConfig, spec: Spec, *, source: tuple[InputFile, ...]) -> DataFrame:
    """The columns that the spec reads and the job publishes; those of a table that are not there are told later."""
    given = config.input
    names = list(dict.fromkeys((*(field.name for field in spec.input.fields), *config.output.passthrough)))
    if source:
        splits = config.splits
        cuts = Cuts(int(splits.target_bytes), int(splits.task_bytes), parallelism(spark))
        return read_files(spark, source, names, cuts=cuts)
    what = f"table {given.table!r}" if given.table is not None else "the query of `input.sql`"
    with storing(spark, what, ""):
        rows = spark.table(given.table) if given.table is not None else spark.sql(given.sql or "")
        return rows.select(*(column(name) for name in names if name in rows.columns))
