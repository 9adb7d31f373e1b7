"""Commit the next version: *create if absent* of a manifest, the only atomic step that every store has.

It has three outcomes, told apart: it landed, it certainly did not, or nobody knows (`OutcomeUnknown`). Who was beaten
looks at the version that won and decides anew, one version after the other, so that none goes by unseen.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import pyarrow.compute as pc
from pydantic import Field

from etl.documents import Strict
from etl.errors import DocumentError, OutcomeUnknown, PublishError, StorageError, Superseded
from etl.runs.layout import manifest_path
from etl.runs.manifest import (
    Manifest,
    Mode,
    RunEntry,
    all_manifests,
    published_files,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from etl.runs.layout import Layout
    from etl.runs.manifest import ColumnEntry
    from etl.runs.storage import Storage

__all__ = ["Terms", "check_place", "check_replaced", "check_terms", "commit", "hint", "kept_from", "next_version"]

_THREADS = 16


class Terms(Strict):
    """How a run goes into the next version. Part of its plan."""

    mode: Mode = "append"
    replaces: str | None = Field(
        default=None, description="A run in whose place this one is published: in its folders, and in no others."
    )
    base: int = Field(default=0, ge=0, description="Newest version when the run was planned; 0 before the first.")
    on_schema_change: Literal["fail", "new_version"] = Field(
        default="fail", description="Where the columns are others: fail, or begin a version that holds this run alone."
    )
    partition_by: tuple[str, ...] = Field(default=(), description="Columns that are in the names of folders.")
    keep_versions: int | None = Field(
        default=None, ge=1, description="Versions whose files stay once this run is published; None for all."
    )
    symlinks: bool = Field(default=False, description="Whether lists of files for other engines are written.")


def commit(
    storage: Storage, root: str, make: Callable[[Manifest | None], Manifest], *, latest: Manifest | None
) -> Manifest:
    """Create the version that `make` makes of the newest; again of the one that won, until nobody else is quicker.

    `make` may give back what it was given: then there is nothing to do. `latest` is where to begin.

    Raises:
        OutcomeUnknown: it may have landed.
        PublishError: it did not land.
    """
    while True:
        wanted = make(latest)
        if wanted is latest or _create(storage, root, wanted):
            return wanted
        latest = read_manifest(storage, root, wanted.seq)
        if latest is None:
            message = f"{manifest_path(root, wanted.seq)}: its name is taken and it is gone. Nobody may remove it."
            raise DocumentError(message)


def hint(storage: Storage, root: str, manifest: Manifest) -> None:
    """Say which version is the newest, for people: readers list the manifests, since this may be stale."""
    with contextlib.suppress(OSError, StorageError):
        storage.replace(f"{root}/_batchscore/current.json", json.dumps({"seq": manifest.seq}).encode())


def _create(storage: Storage, root: str, manifest: Manifest) -> bool:
    """Whether the manifest landed. A lost answer is read back: mine, another's, or not there."""
    path = manifest_path(root, manifest.seq)
    try:
        return storage.create_if_absent(path, manifest.to_bytes())
    except OSError as error:
        try:
            found = read_manifest(storage, root, manifest.seq)
        except (OSError, StorageError):
            message = f"{path}: the store did not answer ({error}); the commit may have landed. {_again(manifest)}"
            raise OutcomeUnknown(message) from error
        if found is None:
            message = f"{path}: the commit did not land ({error}). {_again(manifest)}"
            raise PublishError(message) from error
        return found == manifest


def _again(manifest: Manifest) -> str:
    """What to do where a commit was not answered."""
    if manifest.published is None:
        return "See with `batchscore versions` what holds, and give the command again where it is not done."
    return "Run the same id again."


def check_terms(layout: Layout, latest: Manifest | None, *, columns: tuple[ColumnEntry, ...], terms: Terms) -> None:
    """Refuse what may not stand beside, or in the place of, what is published.

    Raises:
        Superseded: naming what is in the way.
    """
    if latest is None or not latest.runs:
        return
    root, last = layout.root, latest.runs[-1]
    if terms.mode == "error":
        message = (
            f"{root}: run {last.run_id} is published here, and output.mode is `error`. Use another output.uri, or mode "
            "append."
        )
        raise Superseded(message)
    if last.folder.startswith("_") != layout.is_hidden:
        lie, others = ("visibly", "those") if layout.is_hidden else ("below _runs/", "a part")
        message = (
            f"{root}: the runs that are published here lie {lie} and with output.mode {terms.mode} this one would not, "
            f"so readers that list the folder would take {others} for all. Use another output.uri."
        )
        raise Superseded(message)
    if terms.mode == "overwrite" or terms.on_schema_change == "new_version":
        return
    if latest.columns != columns or latest.partition_by != terms.partition_by:
        there, ours = _columns(latest.columns, latest.partition_by), _columns(columns, terms.partition_by)
        message = (
            f"{root}: run {last.run_id} has columns {there}; this one has {ours}. Use another output.uri, or "
            "output.on_schema_change new_version."
        )
        raise Superseded(message)


def _columns(columns: tuple[ColumnEntry, ...], partition_by: tuple[str, ...]) -> str:
    listed = ", ".join(f"{column.name} {column.type}" for column in columns)
    return f"({listed}) in folders by {', '.join(partition_by)}" if partition_by else f"({listed})"


def check_place(
    storage: Storage,
    layout: Layout,
    latest: Manifest | None,
    *,
    partitions: Collection[str],
    columns: tuple[ColumnEntry, ...],
    terms: Terms,
) -> None:
    """Refuse a run that may not follow a version; `partitions` are the folders that it has files in.

    It is asked before the run shows a file, and of each version that the run is about to follow. What was in its way
    once stays so, whatever came after: two drivers of one run are told the same, so either may throw its files away.

    Raises:
        Superseded: naming what is in the way.
    """
    check_terms(layout, latest, columns=columns, terms=terms)
    if terms.replaces is not None:
        last = latest.seq if latest is not None else 0
        for version in all_manifests(storage, layout.root, first=max(1, terms.base), last=last):
            check_replaced(storage, layout, version, partitions=partitions, terms=terms)
    if latest is None or latest.seq <= terms.base:
        return
    since = all_manifests(storage, layout.root, first=terms.base + 1, last=latest.seq)
    for version in since:
        check_terms(layout, version, columns=columns, terms=terms)
    has_replaced = any(_replaces_all(version, columns=columns, terms=terms) for version in since)
    if terms.mode == "overwrite_partitions" or has_replaced:
        for version in since:
            if version.operation != "gc":
                met = None if has_replaced else partitions
                _check_since(storage, layout, version, partitions=met, terms=terms)


def _replaces_all(latest: Manifest, *, columns: tuple[ColumnEntry, ...], terms: Terms) -> bool:
    """Whether the version behind this one would hold none of its runs."""
    is_other = bool(latest.runs) and (latest.columns != columns or latest.partition_by != terms.partition_by)
    return terms.mode == "overwrite" or is_other


def check_replaced(
    storage: Storage, layout: Layout, version: Manifest | None, *, partitions: Collection[str] | None, terms: Terms
) -> None:
    """Refuse a run that would not take the place of just what a version holds of `terms.replaces`.

    `partitions` is None before it is known which folders the run has rows for.

    Raises:
        Superseded: the version does not hold that run, or one of the two has a folder that the other has not.
    """
    seq, runs = (version.seq, version.runs) if version is not None else (0, ())
    entry = next((run for run in runs if run.run_id == terms.replaces), None)
    if entry is None:
        message = (
            f"{layout.root}: version {seq} does not hold run {terms.replaces}, in whose place this run is to be "
            "published. Nothing was published. `batchscore versions` lists what happened."
        )
        raise Superseded(message)
    if partitions is None or terms.mode == "overwrite":
        return
    there = set(published_files(storage, entry).column("partition").to_pylist())
    if there != set(partitions):
        folder = min(there ^ set(partitions))
        has, lacks = (terms.replaces, "this run") if folder in there else ("this run", terms.replaces)
        message = (
            f"{layout.root}: {has} has rows in {folder} and {lacks} has none, so this run would not take the place of "
            f"just what {terms.replaces} published. Nothing was published. The input, or what the model leaves out, is "
            "not what it was then."
        )
        raise Superseded(message)


def next_version(
    storage: Storage,
    layout: Layout,
    latest: Manifest | None,
    *,
    entry: RunEntry,
    partitions: Collection[str],
    columns: tuple[ColumnEntry, ...],
    terms: Terms,
) -> Manifest:
    """The version with a run in it.

    Raises:
        Superseded: see `check_place`.
    """
    check_place(storage, layout, latest, partitions=partitions, columns=columns, terms=terms)
    runs = latest.runs if latest is not None else ()
    if latest is not None and _replaces_all(latest, columns=columns, terms=terms):
        runs = ()
    if terms.mode == "overwrite_partitions":
        runs = _without(storage, runs, partitions)
    seq = latest.seq + 1 if latest else 1
    return Manifest(
        seq=seq,
        committed_at=datetime.now(UTC),
        committed_by=entry.run_id,
        operation=terms.mode,
        columns=columns,
        partition_by=terms.partition_by,
        runs=(*runs, entry),
        kept_from=kept_from(storage, layout.root, latest, keep=terms.keep_versions, is_more=True),
    )


def _check_since(
    storage: Storage, layout: Layout, version: Manifest, *, partitions: Collection[str] | None, terms: Terms
) -> None:
    """An older run shall not replace what a newer one published. Runs with other partitions do not meet.

    `partitions` is None where the run replaces more than those.
    """
    touched = "everything"
    if partitions is not None and version.operation in {"append", "overwrite_partitions"}:
        [entry] = [run for run in version.runs if run.run_id == version.published]
        both = sorted(set(published_files(storage, entry).column("partition").to_pylist()) & set(partitions))
        if not both:
            return
        touched = both[0] if len(both) == 1 else f"{both[0]} and {len(both) - 1} more folders"
    message = (
        f"{layout.root}: version {version.seq} was committed by {version.committed_by} ({version.operation}) after "
        f"this run was planned over version {terms.base}, and this run would replace {touched}. Nothing was published. "
        "Score under a new run id to replace what is there now."
    )
    raise Superseded(message)


def _without(storage: Storage, runs: tuple[RunEntry, ...], partitions: Collection[str]) -> tuple[RunEntry, ...]:
    """Runs without these folders; one that has nothing else is gone."""
    with ThreadPoolExecutor(_THREADS) as threads:
        found = threads.map(lambda run: _run_without(storage, run, frozenset(partitions)), runs)
        return tuple(run for run in found if run is not None)


def _run_without(storage: Storage, run: RunEntry, partitions: frozenset[str]) -> RunEntry | None:
    files = published_files(storage, run)
    gone = partitions & set(files.column("partition").to_pylist())
    if not gone:
        return run
    replaced = run.model_copy(update={"replaced": tuple(sorted({*run.replaced, *gone}))})
    files = published_files(storage, replaced)
    if not files.num_rows:
        return None
    sums = {name: pc.sum(files.column(name)).as_py() for name in ("rows", "bytes")}
    return replaced.model_copy(update=sums)


def kept_from(storage: Storage, root: str, latest: Manifest | None, *, keep: int | None, is_more: bool = False) -> int:
    """The oldest of the `keep` newest versions; `is_more` where another one is about to be committed.

    What `gc` commits counts for none, since it changes nothing of what is published.
    """
    if latest is None:
        return 1
    if keep is None:
        return latest.kept_from
    missing, seq = keep - is_more, latest.seq + 1
    while missing > 0 and seq > latest.kept_from:
        seq -= 1
        version = latest if seq == latest.seq else read_manifest(storage, root, seq)
        missing -= version is None or version.operation != "gc"
    return max(latest.kept_from, seq)
