"""What is fsspec's own: stores whose copies know no condition, clients that are not there, and refusals."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from etl.errors import PendingLost, PendingTaken, StorageError
from etl.runs.blobs import BlobStorage
from etl.runs.storage import storage_for

DATA = bytes(range(256)) * 100_000


@pytest.fixture
def root() -> str:
    """A folder in a store of this process, which is asked as Azure's is."""
    return f"memory://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def storage() -> BlobStorage:
    """That store."""
    return BlobStorage("memory", "bucket")


def finished(storage: BlobStorage, path: str, data: bytes = DATA) -> Any:
    """A pending file."""
    writer = storage.begin(path)
    writer.write(data)
    return writer.finish()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("gs://b/x/", "gs://b/x"),
        ("gs://b//x//y", "gs://b/x/y"),
        ("abfss://c@a.dfs.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x"),
    ],
)
def test_an_object_has_one_name(uri: str, path: str) -> None:
    """However a URI is written, a place in a bucket has one name; one that could leave its folder is refused."""
    assert BlobStorage.normalise(uri)[2] == path
    for wrong in ("gs://", "gs:///x", "gs://b/../x", "abfs://@account/x"):
        with pytest.raises(StorageError, match=r"names no bucket, or has `\.` or `\.\.`"):
            storage_for(wrong)


def test_a_client_that_is_not_installed_is_named() -> None:
    """Without Azure's client its URIs are refused with what to install."""
    with pytest.raises(StorageError, match=r"abfs://c@a/x: adlfs is not installed\. Install batchscore\[abfs\]"):
        storage_for("abfs://c@a/x")


def test_a_pending_file_is_published_by_reading_and_writing_it(storage: BlobStorage, root: str) -> None:
    """Until it is completed nobody sees a pending file; completed again it stays, and its hidden object is gone."""
    pending = finished(storage, f"{root}/out/part")
    assert list(storage.list_files(root)) == []
    assert storage.stat(pending.path) is None
    storage.check(pending)
    for _ in range(2):
        storage.complete(pending)
        assert storage.read_bytes(pending.path) == DATA
        assert storage.stat(pending.upload) is None
    assert [file.path for file in storage.list_files(f"{root}/out/*")] == [pending.path]


def test_a_publisher_that_died_between_copy_and_delete_is_followed(storage: BlobStorage, root: str) -> None:
    """Whoever completes next finds the copy, and deletes the hidden object."""
    pending = finished(storage, f"{root}/part")
    storage._copy(pending)
    assert storage.stat(pending.upload) is not None
    storage.complete(pending)
    assert storage.stat(pending.upload) is None
    assert storage.read_bytes(pending.path) == DATA


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    storage: BlobStorage, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes that get the name between the look and the copy stay, and the pending file stays too."""
    pending = finished(storage, f"{root}/part")
    copy = storage._copy

    def too_late(pending: Any) -> None:
        storage.create_if_absent(pending.path, b"another's")
        copy(pending)

    monkeypatch.setattr(storage, "_copy", too_late)
    with pytest.raises(PendingTaken, match=pending.path):
        storage.complete(pending)
    assert storage.read_bytes(pending.path) == b"another's"
    assert storage.stat(pending.upload) is not None


def test_a_copy_that_breaks_off_publishes_nothing(
    storage: BlobStorage, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store breaks off while a pending file is read, nothing has the final name, and a next try publishes."""
    pending = finished(storage, f"{root}/part")

    def broken(*_: Any, **__: Any) -> bytes:
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", broken)
        with pytest.raises(ConnectionError, match="cannot publish: connection reset"):
            storage.complete(pending)
    assert storage.stat(pending.path) is None
    storage.complete(pending)
    assert storage.read_bytes(pending.path) == DATA


def test_what_was_thrown_away_or_cut_short_is_lost(storage: BlobStorage, root: str) -> None:
    """A pending file that is gone, swept away or shorter than its receipt says is PendingLost."""
    gone, swept, short = (finished(storage, f"{root}/{name}") for name in ("gone", "in/swept", "short"))
    storage.abort(gone)
    storage.sweep(f"{root}/in")
    storage.replace(short.upload, DATA[:-1])
    for pending, named in ((gone, gone.path), (swept, swept.path), (short, short.upload)):
        with pytest.raises(PendingLost, match=named):
            storage.complete(pending)
        assert storage.stat(pending.path) is None


def test_a_store_that_does_not_mind_the_condition_is_refused(
    storage: BlobStorage, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that drops the condition is found by the probe, which leaves no trace."""
    storage.prove(root)
    pipe = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, **_: pipe(self, path, value))
    with pytest.raises(StorageError, match=r"creates an object whose name is taken.*fsspec client"):
        storage.prove(root)
    assert storage.names(f"{root}/_batchscore") == []


@pytest.mark.stores
def test_a_bucket_that_is_not_there_is_named(google_bucket: str) -> None:
    """A write to a bucket that does not exist says so, and what to do."""
    storage, root = storage_for("gs://no-such-bucket/x")
    with pytest.raises(StorageError, match=r"gs://no-such-bucket/x/a: cannot create: there is no such bucket\. Make"):
        storage.create_if_absent(f"{root}/a", b"")


@pytest.mark.stores
def test_a_large_pending_file_is_copied_by_the_server(google_bucket: str) -> None:
    """A pending file that went up in several parts is whole where it is published."""
    storage, root = storage_for(f"gs://{google_bucket}/{uuid.uuid4().hex}")
    assert isinstance(storage, BlobStorage)
    pending = finished(storage, f"{root}/large")
    storage.complete(pending)
    assert storage.read_bytes(f"{root}/large") == DATA
    with storage.open_input(f"{root}/large") as source:
        source.seek(20_000_001)
        assert source.read(7) == DATA[20_000_001:20_000_008]
