"""Relational steps, which come before all row steps: joins to reference tables, filters, and what needs other rows.

They have two places. What needs other rows (`dedupe`, `group_aggregate`, `window_lag`, `window_rolling`) runs on the
whole table, and so does everything that stands before the last such step; what stands behind it (`lookup_join`,
`filter`) runs in the worker. `etl.relational` says what that means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from etl.format.problems import Problem
from etl.ops.aggregate import GroupAggregate
from etl.ops.dedupe import Dedupe
from etl.ops.filtering import Filter
from etl.ops.lookup import LookupJoin
from etl.ops.tables import TableStep
from etl.ops.windows import WindowLag, WindowRolling
from etl.treatments import AsValue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from etl.contract import InputField
    from etl.ops.base import Step

__all__ = [
    "AnyRelationalStep",
    "joins",
    "moved_to_table",
    "on_table",
    "reads_as_stored",
    "table_problems",
    "unmovable",
    "unpinned",
]

AnyRelationalStep = Annotated[
    Dedupe | Filter | GroupAggregate | LookupJoin | WindowLag | WindowRolling, Field(discriminator="op")
]
"""Any step that may come before the row steps."""


def on_table(steps: Sequence[Step]) -> int:
    """How many of the relational steps run on the whole table: all up to the last that needs other rows."""
    return max((index + 1 for index, step in enumerate(steps) if isinstance(step, TableStep)), default=0)


def unpinned(steps: Sequence[AnyRelationalStep]) -> tuple[str, ...]:
    """Names of reference tables that some join takes whatever is in them: it says neither `sha256` nor `version`."""
    found = (step.params for step in steps if isinstance(step, LookupJoin))
    return tuple(dict.fromkeys(one.reference for one in found if one.sha256 is None and one.version is None))


def joins(steps: Sequence[Step], moved: Collection[str] = ()) -> tuple[dict[str, LookupJoin], dict[str, LookupJoin]]:
    """The joins that run on the table, and those that run in the worker, by their ids. `moved` are ids of joins that
    stand behind the last step that needs other rows, and run on the table all the same.
    """  # noqa: D205  one sentence each
    part = on_table(steps)
    found = [(step, index < part or step.id in moved) for index, step in enumerate(steps)]
    sides = [{step.id: step for step, is_on_table in found if is_on_table == side} for side in (True, False)]
    table, worker = ({i: step for i, step in side.items() if isinstance(step, LookupJoin)} for side in sides)
    return table, worker


def moved_to_table(steps: Sequence[Step], large: Collection[str]) -> tuple[str, ...]:
    """Ids of joins of the worker that have to run on the table, because their reference table is among the large ones;
    and of those that make their keys.
    """  # noqa: D205  one sentence
    _, worker = joins(steps)
    moved: set[str] = set()
    needed: set[str] = set()
    for step in reversed(worker.values()):
        if step.params.reference in large or not needed.isdisjoint(step.outputs):
            moved.add(step.id)
            needed.update(step.inputs)
    return tuple(step.id for step in worker.values() if step.id in moved)


def unmovable(steps: Sequence[Step], moved: Collection[str], fields: Iterable[InputField]) -> str | None:
    """Why a join cannot be moved to the table, where it would come before the contract: that changes values of a key,
    or makes it.
    """  # noqa: D205  one sentence
    _, worker = joins(steps)
    by_name = {field.name: field for field in fields}
    flags = {name for field in by_name.values() for name in field.flags}
    for step in worker.values():
        for name in step.inputs if step.id in moved else ():
            if name in flags or (name in by_name and _changes(by_name[name])):
                return (
                    f"step {step.id!r} joins by {name}, which the contract changes, and so it cannot be joined by "
                    "Spark, before the contract"
                )
    return None


def reads_as_stored(steps: Sequence[Step], fields: Iterable[InputField]) -> list[tuple[str, str]]:
    """Joins and filters that run on the table and read a field whose values the contract then changes, by their ids,
    each with that field.
    """  # noqa: D205  one sentence
    changed = {field.name for field in fields if _changes(field)}
    here = [step for step in steps[: on_table(steps)] if not isinstance(step, TableStep)]
    return [(step.id, name) for step in here for name in dict.fromkeys(step.reads) if name in changed]


def _changes(field: InputField) -> bool:
    """Whether a value may leave the contract as another, or as missing."""
    rules = (field.range, field.allowed, field.pattern, field.min_length, field.max_length)
    may_be_invalid = any(rule is not None for rule in rules)
    changing = [
        isinstance(field.missing_treatment, AsValue),
        # What the type cannot hold is missing to a join on the table as well.
        isinstance(field.on_invalid, AsValue) or (may_be_invalid and field.on_invalid == "as_missing"),
        field.outlier is not None and (isinstance(field.on_outlier, AsValue) or field.on_outlier in _REPLACING),
    ]
    return any(changing)


_REPLACING = {"as_missing", "as_extreme"}


def table_problems(steps: Sequence[Step], flags: Iterable[str]) -> list[Problem]:
    """Steps that do not say which rows they may use, and steps on the table that read a flag, which the contract makes
    only later.
    """  # noqa: D205  one sentence
    problems = []
    for index, step in enumerate(steps):
        problem = step.leak_problem if isinstance(step, TableStep) else None
        if problem is not None:
            problems.append(Problem(f"/relational/{index}/params", f"op {step.op} {problem}.", "E-LEAK"))
    flagged = set(flags)
    for index, step in enumerate(steps[: on_table(steps)]):
        for name in dict.fromkeys(step.reads):
            if name in flagged:
                message = f"column {name!r} is a flag, and step {step.id!r} runs before the contract makes it."
                problems.append(Problem(f"/relational/{index}", message, "E-NO-COLUMN"))
    return problems
