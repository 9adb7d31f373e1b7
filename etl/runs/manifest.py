"""Manifests: the commits of an output root. A version is a manifest; readers trust the files that it names alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pydantic import AwareDatetime, Field

from etl.documents import Document, Strict, sha256_hex
from etl.errors import DocumentError
from etl.runs.layout import manifest_folder, manifest_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.receipt import Receipt
    from etl.runs.storage import Storage

__all__ = ["ColumnEntry", "Manifest", "RunEntry", "files_table", "latest_manifest", "published_files", "schema_entries"]

_DIGITS = 12
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}\.json")

FILES_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("split", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)
"""Columns of a run's table of files."""


class ColumnEntry(Strict):
    """A column of the published table."""

    name: str
    type: str = Field(description="Arrow's name of the type.")


class RunEntry(Strict):
    """A published run."""

    run_id: str
    files: str = Field(description="Path of the run's table of files.")
    files_sha256: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)


class Manifest(Document):
    """One version of an output root."""

    format: Literal["batchscore.manifest/1"] = "batchscore.manifest/1"
    seq: int = Field(ge=1)
    committed_at: AwareDatetime
    committed_by: str = Field(description="The run whose publication made this version.")
    columns: tuple[ColumnEntry, ...]
    runs: tuple[RunEntry, ...] = Field(description="Everything that this version holds, oldest first.")

    @property
    def run_ids(self) -> frozenset[str]:
        """Ids of the runs that this version holds."""
        return frozenset(run.run_id for run in self.runs)


def schema_entries(schema: pa.Schema) -> tuple[ColumnEntry, ...]:
    """A schema as a manifest stores it."""
    return tuple(ColumnEntry(name=field.name, type=str(field.type)) for field in schema)


def latest_manifest(storage: Storage, root: str) -> Manifest | None:
    """The newest version, or None before the first. Lists the folder: `current.json` is a hint that may be stale.

    Raises:
        DocumentError: it is damaged, or was removed: to go on from an older one would undo commits.
    """
    numbers = [int(name[:_DIGITS]) for name in storage.names(manifest_folder(root)) if _NAME.fullmatch(name)]
    if not numbers:
        return None
    manifest = read_manifest(storage, root, max(numbers))
    if manifest is None:
        message = f"{manifest_path(root, max(numbers))}: was listed and is gone. Nobody may remove a manifest."
        raise DocumentError(message)
    return manifest


def read_manifest(storage: Storage, root: str, seq: int) -> Manifest | None:
    """One version, or None."""
    path = manifest_path(root, seq)
    data = storage.read_bytes(path)
    return Manifest.from_bytes(data, where=path) if data is not None else None


def files_table(receipts: Iterable[Receipt]) -> bytes:
    """A run's table of files as Arrow IPC; a function of the receipts alone, so that two publishers write the same."""
    rows = [
        {
            "path": written.pending.path,
            "rows": written.rows,
            "bytes": written.pending.bytes,
            "sha256": written.pending.sha256,
            "split": receipt.split,
            "digest": receipt.account.scored.digest,
        }
        for receipt in sorted(receipts, key=lambda receipt: receipt.split)
        if (written := receipt.predictions) is not None
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, FILES_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, FILES_SCHEMA))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def published_files(storage: Storage, run: RunEntry) -> pa.Table:
    """The table of files of a published run.

    Raises:
        DocumentError: it is gone, or is not what was committed.
    """
    data = storage.read_bytes(run.files)
    if data is None or sha256_hex(data) != run.files_sha256:
        message = f"{run.files}: the table of files of run {run.run_id} is missing or was changed after publication."
        raise DocumentError(message)
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()
