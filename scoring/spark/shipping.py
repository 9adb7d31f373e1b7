"""How a bundle reaches the workers of a session, classic or Spark Connect.

What is shipped is named by its SHA-256; a worker checks it before it is used. A bundle goes as
an archive that Spark unpacks once an executor, so no worker makes a copy of its own; where driver and workers share the
machine, or a folder that all of them can read, nothing is sent at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl.documents import sha256_hex
from etl.errors import NotShipped
from etl.runs.layout import Layout, model_folder
from etl.runs.storage import storage_for
from etl.spark.sessions import is_on_one_machine
from etl.spark.shipping import send_archive, send_code, shipped, write_zip
from scoring.bundles.bundle import BUNDLE_FILE, copy_bundle
from scoring.code import CODE
from scoring.errors import BundleError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession

    from scoring.bundles.bundle import AuditedBundle
    from scoring.order import Order

__all__ = ["Place", "Shipment", "put"]


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
    if is_on_one_machine(spark):
        return Place(_laid_out(shipment, str(shipped() / "root")))
    name = f"batchscore-{shipment.identity}"
    path = shipped() / f"{name}.zip"
    if not path.exists():
        write_zip(path, _members(shipment))
        shipment.audited.settle()
    try:
        send_code(spark, *CODE)
        send_archive(spark, path, name)
    except NotShipped as error:
        raise BundleError(f"{error}. Or name a folder that all can read: shared=") from error
    return Place(None, name)


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
