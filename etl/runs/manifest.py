"""Manifests: the commits of an output root. A version is a manifest; readers trust the files that it names alone."""

from __future__ import annotations

import operator
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, Field

from etl.documents import Document, Strict, sha256_hex
from etl.errors import DocumentError
from etl.runs.layout import manifest_folder, manifest_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.layout import Layout
    from etl.runs.receipt import Receipt
    from etl.runs.storage import Storage

__all__ = [
    "ColumnEntry",
    "Manifest",
    "Mode",
    "RunEntry",
    "all_manifests",
    "files_table",
    "is_held",
    "is_kept",
    "latest_manifest",
    "published_files",
    "read_manifest",
    "schema_entries",
    "tables_of",
    "version_of",
]

Mode = Literal["append", "error", "overwrite", "overwrite_partitions"]
"""`append`: add the run to what is there. `error`: refuse when anything is there. `overwrite`: the next version holds
this run alone. `overwrite_partitions`: it holds this run in the place of all folders that the run has rows for.
"""
_THREADS = 16

_DIGITS = 12
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}\.json")
_TABLE = re.compile(r"files(\.[0-9]+)?\.arrow")

FILES_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("split", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("partition", pa.string(), nullable=False),
    ]
)
"""Columns of a run's table of files."""
_IN_ORDER = ("split", "path", "rows", "bytes", "sha256", "digest", "partition")


class ColumnEntry(Strict):
    """A column of the published table."""

    name: str
    type: str = Field(description="Arrow's name of the type.")


class RunEntry(Strict):
    """A published run."""

    run_id: str
    files: str = Field(description="Path of the run's table of files.")
    files_sha256: str
    folder: str = Field(description="Folder of the run's predictions, below the output root.")
    rows: int = Field(ge=0, description="Of the folders that later runs did not replace.")
    bytes: int = Field(ge=0, description="As rows.")
    replaced: tuple[str, ...] = Field(
        default=(), description="Folders of partitions in whose place this version holds those of a later run."
    )


class Manifest(Document):
    """One version of an output root."""

    format: Literal["batchscore.manifest/1"] = "batchscore.manifest/1"
    seq: int = Field(ge=1)
    committed_at: AwareDatetime
    committed_by: str = Field(description="The run whose publication made this version, or user@host.")
    operation: Mode | Literal["rollback", "gc"] = Field(default="append", description="What made this version.")
    reason: str | None = Field(default=None, description="Of a rollback, as a person told it.")
    restores: int | None = Field(default=None, description="Of a rollback, the version whose runs this one holds.")
    columns: tuple[ColumnEntry, ...]
    partition_by: tuple[str, ...] = Field(
        default=(), description="Columns that are in the names of folders and not in the files."
    )
    kept_from: int = Field(default=1, ge=1, description="Older versions may lack files: `gc` removes them.")
    runs: tuple[RunEntry, ...] = Field(description="Everything that this version holds, oldest first.")

    @property
    def run_ids(self) -> frozenset[str]:
        """Ids of the runs that this version holds."""
        return frozenset(run.run_id for run in self.runs)

    @property
    def published(self) -> str | None:
        """The run whose publication made this version; None where something else did."""
        return self.committed_by if self.operation in get_args(Mode) else None


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


def all_manifests(storage: Storage, root: str, *, first: int = 1, last: int | None = None) -> list[Manifest]:
    """The versions from `first` to `last`, by default the newest, oldest first.

    Raises:
        DocumentError: one is damaged or gone.
    """
    if last is None:
        latest = latest_manifest(storage, root)
        last = latest.seq if latest is not None else 0
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda seq: _there(storage, root, seq), range(first, last + 1)))


def _there(storage: Storage, root: str, seq: int) -> Manifest:
    manifest = read_manifest(storage, root, seq)
    if manifest is None:
        message = f"{manifest_path(root, seq)}: is gone, although later versions are there. Nobody may remove it."
        raise DocumentError(message)
    return manifest


def tables_of(storage: Storage, layout: Layout) -> list[str]:
    """Paths of the tables of files that publishers of a run wrote; without one it cannot have been committed."""
    return [f"{layout.state}/{name}" for name in storage.names(layout.state) if _TABLE.fullmatch(name)]


def version_of(storage: Storage, layout: Layout) -> Manifest | None:
    """The version that published a run, or None. It need not be in the newest any more: see rollback and overwriting.

    A run that never wrote its table of files cannot have been committed, so only few runs cost more than two requests.
    """
    latest = latest_manifest(storage, layout.root)
    if latest is None or latest.published == layout.run_id:
        return latest
    if not tables_of(storage, layout):
        return None
    last = latest.seq
    while last > 0:
        some = all_manifests(storage, layout.root, first=max(1, last - _THREADS + 1), last=last)
        for manifest in reversed(some):
            if manifest.published == layout.run_id:
                return manifest
        last -= len(some)
    return None


def is_kept(storage: Storage, root: str, version: Manifest) -> bool:
    """Whether the files of a version are promised to be there still."""
    latest = latest_manifest(storage, root)
    return latest is None or version.seq >= latest.kept_from


def is_held(storage: Storage, layout: Layout, version: Manifest) -> bool:
    """Whether a version that is kept holds all of a run, which `version` published and later ones may hold, too."""
    latest = latest_manifest(storage, layout.root)
    if latest is None or version.seq >= latest.kept_from:
        return True
    kept = all_manifests(storage, layout.root, first=latest.kept_from, last=latest.seq)
    return any(run.run_id == layout.run_id and not run.replaced for one in kept for run in one.runs)


def files_table(receipts: Iterable[Receipt]) -> bytes:
    """A run's table of files as Arrow IPC; a function of the receipts alone, so that two publishers write the same."""
    rows = [
        (
            receipt.split,
            written.pending.path,
            written.rows,
            written.pending.bytes,
            written.pending.sha256,
            receipt.account.scored.digest,
            written.partition,
        )
        for receipt in receipts
        for written in receipt.predictions
    ]
    # Stable, so that the files of a split stay in their order.
    rows.sort(key=operator.itemgetter(0))
    columns = dict(zip(_IN_ORDER, zip(*rows, strict=True), strict=True)) if rows else {}
    arrays = [pa.array(columns.get(field.name, ()), field.type) for field in FILES_SCHEMA]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, FILES_SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=FILES_SCHEMA))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def published_files(storage: Storage, run: RunEntry) -> pa.Table:
    """The table of files of a published run, without those that the version holds another run's in the place of.

    Raises:
        DocumentError: it is gone, or is not what was committed.
    """
    data = storage.read_bytes(run.files)
    if data is None or sha256_hex(data) != run.files_sha256:
        message = f"{run.files}: the table of files of run {run.run_id} is missing or was changed after publication."
        raise DocumentError(message)
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    if not run.replaced:
        return table
    is_replaced = pc.is_in(table.column("partition"), pa.array(run.replaced, pa.string()))
    return table.filter(pc.invert(is_replaced))
