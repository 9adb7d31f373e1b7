"""Find what nobody needs any more under an output root, and remove it.

- Of published runs, the files that no kept version names.
- Of runs that never ended and gave no sign of life for long, what is pending. Where a publisher had shown files of such
  a run, the run is barred first, so that it cannot be published without them.
- Trials, copies of tables, and models, once no run can use them.

Records, plans, receipts and quarantined rows stay: they are what the history is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from etl.runs.layout import Layout, model_folder, models_folder, runs_folder, scratch_folder, scratch_root
from etl.runs.publish import bar, has_begun_to_commit
from etl.runs.retention import Holdings, Unneeded, holdings, keep, unneeded_files
from jobs.history.runs import run_at
from jobs.identity import whoami
from jobs.planning.plan import load_claim, load_last_try, load_plan
from jobs.record import RunState, load_record
from jobs.settling.receipts import receipts_of
from scoring.bundles.bundle import BUNDLE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from etl.runs.storage import Storage
    from jobs.planning.destination import Target

__all__ = ["Garbage", "Keeping", "Root", "collect", "find_garbage"]

Kind = Literal["replaced", "unfinished", "trial", "table", "model"]


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What stays."""

    versions: int | None
    """Newest versions whose files stay; None for those that are kept already."""
    min_age: timedelta
    """A run that never ended, and a trial, stay for so long after their last sign of life."""
    scratch: str
    """Where copies of tables lie, in the store's naming."""


class Garbage(NamedTuple):
    """Something that nobody needs."""

    kind: Kind
    where: str
    """Folder."""
    why: str
    files: int | None
    """None where they were not counted."""
    bytes: int | None
    remove: Callable[[], None]


class Root(NamedTuple):
    """An output root."""

    storage: Storage
    path: str


class _Run(NamedTuple):
    """A claimed run, and what is to become of it."""

    target: Target
    is_published: bool
    state: RunState | None
    last_sign: datetime | None
    """None where nothing says when it was claimed."""

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.target.layout.run_id


def collect(target: Root, keeping: Keeping, now: datetime) -> Iterator[Garbage]:
    """Remove what `find_garbage` finds; each thing when it is gone.

    Raises:
        StorageError, OSError: something cannot be removed; the same call goes on.
    """
    if keeping.versions is not None:
        keep(*target, versions=keeping.versions, who=whoami())
    # What was just committed decides, and not what is the newest version by now.
    for found in find_garbage(target, replace(keeping, versions=None), now):
        found.remove()
        yield found


def find_garbage(target: Root, keeping: Keeping, now: datetime) -> Iterator[Garbage]:
    """What nobody needs now; nothing is changed."""
    before = now - keeping.min_age
    held = holdings(*target, versions=keeping.versions)
    yield from (_replaced(target.storage, one) for one in unneeded_files(*target, held))
    runs = _runs(target, held)
    dead = [run for run in runs if _is_dead(run, before)]
    for run in dead:
        yield from _unfinished(target.storage, run)
    if target.storage.leftovers(target.path):
        for run in runs:
            if run.is_published and run.last_sign is not None and run.last_sign < before:
                yield from _left_behind(target.storage, run)
    yield from _trials(target, keeping, before)
    ended = held.gone | {run.run_id for run in runs if run.state is RunState.DISCARDED}
    for run in runs:
        if run.run_id in ended:
            yield from _table(run.target, keeping)
    yield from _models(target, ended, before)


def _replaced(storage: Storage, one: Unneeded) -> Garbage:
    why = "no kept version holds the run" if one.is_whole else "later runs have the places of these folders"
    return Garbage("replaced", one.folder, why, len(one.files), one.bytes, partial(one.remove, storage))


def _runs(root: Root, held: Holdings) -> list[_Run]:
    targets = [run_at(*root, run_id) for run_id in root.storage.names(runs_folder(root.path))]
    return [_run(target, held) for target in targets if target is not None]


def _run(target: Target, held: Holdings) -> _Run:
    record = load_record(target.storage, target.layout.record)
    signs = [claim.claimed_at for claim in (load_claim(target), load_last_try(target)) if claim is not None]
    signs += [record.ended_at] if record is not None else []
    state = record.state if record is not None else None
    return _Run(target, target.layout.run_id in held.published, state, max(signs, default=None))


def _is_dead(run: _Run, before: datetime) -> bool:
    """Whether a run never ended and gave no sign of life since then. One that is held back waits for a person."""
    waits = run.state in {RunState.HELD_BACK, RunState.DISCARDED}
    if run.is_published or waits or run.last_sign is None or run.last_sign >= before:
        return False
    plan = load_plan(run.target)
    if plan is None:
        return False
    return all(receipt.ended_at < before for receipt in receipts_of(run.target, plan))


def _unfinished(storage: Storage, run: _Run) -> Iterator[Garbage]:
    layout = run.target.layout
    shown = tuple(storage.list_files(layout.data))
    told = f"the run ended nowhere, and was last worked on on {run.last_sign:%Y-%m-%d}"
    pending = len([path for folder in (layout.data, layout.state) for path in storage.leftovers(folder)])
    if not shown and pending:
        yield Garbage("unfinished", layout.data, told, pending, None, partial(_abort, storage, layout))
    elif shown and not has_begun_to_commit(storage, layout):
        size = sum(file.bytes for file in shown)
        withdraw = partial(_withdraw, storage, layout)
        yield Garbage("unfinished", layout.data, f"{told}; it shows files of no version", len(shown), size, withdraw)


def _left_behind(storage: Storage, run: _Run) -> Iterator[Garbage]:
    """What is pending of a published run: nobody needs it, but the task that writes it may not know yet."""
    layout = run.target.layout
    pending = len([path for folder in (layout.data, layout.state) for path in storage.leftovers(folder)])
    if pending:
        told = "left by tasks that ended after it was published"
        yield Garbage("unfinished", layout.data, told, pending, None, partial(_abort, storage, layout))


def _abort(storage: Storage, layout: Layout) -> None:
    """Throw away what is pending. A resume finds its receipts void, and scores their splits again."""
    for folder in (layout.data, layout.state):
        storage.sweep(folder)


def _withdraw(storage: Storage, layout: Layout) -> None:
    """Make sure that nobody publishes the run, and remove what it shows.

    Raises:
        PublishError: its publication had begun, so that nobody knows; the same id ends it.
    """
    bar(storage, layout)
    storage.remove(layout.data)
    _abort(storage, layout)


def _trials(root: Root, keeping: Keeping, before: datetime) -> Iterator[Garbage]:
    storage = root.storage
    for run_id in storage.names(scratch_folder(root.path)):
        folder = scratch_root(root.path, run_id)
        target = run_at(storage, folder, run_id)
        last = load_last_try(target) if target is not None else None
        if target is not None and last is not None and last.claimed_at < before:
            told = f"a trial of {last.claimed_at:%Y-%m-%d}"
            yield from _table(target, keeping)
            yield Garbage("trial", folder, told, None, None, partial(storage.remove, folder))


def _table(target: Target, keeping: Keeping) -> Iterator[Garbage]:
    """The copy of a table or query that a run's plan names: other jobs may have runs of the same id beside it."""
    plan, storage = load_plan(target), target.storage
    if plan is None or not plan.inputs:
        return
    folder = plan.inputs[0].path.rpartition("/")[0]
    if folder.startswith(f"{keeping.scratch}/run_id={target.layout.run_id}/"):
        files = tuple(storage.list_files(folder))
        told = "the table was copied for a run that is kept no more"
        if files:
            size = sum(file.bytes for file in files)
            yield Garbage("table", folder, told, len(files), size, partial(storage.remove, folder))


def _models(root: Root, ended: frozenset[str], before: datetime) -> Iterator[Garbage]:
    there = root.storage.names(models_folder(root.path))
    # Looked at anew, and behind the models: a run that was planned since names one of them. Where one slips through
    # all the same, it puts its model back when it is started again.
    runs = [run for run in _runs(root, holdings(*root)) if run.run_id not in ended]
    plans = [(run, load_plan(run.target)) for run in runs]
    if any(plan is None and run.last_sign is not None and run.last_sign >= before for run, plan in plans):
        # A run without a plan may be about to name a model in one.
        return
    named = {model.bundle_sha256 for _, plan in plans if plan is not None for model in plan.order.models}
    for sha256 in there:
        if sha256 not in named:
            folder = model_folder(root.path, sha256)
            told = "no run that is kept, or may go on, was scored with it"
            yield Garbage("model", folder, told, None, None, partial(_remove_model, root.storage, folder))


def _remove_model(storage: Storage, folder: str) -> None:
    """What says that the copy is whole goes first: else a copy that is half removed would be taken for one."""
    storage.delete(f"{folder}/{BUNDLE_FILE}")
    storage.remove(folder)
