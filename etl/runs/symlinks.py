"""The newest version for engines that take a table from lists of files: Athena, Trino, Presto and Hive.

Below `_symlink_format_manifest/` lies a text `manifest` for each folder of partitions, or one for all, with the URIs of
its files; Hive's `SymlinkTextInputFormat` reads these. They are written after the commit and one by one, so between two
versions such a reader may see some folders as they were: what it sees of one folder is of one version.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from etl.runs.manifest import latest_manifest, published_files

if TYPE_CHECKING:
    from etl.runs.manifest import Manifest
    from etl.runs.storage import Storage

__all__ = ["has_symlinks", "symlinks_folder", "write_symlinks"]

_NAME = "manifest"


def symlinks_folder(root: str) -> str:
    """Where the lists are: the location of the table, for an engine that reads them."""
    return f"{root}/_symlink_format_manifest"


def has_symlinks(storage: Storage, root: str) -> bool:
    """Whether somebody asked for the lists before, and may read them."""
    return bool(storage.names(symlinks_folder(root)))


def write_symlinks(storage: Storage, root: str) -> None:
    """Write the lists of the newest version, and remove those of folders that it does not have."""
    done: int | None = None
    # Who commits meanwhile writes them, too, and may be the first to end.
    while (latest := latest_manifest(storage, root)) is not None and latest.seq != done:
        _write(storage, root, latest)
        done = latest.seq


def _write(storage: Storage, root: str, manifest: Manifest) -> None:
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for run in manifest.runs:
        for file in published_files(storage, run).select(["path", "partition"]).to_pylist():
            lists[file["partition"]].append(file["path"])
    if not manifest.partition_by:
        lists.setdefault("", [])
    folder = symlinks_folder(root)
    written = {f"{folder}/{partition}/{_NAME}" if partition else f"{folder}/{_NAME}": partition for partition in lists}
    for path, partition in written.items():
        lines = [file if "://" in file else f"file://{file}" for file in lists[partition]]
        storage.replace(path, "".join(f"{line}\n" for line in lines).encode())
    for file in list(storage.list_files(folder)):
        if file.path not in written:
            storage.delete(file.path)
