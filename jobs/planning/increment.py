"""Which files, or keys, are scored already: what an incremental run leaves out, and what must not have changed since.

What counts is the newest version: files of runs that were rolled back, or replaced, are scored again.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import Superseded
from etl.format.problems import nearest
from etl.printable import counted
from etl.runs.damage import load_damaged
from etl.runs.layout import Layout
from etl.runs.manifest import all_manifests, published_files, read_manifest
from jobs.column_types import arrow_of
from jobs.errors import Refused
from jobs.planning.destination import Target
from jobs.planning.plan import Increment, load_plan
from jobs.published import PublishedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etl.runs.manifest import Manifest, RunEntry
    from etl.runs.publish import Admit
    from etl.runs.splits import InputFile
    from jobs.config.job import JobConfig
    from jobs.planning.plan import Plan

__all__ = ["admit_of", "increment_of", "published_keys", "scored_files"]

_THREADS = 16
_SHOWN = 5


class _Scored(NamedTuple):
    """What a run scored."""

    job: str
    models: tuple[str, ...]
    """SHA-256 of each bundle."""
    inputs: tuple[InputFile, ...]


def _scored_by(target: Target) -> _Scored | None:
    """What a run scored: all that it was planned to, but the files that it set aside; None where it has no plan."""
    plan = load_plan(target)
    if plan is None:
        return None
    aside = {one.file for one in load_damaged(*target)}
    return _Scored(plan.job, plan.bundles, tuple(file for file in plan.sources if file not in aside))


def scored_files(target: Target, runs: Iterable[RunEntry], *, job: str, models: Sequence[str]) -> dict[str, set[str]]:
    """By path, the etags of files that published runs scored, of those that are a job's with these models."""
    places = [Target(target.storage, Layout(target.layout.root, run.run_id)) for run in runs]
    found: defaultdict[str, set[str]] = defaultdict(set)
    with ThreadPoolExecutor(_THREADS) as threads:
        for one in threads.map(_scored_by, places):
            if one is not None and one.job == job and one.models == tuple(models):
                for file in one.inputs:
                    found[file.path].add(file.etag)
    return found


def increment_of(
    config: JobConfig, inputs: tuple[InputFile, ...], before: Mapping[str, set[str]]
) -> tuple[tuple[InputFile, ...], Increment]:
    """The files that are to be scored, and what became of the others.

    Raises:
        Refused: files were changed or deleted, and the config says that this must not be.
    """
    known = [file for file in inputs if file.etag in before.get(file.path, ())]
    changed = [file for file in inputs if file.path in before and file.etag not in before[file.path]]
    deleted = sorted(before.keys() - {file.path for file in inputs})
    wrong = []
    if config.input.on_changed == "fail":
        wrong += [f"{file.path} was changed after it was scored" for file in changed]
    if config.input.on_deleted == "fail":
        wrong += [f"{path} is gone after it was scored" for path in deleted]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        message = (
            f"{'; '.join(wrong[:_SHOWN])}{more}. What is published is of the files as they were. Restore them, or say "
            "what is to become of it with input.on_changed (ignore, score) and input.on_deleted (ignore)."
        )
        raise Refused(message)
    skipped = {file.path for file in known}
    if config.input.on_changed == "ignore":
        skipped |= {file.path for file in changed}
    told = Increment(
        listed=len(inputs),
        scored_before=len(known),
        changed=tuple(file.path for file in changed),
        deleted=tuple(deleted),
    )
    return tuple(file for file in inputs if file.path not in skipped), told


def published_keys(target: Target, key: str, *, latest: Manifest | None, most_bytes: int) -> pa.Table:
    """The values of a column that the newest version holds, each once.

    Raises:
        Refused: it has no such column, or more values than workers shall hold.
    """
    if latest is None:
        raise Refused(f"{target.layout.root}: nothing is published here, so no key is. Leave --missing-keys out.")
    names = [column.name for column in latest.columns]
    if key not in names:
        raise Refused(f"--missing-keys: {key!r} is not published in {target.layout.root}.{nearest(key, names)}")
    schema = pa.schema([(column.name, arrow_of(column.type)) for column in latest.columns if column.name == key])
    files = [file for run in latest.runs for file in _files(target, run)]
    with ThreadPoolExecutor(_THREADS) as threads:
        tables = threads.map(lambda file: file.table(target.storage, schema), files)
        values = pc.unique(pa.concat_tables([schema.empty_table(), *tables]).column(key))
    if values.nbytes > most_bytes:
        message = (
            f"--missing-keys: {target.layout.root} holds {counted(len(values), 'key')} of "
            f"{values.nbytes / 1e6:,.0f} MB, and each worker would hold them all; scoring.reference_bytes allows "
            f"{most_bytes / 1e6:,.0f} MB. Raise it, or score new files only, with input.incremental."
        )
        raise Refused(message)
    return pa.table([values], schema=schema)


def _files(target: Target, run: RunEntry) -> list[PublishedFile]:
    rows = published_files(target.storage, run).select(["path", "partition"]).to_pylist()
    return [PublishedFile(row["path"], run.folder, row["partition"]) for row in rows]


def admit_of(target: Target, plan: Plan) -> Admit:
    """What says, of a version, whether a run may follow it: else rows would be published twice.

    What was committed since the run was planned counts, also where later versions hold it no more: what was overtaken
    stays so.
    """

    def admit(latest: Manifest | None) -> None:
        if latest is None or latest.seq <= plan.terms.base:
            return
        since = all_manifests(target.storage, target.layout.root, first=plan.terms.base + 1, last=latest.seq)
        others = [version for version in since if version.operation != "gc"]
        if others and plan.order.missing_keys is not None:
            message = (
                f"{target.layout.root}: {others[0].committed_by} committed version {others[0].seq} after the published "
                "keys were read, so rows could be published twice. Nothing was published; score under a new run id."
            )
            raise Superseded(message)
        seen = read_manifest(target.storage, target.layout.root, plan.terms.base)
        known = seen.run_ids if seen is not None else frozenset()
        # Those that a rollback has brought back, too.
        came = {run.run_id: run for version in others for run in version.runs if run.run_id not in known}.values()
        before = scored_files(target, came, job=plan.job, models=plan.bundles)
        twice = [file.path for file in plan.sources if file.path in before]
        if twice:
            files = counted(len(twice), "file was", "files were")
            message = (
                f"{target.layout.root}: {files} scored and published by another run meanwhile, {twice[0]} among them. "
                "Nothing was published; score under a new run id."
            )
            raise Superseded(message)

    is_asked = plan.increment is not None or plan.order.missing_keys is not None
    return admit if is_asked else lambda _: None
