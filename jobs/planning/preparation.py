"""What Spark does before rows can be scored: relational steps on the whole table, joins that no worker can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from pydantic import Field

from etl.arrivals import ORIGIN
from etl.documents import Strict
from etl.ops.relations import on_table
from etl.references import pin_references, reference_files
from etl.runs.splits import InputFile
from etl.spark.freeze import storing
from etl.spark.preparing import freeze_prepared, moved_joins
from etl.spark.reading import Cuts, read_files
from etl.spark.schema import column
from etl.spark.sessions import parallelism
from jobs.errors import Refused
from jobs.planning.model import resolve_model
from scoring.bundles.golden import arrow_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from etl.references import PinnedReference, ReferenceFiles
    from etl.spec import Spec
    from jobs.config.job import JobConfig
    from scoring.bundles.bundle import AuditedBundle

__all__ = ["Preparation", "PreparedInput", "RowCounts", "TableWork", "bundle_of", "prepare_input", "work_on_table"]


class RowCounts(Strict):
    """What became of the rows of the table."""

    rows_in: int = Field(ge=0, description="Rows of the table as it was given.")
    filtered: int = Field(ge=0, description="Rows that a filter on the table left out.")
    deduplicated: int = Field(ge=0, description="Rows that were copies of others.")


class Preparation(Strict):
    """Where the prepared rows come from; the plan's inputs are those rows, frozen."""

    source: tuple[InputFile, ...] = Field(description="The pinned files that were read; none of a table or query.")
    joined: dict[str, tuple[InputFile, ...]] = Field(
        default={}, description="The pinned files of each reference table that Spark joined, by its name."
    )
    counts: RowCounts


class PreparedInput(NamedTuple):
    """What was frozen, and of what."""

    folder: str
    """Where the rows are that are to be scored."""
    preparation: Preparation
    references: dict[str, PinnedReference]
    """The reference tables that Spark did not join, those of the worker too."""
    moved: tuple[str, ...]
    """Ids of joins of the worker that Spark has done."""


class TableWork(NamedTuple):
    """What Spark has to do before the rows of a job can be scored."""

    spec: Spec
    large: dict[str, ReferenceFiles]
    """The reference tables that are too large for a worker."""

    @property
    def reason(self) -> str:
        """Why Spark has to, for people."""
        sizes = [f"reference table {name!r} ({found.bytes:,} bytes)" for name, found in self.large.items()]
        joined = f"{', '.join(sizes)} above scoring.reference_bytes, which Spark joins" if sizes else ""
        steps = "the spec's relational steps run in Spark on the whole table" if on_table(self.spec.relational) else ""
        return "; ".join(filter(None, (steps, joined)))


def bundle_of(config: JobConfig) -> AuditedBundle | None:
    """The job's bundle; None of a bare model, which only its input makes one.

    Raises:
        BundleError: the bundle cannot be used.
    """
    model = config.model
    return None if model is None or model.bundle is None else resolve_model(model, pa.schema([]))


def work_on_table(config: JobConfig, audited: AuditedBundle | None) -> TableWork | None:
    """What Spark has to do before the rows of a job can be scored; None where workers do all.

    Raises:
        ContractError, InputMissing, ReadError: a reference table is not there, or is no Parquet.
        Refused: only new files are to be scored, and Spark would have to prepare them with all others.
    """
    if audited is None:
        return None
    spec = audited.spec
    found = reference_files(spec, config.references)
    large = {name: told for name, told in found.items() if told.bytes > int(config.scoring.reference_bytes)}
    work = TableWork(spec, large) if large or on_table(spec.relational) else None
    if work is not None and config.input.incremental:
        # Copies of rows, and what a row is told of others, may be in files that were scored.
        raise Refused(f"input has `incremental`, which goes with rows that workers read: {work.reason}.")
    return work


def prepare_input(
    spark: SparkSession, config: JobConfig, work: TableWork, *, source: tuple[InputFile, ...], folder: str
) -> PreparedInput:
    """Run the relational steps of a spec on a job's table, and freeze the rows into a new folder.

    All rows are prepared, in a trial too, for other rows decide what a row is told.

    Raises:
        SpecError: the contract changes what a large reference table is joined by.
        ContractError: the table or a reference table is not as the spec declares it.
        InputMissing, ReadError: Spark cannot give, read or write the rows.
    """
    spec, splits = work.spec, config.splits
    cuts = Cuts(int(splits.target_bytes), int(splits.task_bytes), parallelism(spark))
    pinned = pin_references(spec, config.references, elsewhere=work.large)
    references: dict[str, pa.Table | DataFrame] = {name: arrow_table(table.data) for name, table in pinned.items()}
    for name, found in work.large.items():
        references[name] = read_files(spark, found.files, found.columns, cuts=cuts)
    moved = moved_joins(spec, references)
    names = list(dict.fromkeys((*(field.name for field in spec.input.fields), *config.output.passthrough)))
    others = [*config.output.passthrough]
    if source:
        rows = read_files(spark, source, names, cuts=cuts, with_origin=True)
        others.append(ORIGIN)
    else:
        rows = _rows(spark, config, names)
    frozen = freeze_prepared(rows, spec, references, folder=folder, others=others)
    rows_in, filtered, deduplicated = frozen.counts
    preparation = Preparation(
        source=source,
        joined={name: found.files for name, found in work.large.items()},
        counts=RowCounts(rows_in=rows_in, filtered=filtered, deduplicated=deduplicated),
    )
    return PreparedInput(frozen.folder, preparation, pinned, moved)


def _rows(spark: SparkSession, config: JobConfig, names: list[str]) -> DataFrame:
    """The columns of a table or query; those that are not there are told later."""
    given = config.input
    what = f"table {given.table!r}" if given.table is not None else "the query of `input.sql`"
    with storing(spark, what, ""):
        rows = spark.table(given.table) if given.table is not None else spark.sql(given.sql or "")
        return rows.select(*(column(name) for name in names if name in rows.columns))
