"""The cache of a host: files of a store that is no local disk are fetched once, whoever asks, and nothing piles up."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import re
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from etl.errors import StorageError
from etl.ragged import padded_feeds
from etl.runs.layout import model_folder
from etl.runs.local import LocalStorage
from scoring.bundles.bundle import audit
from scoring.bundles.cache import DEFAULT_BUDGET, HostCache, content_of, host_cache
from scoring.bundles.files import FileDigest
from scoring.errors import BundleError
from scoring.scorer import load_scorer
from tests.scoring.workshop import STORE, Work, logistic_scores, numbers
from tests.stores.site import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

LARGE = (16 << 20) + 4096
"""Bytes of a file that is mapped."""


class Remote(LocalStorage):
    """A store that workers reach by its verbs alone, and that notes in a file what it is asked to open."""

    def __init__(self, log: Path, pause: Callable[[], object] = lambda: None) -> None:
        """`pause` comes between the opening and the first byte."""
        self._log = log
        self._pause = pause

    def local_path(self, path: str) -> None:  # type: ignore[override]
        """Nothing of this store is on a disk of the host."""

    def open_input(self, path: str) -> pa.NativeFile:
        """Open and note."""
        with self._log.open("a") as log:
            log.write(f"{path}\n")
        found = super().open_input(path)
        self._pause()
        return found

    @property
    def opened(self) -> Counter[str]:
        """How often each file was opened, by its name."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return Counter(Path(line).name for line in lines)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A store elsewhere, and an empty cache for what comes from it."""
    monkeypatch.setenv("BATCHSCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BATCHSCORE_CACHE_BYTES", raising=False)
    return Remote(tmp_path / "opened.txt")


@pytest.fixture
def cache(tmp_path: Path) -> HostCache:
    """A cache with room for two large files and a bit."""
    return HostCache(tmp_path / "cache", 2 * LARGE + 4096)


def put(folder: Path, name: str, data: bytes) -> tuple[str, FileDigest]:
    """A file of the store, and what it should be."""
    (folder / name).write_bytes(data)
    return str(folder / name), FileDigest(bytes=len(data), sha256=sha256(data))


def large(folder: Path, letter: str) -> tuple[str, FileDigest]:
    """A file that is mapped."""
    return put(folder, letter, letter.encode() * LARGE)


def kept(cache: HostCache) -> set[str]:
    """Names of all that the cache has, whole or not."""
    return {path.name for name in ("files", "partial") for path in (cache.folder / name).iterdir()}


def in_children(count: int, action: Callable[[], int]) -> list[int]:
    """What an action gives in processes that begin at once."""
    gate, opening = os.pipe()
    children = {}
    for _ in range(count):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(opening)
                os.read(gate, 1)
                os.write(writing, str(action()).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        children[child] = reading
    os.close(gate)
    os.close(opening)
    found = []
    for child, reading in children.items():
        with os.fdopen(reading) as pipe:
            found.append(int(pipe.read() or -1))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return found


def test_eight_workers_of_a_host_fetch_once(tmp_path: Path, remote: Remote) -> None:
    """Eight processes that start at once open each file of the bundle once, all together, and each scores with it."""
    work = Work(tmp_path / "work", numbers(20))
    order = work.make_order()
    slow = Remote(tmp_path / "opened.txt", lambda: time.sleep(0.02))

    def action() -> int:
        scorer = load_scorer(slow, order, order.models[0])
        frame = scorer.pipeline.contract(work.table.to_batches()[0].select(list(scorer.pipeline.columns)), "in")
        [scores] = scorer.runtime.predict(padded_feeds(scorer.pipeline.transform(frame).tensors)).values()
        return int(np.array_equal(np.asarray(scores)[:, 0], logistic_scores(work.table)))

    assert in_children(8, action) == [1] * 8
    assert remote.opened == Counter({Path(name).name: 1 for name in work.audited.bundle.files})


def test_equal_files_of_two_places_are_fetched_once(tmp_path: Path, remote: Remote) -> None:
    """The cache goes by content: two bundles, or two runs, that have a file in common share it, whatever its name."""
    first, expected = put(tmp_path, "a", b"same")
    second, _ = put(tmp_path, "b", b"same")
    assert content_of(remote, first, expected) == content_of(remote, second, expected) == b"same"
    assert remote.opened == Counter({"a": 1})


def test_a_local_store_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on a disk of the host is used where it lies: there is no cache, and nothing in the temporary folder."""
    for variable in ("BATCHSCORE_CACHE", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    work = Work(tmp_path / "work", numbers(3))
    order = work.make_order()
    load_scorer(STORE, order, order.models[0])
    path, expected = large(tmp_path, "a")
    content = content_of(STORE, path, expected)
    assert isinstance(content, mmap.mmap)
    assert not (tmp_path / "none").exists()


def test_a_killed_process_blocks_nobody(tmp_path: Path, cache: HostCache) -> None:
    """A process that is killed while it fetches leaves no lock, and what it left half done is gone after the next one
    made room, for the same file or for another.
    """  # noqa: D205  one sentence
    (same, expected), (other, another) = put(tmp_path, "a", b"a" * 5000), put(tmp_path, "b", b"b")
    for path, wanted in ((same, expected), (other, another)):
        child = os.fork()
        if child == 0:
            cache.content(Remote(tmp_path / "log", lambda: time.sleep(60)), same, expected)
            os._exit(1)
        deadline = time.monotonic() + 30
        while expected.sha256 not in (kept(cache) if (cache.folder / "partial").exists() else ()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert cache.content(Remote(tmp_path / "log"), path, wanted) == Path(path).read_bytes()
        assert kept(cache) == {wanted.sha256}
        (cache.folder / "files" / wanted.sha256).unlink()


def test_a_file_that_is_not_the_expected_one_is_not_kept(tmp_path: Path, remote: Remote) -> None:
    """A file of the store that was changed is told as one of a local bundle is, and leaves nothing in the cache."""
    work = Work(tmp_path / "work", numbers(3))
    folder = Path(model_folder(work.root, work.audited.sha256))
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"file model\.onnx was changed: its SHA-256 is not the one in bundle\.json"):
        audit(remote, str(folder))
    assert sha256(bytes(data)) not in kept(host_cache())
    assert work.audited.bundle.files["model.onnx"].sha256 not in kept(host_cache())
    (folder / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"file model\.onnx is missing"):
        audit(remote, str(folder))


@pytest.mark.parametrize("damaged", [b"", b"other", b"hell"])
def test_a_damaged_copy_is_fetched_again(tmp_path: Path, cache: HostCache, damaged: bytes) -> None:
    """A file of the cache that is not what its name says is thrown away, and fetched again."""
    path, expected = put(tmp_path, "a", b"hello")
    store = Remote(tmp_path / "log")
    assert cache.content(store, path, expected) == b"hello"
    place = cache.folder / "files" / expected.sha256
    place.chmod(0o600)
    place.write_bytes(damaged)
    assert cache.content(store, path, expected) == b"hello"
    assert cache.content(store, path, expected) == b"hello"
    assert store.opened == Counter({"a": 2})


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    """The cache stays within its budget: what was used longest ago goes first, however long ago it was fetched."""
    cache, store = HostCache(tmp_path / "cache", 25), Remote(tmp_path / "log")
    files = {letter: put(tmp_path, letter, letter.encode() * 10) for letter in "abc"}
    for letter in "abac":
        cache.content(store, *files[letter])
    assert kept(cache) == {files[letter][1].sha256 for letter in "ac"}
    assert store.opened == Counter("abc")


def test_what_is_in_use_never_makes_room(tmp_path: Path, cache: HostCache) -> None:
    """A file that any process has mapped stays, though it was used longest ago; once it is let go of, it may go."""
    store = Remote(tmp_path / "log")
    (a, of_a), (b, of_b), (c, of_c) = (large(tmp_path, letter) for letter in "abc")
    held = cache.content(store, a, of_a)
    assert isinstance(held, mmap.mmap)
    cache.content(store, b, of_b)
    gc.collect()
    assert cache.content(store, c, of_c) is not None
    assert kept(cache) == {of_a.sha256, of_c.sha256}
    cache.content(store, b, of_b)
    assert kept(cache) == {of_a.sha256, of_b.sha256}
    assert held[:] == b"a" * LARGE
    held.close()
    cache.content(store, c, of_c)
    assert kept(cache) == {of_b.sha256, of_c.sha256}


def test_a_budget_that_is_taken_is_told(tmp_path: Path, cache: HostCache) -> None:
    """Where all that the cache has is in use, one file more is refused with what to set; so is one above the budget."""
    store = Remote(tmp_path / "log")
    held = [cache.content(store, *large(tmp_path, letter)) for letter in "ab"]
    said = f"a file of {LARGE:,} bytes does not fit: {2 * LARGE:,} bytes of models are in use, and {cache.budget:,} are"
    with pytest.raises(StorageError, match=said) as caught:
        cache.content(store, *large(tmp_path, "c"))
    assert "Set BATCHSCORE_CACHE_BYTES higher, or run fewer models at once." in str(caught.value)
    assert [len(content or b"") for content in held] == [LARGE, LARGE]
    with pytest.raises(StorageError, match="0 bytes of models are in use, and 3 are allowed"):
        HostCache(tmp_path / "small", 3).content(store, *put(tmp_path, "d", b"four"))


def test_nothing_piles_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files come and go, the cache has no more bytes than it may, no more than 257 locks, and nothing is
    left in the folder for temporary files.
    """  # noqa: D205  one sentence
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    cache = HostCache(tmp_path / "cache", 5000)
    store = Remote(tmp_path / "log")
    for number in range(80):
        cache.content(store, *put(tmp_path, "a", number.to_bytes(2, "big") * 500))
        assert sum(path.stat().st_size for path in (cache.folder / "files").iterdir()) <= 5000
    assert len(kept(cache)) == 5
    assert len(list((cache.folder / "locks").iterdir())) <= 257
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(tmp_path: Path, cache: HostCache, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A disk that is full is told with what to do, before anything is fetched, and nothing is left half done."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    store = Remote(tmp_path / "log")
    with pytest.raises(StorageError, match=re.escape(f"{cache.folder}: no space left for models. Free some, or set")):
        cache.content(store, *put(tmp_path, "a", b"hello"))
    assert (store.opened, kept(cache)) == (Counter(), set())


def test_a_store_that_fails_is_not_taken_for_the_cache(tmp_path: Path, cache: HostCache) -> None:
    """What the store refuses is told with the file's path in the store."""

    def refuse() -> None:
        raise PermissionError(errno.EACCES, "not yours")

    path, expected = put(tmp_path, "a", b"hello")
    with pytest.raises(StorageError, match=re.escape(f"{path}: cannot be fetched: [Errno 13] not yours.")):
        cache.content(Remote(tmp_path / "log", refuse), path, expected)
    assert kept(cache) == set()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A folder that cannot be made, that others may write to or that is a link, is refused with the variable to set."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    path, expected = put(tmp_path, "a", b"hello")
    for name in ("file/below", "file", "open", "link"):
        with pytest.raises(StorageError, match=r"Set BATCHSCORE_CACHE to another folder|set BATCHSCORE_CACHE to"):
            HostCache(tmp_path / name).content(Remote(tmp_path / "log"), path, expected)
    assert not list((tmp_path / "target").iterdir())


def test_what_is_kept_is_the_users_alone(tmp_path: Path, cache: HostCache) -> None:
    """Nobody else may look into the cache, and its files cannot be written to, whatever the umask."""
    before = os.umask(0)
    try:
        cache.content(Remote(tmp_path / "log"), *put(tmp_path, "a", b"hello"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (cache.folder, *cache.folder.iterdir())} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (cache.folder / "files").iterdir()} == {0o400}


def test_the_environment_says_where(tmp_path: Path) -> None:
    """The cache is where the variable says, else in the user's folder for caches, else in that for temporary files."""
    mine = f"batchscore-{os.geteuid()}"
    (tmp_path / "home").mkdir()
    home, xdg = {"HOME": str(tmp_path / "home")}, {"XDG_CACHE_HOME": str(tmp_path / "xdg")}
    assert host_cache({"BATCHSCORE_CACHE": "/else", **home, **xdg}).folder == Path("/else") / mine
    assert host_cache({**home, **xdg}).folder == tmp_path / "xdg" / mine
    assert host_cache(home).folder == tmp_path / "home" / ".cache" / mine
    for absent in ({}, {"HOME": str(tmp_path / "no" / "home")}, {"XDG_CACHE_HOME": "relative"}):
        assert host_cache(absent).folder.parent == Path(tempfile.gettempdir())
    assert host_cache({}).budget == DEFAULT_BUDGET
    assert host_cache({"BATCHSCORE_CACHE_BYTES": "123"}).budget == 123
    for wrong in ("", "0", "-1", "20GB", "1e9"):
        with pytest.raises(StorageError, match=r"BATCHSCORE_CACHE_BYTES is .* and should be a number of bytes"):
            host_cache({"BATCHSCORE_CACHE_BYTES": wrong})
