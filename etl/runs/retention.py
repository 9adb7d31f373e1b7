"""Go back to an earlier version, and find the files that no version that is kept names.

Both go by versions: a rollback is a new one that holds what an older one held, and `gc` commits one that says from
which on files are kept *before* anything is removed. So a rollback to what is about to go is beaten, and told so.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import PublishError, Superseded
from etl.runs.commit import commit, hint, kept_from
from etl.runs.manifest import Manifest, all_manifests, latest_manifest, published_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.manifest import RunEntry
    from etl.runs.splits import InputFile
    from etl.runs.storage import Storage

__all__ = ["Holdings", "Unneeded", "holdings", "keep", "rollback", "unneeded_files"]

_THREADS = 16


class Unneeded(NamedTuple):
    """What no kept version needs of a published run."""

    run_id: str
    is_whole: bool
    """Whether no kept version holds anything of the run."""
    folder: str
    files: tuple[InputFile, ...]

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.bytes for file in self.files)

    def remove(self, storage: Storage) -> None:
        """Remove the files. The mark that the folder is whole goes first."""
        storage.delete(f"{self.folder}/_SUCCESS")
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(lambda file: storage.delete(file.path), self.files))


def rollback(storage: Storage, root: str, *, to: int, who: str, reason: str) -> Manifest:
    """Commit a version that holds what version `to` held; the newest version where it holds that already.

    So whoever was killed, or had no answer, may ask again.

    Raises:
        PublishError: there is no such version, or its files are not kept.
        Superseded: another version was committed meanwhile, which whoever asked has not seen.
    """
    latest = latest_manifest(storage, root)
    if latest is None:
        message = f"{root}: nothing is published here."
        raise PublishError(message)
    _check_kept(root, latest, to)
    [restored] = all_manifests(storage, root, first=to, last=to)
    if _held(latest) == _held(restored):
        hint(storage, root, latest)
        return latest
    wanted = Manifest(
        seq=latest.seq + 1,
        committed_at=datetime.now(UTC),
        committed_by=who,
        operation="rollback",
        reason=reason,
        restores=to,
        columns=restored.columns,
        partition_by=restored.partition_by,
        runs=restored.runs,
        kept_from=latest.kept_from,
    )

    def only_next(newest: Manifest | None) -> Manifest:
        if newest is not None and newest.seq > latest.seq:
            message = (
                f"{root}: {newest.committed_by} committed version {newest.seq} ({newest.operation}) meanwhile, so "
                "nothing was rolled back. Look at it, and decide again."
            )
            raise Superseded(message)
        return wanted

    found = commit(storage, root, only_next, latest=latest)
    hint(storage, root, found)
    return found


def _held(version: Manifest) -> tuple[object, ...]:
    return version.runs, version.columns, version.partition_by


def _check_kept(root: str, latest: Manifest, to: int) -> None:
    """See that an older version is there to go back to, with its files."""
    if latest.kept_from == latest.seq:
        message = f"{root}: version {latest.seq} is the only one that is kept, so there is none to go back to."
        raise PublishError(message)
    if not latest.kept_from <= to < latest.seq:
        message = (
            f"{root}: version {to} is none of those to go back to, {latest.kept_from} to {latest.seq - 1}. "
            "`batchscore versions` lists them."
        )
        raise PublishError(message)


def keep(storage: Storage, root: str, *, versions: int, who: str) -> Manifest | None:
    """Commit that only so many versions are kept; the newest version then, or None where nothing is published."""

    def with_fewer(newest: Manifest | None) -> Manifest:
        assert newest is not None  # noqa: S101  versions are never removed
        first = kept_from(storage, root, newest, keep=versions)
        if first == newest.kept_from:
            return newest
        changes = {
            "seq": newest.seq + 1,
            "committed_at": datetime.now(UTC),
            "committed_by": who,
            "operation": "gc",
            "reason": None,
            "restores": None,
            "kept_from": first,
        }
        return newest.model_copy(update=changes)

    latest = latest_manifest(storage, root)
    if latest is None:
        return None
    found = commit(storage, root, with_fewer, latest=latest)
    hint(storage, root, found)
    return found


class Holdings(NamedTuple):
    """Which published runs kept versions hold."""

    published: dict[str, RunEntry]
    """All that were ever published."""
    needed: dict[str, list[RunEntry]]
    """Those that kept versions hold, in which forms."""

    @property
    def gone(self) -> frozenset[str]:
        """Runs of which no kept version holds anything."""
        return frozenset(self.published.keys() - self.needed.keys())


def holdings(storage: Storage, root: str, *, versions: int | None = None) -> Holdings:
    """What the kept versions hold, with `versions` as if only so many were kept."""
    manifests = all_manifests(storage, root)
    if not manifests:
        return Holdings({}, {})
    latest = manifests[-1]
    first = latest.kept_from if versions is None else kept_from(storage, root, latest, keep=versions)
    needed = _needed(entry for manifest in manifests if manifest.seq >= first for entry in manifest.runs)
    return Holdings({entry.run_id: entry for manifest in manifests for entry in manifest.runs}, needed)


def unneeded_files(storage: Storage, root: str, found: Holdings) -> list[Unneeded]:
    """What of the published runs no kept version holds."""
    published, needed = found
    # A version that holds a run whole needs all of it, so nothing has to be listed.
    asked = [entry for run_id, entry in published.items() if run_id not in needed or needed[run_id][0].replaced]
    with ThreadPoolExecutor(_THREADS) as threads:
        listed = threads.map(lambda entry: _unneeded(storage, root, entry, needed=needed.get(entry.run_id, [])), asked)
        return [one for one in listed if one.files]


def _needed(entries: Iterable[RunEntry]) -> dict[str, list[RunEntry]]:
    """By run, in which forms kept versions hold it; where one holds it whole, that alone."""
    found: dict[str, dict[tuple[str, ...], RunEntry]] = defaultdict(dict)
    for entry in entries:
        found[entry.run_id][entry.replaced] = entry
    return {run_id: [forms[()]] if () in forms else list(forms.values()) for run_id, forms in found.items()}


def _unneeded(storage: Storage, root: str, entry: RunEntry, *, needed: list[RunEntry]) -> Unneeded:
    named = {path for form in needed for path in published_files(storage, form).column("path").to_pylist()}
    folder = f"{root}/{entry.folder}"
    files = tuple(file for file in storage.list_files(folder) if file.path not in named)
    return Unneeded(entry.run_id, not needed, folder, files)
