"""How our code, and archives, reach the workers of a session, classic or Spark Connect.

What is sent is named by its content and sent once a session.
"""

from __future__ import annotations

import functools
import importlib.resources
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.code import digest_of_packages
from etl.errors import NotShipped
from etl.folders import folder_of_process
from etl.spark.sessions import is_connect, session_id

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Iterator
    from importlib.resources.abc import Traversable

    from pyspark.sql import SparkSession

__all__ = ["bring_code", "send_archive", "send_code", "shipped", "write_zip"]

_PIECE = 1 << 24
_DATED = (1980, 1, 1, 0, 0, 0)
"""The same content has the same bytes."""

_SENT: set[tuple[str, str]] = set()
"""What this process has sent: the session that has it, and its name."""


@functools.cache
def shipped() -> Path:
    """This process's folder for what it ships; removed at its end."""
    return Path(folder_of_process("batchscore-ship-"))


def send_code(spark: SparkSession, *packages: str) -> None:
    """Our packages, so that a worker need not have them, nor have others of them.

    Raises:
        NotShipped: Spark does not take them.
    """
    for package in packages:
        path = shipped() / f"batchscore-code-{package}-{digest_of_packages(package)}.zip"
        if not path.exists():
            modules = _modules(importlib.resources.files(package), package)
            write_zip(path, ((name, module.read_bytes()) for name, module in sorted(modules)))
        _send(spark, path, str(path), kind="pyfile")


def bring_code(spark: SparkSession, *packages: str) -> None:
    """Our packages to the workers of a server of Spark Connect, for which nothing was submitted; else nothing.

    Raises:
        NotShipped: Spark does not take them.
    """
    if is_connect(spark):
        send_code(spark, *packages)


def send_archive(spark: SparkSession, path: Path, name: str) -> None:
    """A zip, which Spark unpacks once an executor into a folder of this name among the session's files.

    Raises:
        NotShipped: Spark does not take it.
    """
    _send(spark, path, f"{path}#{name}", kind="archive")


def write_zip(path: Path, members: Iterable[tuple[str, bytes | mmap.mmap]]) -> None:
    """An archive without compression: weights do not shrink."""
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _DATED)
            entry.file_size = len(content)
            with archive.open(entry, "w") as file:
                for start in range(0, len(content), _PIECE):
                    file.write(content[start : start + _PIECE])
    partial.replace(path)


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{prefix}/{entry.name}")
        elif not entry.name.endswith(".pyc") and not entry.name.startswith("."):
            yield f"{prefix}/{entry.name}", entry


def _send(spark: SparkSession, path: Path, what: str, *, kind: str) -> None:
    any_spark: Any = spark
    session = session_id(spark)
    if (session, path.name) in _SENT:
        return
    try:
        if is_connect(spark):
            any_spark.addArtifacts(what, **{kind: True})
        elif kind == "archive":
            spark.sparkContext.addArchive(what)
        else:
            spark.sparkContext.addPyFile(what)
    except Exception as error:  # of Java, of gRPC or of PySpark, by the kind of session
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotShipped(f"{path.name}: Spark does not take it to its workers: {said}") from error
    _SENT.add((session, path.name))
