"""Pack a Python with all that workers need into one archive, which runs in whatever folder a cluster unpacks it.

The archive holds the interpreter itself: one that only links to it, as a venv does, works where the same Python is
installed in the same place. It holds none of our own code, which changes more often and travels as a zip, and no
pyspark, which is the cluster's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.runs.storage import storage_for
from jobs.errors import Refused, refusing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.storage import Storage

__all__ = ["Interpreter", "Packed", "Packing", "interpreter_of", "name_of", "pack", "upload"]

_FORMAT = 1
"""Of the archive: part of its digest, so that a change of what is below makes another archive."""
_LEFT_OUT = (
    "__pycache__",
    "config-*",
    "ensurepip",
    "idlelib",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
)
_ASK = """
import json, os, sys, sysconfig
print(json.dumps({
    "executable": os.path.realpath(sys.executable),
    "stdlib": sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}),
    "library": sysconfig.get_config_var("Py_ENABLE_SHARED") and
        os.path.join(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")) or None,
    "version": sys.version,
    "platform": sysconfig.get_platform(),
}))
"""
_BLOCK_BYTES = 8 << 20
_CHECK = "import numpy, onnxruntime, pyarrow, pydantic, sys; print(sys.prefix)"
_LONG_AGO = 315_532_800
"""1980-01-01, in seconds since the epoch: when all files of an archive were changed, so that bytes repeat."""


class Packing(NamedTuple):
    """What is to be packed."""

    lock: Path
    """A requirements lock with hashes."""
    python: Path
    """The Python that is packed. OpenSSL, libffi and others that it links to are not: pack on the distribution of the
    workers, or a Python that brings its own, as uv's does."""
    folder: Path
    """Where the archive is made."""
    upload: str | None = None
    """The folder of a store that gets it, too."""


class Interpreter(NamedTuple):
    """A Python as it says itself that it is."""

    executable: str
    stdlib: str
    library: str | None
    """libpython, where the executable needs it."""
    version: str
    platform: str


class Packed(NamedTuple):
    """An archive, and whether it was there already."""

    uri: str
    digest: str
    """sha256, in hex, of all that the archive is made from."""
    bytes: int
    is_new: bool


def interpreter_of(python: Path) -> Interpreter:
    """Ask a Python what it is.

    Raises:
        Refused: it does not run, or is another version than the locks are for.
    """
    try:
        asked = subprocess.run([python, "-I", "-c", _ASK], check=True, capture_output=True, text=True)  # noqa: S603  theirs
    except (OSError, subprocess.CalledProcessError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it ended with {error.returncode}"
        raise Refused(f"{python} is no Python that runs: {why}. Name a Python 3.11 with --python.") from error
    found = Interpreter(**json.loads(asked.stdout))
    if not found.version.startswith("3.11."):
        raise Refused(f"{python} is Python {found.version.split()[0]}; the locks are for 3.11. Name one with --python.")
    return found


def name_of(packing: Packing, interpreter: Interpreter) -> tuple[str, str]:
    """Return the name of the archive that would be made, and its digest; nothing is made.

    Raises:
        Refused: there is no lock, or it has no hashes.
    """
    try:
        lock = packing.lock.read_bytes()
    except OSError as error:
        raise Refused(f"cannot read the lock: {error}. `make lock` makes requirements/cluster.txt.") from error
    if b"--hash=sha256:" not in lock:
        message = f"{packing.lock} has no hashes, so what it packs could change: `uv pip compile --generate-hashes`."
        raise Refused(message)
    parts = [str(_FORMAT), interpreter.version, interpreter.platform, hashlib.sha256(lock).hexdigest()]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"environment-{digest[:16]}.tar.gz", digest


def pack(packing: Packing) -> Packed:
    """Make the archive, and upload it, unless one of its name is there already.

    Raises:
        Refused: the lock or the Python is not fit, uv is not installed, or it could not install what the lock names.
        StorageError: the store does not take it.
    """
    interpreter = interpreter_of(packing.python)
    name, digest = name_of(packing, interpreter)
    path = packing.folder / name
    if packing.upload is None:
        is_new = not path.exists()
        if is_new:
            _make(packing.lock, interpreter, path)
        return Packed(str(path), digest, path.stat().st_size, is_new)
    uri = f"{packing.upload.rstrip('/')}/{name}"
    with refusing():
        storage, there = storage_for(uri)
    found = storage.stat(there)
    if found is not None:
        return Packed(uri, digest, found.bytes, is_new=False)
    if not path.exists():
        _make(packing.lock, interpreter, path)
    upload(path, storage, there)
    return Packed(uri, digest, path.stat().st_size, is_new=True)


def upload(path: Path, storage: Storage, there: str) -> None:
    """Send a file; it is there as a whole or not at all, and one that came meanwhile is the same."""
    writer = storage.begin(there)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                writer.write(block)
        pending = writer.finish()
    except BaseException:
        writer.abort()
        raise
    storage.complete(pending)


def _make(lock: Path, interpreter: Interpreter, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=path.parent) as scratch:
        root, draft = Path(scratch) / "environment", Path(scratch) / path.name
        _place_interpreter(interpreter, root)
        _install(lock, root)
        _check(root)
        _write(root, draft)
        draft.replace(path)


def _place_interpreter(interpreter: Interpreter, root: Path) -> None:
    """Copy a Python so that it finds its own library from where it lies."""
    executable = root / "bin" / "python3.11"
    executable.parent.mkdir(parents=True)
    shutil.copy2(interpreter.executable, executable)
    for other in ("python", "python3"):
        (executable.parent / other).symlink_to(executable.name)
    stdlib = root / "lib" / "python3.11"
    shutil.copytree(interpreter.stdlib, stdlib, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=False)
    (stdlib / "site-packages").mkdir()
    if interpreter.library:
        shutil.copy2(interpreter.library, root / "lib")
        _run([_tool("patchelf"), "--set-rpath", "$ORIGIN/../lib", executable])


def _install(lock: Path, root: Path) -> None:
    stdlib = root / "lib" / "python3.11"
    packages, python = stdlib / "site-packages", root / "bin" / "python3.11"
    install = [
        _tool("uv"),
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--target",
        packages,
        "--link-mode",
        "copy",
    ]
    _run([*install, "--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", lock])
    shutil.rmtree(packages / "bin", ignore_errors=True)  # scripts with the path of this machine in their first line
    # Their validity is told by no time, since all files get one and the same.
    _run([python, "-I", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", stdlib])


def _check(root: Path) -> None:
    """What was packed runs from another folder, with nothing of this machine's Python."""
    moved = root.with_name("moved")
    root.rename(moved)
    prefix = _run([moved / "bin" / "python", "-I", "-c", _CHECK]).strip()
    if Path(prefix).resolve() != moved.resolve():  # a folder may be named from where one stands
        message = (
            f"the packed Python says it lives in {prefix}, not in {moved}: it cannot be moved. Pack another --python."
        )
        raise Refused(message)
    moved.rename(root)


def _write(root: Path, path: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = _LONG_AGO
        return member

    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=3, mtime=_LONG_AGO) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for part in sorted(root.rglob("*")):
            archive.add(part, part.relative_to(root).as_posix(), recursive=False, filter=plain)


def _tool(name: str) -> str:
    """Find a program of requirements/uv.in: in .tools beside the code, or on PATH."""
    beside = Path(__file__).parents[2] / ".tools" / "bin" / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Refused(
            f"packing needs {name}, which is not here. Run `requirements/make-env.sh tools`, or install {name}."
        )
    return found


def _run(command: Sequence[Any]) -> str:
    """Run a program.

    Raises:
        Refused: it did not end well; with the last lines that it said.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, env=environment)  # noqa: S603
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Refused(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
    return done.stdout
