"""What becomes of a run whose input files cannot all be read: `input.on_damaged`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from etl.errors import BatchscoreError, FileDamaged, InputChanged, StorageError
from etl.printable import counted
from etl.runs.damage import damaged_files, load_damaged, mark_damaged, without_files
from etl.runs.layout import model_folder
from etl.runs.read import check_all_pinned
from jobs.errors import InputUnfit, SplitsFailed
from jobs.record import RunState
from scoring.bundles.bundle import audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.damage import DamagedFile
    from jobs.config.budgets import FileBudget
    from jobs.config.job import JobConfig
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan
    from jobs.record import RunRecord
    from scoring.spark.tasks import Failure

__all__ = ["Left", "check_policy", "damage_facts", "find_damaged", "over_file_budget", "set_aside", "what_is_left"]

_SHOWN = 10
_UNFIT = {"ContractError", "InputChanged", "FileDamaged"}
"""Kinds of failures that the same input will have again."""
_UNCONFIRMED = "But the driver can read it: look at the worker's host, and run the same id again."


class Left(NamedTuple):
    """What is left of a plan, and of its input what is not."""

    plan: Plan
    damaged: tuple[DamagedFile, ...]


def what_is_left(target: Target, plan: Plan) -> Left:
    """A plan without the files that were set aside so far."""
    damaged = load_damaged(*target)
    return Left(_without(plan, damaged), damaged)


def _without(plan: Plan, damaged: Sequence[DamagedFile]) -> Plan:
    return plan.model_copy(update={"splits": without_files(plan.splits, damaged)})


def check_policy(config: JobConfig, damaged: Sequence[DamagedFile]) -> None:
    """Refuse to go on without files that an earlier try set aside, where the config does not allow that any more.

    Raises:
        InputUnfit: it does not; names the files.
    """
    if damaged and config.input.on_damaged == "fail":
        message = (
            f"an earlier try of this run set {len(damaged)} damaged files aside, and input.on_damaged is `fail` now:\n"
            f"{_listed([str(one) for one in damaged])}\nWith `quarantine` the same id goes on without them."
        )
        raise InputUnfit(message)


def find_damaged(target: Target, plan: Plan, failures: Sequence[Failure]) -> tuple[DamagedFile, ...]:
    """The files that cannot be read, of the splits that failed for that.

    Raises:
        InputChanged: a file is not the one that was pinned.
        StorageError: a store does not answer, so nobody can tell.
    """
    numbers = {failure.split for failure in failures if failure.kind == FileDamaged.__name__}
    if not numbers:
        return ()
    suspects = [split for split in plan.splits if split.index in numbers]
    try:
        return damaged_files(suspects, plan.splits, _columns(target, plan))
    except OSError as error:
        message = f"{suspects[0].where}: cannot be looked at again: {error}. Run the same id again."
        raise StorageError(message) from error


def _columns(target: Target, plan: Plan) -> list[str]:
    """What workers read of a file, and what of that a file has."""
    order = plan.order
    bundles = [audit(target.storage, model_folder(order.root, model.bundle_sha256)) for model in order.models]
    fields = [field.name for audited in bundles for field in audited.spec.input.fields]
    return list(dict.fromkeys([*fields, *(field.name for field in (*order.carried, *order.chosen_by))]))


def set_aside(
    target: Target, config: JobConfig, plan: Plan, *, found: Sequence[DamagedFile], failures: Sequence[Failure]
) -> Left:
    """Leave damaged files out of a run, where its config allows that; the plan of what is left.

    Raises:
        SplitsFailed: it does not, splits failed for other reasons too, or nothing would be left; names all of it.
    """
    others = [failure for failure in failures if failure.kind != FileDamaged.__name__]
    if config.input.on_damaged == "fail" or others or not found:
        raise _failed(plan, failures, found=found, advice=_advice(config, plan))
    # An increment may be nothing but a file that cannot be read; the other files were scored before.
    if plan.increment is None and not _without(plan, found).splits:
        raise _failed(plan, failures, found=found, advice="No input file that can be read is left.")
    mark_damaged(*target, found)
    return what_is_left(target, plan)


def _advice(config: JobConfig, plan: Plan) -> str:
    if config.input.on_damaged == "quarantine" or config.input.files is None or plan.prepared is not None:
        return ""
    return "With `input.on_damaged: quarantine` the same id goes on without the damaged files."


def _failed(plan: Plan, failures: Sequence[Failure], *, found: Sequence[DamagedFile], advice: str) -> SplitsFailed:
    """Tells of every distinct cause, and of every damaged file that was found."""
    known = tuple(f"{one.file.path}: " for one in found)
    causes = [f"{FileDamaged.__name__}: {one}" for one in found]
    causes += _causes([failure for failure in failures if failure.kind != FileDamaged.__name__], plan)
    is_unfit = {failure.kind for failure in failures} <= _UNFIT and not any(_unseen(one, plan) for one in failures)
    for failure in failures:
        if failure.kind == FileDamaged.__name__ and not failure.message.startswith(known):
            is_unfit = False
            causes.append(f"{failure.message} {_UNCONFIRMED}")
    failed = len({failure.split for failure in failures})
    head = f"{failed} of {counted(len(plan.splits), 'split')} cannot be scored; nothing was published."
    lines = [head, _listed(list(dict.fromkeys(causes))), *([advice] if found and advice else [])]
    return (InputUnfit if is_unfit else SplitsFailed)("\n".join(lines))


def _causes(failures: Sequence[Failure], plan: Plan) -> list[str]:
    """Each distinct cause, and below it the first split that has it, where its message names no file of the input."""
    files = {part.file.path for split in plan.splits for part in split.ranges}
    by_cause: dict[str, list[Failure]] = {}
    for failure in failures:
        by_cause.setdefault(_unseen(failure, plan) or f"{failure.kind}: {failure.message}", []).append(failure)
    told = []
    for cause, alike in by_cause.items():
        more = f", and {counted(len(alike) - 1, 'split')} more" if len(alike) > 1 else ""
        has_file = any(path in cause for path in files)
        told.append(cause if has_file else f"{cause}\n  {alike[0].place}{more}")
    return told


def _unseen(failure: Failure, plan: Plan) -> str | None:
    """The cause where a worker misses files of its disk that are there, as they were pinned, for the driver."""
    split = next((split for split in plan.splits if split.index == failure.split), None)
    if failure.kind != InputChanged.__name__ or split is None or "://" in split.where:
        return None
    try:
        check_all_pinned(part.file for part in split.ranges)
    except (BatchscoreError, OSError):
        return None
    return (
        f"{split.where}: is there for the driver and not for the worker, so it is a path of one machine. Put the input "
        "in a store, or in a folder that all machines mount."
    )


def _listed(lines: list[str]) -> str:
    more = [f"… and {len(lines) - _SHOWN} more; the run's record has every file"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])


def over_file_budget(budget: FileBudget, damaged: Sequence[DamagedFile], total: int) -> list[str]:
    """A sentence where more files were set aside than the budget allows, of `total` bytes of input."""
    size = sum(one.file.bytes for one in damaged)
    if budget.allows(len(damaged), size, total):
        return []
    limits = budget.model_dump_json(exclude_none=True)
    files = counted(len(damaged), "damaged file was", "damaged files were")
    return [f"{files} set aside, {size:,} bytes, the budget of stage read is {limits}"]


def damage_facts(record: RunRecord) -> list[tuple[str, str]]:
    """The input files that cannot be read, as a labelled text; nothing where there are none."""
    if not record.damaged:
        return []
    done = "set aside as a whole" if record.state is not RunState.FAILED else "cannot be read"
    more = f"\n… and {len(record.damaged) - _SHOWN} more" if len(record.damaged) > _SHOWN else ""
    named = "\n".join(str(one) for one in record.damaged[:_SHOWN])
    return [("damaged", f"{len(record.damaged):,} input files {done}:\n{named}{more}")]
