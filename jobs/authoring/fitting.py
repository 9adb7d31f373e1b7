"""Fit a recipe to Parquet files, read row group by row group in the order of their paths."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etl import __version__
from etl.arrivals import PREPARED
from etl.documents import canonical_json, sha256_hex
from etl.learning.fitting import fit
from etl.learning.pieces import Piece
from etl.ops.relations import on_table
from etl.ops.wordpiece import WordPiece
from etl.references import pin_references
from etl.runs.read import open_parquet, read_row_group
from etl.runs.storage import storage_for
from etl.training import Provenance
from jobs.errors import Refused, refusing
from jobs.planning.resolving import list_inputs
from scoring.bundles.golden import arrow_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa
    import pyarrow.parquet as pq

    from etl.runs.splits import InputFile
    from etl.spec import Spec

__all__ = ["check_out", "fit_files"]

OnPiece = Callable[[str], None]
"""Told the path of a file before a row group of it is read."""


_ENDINGS = {".pq", ".parquet", ".arrow", ".feather", ".ipc", ".orc", ".avro", ".csv"}
"""Of data, and of the files of large states."""


def check_out(
    out: str,
    recipe: str,
    data: Iterable[str] = (),
    *,
    references: Mapping[str, str] | None = None,
    spec: Spec | None = None,
) -> None:
    """See that what is written to `out` takes the place of nothing that is read: the recipe or what lies in its bundle,
    a vocabulary that it names (`spec` is what was read of it), a file of the data or of a reference table, or a place
    in a folder or under a glob of theirs, which would be data the next time. Links are followed.

    Raises:
        Refused: it does, `out` is a folder, lies below a file or ends as data does, or no store is there for it.
    """  # noqa: D205  one sentence
    with refusing():
        place = Path(storage_for(out)[1]).resolve()
        if place.is_dir():
            raise Refused(f"--out {out}: is a folder. Give the name of a file in it.")
        above = next(path for path in place.parents if path.exists())
        if not above.is_dir():
            raise Refused(f"--out {out}: {above} is a file, and no folder can be made below it. Choose another place.")
        read = Path(storage_for(recipe)[1]).resolve()
        if place in {read, *_vocabularies(recipe, spec)} or (read.is_dir() and place.is_relative_to(read)):
            raise Refused(f"--out {out}: would replace {recipe}, or a part of it, which is read. Choose another place.")
        named = [("the training data", uri) for uri in data]
        named += [(f"reference table {name!r}", uri) for name, uri in (references or {}).items()]
        for what, uri in named:
            written = [place, *_state_files(place, spec)]
            if any(_would_be_read(path, uri) for path in written):
                raise Refused(f"--out {out}: would replace, or lie in, {what} {uri}. Choose another place.")
        if place.suffix.lower() in _ENDINGS:
            raise Refused(
                f"--out {out}: {place.suffix} is the ending of data. Give a name that ends in .json or .yaml."
            )


def _vocabularies(recipe: str, spec: Spec | None) -> set[Path]:
    """The files that steps of a recipe name beside it."""
    names = [step.params.vocabulary_file for step in spec.steps if isinstance(step, WordPiece)] if spec else []
    return {(Path(storage_for(recipe)[1]).parent / name).resolve() for name in names if name is not None}


def _state_files(place: Path, spec: Spec | None) -> list[Path]:
    """Names like those that large states may have beside a spec."""
    steps = spec.steps if spec else ()
    return [place.with_name(f"{step.id}-{'0' * 12}.pq") for step in steps if "state" in type(step).model_fields]


def _would_be_read(place: Path, uri: str) -> bool:
    """Whether a file at a place is, or would be, among those that a file, folder or glob names."""
    storage, path = storage_for(uri)
    folder = Path(path).resolve()
    if folder.is_dir():
        return place.is_relative_to(folder)
    if any(Path(file.path).resolve() == place for file in storage.list_files(path)):
        return True
    parts = Path(path).parts
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return first < len(parts) and _matches(place.parts, (*Path(*parts[:first]).resolve().parts, *parts[first:]))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path matches a glob, or lies in a folder that does."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[at:], pattern[1:]) for at in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


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
        Refused: data or a reference table is not there, lacks a column, or is what `etl.relational.prepare` made.
        BatchscoreError: see `etl.learning.fitting.fit`.
    """
    pieces = []
    with refusing():
        files = list_inputs(data)
        for file in files:
            opened = _open(file)
            schema = opened.schema_arrow
            if on_table(recipe.relational) and PREPARED in (schema.metadata or {}):
                raise Refused(f"{file.path}: was prepared already. Give the original rows, or fit in Python: etl.fit.")
            recipe.input.of_training.check_schema(schema, file.path)
            for group in range(opened.metadata.num_row_groups):
                batches = partial(_batches, recipe, file, group, on_piece=on_piece)
                pieces.append(Piece(f"{file.path} row group {group}", batches))
        pinned = pin_references(recipe, references)
    tables = {name: arrow_table(table.data) for name, table in pinned.items()}
    return fit(_with_source(recipe, data, files), pieces, tables, workers=workers)


def _with_source(recipe: Spec, data: tuple[str, ...], files: tuple[InputFile, ...]) -> Spec:
    """The recipe with where its state is learned from; who and when are for people to say, so that a fit repeats."""
    listing = canonical_json([asdict(file) for file in files])
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
