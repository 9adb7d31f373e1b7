"""What every store must do: the promises of `etl.runs.storage.Storage` that the publication protocol rests on."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from etl.errors import PendingLost, PendingTaken, StorageError
from etl.runs.storage import Pending, storage_for
from etl.runs.store_settings import StoreSettings, configured
from tests.stores.racer import payload
from tests.stores.site import Site, parquet_bytes, sha256

REPOSITORY = Path(__file__).parents[2]
RACERS = 16
BIG = 1 << 20

SIZES = pytest.mark.parametrize("size", [0, 1, BIG + 1])


def race(contestants, start):
    """Run functions in a thread each, all let go at once; what each returned."""
    barrier = threading.Barrier(len(contestants))

    def go(contestant):
        barrier.wait()
        return start(contestant)

    with ThreadPoolExecutor(len(contestants)) as threads:
        return list(threads.map(go, contestants))


def seen_while(action, look):
    """All that a reader sees, again and again, while an action runs."""
    seen = set()
    is_over = threading.Event()

    def watch():
        while not is_over.is_set():
            seen.add(look())

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        action()
        is_over.set()
        watching.result()
    return seen


def listed(site: Site, pattern: str) -> list[str]:
    """Names under the site's folder that a listing finds."""
    return [file.path.removeprefix(f"{site.root}/") for file in site.storage.list_files(site.path(pattern))]


@SIZES
def test_a_created_file_has_its_bytes(site: Site, size: int) -> None:
    """A file that was created is there with exactly the bytes given, under a folder that did not exist before."""
    assert site.storage.create_if_absent(site.path("a/b/c"), b"x" * size) is True
    assert site.storage.read_bytes(site.path("a/b/c")) == b"x" * size


def test_a_taken_name_is_not_created_again(site: Site) -> None:
    """Creating a name that is taken answers False and leaves the bytes that are there."""
    site.storage.create_if_absent(site.path("taken"), b"first")
    assert site.storage.create_if_absent(site.path("taken"), b"second") is False
    assert site.storage.read_bytes(site.path("taken")) == b"first"


def test_one_of_many_threads_creates(site: Site) -> None:
    """Of 16 threads that create one name with bytes of their own, exactly one wins, and its bytes are there whole."""
    payloads = [bytes([number]) * 100_000 for number in range(RACERS)]
    won = race(payloads, lambda payload: site.storage.create_if_absent(site.path("race"), payload))
    assert won.count(True) == 1
    assert site.storage.read_bytes(site.path("race")) == payloads[won.index(True)]
    assert site.storage.names(site.root) == ["race"]


def test_one_of_many_processes_creates(site: Site) -> None:
    """Of 8 processes that create one name with bytes of their own, exactly one wins, and its bytes are there whole."""
    said = TypeAdapter(tuple[StoreSettings, ...]).dump_json(configured()).decode()
    command = [sys.executable, "-m", "tests.stores.racer", f"{site.uri}/race", said]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    codes = [int(code) for code in done.stdout.split()]
    assert sorted(codes) == [0] + [1] * 7
    assert site.storage.read_bytes(site.path("race")) == payload(codes.index(0))


def test_a_reader_sees_a_created_file_whole_or_not_at_all(site: Site) -> None:
    """While files are created, a reader finds each absent or whole, never in part."""
    paths = [site.path(f"whole-{number}") for number in range(10)]

    def create():
        for path in paths:
            site.storage.create_if_absent(path, b"w" * BIG)

    seen = seen_while(create, lambda: tuple(site.storage.read_bytes(path) for path in paths))
    assert {data for look in seen for data in look} <= {None, b"w" * BIG}


def test_a_reader_sees_a_replaced_file_before_or_after(site: Site) -> None:
    """While a file is replaced again and again, a reader finds one of its contents whole, and never no file."""
    path = site.path("hint")
    contents = [bytes([48 + number]) * (BIG // 4 + number) for number in range(10)]
    site.storage.replace(path, contents[0])

    def replace():
        for content in contents:
            site.storage.replace(path, content)

    assert seen_while(replace, lambda: site.storage.read_bytes(path)) <= set(contents)
    assert site.storage.read_bytes(path) == contents[-1]
    assert site.storage.names(site.root) == ["hint"]


def test_what_is_not_there_is_told_apart(site: Site) -> None:
    """A missing name has no bytes and no stat, a missing folder no names and no files; deleting it is no error."""
    storage = site.storage
    assert storage.read_bytes(site.path("missing")) is None
    assert storage.stat(site.path("missing")) is None
    assert storage.names(site.path("missing")) == []
    assert listed(site, "missing") == []
    assert listed(site, "missing/*.parquet") == []
    storage.delete(site.path("missing"))
    with pytest.raises((OSError, StorageError), match="missing"):
        storage.open_input(site.path("missing")).read()


def test_a_folder_is_no_file(site: Site) -> None:
    """A folder has no stat of a file."""
    site.storage.create_if_absent(site.path("folder/file"), b"")
    assert site.storage.stat(site.path("folder")) is None


def test_deleting_removes_one_file(site: Site) -> None:
    """Deleting removes the file and no other; its name can be created again."""
    for name in ("folder/one", "folder/two"):
        site.storage.create_if_absent(site.path(name), b"old")
    site.storage.delete(site.path("folder/one"))
    assert site.storage.names(site.path("folder")) == ["two"]
    assert site.storage.create_if_absent(site.path("folder/one"), b"new") is True


def test_names_are_those_directly_in_a_folder(site: Site) -> None:
    """The names of a folder are sorted, hold those that begin with `_`, and none from below."""
    for name in ("b", "a", "_c", "sub/deep"):
        site.storage.create_if_absent(site.path(f"folder/{name}"), b"")
    assert site.storage.names(site.path("folder")) == ["_c", "a", "b", "sub"]


def test_a_file_is_read_at_any_place(site: Site) -> None:
    """An input gives the bytes of any range, and its size."""
    data = bytes(range(256)) * 100
    site.storage.create_if_absent(site.path("data"), data)
    with site.storage.open_input(site.path("data")) as source:
        assert source.size() == len(data)
        for start, size in ((0, 4), (20_000, 1000), (len(data) - 8, 8)):
            source.seek(start)
            assert source.read(size) == data[start : start + size]


def test_a_rewritten_file_has_another_etag(site: Site) -> None:
    """A file's etag stays while its bytes do, and changes when they are rewritten, also with as many bytes."""
    path = site.path("file")
    etags = []
    for content in (b"aaaa", b"bbbb", b"bbbbb"):
        site.storage.replace(path, content)
        found = site.storage.stat(path)
        assert found is not None
        assert (found.path, found.bytes) == (path, len(content))
        time.sleep(0.02)
        assert site.storage.stat(path) == found
        etags.append(found.etag)
    assert len(set(etags)) == 3


def test_a_listing_describes_each_file_as_stat_does(site: Site) -> None:
    """What a folder's listing says of a file is what `stat` says, and a file listed by its name is that file."""
    for name in ("in/a", "in/sub/b"):
        site.storage.create_if_absent(site.path(name), name.encode())
    found = list(site.storage.list_files(site.path("in")))
    assert found == [site.storage.stat(site.path("in/a")), site.storage.stat(site.path("in/sub/b"))]
    assert list(site.storage.list_files(site.path("in/a"))) == found[:1]


def test_hidden_names_are_not_listed(site: Site) -> None:
    """Files and folders whose names begin with `_` or `.` are not listed, unless they are what was asked for."""
    for name in ("in/a", "in/_SUCCESS", "in/.a.crc", "in/_temporary/b", "in/.hidden/c", "in/d=1/_e", "in/d=1/f"):
        site.storage.create_if_absent(site.path(name), b"")
    assert listed(site, "in") == ["in/a", "in/d=1/f"]
    assert listed(site, "in/*") == ["in/a", "in/d=1/f"]
    assert listed(site, "in/*/*") == ["in/d=1/f"]
    assert listed(site, "in/_temporary") == ["in/_temporary/b"]
    assert listed(site, "in/_t*") == ["in/_temporary/b"]
    assert listed(site, "in/_SUCCESS") == ["in/_SUCCESS"]


def test_globs_match_names_of_one_level(site: Site) -> None:
    """`*`, `?` and `[]` match within one level; a folder that matches is listed whole."""
    for name in ("in/2024/a.parquet", "in/2024/b.csv", "in/2025/c.parquet", "in/2025/deep/d.parquet", "in/e.parquet"):
        site.storage.create_if_absent(site.path(name), b"")
    assert listed(site, "in/*.parquet") == ["in/e.parquet"]
    assert listed(site, "in/*/*.parquet") == ["in/2024/a.parquet", "in/2025/c.parquet"]
    assert listed(site, "in/202?/[ab].*") == ["in/2024/a.parquet", "in/2024/b.csv"]
    assert listed(site, "in/*25") == ["in/2025/c.parquet", "in/2025/deep/d.parquet"]
    assert listed(site, "in/20[!5]*/nothing*") == []


NAMES = st.text("ab-=. _é", min_size=1, max_size=6).filter(lambda name: name.strip(". ") == name)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(PATHS, max_size=12))
def test_a_listing_holds_every_visible_file_in_order(site: Site, paths: set[tuple[str, ...]]) -> None:
    """A folder's listing is every file under it no part of whose path is hidden, once, by path order."""
    folder = f"tree-{time.monotonic_ns()}"
    files = {path for path in paths if not any(path == other[: len(path)] and path != other for other in paths)}
    for path in files:
        site.storage.create_if_absent(site.path("/".join((folder, *path))), b"")
    visible = ["/".join((folder, *path)) for path in files if not any(part.startswith(("_", ".")) for part in path)]
    assert listed(site, folder) == sorted(visible)


@SIZES
def test_a_pending_file_knows_its_bytes(site: Site, size: int) -> None:
    """A finished pending file has the size and SHA-256 of all buffers that were written, whatever their kind."""
    import pyarrow as pa

    data = b"p" * size
    writer: Any = site.storage.begin(site.path("out/part.parquet"))
    assert not writer.closed
    assert writer.write(data) == size
    assert writer.write(memoryview(data)) == size
    assert writer.write(pa.py_buffer(data)) == size
    writer.flush()
    writer.close()
    pending = writer.finish()
    assert writer.closed
    assert (pending.path, pending.bytes) == (site.path("out/part.parquet"), 3 * size)
    assert pending.sha256 == sha256(3 * data)
    site.storage.complete(pending)
    assert site.storage.read_bytes(pending.path) == 3 * data


def test_a_pending_file_is_seen_by_nobody(site: Site) -> None:
    """Until it is completed, no listing and no reader of Parquet finds a pending file; then each finds it."""
    done = site.write_pending("out/done.parquet", parquet_bytes(1))
    site.storage.complete(done)
    writer = site.storage.begin(site.path("out/part.parquet"))
    writer.write(parquet_bytes(2))

    def check(numbers, files):
        assert listed(site, "out") == files
        assert listed(site, "out/*.parquet") == files
        assert site.storage.names(site.path("out")) == [name.removeprefix("out/") for name in files]
        assert [read(site.path("out")) for read in site.readers] == [numbers] * len(site.readers)

    check({1}, ["out/done.parquet"])
    pending = writer.finish()
    check({1}, ["out/done.parquet"])
    assert site.storage.stat(pending.path) is None
    assert site.storage.read_bytes(pending.path) is None
    site.storage.complete(pending)
    check({1, 2}, ["out/done.parquet", "out/part.parquet"])


def test_a_pending_file_travels_as_text(site: Site) -> None:
    """What completes a pending file is its handle alone, which survives JSON and another object of the store."""
    pending = site.write_pending("part", b"bytes")
    other, _ = storage_for(site.uri)
    other.complete(Pending.model_validate_json(pending.model_dump_json()))
    assert site.storage.read_bytes(site.path("part")) == b"bytes"


@pytest.mark.matrix("A pending file is completed twice", "the second time changes nothing")
def test_completing_again_changes_nothing(site: Site) -> None:
    """Completing twice, or aborting after completing, leaves the completed file as it is."""
    pending = site.write_pending("part", b"bytes")
    site.storage.complete(pending)
    before = site.storage.stat(pending.path)
    site.storage.complete(pending)
    site.storage.abort(pending)
    assert site.storage.stat(pending.path) == before
    assert site.storage.names(site.root) == ["part"]


@pytest.mark.matrix("Many publishers complete one file at once", "all succeed, and the file is there once")
def test_many_publishers_complete_one_file(site: Site) -> None:
    """16 threads that complete one pending file all succeed, whoever is first at which step."""
    for number in range(10):
        pending = site.write_pending(f"part-{number}", b"bytes")
        race([pending] * RACERS, site.storage.complete)
        assert site.storage.read_bytes(pending.path) == b"bytes"


@pytest.mark.parametrize("other", [b"other bytes", b"longer other bytes", b""])
def test_a_taken_final_name_is_not_overwritten(site: Site, other: bytes) -> None:
    """Completing under a name that has other bytes is PendingTaken with the name, and both files stay as they are."""
    pending = site.write_pending("part", b"our bytes!!")
    site.storage.create_if_absent(pending.path, other)
    for _ in range(2):
        with pytest.raises(PendingTaken, match=pending.path):
            site.storage.complete(pending)
    assert site.storage.read_bytes(pending.path) == other
    site.storage.delete(pending.path)
    site.storage.complete(pending)
    assert site.storage.read_bytes(pending.path) == b"our bytes!!"


def test_a_lost_pending_file_is_told(site: Site) -> None:
    """Completing a pending file that was thrown away is PendingLost with the final name; nothing becomes visible."""
    pending = site.write_pending("part", b"bytes")
    site.storage.abort(pending)
    site.storage.abort(pending)
    with pytest.raises(PendingLost, match=pending.path):
        site.storage.complete(pending)
    assert site.storage.names(site.root) == []


def test_a_writer_that_is_aborted_leaves_nothing(site: Site) -> None:
    """A writer that is aborted, before or after its first byte or its end, leaves nothing that can be completed."""
    for written, is_finished in product((b"", b"bytes"), (False, True)):
        writer = site.storage.begin(site.path("part"))
        writer.write(written)
        pending = writer.finish() if is_finished else None
        writer.abort()
        assert writer.closed is True
        if pending is not None:
            with pytest.raises(PendingLost):
                site.storage.complete(pending)
        assert site.storage.stat(site.path("part")) is None
        assert site.storage.names(site.root) == []


def test_attempts_with_names_of_their_own_do_not_meet(site: Site) -> None:
    """Pending files of two attempts side by side are completed and aborted independently."""
    first, second = site.write_pending("part-1", b"one"), site.write_pending("part-2", b"two")
    site.storage.abort(first)
    site.storage.complete(second)
    assert site.storage.names(site.root) == ["part-2"]


def test_what_nobody_finishes_is_swept_away(site: Site) -> None:
    """A sweep of a folder throws away all pending files below it, begun or finished, and no other file."""
    done, other = site.write_pending("run/done", b"done"), site.write_pending("beside/part", b"bytes")
    site.storage.complete(done)
    site.storage.create_if_absent(site.path("run/sub/kept"), b"kept")
    finished = site.write_pending("run/part-1", b"bytes")
    begun = site.storage.begin(site.path("run/sub/part-2"))
    begun.write(b"bytes")
    site.storage.sweep(site.path("run"))
    site.storage.sweep(site.path("missing"))
    with pytest.raises(PendingLost):
        site.storage.complete(finished)
    with contextlib.suppress(OSError, StorageError):
        begun.finish()
    assert [site.storage.names(site.path(name)) for name in ("run", "run/sub")] == [["done", "sub"], ["kept"]]
    site.storage.complete(other)
    assert site.storage.read_bytes(other.path) == b"bytes"


def test_a_folder_is_removed_with_all_that_is_in_it(site: Site) -> None:
    """Files below a removed folder are gone, hidden and pending ones too, and one whose name begins the same is not."""
    for name in ("run/a", "run/sub/_b", "run/sub/deep/c", "run-2/d", "running"):
        site.storage.create_if_absent(site.path(name), b"bytes")
    pending = site.write_pending("run/sub/part", b"bytes")
    site.storage.remove(site.path("run"))
    site.storage.remove(site.path("run"))
    assert site.storage.names(site.root) == ["run-2", "running"]
    assert [file.path for file in site.storage.list_files(site.root)] == [site.path("run-2/d"), site.path("running")]
    with pytest.raises(PendingLost):
        site.storage.complete(pending)


def test_many_files_are_looked_at_together(site: Site) -> None:
    """Of any files that are asked for together those that are there are told as each alone is, and no other."""
    paths = [site.path(name) for number in range(12) for name in (f"{number}", f"deep/{number}.parquet")]
    for path in paths[::3]:
        site.storage.create_if_absent(path, path.encode())
    alone = {path: site.storage.stat(path) for path in paths}
    assert sum(file is not None for file in alone.values()) == 8
    generator = random.Random(0)  # noqa: S311  the same in every run of the tests
    for count in (0, 1, 5, 12, 24):
        asked = generator.sample(paths, count)
        assert site.storage.stats(asked) == {path: file for path in asked if (file := alone[path]) is not None}


def test_a_file_is_read_as_it_was_pinned(site: Site) -> None:
    """A file is read at once while it is the pinned one; replaced by one of the same size, or removed, it is not."""
    path = site.path("part")
    site.storage.create_if_absent(path, b"first")
    pinned = site.storage.stat(path)
    assert pinned is not None
    found = site.storage.read_pinned(pinned)
    assert found is not None
    assert found.to_pybytes() == b"first"
    time.sleep(0.02)  # HDFS counts milliseconds
    site.storage.replace(path, b"other")
    assert site.storage.read_pinned(pinned) is None
    site.storage.delete(path)
    assert site.storage.read_pinned(pinned) is None
