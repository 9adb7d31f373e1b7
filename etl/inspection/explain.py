"""Explain a spec: the columns after every step, when each step is learned, and what it costs here."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from etl.fitting import passes
from etl.frame import Frame
from etl.golden import frame_of
from etl.ops.base import FittedStep

if TYPE_CHECKING:
    from etl.ops.base import Step
    from etl.spec import Spec
    from etl.types import ColumnType

__all__ = ["ExplainedStep", "explain"]

_ROWS = 16_384
"""Rows of a batch, as the worker has them."""

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
    columns: int
    """Columns that there are behind it."""


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
                len(after),
            )
        )
    return tuple(explained)


def _measured(spec: Spec) -> dict[str, float]:
    """Nanoseconds a row of each row step: the median over a few rounds of a batch of golden rows."""
    if not spec.golden or not spec.is_fitted:
        return {}
    seconds: dict[str, list[float]] = {step.id: [] for step in spec.steps}
    for _ in range(_ROUNDS):
        frame = _tiled(spec)
        for index, step in enumerate(spec.steps):
            start = time.perf_counter()
            step.run(frame, f"/steps/{index}")
            seconds[step.id].append(time.perf_counter() - start)
    return {name: statistics.median(rounds) / _ROWS * 1e9 for name, rounds in seconds.items()}


def _tiled(spec: Spec) -> Frame:
    """A batch of as many rows as the worker's, made of the golden rows over and over."""
    golden = frame_of(spec, spec.golden)
    positions = np.resize(np.arange(golden.rows), _ROWS)
    _, schema = spec.schemas()[len(spec.relational)]
    columns = {}
    for name in schema:
        column = golden[name]
        columns[name] = column[positions] if isinstance(column, np.ndarray) else column.take(pa.array(positions))
    return Frame(_ROWS, columns, nan_is_value=golden.nan_is_value)
