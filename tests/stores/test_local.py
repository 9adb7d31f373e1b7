"""Local disk: what only it can do wrong, and what it says then."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import PendingLost, StorageError
from etl.runs.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from etl.runs.storage import Pending

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
STORE = LocalStorage()

WRITES: dict[str, Callable[[str], object]] = {
    "create_if_absent": lambda path: STORE.create_if_absent(path, b"bytes"),
    "replace": lambda path: STORE.replace(path, b"bytes"),
    "begin": STORE.begin,
}
READS: dict[str, Callable[[str], object]] = {
    "list_files": lambda path: list(STORE.list_files(path)),
    "glob": lambda path: list(STORE.list_files(f"{path}/*.parquet")),
    "names": STORE.names,
    "read_bytes": STORE.read_bytes,
    "open_input": STORE.open_input,
    "stat": STORE.stat,
}


def write_pending(path: Path, data: bytes = b"bytes") -> Pending:
    """A finished pending file."""
    writer = STORE.begin(str(path))
    writer.write(data)
    return writer.finish()


def files_in(folder: Path) -> list[str]:
    """All names under a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def as_somebody() -> Iterator[None]:
    """As a user without rights of its own; root is refused nothing."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter and read, and only its owner write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", WRITES)
def test_a_folder_without_the_right_to_write_is_told(public_folder: Path, name: str) -> None:
    """A write that is refused for want of a right names the path and asks for the right."""
    public_folder.chmod(0o555)
    with as_somebody(), pytest.raises(StorageError, match=r"no permission to write\. Give the user") as caught:
        WRITES[name](str(public_folder / "file"))
    assert str(public_folder / "file") in str(caught.value)
    assert files_in(public_folder) == []


@pytest.mark.parametrize("name", ["complete", "abort", "delete"])
def test_a_folder_that_became_read_only_is_told(public_folder: Path, name: str) -> None:
    """Completing, aborting and deleting without the right to name the path and leave everything as it was."""
    STORE.create_if_absent(str(public_folder / "old"), b"old")
    pending = write_pending(public_folder / "part")
    public_folder.chmod(0o555)
    before = files_in(public_folder)
    with (
        as_somebody(),
        pytest.raises(StorageError, match=f"{public_folder}.*(no permission to|belongs to another user)"),
    ):
        {
            "complete": lambda: STORE.complete(pending),
            "abort": lambda: STORE.abort(pending),
            "delete": lambda: STORE.delete(str(public_folder / "old")),
        }[name]()
    assert files_in(public_folder) == before


@pytest.mark.parametrize("name", READS)
def test_a_folder_without_the_right_to_read_is_no_empty_one(public_folder: Path, name: str) -> None:
    """No look into a folder that may not be read answers that nothing is there."""
    secret = public_folder / "secret"
    secret.mkdir()
    (secret / "part.parquet").write_bytes(b"rows")
    secret.chmod(0o000)
    path = secret if name in {"list_files", "glob", "names"} else secret / "part.parquet"
    with as_somebody(), pytest.raises(StorageError, match=f"{secret}.*no permission to"):
        READS[name](str(path))


@pytest.mark.parametrize("pattern", ["in", "in/*", "in/*/*.parquet", "in/a/../*/part.*", "**/*.parquet", "in/**"])
def test_one_folder_of_many_that_may_not_be_read_fails_the_listing(public_folder: Path, pattern: str) -> None:
    """A listing or glob that meets an unreadable folder fails instead of passing over its rows."""
    for name in ("a", "b", "c"):
        (public_folder / "in" / name).mkdir(parents=True)
        (public_folder / "in" / name / "part.parquet").write_bytes(b"rows")
    (public_folder / "in" / "b").chmod(0o000)
    with as_somebody(), pytest.raises(StorageError, match="no permission to list"):
        list(STORE.list_files(str(public_folder / pattern)))


def test_a_hidden_folder_need_not_be_readable(public_folder: Path) -> None:
    """A hidden folder is not looked into, so it may be unreadable."""
    (public_folder / "_secret").mkdir(mode=0o000)
    (public_folder / "part.parquet").write_bytes(b"rows")
    with as_somebody():
        assert [file.path for file in STORE.list_files(str(public_folder))] == [str(public_folder / "part.parquet")]


@pytest.mark.parametrize("below", ["file/name", "file/folder/name"])
@pytest.mark.parametrize("name", WRITES)
def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path, name: str, below: str) -> None:
    """A write below a file is a StorageError with the path, and not taken for a name that somebody else created."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"Not a directory\. Choose another folder") as caught:
        WRITES[name](str(tmp_path / below))
    assert str(tmp_path / below) in str(caught.value)
    assert files_in(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["create_if_absent", "replace"])
def test_a_folder_where_a_file_should_be_keeps_no_remains(tmp_path: Path, name: str) -> None:
    """Creating over a folder's name answers False, replacing one is a StorageError; neither leaves a temporary file."""
    (tmp_path / "folder").mkdir()
    if name == "create_if_absent":
        assert WRITES[name](str(tmp_path / "folder")) is False
    else:
        with pytest.raises(StorageError, match="Is a directory"):
            WRITES[name](str(tmp_path / "folder"))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", WRITES)
def test_a_name_that_is_too_long_is_told(tmp_path: Path, name: str) -> None:
    """A name that the file system cannot hold is a StorageError that says so."""
    with pytest.raises(StorageError, match="File name too long"):
        WRITES[name](str(tmp_path / ("n" * 300)))


FULL = """
import json, sys
from etl.errors import StorageError
from tests.stores.test_local import STORE, WRITES
folder = sys.argv[1]
found = {{}}
def tell(name, action):
    try:
        action()
    except StorageError as error:
        found[name] = str(error)
{limit}
with open(f"{{folder}}/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(b"f" * 4096)
    except OSError:
        pass
data = b"d" * (1 << 20)
tell("create_if_absent", lambda: STORE.create_if_absent(f"{{folder}}/create", data))
tell("replace", lambda: STORE.replace(f"{{folder}}/replace", data))
writer = STORE.begin(f"{{folder}}/pending")
def write():
    writer.write(data)
    writer.finish()
tell("write", write)
writer.abort()
import os
print(json.dumps([found, sorted(os.listdir(folder))]))
"""


def told_on(limit: str, folder: Path, *prefix: str) -> tuple[dict[str, str], list[str]]:
    """What each write says, and what is left, in a process that cannot write any more."""
    command = [*prefix, sys.executable, "-c", FULL.format(limit=limit), str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    found, names = json.loads(done.stdout)
    return found, names


def test_a_full_disk_is_told_and_keeps_no_remains(tmp_path: Path) -> None:
    """On a full disk every write is a StorageError with path and remedy, and leaves nothing, not even in part."""
    mounted = f'mount -t tmpfs -o size=256k tmpfs {tmp_path} && exec "$@"'
    prefix = ["unshare", "--map-root-user", "--user", "--mount", "sh", "-c", mounted, "sh"]
    found, names = told_on("", tmp_path, *prefix)
    assert found.keys() == {"create_if_absent", "replace", "write"}
    for message in found.values():
        assert message.startswith(str(tmp_path))
        assert "no space left to write. Free some" in message
    assert names == ["filler"]


def test_a_limit_on_file_sizes_is_told_and_keeps_no_remains(tmp_path: Path) -> None:
    """Above the process's file size limit every write is a StorageError with the path, and leaves nothing."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))"
    found, names = told_on(limit, tmp_path)
    assert found.keys() == {"create_if_absent", "replace", "write"}
    for message in found.values():
        assert message.startswith(str(tmp_path))
        assert "File too large" in message
    assert names == ["filler"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where `link` is refused as unknown, a commit is refused with the reason; nothing is created without it."""
    pending = write_pending(tmp_path / "part")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    for action in (lambda: STORE.create_if_absent(str(tmp_path / "new"), b""), lambda: STORE.complete(pending)):
        with pytest.raises(StorageError, match="hard link: the file system has none, so a commit would not be atomic"):
            action()
    assert files_in(tmp_path) == [".part.inprogress"]


def test_a_publisher_may_die_between_link_and_unlink(tmp_path: Path) -> None:
    """A pending file that a dead publisher left under both names is completed by the next one."""
    pending = write_pending(tmp_path / "part")
    os.link(pending.upload, pending.path)
    STORE.complete(pending)
    assert files_in(tmp_path) == ["part"]
    assert (tmp_path / "part").read_bytes() == b"bytes"


def test_a_pending_file_that_lost_bytes_is_lost(tmp_path: Path) -> None:
    """A pending file of another size than its receipt says does not become visible, as after a power cut."""
    pending = write_pending(tmp_path / "part")
    Path(pending.upload).write_bytes(b"byt")
    with pytest.raises(PendingLost, match="has 3 bytes, its receipt says 5"):
        STORE.complete(pending)
    assert not (tmp_path / "part").exists()


def test_a_pending_file_is_hidden_twice(tmp_path: Path) -> None:
    """The name of a pending file begins with a dot and does not end in `.parquet`, for readers that skip only one."""
    name = Path(write_pending(tmp_path / "part.parquet").upload).name
    assert name.startswith(".")
    assert not name.endswith(".parquet")


def test_two_that_remove_one_folder_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is gone when it was removed, though somebody else removes some of it at the same time."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).touch()
    unlink, quicker = os.unlink, list[str]()

    def overtaken(path, **more):
        unlink(path, **more)
        if not quicker:
            quicker.append(path)
            raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", overtaken)
    LocalStorage().remove(str(folder))
    assert quicker
    assert not folder.exists()


def test_links_are_followed(tmp_path: Path) -> None:
    """Files and folders that are links are listed as the files behind them, under the links' names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "part").write_bytes(b"rows")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "file").symlink_to(tmp_path / "real" / "part")
    for pattern, prefix in (("in", "in/"), ("in/f*", "in/")):
        found = list(STORE.list_files(str(tmp_path / pattern)))
        assert [file.path for file in found] == [f"{tmp_path}/{prefix}{name}" for name in ("file", "folder/part")]
        assert {file.bytes for file in found} == {4}


NAMES = st.sampled_from(["a", "b", "ab", "_a", ".b"])
PARTS = st.sampled_from(["**", "**", "*", "a*", "?", "a", "b", "[ab]"])


def files_by_pathlib(root: Path, pattern: str) -> list[str]:
    """The files that pathlib's glob finds, or finds the folders of, but for those below a hidden name."""
    found: set[Path] = set()
    for match in root.glob(pattern):
        found |= {match} if match.is_file() else {path for path in match.rglob("*") if path.is_file()}
    below = {path: path.relative_to(root).parts for path in found}
    return sorted(str(path) for path, parts in below.items() if not any(part[0] in "_." for part in parts))


@settings(max_examples=200, deadline=None)
@given(st.sets(st.lists(NAMES, max_size=3).map("/".join)), st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_two_stars_stand_for_any_number_of_folders(folders: set[str], pattern: str) -> None:
    """A glob finds each file that pathlib's glob finds, once: `**` stands for any number of folders, none too."""
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(sorted(folders)):
            Path(folder, name).mkdir(parents=True, exist_ok=True)
            Path(folder, name, ("x", "a.x", "_x")[number % 3]).write_bytes(b"")
        found = [file.path for file in STORE.list_files(f"{folder}/{pattern}")]
        assert found == files_by_pathlib(Path(folder), pattern)


def spoil(folder: Path, kind: str) -> None:
    """Put something into a folder that cannot be input."""
    if kind == "link to nothing":
        (folder / "bad").symlink_to(folder / "nothing")
    elif kind == "link back":
        (folder / "bad").symlink_to(folder)
    elif kind == "link to itself":
        (folder / "bad").symlink_to(folder / "bad")
    elif kind == "pipe":
        os.mkfifo(folder / "bad")
    else:
        Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).write_bytes(b"")


@pytest.mark.parametrize("kind", ["link to nothing", "link back", "link to itself", "pipe", "no UTF-8"])
@pytest.mark.parametrize("pattern", ["in", "in/*", "in/**", "**/*"])
def test_what_cannot_be_input_is_told(tmp_path: Path, kind: str, pattern: str) -> None:
    """What is no file that a plan can name is a StorageError with its path, instead of rows that nobody misses."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "part").write_bytes(b"rows")
    spoil(tmp_path / "in", kind)
    with pytest.raises(StorageError, match=f"{tmp_path}/in/bad"):
        list(STORE.list_files(str(tmp_path / pattern)))


def test_a_name_with_signs_of_a_glob_is_that_name(tmp_path: Path) -> None:
    """A path that is there is listed as it is written, also when it could be read as a glob."""
    for name in ("d=[1]", "d=1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"")
    assert [file.path for file in STORE.list_files(str(tmp_path / "d=[1]"))] == [f"{tmp_path}/d=[1]/part"]
    assert [file.path for file in STORE.list_files(str(tmp_path / "d=[12]"))] == [f"{tmp_path}/d=1/part"]
