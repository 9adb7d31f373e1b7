"""How a bundle, and our code, reach the workers of a session, classic or Spark Connect.

What is shipped is named by its SHA-256 and sent once a session; a worker checks it before it is used. A bundle goes as
an archive that Spark unpacks once an executor, so no worker makes a copy of its own; where driver and workers share the
machine, or a folder that all of them can read, nothing is sent at all.
"""

from __future__ import annotations

import functools
import importlib.resources
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.documents import sha256_hex
from etl.runs.layout import Layout, model_folder
from etl.runs.storage import storage_for
from scoring.bundles.bundle import BUNDLE_FILE, copy_bundle
from scoring.bundles.files import folder_of_process
from scoring.code import code_digest
from scoring.errors import BundleError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

    from pyspark.sql import SparkSession

    from scoring.bundles.bundle import AuditedBundle
    from scoring.order import Order

__all__ = ["CODE", "Place", "Shipment", "put"]

CODE = ("etl", "scoring")
"""The packages that a worker needs."""

_PIECE = 1 << 24
_DATED = (1980, 1, 1, 0, 0, 0)
"""The same content has the same bytes."""

_SENT: set[tuple[str, str]] = set()
"""What this process has sent: the session that has it, and its name."""


class Place(NamedTuple):
    """Where a worker finds the root of a stream's order."""

    root: str | None
    """A folder that each worker can read."""
    archive: str | None = None
    """Where there is none: the folder among the files of the session that an archive was unpacked to."""

    def on_worker(self) -> str:
        """The root, on a worker."""
        if self.root is not None:
            return self.root
        from pyspark import SparkFiles  # noqa: PLC0415  only who has a session needs Spark

        return str(Path(SparkFiles.getRootDirectory()) / str(self.archive))


class Shipment(NamedTuple):
    """What workers need beside rows and code."""

    audited: AuditedBundle
    tables: Mapping[str, bytes]
    """Reference tables by name, as Arrow IPC."""
    order: Order
    """Which names them by their content."""

    @property
    def identity(self) -> str:
        """Of the bundle and its tables."""
        [model] = self.order.models
        return sha256_hex(f"{model.bundle_sha256} {sorted(model.references.items())}".encode())

    def tables_below(self, root: str) -> dict[str, bytes]:
        """The tables by where they are to lie."""
        [model] = self.order.models
        layout = Layout(root, self.order.run_id)
        return {layout.reference(name, model.references[name]): data for name, data in self.tables.items()}


def put(spark: SparkSession, shipment: Shipment, *, shared: str | None = None) -> Place:
    """Bring a bundle and its reference tables to where the workers of a session find them.

    `shared` is a folder, as a path or storage URI, that this process can write to and every worker can read.

    Raises:
        BundleError: Spark does not take it.
    """
    if shared is not None:
        _, root = storage_for(shared)
        return Place(_laid_out(shipment, root))
    if not is_connect(spark) and is_on_one_machine(spark):
        return Place(_laid_out(shipment, str(_folder() / "root")))
    _send_code(spark)
    name = f"batchscore-{shipment.identity}"
    path = _folder() / f"{name}.zip"
    if not path.exists():
        _zip(path, _members(shipment))
        shipment.audited.settle()
    _send(spark, path, f"{path}#{name}", kind="archive")
    return Place(None, name)


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is one of Spark Connect."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def is_on_one_machine(spark: SparkSession) -> bool:
    """Whether the workers of a classic session read the driver's disk."""
    master = str(spark.sparkContext.master)
    return master == "local" or master.startswith("local[")


@functools.cache
def _folder() -> Path:
    """This process's folder for what it ships; removed at its end."""
    return Path(folder_of_process("batchscore-ship-"))


def _laid_out(shipment: Shipment, root: str) -> str:
    """The bundle below a root, as under the output root of a job; what is there already is left alone."""
    storage, _ = storage_for(root)
    copy_bundle(shipment.audited, storage, model_folder(root, shipment.audited.sha256))
    for path, data in shipment.tables_below(root).items():
        storage.create_if_absent(path, data)
    return root


def _members(shipment: Shipment) -> Iterator[tuple[str, bytes | mmap.mmap]]:
    audited = shipment.audited
    folder = model_folder("", audited.sha256).lstrip("/")
    yield f"{folder}/{BUNDLE_FILE}", audited.text
    for name, content in audited.files.items():
        yield f"{folder}/{name}", content
    for path, data in shipment.tables_below("").items():
        yield path.lstrip("/"), data


def _zip(path: Path, members: Iterator[tuple[str, bytes | mmap.mmap]]) -> None:
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


def _send_code(spark: SparkSession) -> None:
    """Our packages, so that a worker need not have them, nor have others of them."""
    path = _folder() / f"batchscore-code-{code_digest(*CODE)}.zip"
    if not path.exists():
        modules = (entry for package in CODE for entry in _modules(importlib.resources.files(package), package))
        _zip(path, ((name, module.read_bytes()) for name, module in sorted(modules)))
    _send(spark, path, str(path), kind="pyfile")


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{prefix}/{entry.name}")
        elif not entry.name.endswith(".pyc") and not entry.name.startswith("."):
            yield f"{prefix}/{entry.name}", entry


def _send(spark: SparkSession, path: Path, what: str, *, kind: str) -> None:
    any_spark: Any = spark
    session = str(any_spark.session_id if is_connect(spark) else spark.sparkContext.applicationId)
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
        message = (
            f"{path.name}: Spark does not take it to its workers: {said}. Or name a folder that all can read: shared="
        )
        raise BundleError(message) from error
    _SENT.add((session, path.name))
