"""`fit`: learn the state of a recipe's steps from a Spark DataFrame, in Spark tasks.

The DataFrame is frozen as Parquet first, because each pass must see the same rows, and the files are pinned. A task
then learns some row groups that stand beside each other, writes its partial states beside the frozen rows, as data
(`etl.partials.transport`), and returns counts alone. The driver merges the states in the order of (file, row group).
Sums and all else are exact, so the same files give the same spec to the byte as `etl.fit` does on one machine.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import tempfile
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

import etl.errors
from etl.arrivals import arrivals
from etl.code import digest_of_packages
from etl.errors import BatchscoreError, EtlError, ReadError, SpecError
from etl.golden import replay
from etl.learning.fitting import Learned, Pass, fit_by, learn_piece, noted, with_golden
from etl.learning.pieces import Piece
from etl.learning.training_checks import joined_tables
from etl.ops.relations import joins, on_table
from etl.partials.transport import dump, load
from etl.pipeline import index_references
from etl.relational import used_references
from etl.runs.read import open_parquet, read_row_group
from etl.runs.receipt import Tally
from etl.runs.storage import storage_for
from etl.runs.store_settings import bound
from etl.spark.batches import check_code, need_frame
from etl.spark.causes import asking, cause_of
from etl.spark.freeze import storing
from etl.spark.preparing import freeze_prepared, moved_joins
from etl.spark.schema import column
from etl.spark.sessions import is_connect, parallelism
from etl.spark.shipping import bring_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from etl.relational import Counts
    from etl.runs.splits import InputFile
    from etl.spec import Spec

__all__ = ["fit"]

_ANSWER = (
    "task int, rows bigint, rejected bigint, filtered bigint, reasons string, tallies string, kind string, "
    "message string"
)
"""What a task says: how many rows it saw, or the class and text of its error."""


def fit(
    df: DataFrame, recipe: Spec, references: Mapping[str, Any] | None = None, *, scratch: str | None = None
) -> Spec:
    """The recipe with what its steps learn from a DataFrame; relational steps that run on the table are run first.

    `scratch` is a folder that the driver and all workers reach, in which a new one is made for the frozen rows; they
    stay there, for they are what the spec was learned from. Without it, on one machine, a temporary folder is used and
    removed.

    Raises:
        TypeError: `df` is no Spark DataFrame.
        SpecError: the recipe is inconsistent, a reference or `scratch` is not given, or a step finds nothing to learn.
        ContractError: the DataFrame or a reference table is not as the recipe declares it.
        TransformError: a value breaks a step whose spec says `fail`.
        InputMissing, ReadError: Spark cannot give or store the rows, or gave up on a task.
    """
    need_frame(df, "etl.fit")
    recipe.schema_at()
    if moved_joins(recipe, references):
        message = (
            "a reference that is a Spark DataFrame is joined behind the contract; give a fit one that fits a worker."
        )
        raise SpecError(message)
    spark = df.sparkSession
    temporary = None
    if scratch is None:
        if is_connect(spark) or not str(spark.conf.get("spark.master", "")).startswith("local"):
            message = "a fit on a cluster needs scratch, a folder that the driver and all workers reach."
            raise SpecError(message)
        scratch = temporary = tempfile.mkdtemp(prefix="batchscore-fit-")
    try:
        _, folder = storage_for(f"{scratch.rstrip('/')}/fit-{uuid.uuid4().hex[:12]}")
        rows, counts = _frozen(df, recipe, references, folder=f"{folder}/rows")
        storage, _ = storage_for(folder)
        files = list(storage.list_files(rows))
        return _fit_pinned(spark, recipe, files, references=references, folder=folder, counts=counts)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _frozen(
    df: DataFrame, recipe: Spec, references: Mapping[str, Any] | None, *, folder: str
) -> tuple[str, Counts | None]:
    """Where the rows are that are learned from, and what became of others, where steps ran on the table."""
    names = [*(field.name for field in recipe.input.of_training.fields), *arrivals(recipe)]
    if on_table(recipe.relational):
        return freeze_prepared(df, recipe, references, folder=folder, columns=names)
    with storing(df.sparkSession, "the DataFrame", folder) as uri:
        df.select(*map(column, names)).write.mode("error").parquet(uri)
    return folder, None


def _fit_pinned(
    spark: SparkSession,
    recipe: Spec,
    files: Sequence[InputFile],
    *,
    references: Mapping[str, Any] | None = None,
    folder: str,
    counts: Counts | None = None,
) -> Spec:
    """As `fit`, from pinned files of rows that are prepared already, of which `counts` tells; partial states pass
    through `folder`.
    """  # noqa: D205  one sentence
    joined = joins(recipe.relational)[1]
    tables = index_references(recipe, joined, references or {})
    names = (*(field.name for field in recipe.input.of_training.fields), *arrivals(recipe))
    pieces = [_RowGroup(file, group) for file in files for group in range(_open(file).metadata.num_row_groups)]
    work = _Work(
        references=used_references(joined, references or {}),
        shares=_shares(pieces, parallelism(spark)),
        names=names,
        folder=folder,
        code=digest_of_packages("etl"),
    )
    fitted = fit_by(recipe, functools.partial(_run_pass, spark, work))
    if fitted is recipe:
        replay(recipe)
        return recipe
    notes = {} if counts is None else {"table": str(counts)}
    notes.update(joined_tables(recipe, references or {}))
    fitted = noted(fitted, notes) if notes else fitted
    return with_golden(fitted, tables, (batch for piece in pieces for batch in piece.batches(names)))


class _RowGroup(NamedTuple):
    """What is learned together."""

    file: InputFile
    number: int

    def batches(self, names: Sequence[str]) -> list[pa.RecordBatch]:
        """Its rows."""
        return read_row_group(storage_for(self.file.path)[0], self.file, self.number, columns=names)


class _Work(NamedTuple):
    """What every task of every pass is told."""

    references: dict[str, pa.Table]
    shares: list[list[_RowGroup]]
    """The row groups of each task, in canonical order."""
    names: tuple[str, ...]
    folder: str
    code: str


def _open(file: InputFile) -> Any:
    storage, _ = storage_for(file.path)
    return open_parquet(storage, file)


def _shares(pieces: Sequence[_RowGroup], tasks: int) -> list[list[_RowGroup]]:
    """Neighbours together, as many for each task."""
    tasks = max(1, min(tasks, len(pieces)))
    borders = [len(pieces) * task // tasks for task in range(tasks + 1)]
    return [list(pieces[begin:end]) for begin, end in itertools.pairwise(borders)]


def _run_pass(spark: SparkSession, work: _Work, what: Pass) -> Learned:
    """Every task's share, merged in canonical order.

    Raises:
        BatchscoreError: the first error of a task, which trying again would not mend.
        ReadError: Spark gave up on a task.
    """
    from py4j.protocol import Py4JError  # noqa: PLC0415  as above
    from pyspark.errors import PySparkException  # noqa: PLC0415  as above

    name = uuid.uuid4().hex[:12]
    count = len(work.shares)
    task = functools.partial(_learn, work=work, what=what, name=name)
    try:
        with asking():
            bring_code(spark, "etl")
            answers = spark.range(0, count, 1, count).mapInArrow(bound(task), _ANSWER).collect()
    except (PySparkException, Py4JError) as error:
        message = f"Spark gave up on a pass of the fit: {cause_of(str(error))}. The whole trace is in Spark's log."
        raise ReadError(message) from error
    total = Learned(what.templates)
    storage, _ = storage_for(work.folder)
    try:
        for answer in sorted(answers, key=lambda answer: answer["task"]):
            if answer["kind"] is not None:
                raise _error(answer["kind"], answer["message"])
            part = Learned(what.templates)
            part.states = load(what.templates, storage.read_bytes(_states(work, name, answer["task"])) or b"")
            part.rows, part.rejected, part.filtered = answer["rows"], answer["rejected"], answer["filtered"]
            part.reasons.update(json.loads(answer["reasons"]))
            tallies = json.loads(answer["tallies"]).items()
            part.found.tallies = {name: Tally(hits=hits, rows=rows) for name, (hits, rows) in tallies}
            total.merge(part)
    finally:
        for number in range(count):
            storage.delete(_states(work, name, number))
    return total


def _error(kind: str, message: str) -> EtlError:
    """A task's error as the driver raises it."""
    found = getattr(etl.errors, kind, EtlError)
    error = found(message)
    return error if isinstance(error, EtlError) else EtlError(message)


def _states(work: _Work, name: str, task: int) -> str:
    return f"{work.folder}/states-{name}-{task}"


def _learn(batches: Iterable[pa.RecordBatch], *, work: _Work, what: Pass, name: str) -> Iterator[pa.RecordBatch]:
    """Runs on a worker. Errors that a retry would repeat go back as data; any other one lets Spark retry the task."""
    fields = [("task", pa.int32()), ("rows", pa.int64()), ("rejected", pa.int64()), ("filtered", pa.int64())]
    schema = pa.schema([*fields, *((name, pa.string()) for name in ("reasons", "tallies", "kind", "message"))])
    for batch in batches:
        for task in batch.column("id").to_pylist():
            answer: dict[str, Any] = {"task": task}
            try:
                check_code(work.code)
                answer |= _learn_share(work, what, _states(work, name, task), task=task)
            except BatchscoreError as error:
                answer |= {"kind": type(error).__name__, "message": str(error)}
            yield pa.RecordBatch.from_pylist([answer], schema=schema)


def _learn_share(work: _Work, what: Pass, path: str, *, task: int) -> dict[str, Any]:
    """Learn a task's row groups and store what they teach; how many rows that were."""
    tables = index_references(what.spec, joins(what.spec.relational)[1], work.references)
    total = Learned(what.templates)
    for group in work.shares[task]:
        piece = Piece(f"{group.file.path} row group {group.number}", functools.partial(group.batches, work.names))
        total.merge(learn_piece(what, tables, piece))
    storage, _ = storage_for(path)
    storage.replace(path, dump(total.states))
    return {
        "rows": total.rows,
        "rejected": total.rejected,
        "filtered": total.filtered,
        "reasons": json.dumps(total.reasons),
        "tallies": json.dumps({name: (found.hits, found.rows) for name, found in total.found.tallies.items()}),
    }
