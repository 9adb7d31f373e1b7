"""Relational steps, which come before all row steps: joins to reference tables, filters, and what needs other rows.

They have two places. What needs other rows (`dedupe`, `group_aggregate`, `window_lag`, `window_rolling`) runs on the
whole table, and so does everything that stands before the last such step; what stands behind it (`lookup_join`,
`filter`) runs in the worker. `etl.relational` says what that means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from etl.ops.aggregate import GroupAggregate
from etl.ops.dedupe import Dedupe
from etl.ops.filtering import Filter
from etl.ops.lookup import LookupJoin
from etl.ops.tables import TableStep
from etl.ops.windows import WindowLag, WindowRolling
from etl.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etl.ops.base import Step

__all__ = ["AnyRelationalStep", "on_table", "table_problems"]

AnyRelationalStep = Annotated[
    Dedupe | Filter | GroupAggregate | LookupJoin | WindowLag | WindowRolling, Field(discriminator="op")
]
"""Any step that may come before the row steps."""


def on_table(steps: Sequence[Step]) -> int:
    """How many of the relational steps run on the whole table: all up to the last that needs other rows."""
    return max((index + 1 for index, step in enumerate(steps) if isinstance(step, TableStep)), default=0)


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
