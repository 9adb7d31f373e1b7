"""Learn the state of a recipe's steps from data, in as few passes over it as its steps allow.

A pass learns every step whose inputs need nothing that is not learned yet; a step behind such a step waits for the next
pass. Each batch gives a partial state, and they are merged in the order of the batches: the same batches in the same
order give the same bytes. Other batches of the same rows give equal counts, vocabularies, least and largest values and
medians, and means and deviations to about 1e-12.

A row that the contract rejects, or a step that can be applied in that pass, is left out of everything learned in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from etl.errors import SpecError
from etl.ops.base import Accumulator, FittedStep
from etl.pipeline import apply_step, index_references, join_references
from etl.spec import Spec, trace

if TYPE_CHECKING:
    from etl.frame import Frame
    from etl.ops.base import RowStep
    from etl.ops.lookup import ReferenceTable

__all__ = ["Batches", "fit", "passes"]

Batches: TypeAlias = Callable[[], Iterable[pa.RecordBatch]]
"""Gives the same batches in the same order each time, since each pass reads them anew."""


def passes(recipe: Spec) -> tuple[tuple[str, ...], ...]:
    """Ids of the steps that each pass over the data learns; empty where nothing is to be learned."""
    level_of_column: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for step in recipe.steps:
        level = max((level_of_column.get(name, 0) for name in step.inputs), default=0)
        if not step.is_fitted:
            levels.setdefault(level, []).append(step.id)
            level += 1
        level_of_column.update(dict.fromkeys(step.outputs, level))
    return tuple(tuple(levels[level]) for level in sorted(levels))


def fit(recipe: Spec, batches: Batches, references: Mapping[str, pa.Table]) -> Spec:
    """The recipe with what its steps learn. Steps that have a state keep it, and a recipe without others is returned.

    `provenance` is given `rows`, `rejected` (of the last pass, which applies the most steps) and `passes`.

    Raises:
        SpecError: the recipe is inconsistent, a reference is not given, or a step finds nothing to learn from.
        ContractError: a batch or a reference table breaks its contract.
        TransformError: a value breaks a step whose spec says `fail`.
    """
    recipe.schemas()
    tables = index_references(recipe, references)
    spec, plan = recipe, passes(recipe)
    for wanted in plan:
        learner = _Pass(spec, tables, frozenset(wanted))
        for number, batch in enumerate(batches()):
            learner.take_in(batch, f"batch {number}")
        learned = {"rows": str(learner.rows), "rejected": str(learner.rejected), "passes": str(len(plan))}
        spec = learner.finish().model_copy(update={"provenance": {**recipe.provenance, **learned}})
    _, problems = trace(spec)
    if problems:
        raise SpecError("\n".join(f"{problem.pointer}: {problem.message}" for problem in problems))
    return spec


class _Pass:
    """One pass over the data."""

    def __init__(self, spec: Spec, tables: tuple[ReferenceTable, ...], wanted: frozenset[str]) -> None:
        self._spec = spec
        self._tables = tables
        self._learning = {step.id: step for step in spec.steps if isinstance(step, FittedStep) and step.id in wanted}
        self._states = self._fresh()
        self.rows = 0
        self.rejected = 0

    def take_in(self, batch: pa.RecordBatch, where: str) -> None:
        """Learn from one batch, without the rows that some rule rejects."""
        self._spec.input.check_schema(batch.schema, where)
        self.rows += batch.num_rows
        states, frame = self._learn(batch, where)
        while frame.rejections:
            kept = np.flatnonzero(~frame.rejected)
            self.rejected += batch.num_rows - kept.size
            batch = batch.take(kept)
            states, frame = self._learn(batch, where)
        for step_id, state in states.items():
            self._states[step_id].merge(state)

    def finish(self) -> Spec:
        """The spec with the state of the steps that this pass learned."""
        problems: list[str] = []
        steps: list[RowStep] = []
        for index, step in enumerate(self._spec.steps):
            try:
                state = {"state": self._states[step.id].finish()} if step.id in self._states else {}
            except ValueError as error:
                problems.append(f"/steps/{index}: step {step.id!r} ({step.op}) cannot be fitted: {error}.")
                continue
            steps.append(step.model_copy(update=state))
        if problems:
            raise SpecError("\n".join(problems))
        return self._spec.model_copy(update={"steps": tuple(steps)})

    def _fresh(self) -> dict[str, Accumulator[Any]]:
        return {step_id: step.accumulator() for step_id, step in self._learning.items()}

    def _learn(self, batch: pa.RecordBatch, where: str) -> tuple[dict[str, Accumulator[Any]], Frame]:
        """The batch's own partial states, and its frame: reading a column as numbers may have rejected rows too."""
        frame = self._spec.input.apply(batch, where)
        join_references(self._spec, self._tables, frame)
        absent: set[str] = set()
        for index, step in enumerate(self._spec.steps):
            if step.is_fitted and absent.isdisjoint(step.inputs):
                apply_step(step, frame, f"/steps/{index}")
            else:
                absent.update(step.outputs)
        states = self._fresh()
        for state in states.values():
            state.update(frame)
        return states, frame
