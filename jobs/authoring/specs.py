"""ETL specs as files: read with their large states, written, tried on a few rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.format.files import load_spec
from etl.importing import import_datavec
from etl.ops.relations import on_table
from etl.pipeline import Pipeline
from etl.plain import plain_values
from etl.references import pin_references
from etl.relational import prepare
from etl.runs.read import open_parquet
from etl.runs.storage import storage_for
from jobs.errors import Refused, refusing
from jobs.planning.resolving import list_inputs
from scoring.bundles.bundle import BUNDLE_FILE, Bundle
from scoring.bundles.golden import arrow_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow.parquet as pq

    from etl.frame import Frame
    from etl.importing import Imported
    from etl.runs.splits import InputFile
    from etl.spec import Spec
    from etl.types import ColumnType

__all__ = ["Sample", "SampledColumn", "import_datavec_file", "read_spec_file", "sample_spec"]


def read_spec_file(path: str, *, fitted: bool = False) -> Spec:
    """A spec or recipe from a YAML or JSON file, or the spec of a bundle from its folder; large states from beside it.

    Raises:
        Refused: it cannot be read, or with everything that is wrong with it; `fitted`: it is a recipe.
    """
    file = Path(path)
    with refusing():
        if (file / BUNDLE_FILE).is_file():
            text = _text_of(file / BUNDLE_FILE).encode()
            file /= Bundle.from_bytes(text, where=f"{path}/{BUNDLE_FILE}").spec
        return load_spec(file, fitted=fitted)


def import_datavec_file(path: str) -> Imported:
    """What a file with a DataVec `TransformProcess` becomes.

    Raises:
        Refused: it cannot be read, or with everything that has no counterpart.
    """
    with refusing():
        return import_datavec(_text_of(Path(path), "process"), path)


class SampledColumn(NamedTuple):
    """One column of a few rows."""

    name: str
    type: ColumnType
    made_by: str
    """Id of the step that made it; `input` for a field."""
    values: list[Any]
    """As JSON values, one a row; those of personal data are masked."""


class Sample(NamedTuple):
    """A few rows before and after."""

    columns: tuple[SampledColumn, ...]
    outcomes: tuple[str, ...]
    """What became of each row: `kept`, `filtered`, or why it was rejected."""


def sample_spec(spec: Spec, data: tuple[str, ...], rows: int, *, references: Mapping[str, str]) -> Sample:
    """The first rows of Parquet files behind every step of a fitted spec.

    Raises:
        Refused: the data or a reference table is not there, or is not as the spec declares it.
        BatchscoreError: a value breaks a rule that says `fail`.
    """
    with refusing():
        pinned = pin_references(spec, references)
        tables = {name: arrow_table(table.data) for name, table in pinned.items()}
        pipeline = Pipeline(spec, tables)
        files = _sampled_files(spec, data)
        if on_table(spec.relational):
            # Steps that need other rows need all of them.
            batch = prepare(_rows_of(spec, files), spec, tables).table.slice(0, rows)
        else:
            batch = _rows_of(spec, files, rows)
    frame = pipeline.contract(batch, files[0].path)
    pipeline.run_steps(frame)
    columns = []
    before: set[str] = set()
    hidden = spec.derived_from(field.name for field in spec.input.of_training.fields if field.pii)
    for step_id, schema in spec.schemas():
        for name, type_ in schema.items():
            if name in before or name not in frame:
                continue
            values = ["•••"] * frame.rows if name in hidden else plain_values(frame[name])
            columns.append(SampledColumn(name, type_, step_id, values))
        before |= schema.keys()
    return Sample(tuple(columns), _outcomes(frame))


def _text_of(file: Path, what: str = "spec") -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refused(f"{file}: the {what} cannot be read: {reason}.") from error


def _sampled_files(spec: Spec, data: tuple[str, ...]) -> tuple[InputFile, ...]:
    files = list_inputs(data)
    for file in files:
        spec.input.check_schema(_open(file).schema_arrow, file.path)
    return files


def _open(file: InputFile) -> pq.ParquetFile:
    storage, _ = storage_for(file.path)
    return open_parquet(storage, file)


def _rows_of(spec: Spec, files: tuple[InputFile, ...], most: int | None = None) -> pa.Table:
    """All rows of the files, or the first so many."""
    columns = [field.name for field in spec.input.fields]
    parts: list[pa.Table] = []
    for file in files:
        missing = None if most is None else most - sum(part.num_rows for part in parts)
        if missing == 0:
            break
        parquet = _open(file)
        if missing is None:
            parts.append(parquet.read(columns=columns))
        elif parquet.metadata.num_rows:
            parts.append(pa.Table.from_batches([next(parquet.iter_batches(batch_size=missing, columns=columns))]))
    return pa.concat_tables(parts, promote_options="permissive") if parts else _open(files[0]).read(columns=columns)


def _outcomes(frame: Frame) -> tuple[str, ...]:
    found = ["kept"] * frame.rows
    if frame.filtered is not None:
        found = ["filtered" if left_out else was for was, left_out in zip(found, frame.filtered, strict=True)]
    for rejection in reversed(frame.rejections):
        for row in rejection.rows:
            found[row] = f"{rejection.code}: {rejection.message} ({rejection.pointer})"
    return tuple(found)
