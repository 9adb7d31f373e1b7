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
from etl.printable import counted
from etl.runs.commit import check_place, commit, hint, next_version
from etl.runs.manifest import (
    RunEntry,
    files_table,
    is_held,
    latest_manifest,
    published_files,
    schema_entries,
    tables_of,
    version_of,
)
from etl.runs.partitions import Partitioning

if TYPE_CHECKING:
    from collections.abc import Generator

    from etl.runs.commit import Terms
    from etl.runs.layout import Layout
    from etl.runs.manifest import Manifest
    from etl.runs.receipt import Receipt, Written
    from etl.runs.storage import Storage

__all__ = ["Admit", "Step", "bar", "has_begun_to_commit", "is_barred", "publish", "withdraw"]

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
    latest, found = latest_manifest(storage, layout.root), version_of(storage, layout)
    if found is None:
        columns = schema_entries(schema)
        partitions = frozenset(written.partition for written in _predictions(receipts))
        with _withdrawing(storage, layout, receipts):
            admit(latest)
            check_place(storage, layout, latest, partitions=partitions, columns=columns, terms=terms)
            on_step("complete")
            _complete_all(storage, receipts, Partitioning(schema, terms.partition_by).file_schema)
            on_step("commit")
            entry = _write_files_table(storage, layout, receipts)

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
    if is_held(storage, layout, found):
        _mark(storage, layout, found)
    _sweep(storage, layout)
    return found


def _complete_all(storage: Storage, receipts: Collection[Receipt], schema: pa.Schema) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        # All are looked at before the first is shown: a run that lacks one shall show none.
        for step in (lambda item: storage.check(item.pending), lambda item: _complete(storage, item, schema)):
            lost: list[tuple[str, PendingLost]] = []
            files = ((receipt.attempt, written) for receipt in receipts for written in receipt.predictions)
            while some := list(itertools.islice(files, _AT_ONCE)):
                lost.extend(found for found in threads.map(partial(_lost, step), some) if found is not None)
            if lost:
                raise ReceiptsVoid.of(
                    {attempt for attempt, _ in lost}, f"{counted(len(lost), 'file is', 'files are')} lost. {lost[0][1]}"
                )


def _lost(step: Callable[[Written], None], item: tuple[str, Written]) -> tuple[str, PendingLost] | None:
    """The attempt whose file is gone."""
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
    begun = f"{layout.state}: a publication of this run has begun. Run the same id again to end it."
    if has_begun_to_commit(storage, layout):
        raise PublishError(begun)
    while True:
        voids = len(storage.names(layout.voids))
        path = layout.files(voids)
        if not storage.create_if_absent(path, _BARRED) and storage.read_bytes(path) != _BARRED:
            raise PublishError(begun)
        if has_begun_to_commit(storage, layout):
            raise PublishError(begun)
        # Whoever called a receipt void meanwhile goes on under another name.
        if len(storage.names(layout.voids)) == voids:
            return


def has_begun_to_commit(storage: Storage, layout: Layout) -> bool:
    """Whether a publisher of the run came so far that it may be published; see `bar`."""
    return any(storage.read_bytes(path) not in {None, _BARRED} for path in tables_of(storage, layout))


def is_barred(storage: Storage, layout: Layout) -> bool:
    """Whether nobody can publish the run any more; see `bar`."""
    return any(storage.read_bytes(path) == _BARRED for path in tables_of(storage, layout))


def withdraw(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> None:
    """Throw away the predictions of a run that nobody can publish any more, also those that a publisher completed."""
    for written in _predictions(receipts):
        storage.abort(written.pending)
        storage.delete(written.pending.path)
    _sweep(storage, layout)


@contextlib.contextmanager
def _withdrawing(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> Generator[None]:
    """Throw away the files of a run that is superseded: a listing of the root would show them.

    It is superseded for good, see `check_place`, so neither this driver nor a twin can publish it any more.
    """
    try:
        yield
    except Superseded as error:
        try:
            withdraw(storage, layout, receipts)
        except (OSError, StorageError) as second:
            error.add_note(f"Its files could not be thrown away, and a listing shows some of them: {second}")
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
    path = written.pending.path
    try:
        storage.complete(written.pending)
        rows, found = _footer(storage, path)
    except FileNotFoundError as error:
        # Another driver of the run was told that it is superseded, or a later run has the place of a published file.
        message = f"{path}: was removed while it was published, so its receipt is void. Run the same id again."
        raise PendingLost(message) from error
    if rows != written.rows or not found.equals(schema):
        there, wanted = (", ".join(f"{field.name} {field.type}" for field in fields) for fields in (found, schema))
        message = f"{path}: has {rows} rows of ({there}), its receipt says {written.rows} of ({wanted})."
        raise AccountError(message)


def _footer(storage: Storage, path: str) -> tuple[int, pa.Schema]:
    """Rows and columns of a file."""
    told = f"{path}: was written but cannot be read back"
    try:
        with storage.open_input(path) as source:
            footer = pq.ParquetFile(source)
            return footer.metadata.num_rows, footer.schema_arrow
    except FileNotFoundError:
        raise
    except OSError as error:
        remedy = "Run the same id again; where it says so once more, check the disk, and use a new run id."
        message = f"{told}: {error}. Nothing was committed. {remedy}"
        raise StorageError(message) from error
    except pa.ArrowException as error:
        message = f"{told}: {error}. Nothing was committed; check the disk."
        raise AccountError(message) from error


def _write_files_table(storage: Storage, layout: Layout, receipts: Collection[Receipt]) -> RunEntry:
    data = files_table(receipts)
    path = layout.files(len(storage.names(layout.voids)))
    if not storage.create_if_absent(path, data):
        # An earlier try may have written the same table with another release of Arrow, in other bytes.
        found = storage.read_bytes(path) or b""
        if found not in (data, _BARRED) and not _same_table(found, data):
            message = f"{path}: another publisher of this run found other receipts. Nothing was committed."
            raise PublishError(message)
        data = found
    if is_barred(storage, layout):
        message = f"{path}: this run was given up (`discard`, or `gc`), so nothing was committed. Use a new run id."
        raise PublishError(message)
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    return RunEntry(
        run_id=layout.run_id,
        files=path,
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
