"""Labels as they are delivered, in Parquet or CSV, and the runs that they are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from etl.format.problems import nearest
from etl.printable import counted
from etl.runs.read import open_parquet, read_whole
from etl.runs.storage import storage_for
from jobs.errors import Refused, refusing
from jobs.monitoring.evaluating import Evaluation, Labels, evaluate, no_label_fits
from jobs.monitoring.matching import keyed_as
from jobs.monitoring.runs import check_columns, keys_of, open_run, plain_scores
from jobs.planning.resolving import list_inputs
from jobs.results import open_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from etl.runs.splits import InputFile
    from jobs.results import Results

__all__ = ["Asked", "RunQuality", "evaluate_runs", "read_labels"]


class Asked(NamedTuple):
    """What a person asks of runs and labels."""

    labels: str
    """URI of Parquet or CSV: a file, a folder or a glob."""
    keys: tuple[str, ...] = ()
    """Without any, the only column that came through from the input."""
    label: str | None = None
    """Without it, the only column of the labels that is neither key nor segment."""
    positive: str | None = None
    """The value of the positive class, as text; without it, labels are true and false, 1 and 0, or numbers."""
    columns: tuple[str, ...] = ()
    """Scores; without any, all numbers that the model made."""
    by: tuple[str, ...] = ()
    bins: int = 10


class RunQuality(NamedTuple):
    """How good a run was."""

    run_id: str
    published_at: datetime
    """When the version was committed that the run is read from."""
    evaluation: Evaluation


def evaluate_runs(where: str, runs: Sequence[str], asked: Asked) -> list[RunQuality]:
    """Hold runs against labels, in the order in which they were published; without any, those of the newest version.

    Raises:
        Refused: a run, the labels or a column is not there, or no row of any run has a label.
        ReadError: a file is gone or damaged.
    """
    names = list(runs) or list(open_results(where).run_ids)
    opened = sorted((open_run(where, run) for run in dict.fromkeys(names)), key=lambda one: one.manifest.committed_at)
    newest = opened[-1]
    keys = keys_of(newest, asked.keys)
    for results in opened:
        check_columns(results, [*keys, *asked.columns], "--key" if not asked.columns else "--key or --column")
    in_labels = [name for name in asked.by if any(name not in results.schema.names for results in opened)]
    labels = read_labels(asked, newest, keys, by=in_labels)
    found = []
    for results in opened:
        columns = asked.columns or _numbers(results)
        table = results.arrow(list(dict.fromkeys([*keys, *columns, *(n for n in asked.by if n not in in_labels)])))
        held = labels._replace(table=keyed_as(labels.table, table, keys, what=asked.labels))
        [run_id] = results.run_ids
        told = evaluate(table, held, columns, by=asked.by, bins=asked.bins)
        found.append(RunQuality(run_id, results.manifest.committed_at, told))
    if not any(one.evaluation.rows.matched + one.evaluation.rows.repeated for one in found):
        raise no_label_fits(newest.arrow(list(keys)), labels)
    return found


def _numbers(results: Results) -> tuple[str, ...]:
    names = [name for name in plain_scores(results) if not pa.types.is_string(results.schema.field(name).type)]
    if not names:
        raise Refused(f"{results.root}: the model made no numbers. Name a column of numbers with --column.")
    return tuple(names)


def read_labels(asked: Asked, results: Results, keys: Sequence[str], *, by: Sequence[str]) -> Labels:
    """The labels, each once, with keys in the types that they have in a run.

    Raises:
        Refused: nothing is there, a column is not, a file is damaged, or values are no labels.
    """
    with refusing():
        files = list_inputs((asked.labels,))
        label = asked.label or _only_other(asked.labels, _columns_of(files[0]), {*keys, *by})
        names = list(dict.fromkeys([*keys, *by, label]))
        schema = results.schema
        types = {key: schema.field(key).type for key in keys}
        tables = [keyed_as(_read(file, names, types), schema.empty_table(), keys, what=file.path) for file in files]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise Refused(f"{asked.labels}: the files differ in their columns: {error}. Give one table.") from error
    if not table.num_rows:
        count = counted(len(files), "file has", "files have")
        raise Refused(
            f"{asked.labels}: {count} no row, so there is no label. Were they delivered? Name other --labels."
        )
    at = table.column_names.index(label)
    if table.column(label).null_count == table.num_rows:
        rows = counted(table.num_rows, "row")
        raise Refused(f"{asked.labels}: column {label!r} is null in each of {rows}. Name another with --label.")
    table = table.set_column(at, label, _truths(table.column(label), asked, label))
    # The same label may be delivered again; another one for the same key is told.
    return Labels(table.group_by(names).aggregate([]).select(names), tuple(keys), label)


def _truths(column: pa.ChunkedArray, asked: Asked, label: str) -> pa.ChunkedArray:
    """Booleans or floats."""
    where = f"{asked.labels}: column {label!r}"
    if asked.positive is not None:
        texts = column.cast(pa.string())
        found = pc.equal(texts, asked.positive)
        if not pc.any(found).as_py():
            raise Refused(f"{where} never is {asked.positive!r}.{nearest(asked.positive, _values(texts))}")
        return found
    if pa.types.is_boolean(column.type):
        return column
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise Refused(f"{where} is {column.type}. Say which value is the positive class, with --positive.")
    numbers = column.cast(pa.float64(), safe=False)
    numbers = pc.if_else(pc.is_finite(numbers), numbers, None)
    are_classes = pc.all(pc.is_in(pc.drop_null(numbers), value_set=pa.array([0.0, 1.0])), min_count=0).as_py()
    return numbers.cast(pa.bool_()) if are_classes else numbers


def _values(texts: pa.ChunkedArray) -> list[str]:
    return [value for value in pc.unique(texts).slice(0, 100).to_pylist() if value is not None]


def _only_other(uri: str, names: Sequence[str], known: set[str]) -> str:
    others = [name for name in names if name not in known]
    if len(others) != 1:
        raise Refused(f"{uri}: say which column is the label, with --label; it has {', '.join(names)}.")
    return others[0]


def _columns_of(file: InputFile) -> list[str]:
    storage, path = storage_for(file.path)
    if not _is_csv(file):
        return list(open_parquet(storage, file).schema_arrow.names)
    try:
        with storage.open_input(path) as source:
            return list(csv.open_csv(source).schema.names)
    except pa.ArrowInvalid as error:
        raise Refused(f"{file.path}: {error}. The first line of a CSV has the names of its columns.") from error


def _read(file: InputFile, names: Sequence[str], types: dict[str, pa.DataType]) -> pa.Table:
    known = _columns_of(file)
    for name in names:
        if name not in known:
            raise Refused(f"{file.path}: has no column {name!r}.{nearest(name, known)}")
    storage, path = storage_for(file.path)
    if not _is_csv(file):
        return read_whole(storage, file, names)
    # Keys are read as they are in the run: 0042 is a text there, and would be a number here.
    options = csv.ConvertOptions(include_columns=list(names), column_types=types, strings_can_be_null=True)
    try:
        with storage.open_input(path) as source:
            return csv.read_csv(source, convert_options=options)
    except pa.ArrowInvalid as error:
        raise Refused(f"{file.path}: {error}. Keys are to be as in the run: {_told(types)}.") from error


def _told(types: dict[str, pa.DataType]) -> str:
    return ", ".join(f"{name} {type_}" for name, type_ in types.items())


def _is_csv(file: InputFile) -> bool:
    return file.path.lower().endswith(".csv")
