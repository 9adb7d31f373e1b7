"""Fit a recipe to Parquet files, read row group by row group in the order of their paths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from etl import __version__
from etl.documents import canonical_json, sha256_hex
from etl.fitting import Piece, fit
from etl.references import pin_references
from etl.runs.read import open_parquet, read_row_group
from etl.runs.storage import storage_for
from etl.training import Provenance
from jobs.errors import refusing
from jobs.plan import list_inputs
from scoring.golden import arrow_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    import pyarrow.parquet as pq

    from etl.runs.splits import InputFile
    from etl.spec import Spec

__all__ = ["fit_files"]

OnPiece = Callable[[str], None]
"""Told the path of a file before a row group of it is read."""


def fit_files(
    recipe: Spec,
    data: tuple[str, ...],
    references: Mapping[str, str],
    *,
    on_piece: OnPiece = lambda _: None,
    workers: int = 1,
) -> Spec:
    """The recipe with what its steps learn from Parquet files: folders, files or globs, each read once a pass.

    `workers` threads read row groups side by side; the result does not depend on how many.

    Raises:
        Refused: data or a reference table is not there, or lacks a column.
        BatchscoreError: see `etl.fitting.fit`.
    """
    with refusing():
        files = list_inputs(data)
        for file in files:
            recipe.input.of_training.check_schema(_open(file).schema_arrow, file.path)
        pinned = pin_references(recipe, references)
    tables = {name: arrow_table(table.data) for name, table in pinned.items()}
    pieces = [
        Piece(f"{file.path} row group {group}", partial(_batches, recipe, file, group, on_piece=on_piece))
        for file in files
        for group in range(_open(file).metadata.num_row_groups)
    ]
    return fit(_with_source(recipe, data, files), pieces, tables, workers=workers)


def _with_source(recipe: Spec, data: tuple[str, ...], files: tuple[InputFile, ...]) -> Spec:
    """The recipe with where its state is learned from; who and when are for people to say, so that a fit repeats."""
    listing = canonical_json([file.model_dump() for file in files])
    facts = {
        "source": ", ".join(data),
        "source_digest": sha256_hex(listing),
        "tool": f"batchscore {__version__}",
        "parent": recipe.digest,
    }
    told = recipe.provenance or Provenance()
    return recipe.model_copy(update={"provenance": told.model_copy(update=facts)})


def _open(file: InputFile) -> pq.ParquetFile:
    storage, _ = storage_for(file.path)
    return open_parquet(storage, file)


def _batches(recipe: Spec, file: InputFile, group: int, *, on_piece: OnPiece) -> list[pa.RecordBatch]:
    on_piece(file.path)
    columns = [field.name for field in recipe.input.of_training.fields]
    return read_row_group(storage_for(file.path)[0], file, group, columns=columns)
