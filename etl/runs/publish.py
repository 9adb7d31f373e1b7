"""Publish a settled run: complete its files, check their footers, commit a version, mark the folder."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.documents import sha256_hex
from etl.errors import AccountError, PendingLost, PublishError, ReceiptsVoid, StorageError, Superseded
from etl.runs.commit import check_terms, commit, hint, next_version
from etl.runs.manifest import RunEntry, files_table, latest_manifest, published_files, schema_entries, version_of
from etl.runs.partitions import Partitioning

if TYPE_CHECKING:
    from collections.abc import Generator

    from etl.runs.commit import Terms
    from etl.runs.layout import Layout
    from etl.runs.manifest import Manifest
    from etl.runs.receipt import Receipt, Written
    from etl.runs.storage import Storage

__all__ = ["Admit", "Step", "bar", "has_begun_to_commit", "publish", "withdraw"]

Admit = Callable[["Manifest | None"], None]
"""Raises where a run may not follow a version; asked of each that it is about to follow."""

Step = Callable[[str], None]
"""Told the name of each step before it begins."""

_THREADS = 16
_AT_ONCE = 1_024
"""Files that are handed to the threads together, so that those of all splits need not be held."""
_PART = re.compile(r"part-[0-9.]+-[0-9a-f]+(-[0-9]+)?\.parquet")
_BARRED = b"barred"
"""In the place of the table of files of a run that is to be thrown away."""


def publish(
    storage: Storage,
    layout: Layout,
    receipts: Collection[Receipt],
    *,
    schema: pa.Schema,
    terms: Terms,
    on_step: Step,
    admit: Admit = lambda _: None,
) -> Manifest:
    """Make a run's files visible as one version; each step can be repeated after a death at any point.

    Raises:
        ReceiptsVoid: files are gone; their splits must be scored again.
        Superseded: what is there, or came since the run was planned, leaves it no place.
        OutcomeUnknown: the commit may have landed.
    """
    # Before the look at what this run may have committed: whatever comes after it, the commit passes by.
    latest = latest_manifest(storage, layout.root)
    found = version_of(storage, layout)
    if found is None:
        columns = schema_entries(schema)
        admit(latest)
        check_terms(layout, latest, columns=columns, terms=terms)
        on_step("complete")
        with _withdrawing(storage, layout, receipts):
            _complete_all(storage, receipts, Partitioning(schema, terms.partition_by).file_schema)
            on_step("commit")
            entry = _write_files_table(storage, layout, receipts)
            partitions = frozenset(written.partition for receipt in receipts for written in receipt.predictions)

            def next_to(latest: Manifest | None) -> Manifest:
                if latest is not None and latest.published == layout.run_id:
                    return latest
                admit(latest)
                return next_version(
                    storage, layout, latest, entry=entry, partitions=partitions, columns=columns, terms=terms
                )

            found = commit(storage, layout.root, next_to, latest=latest)
    on_step("mark")
    hint(storage, layout.root, found if latest is None or found.seq > latest.seq else latest)
    _mark(storage, layout, found)
    _sweep(storage, layout)
    return found


def _complete_all(storage: Storage, receipts: Collection[Receipt], schema: pa.Schema) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        # All are looked at before the first is shown: a run that lacks one shall show none.
        for step in (lambda item: storage.check(item.pending), lambda item: _complete(storage, item, schema)):
            lost: list[tuple[int, PendingLost]] = []
            files = ((receipt.split, written) for receipt in receipts for written in receipt.predictions)
            while some := list(itertools.islice(files, _AT_ONCE)):
                lost.extend(found for found in threads.map(partial(_lost, step), some) if found is not None)
            if lost:
                raise ReceiptsVoid.of({split for split, _ in lost}, f"{len(lost)} files are lost. {lost[0][1]}")


def _lost(step: Callable[[Written], None], item: tuple[int, Written]) -> tuple[int, PendingLost] | None:
    """The split whose file is gone."""
    try:
        step(item[1])
    except PendingLost as error:
        return item[0], error
    return None


def bar(storage: Storage, layout: Layout) -> None:
    """Take the name of the run's table of files. A publisher needs it to commit, so after this none can.

    Raises:
        PublishError: a publisher has it already, so the run may be published.
    """
    if not storage.create_if_absent(layout.files, _BARRED) and storage.read_bytes(layout.files) != _BARRED:
        message = f"{layout.files}: a publication of this run has begun. Run the same id again to end it."
        raise PublishError(message)


def has_begun_to_commit(storage: Storage, layout: Layout) -> bool:
    """Whether a publisher of the run came so far that it may be published; see `bar`."""
    return storage.read_bytes(layout.files) not in {None, _BARRED}


def withdraw(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> None:
    """Throw away the predictions of a run that was barred, also those that a dead publisher had completed."""
    for written in _predictions(receipts):
        storage.abort(written.pending)
        storage.delete(written.pending.path)
    _sweep(storage, layout)


@contextlib.contextmanager
def _withdrawing(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> Generator[None]:
    """Throw away what a run has completed when it is superseded: a listing of the root would show it until `gc`."""
    try:
        yield
    except Superseded:
        with contextlib.suppress(OSError, StorageError):
            withdraw(storage, layout, receipts)
        raise


def _sweep(storage: Storage, layout: Layout) -> None:
    """Whatever is pending now belongs to attempts that lost, or that nobody knows of. What remains, `gc` finds."""
    with contextlib.suppress(OSError, StorageError):
        for folder in (layout.data, layout.state):
            storage.sweep(folder)


def _predictions(receipts: Collection[Receipt]) -> Iterator[Written]:
    return (written for receipt in receipts for written in receipt.predictions)


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


def _write_files_table(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> RunEntry:
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
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    return RunEntry(
        run_id=layout.run_id,
        files=layout.files,
        files_sha256=sha256_hex(data),
        folder=layout.folder,
        rows=pc.sum(table.column("rows")).as_py() or 0,
        bytes=pc.sum(table.column("bytes")).as_py() or 0,
    )


def _same_table(left: bytes, right: bytes) -> bool:
    try:
        tables = [pa.ipc.open_file(pa.BufferReader(data)).read_all() for data in (left, right)]
    except pa.ArrowInvalid:
        return False
    return bool(tables[0].equals(tables[1]))


def _mark(storage: Storage, layout: Layout, manifest: Manifest) -> None:
    [entry] = [run for run in manifest.runs if run.run_id == layout.run_id]
    _remove_strays(storage, layout, entry)
    storage.create_if_absent(
        layout.success, json.dumps({"run_id": entry.run_id, "rows": entry.rows, "seq": manifest.seq}).encode()
    )


def _remove_strays(storage: Storage, layout: Layout, entry: RunEntry) -> None:
    """Files of receipts that became void after a publisher had shown them. The folder is about to be called whole."""
    named = set(published_files(storage, entry).column("path").to_pylist())
    for file in list(storage.list_files(layout.data)):
        if file.path not in named and _PART.fullmatch(file.path.rpartition("/")[2]):
            storage.delete(file.path)
