"""Explain a spec: the columns after every step, when each step is learned, and what it costs here."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from etl.frame import Frame
from etl.golden import frame_of
from etl.learning.fitting import passes
from etl.ops.base import FittedStep

if TYPE_CHECKING:
    from etl.ops.base import Step
    from etl.spec import Spec
    from etl.types import ColumnType

__all__ = ["ExplainedStep", "explain"]

_ROWS = 16_384
"""Rows of a batch, as the worker has them."""

_BYTES = 64 * 2**20
"""Of a batch with all that the steps make of it; wide rows are measured in fewer."""

_ROUNDS = 5


class ExplainedStep(NamedTuple):
    """One step of a spec."""

    id: str
    op: str
    scope: str
    """`relational` or `row`."""
    reads: tuple[tuple[str, ColumnType], ...]
    """Columns that it reads, with their types."""
    makes: tuple[tuple[str, ColumnType], ...]
    """Columns that it makes, with their types."""
    drops: tuple[str, ...]
    """Columns that no later step can read."""
    learned_in: int | None
    """The pass over the data in which it is learned, from 1; None where it learns nothing, or has its state."""
    most_extra_passes: int
    """Further passes that it may need: exact quantiles of very many distinct values."""
    nanoseconds: float | None
    """Per row on this machine, of a batch of golden rows; None for relational steps and without golden rows."""
    schema: tuple[tuple[str, ColumnType], ...]
    """Columns that there are behind it, with their types."""


def explain(spec: Spec) -> tuple[ExplainedStep, ...]:
    """Every step in its order.

    Raises:
        SpecError: the spec is inconsistent.
    """
    schemas = spec.schemas()
    levels = {step_id: number for number, ids in enumerate(passes(spec), 1) for step_id in ids}
    cost = _measured(spec)
    explained = []
    steps: list[Step] = [*spec.relational, *spec.steps]
    for number, step in enumerate(steps):
        before, after = schemas[number][1], schemas[number + 1][1]
        types = {**before, **after}
        is_row = number >= len(spec.relational)
        explained.append(
            ExplainedStep(
                step.id,
                step.op,
                "row" if is_row else "relational",
                tuple((name, before[name]) for name in step.reads),
                tuple((name, types[name]) for name in step.outputs),
                step.dropped,
                levels.get(step.id),
                step.most_extra_passes if isinstance(step, FittedStep) else 0,
                cost.get(step.id),
                tuple(after.items()),
            )
        )
    return tuple(explained)


def _measured(spec: Spec) -> dict[str, float]:
    """Nanoseconds a row of each row step: the median over a few rounds of a batch of golden rows."""
    if not spec.golden or not spec.is_fitted:
        return {}
    golden = frame_of(spec, spec.golden)
    seconds = _timed(spec, golden)
    outputs = (name for step in (*spec.relational, *spec.steps) for name in step.outputs)
    there = {*spec.input.columns(), *outputs}
    a_row = sum(golden[name].nbytes for name in there if name in golden) / golden.rows
    rows = int(max(golden.rows, min(_ROWS, _BYTES / max(1, a_row))))
    rounds = [_timed(spec, _tiled(spec, golden, rows)) for _ in range(_ROUNDS)]
    return {name: statistics.median(one[name] for one in rounds) / rows * 1e9 for name in seconds}


def _timed(spec: Spec, frame: Frame) -> dict[str, float]:
    """Run the row steps; seconds of each."""
    seconds = {}
    for index, step in enumerate(spec.steps):
        start = time.perf_counter()
        step.run(frame, f"/steps/{index}")
        seconds[step.id] = time.perf_counter() - start
    return seconds


def _tiled(spec: Spec, golden: Frame, rows: int) -> Frame:
    """A batch of so many rows, made of the golden rows over and over."""
    positions = np.resize(np.arange(golden.rows), rows)
    schema = spec.schema_at(len(spec.relational))
    columns = {}
    for name in schema:
        column = golden[name]
        columns[name] = column[positions] if isinstance(column, np.ndarray) else column.take(pa.array(positions))
    return Frame(rows, columns, nan_is_value=golden.nan_is_value)
