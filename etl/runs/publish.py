"""Publish a settled run: complete its files, check their footers, commit a manifest, mark the folder.

The commit is *create if absent* of the next manifest, the only atomic step that every store has. It has three
outcomes, told apart: it landed, it certainly did not, or nobody knows (`OutcomeUnknown`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from etl.documents import sha256_hex
from etl.errors import AccountError, OutcomeUnknown, PublishError, StorageError, Superseded
from etl.runs.layout import manifest_path
from etl.runs.manifest import Manifest, RunEntry, files_table, latest_manifest, read_manifest, schema_entries

if TYPE_CHECKING:
    from etl.runs.layout import Layout
    from etl.runs.manifest import ColumnEntry
    from etl.runs.receipt import Receipt, Written
    from etl.runs.storage import Storage

__all__ = ["Mode", "Step", "bar", "publish", "withdraw"]

Mode = Literal["append", "error"]
"""`append`: add the run to what is there. `error`: refuse when anything is there."""

Step = Callable[[str], None]
"""Told the name of each step before it begins."""

_THREADS = 16
_BARRED = b"barred"
"""In the place of the table of files of a run that is to be thrown away."""


def publish(
    storage: Storage, layout: Layout, receipts: list[Receipt], *, schema: pa.Schema, mode: Mode, on_step: Step
) -> Manifest:
    """Make a run's files visible as one version; each step can be repeated after a death at any point.

    Raises:
        PendingLost: a file is gone; its split must be scored again.
        Superseded: another run is there, and `mode` is `error` or its columns are others.
        OutcomeUnknown: the commit may have landed.
    """
    columns = schema_entries(schema)
    _check_place(layout, latest_manifest(storage, layout.root), columns=columns, mode=mode)
    on_step("complete")
    written = _predictions(receipts)
    with ThreadPoolExecutor(_THREADS) as threads:
        # All are looked at before the first is shown: a run that lacks one shall show none.
        list(threads.map(lambda item: storage.check(item.pending), written))
        list(threads.map(lambda item: _complete(storage, item, schema), written))
    on_step("commit")
    entry = _write_files_table(storage, layout, receipts)
    manifest = _commit(storage, layout, entry, columns=columns, mode=mode)
    on_step("mark")
    _mark(storage, layout, manifest)
    _sweep(storage, layout)
    return manifest


def bar(storage: Storage, layout: Layout) -> None:
    """Take the name of the run's table of files. A publisher needs it to commit, so after this none can.

    Raises:
        PublishError: a publisher has it already, so the run may be published.
    """
    if not storage.create_if_absent(layout.files, _BARRED) and storage.read_bytes(layout.files) != _BARRED:
        message = f"{layout.files}: a publication of this run has begun. Run the same id again to end it."
        raise PublishError(message)


def withdraw(storage: Storage, layout: Layout, receipts: list[Receipt]) -> None:
    """Throw away the predictions of a run that was barred, also those that a dead publisher had completed."""
    for written in _predictions(receipts):
        storage.abort(written.pending)
        storage.delete(written.pending.path)
    _sweep(storage, layout)


def _sweep(storage: Storage, layout: Layout) -> None:
    """Whatever is pending now belongs to attempts that lost, or that nobody knows of. What remains, `gc` finds."""
    with contextlib.suppress(OSError, StorageError):
        for folder in (layout.data, layout.state):
            storage.sweep(folder)


def _predictions(receipts: list[Receipt]) -> list[Written]:
    return [receipt.predictions for receipt in receipts if receipt.predictions is not None]


def _complete(storage: Storage, written: Written, schema: pa.Schema) -> None:
    """Make one file visible, and read back its footer: what readers will see, not what the worker meant to write."""
    storage.complete(written.pending)
    path = written.pending.path
    try:
        with storage.open_input(path) as source:
            footer = pq.ParquetFile(source)
            rows, found = footer.metadata.num_rows, footer.schema_arrow
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: was written but cannot be read back: {error}. Nothing was committed; check the disk."
        raise AccountError(message) from error
    if rows != written.rows or not found.equals(schema):
        there, wanted = (", ".join(f"{field.name} {field.type}" for field in fields) for fields in (found, schema))
        message = f"{path}: has {rows} rows of ({there}), its receipt says {written.rows} of ({wanted})."
        raise AccountError(message)


def _write_files_table(storage: Storage, layout: Layout, receipts: list[Receipt]) -> RunEntry:
    data = files_table(receipts)
    if not storage.create_if_absent(layout.files, data):
        # An earlier try may have written the same table with another release of Arrow, in other bytes.
        found = storage.read_bytes(layout.files) or b""
        if found == _BARRED:
            message = f"{layout.files}: somebody began to discard this run, so nothing was committed. Discard it again."
            raise PublishError(message)
        if found != data and not _same_table(found, data):
            message = f"{layout.files}: another publisher of this run found other receipts. Nothing was committed."
            raise PublishError(message)
        data = found
    written = _predictions(receipts)
    return RunEntry(
        run_id=layout.run_id,
        files=layout.files,
        files_sha256=sha256_hex(data),
        rows=sum(item.rows for item in written),
        bytes=sum(item.pending.bytes for item in written),
    )


def _same_table(left: bytes, right: bytes) -> bool:
    try:
        tables = [pa.ipc.open_file(pa.BufferReader(data)).read_all() for data in (left, right)]
    except pa.ArrowInvalid:
        return False
    return bool(tables[0].equals(tables[1]))


def _check_place(layout: Layout, latest: Manifest | None, *, columns: tuple[ColumnEntry, ...], mode: Mode) -> None:
    """Refuse what may not stand beside what is published; asked first, so that a refused run shows no file."""
    if latest is None or not latest.runs or layout.run_id in latest.run_ids:
        return
    if mode == "error":
        message = f"{layout.root}: run {latest.runs[-1].run_id} was published here, and the mode is `error`."
        raise Superseded(message)
    if latest.columns != columns:
        there, ours = (", ".join(f"{entry.name} {entry.type}" for entry in side) for side in (latest.columns, columns))
        message = f"{layout.root}: run {latest.runs[-1].run_id} has columns ({there}); this one has ({ours})."
        raise Superseded(message)


def _commit(
    storage: Storage, layout: Layout, entry: RunEntry, *, columns: tuple[ColumnEntry, ...], mode: Mode
) -> Manifest:
    """Add the run to the newest version, again and again until nobody else was quicker."""
    while True:
        latest = latest_manifest(storage, layout.root)
        if latest is not None and entry.run_id in latest.run_ids:
            return latest
        _check_place(layout, latest, columns=columns, mode=mode)
        manifest = Manifest(
            seq=latest.seq + 1 if latest else 1,
            committed_at=datetime.now(UTC),
            committed_by=entry.run_id,
            columns=columns,
            runs=(*(latest.runs if latest else ()), entry),
        )
        if _create(storage, layout.root, manifest):
            return manifest


def _create(storage: Storage, root: str, manifest: Manifest) -> bool:
    """Whether the manifest landed. A lost answer is read back: mine, another's, or not there."""
    path = manifest_path(root, manifest.seq)
    try:
        return storage.create_if_absent(path, manifest.to_bytes())
    except OSError as error:
        try:
            found = read_manifest(storage, root, manifest.seq)
        except (OSError, StorageError):
            message = f"{path}: the store did not answer ({error}); the commit may have landed. Run the same id again."
            raise OutcomeUnknown(message) from error
        if found is None:
            message = f"{path}: the commit did not land ({error}). Run the same id again."
            raise PublishError(message) from error
        return found == manifest


def _mark(storage: Storage, layout: Layout, manifest: Manifest) -> None:
    with contextlib.suppress(OSError, StorageError):
        # Only a hint: readers list the manifests.
        storage.replace(f"{layout.root}/_batchscore/current.json", json.dumps({"seq": manifest.seq}).encode())
    [entry] = [run for run in manifest.runs if run.run_id == layout.run_id]
    storage.create_if_absent(
        layout.success, json.dumps({"run_id": entry.run_id, "rows": entry.rows, "seq": manifest.seq}).encode()
    )
