"""From runs to lines, and from lines to a table: ratios first, slope and fixed cost apart."""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import BaseModel

from tests.bench.contender import CONTENDERS
from tests.bench.measure import Case, Memory, Run, median
from tests.bench.workload import MODELS

__all__ = ["HEADINGS", "REASONS", "Aim", "Line", "Results", "aims", "cells", "lines_of"]

JVM_FED = ("pandas_udf", "arrow_udf", "predict_batch_udf", "mlflow spark_udf")
"""Peers whose rows pass through the JVM."""

REASONS = {
    "ours": (
        "Beside the bare loop's work every row is checked against the contract and hashed into the account, files are "
        "digested and forced to disk, and the run is claimed, settled, published and recorded. Most of the fixed cost "
        "is Spark's: a Python task takes a tenth of a second of a core before it does anything."
    ),
    "ours, frozen table": (
        "Spark writes the table as Parquet before anything is scored, so that it can be pinned and resumed. Files do "
        "not pay that."
    ),
    "pandas_udf": (
        "Spark turns its columns into rows, the rows into Arrow batches, and sends these through a socket to Python, "
        "where they become pandas; the scores go the same way back."
    ),
    "arrow_udf": "As pandas_udf but for pandas. Rows, Arrow and the socket remain.",
    "predict_batch_udf": "A pandas_udf inside. The columns travel as a struct, which becomes a DataFrame and a matrix.",
    "mlflow spark_udf": (
        "A pandas_udf inside. Each batch becomes a DataFrame that is checked against the signature, and the model gets "
        "the whole Arrow batch, which does not fit the cache of a core."
    ),
    "Daft": "It reads, scores and writes in one process without Spark; the table shows what its engine adds to that.",
    "Ray Data": "Each block passes through shared memory, and the scheduler takes its part of the same two cores.",
}
"""Why a line loses, by contender. Written by hand: look at them when the numbers change."""


class Results(BaseModel):
    """A whole bench, as it is kept."""

    about: dict[str, str]
    """Machine, versions, date, command."""
    rows: tuple[int, int]
    """The two sizes."""
    runs: list[Run]
    memory: list[Memory]

    def facts(self, model: str, contender: str) -> dict[str, float]:
        """Medians of what a contender told of itself at the larger size."""
        told = [run.facts for run in self.runs if run.key == (contender, Case(model, self.rows[1]))]
        names = dict.fromkeys(name for facts in told for name in facts)
        return {name: sorted(facts.get(name, 0) for facts in told)[len(told) // 2] for name in names}


class Line(NamedTuple):
    """A contender on a model."""

    contender: str
    marginal: float
    """Rows a second beyond the smaller size; NaN where it failed."""
    fixed: float
    """Seconds at no rows."""
    seconds: tuple[float, float]
    """Median at the smaller and the larger size."""
    spread: str
    """Fastest and slowest at the larger size, and of how many."""
    error: str | None


class Aim(NamedTuple):
    """What was wanted, and what was measured."""

    text: str
    found: str
    is_met: bool


def lines_of(results: Results, model: str) -> list[Line]:
    """The table of a model, in the order of `CONTENDERS`."""
    there = {run.contender for run in results.runs}
    return [_line(results, model, name) for name in CONTENDERS if name in there]


def _line(results: Results, model: str, name: str) -> Line:
    smaller, larger = (Case(model, rows) for rows in results.rows)
    t1, t2 = (median(results.runs, name, case) for case in (smaller, larger))
    if t1 is None or t2 is None:
        error = next((run.error for run in results.runs if run.contender == name and run.error), "not run")
        return Line(name, math.nan, math.nan, (math.nan, math.nan), "", error)
    marginal = (larger.rows - smaller.rows) / (t2 - t1) if t2 > t1 else math.nan
    seconds = [run.seconds for run in results.runs if run.key == (name, larger)]
    spread = f"{min(seconds):.1f} to {max(seconds):.1f} of {len(seconds)}"
    return Line(name, marginal, t1 - smaller.rows / marginal, (t1, t2), spread, None)


HEADINGS = (
    "",
    "marginal ÷ bare",
    "ours ÷ it",
    "marginal, k rows/s",
    "fixed, s",
    "smaller, s",
    "larger, s",
    "larger, range",
)


def cells(lines: list[Line]) -> list[tuple[str, ...]]:
    """The table's body."""
    marginal = {line.contender: line.marginal for line in lines}
    bare, ours = marginal.get("bare", math.nan), marginal.get("ours", math.nan)
    return [
        (
            line.contender,
            _number(line.marginal / bare, ".2f"),
            _number(ours / line.marginal, ".2f"),
            _number(line.marginal / 1000, ",.0f"),
            _number(line.fixed, ".2f"),
            _number(line.seconds[0], ".2f"),
            _number(line.seconds[1], ".2f"),
            line.spread if line.error is None else f"failed: {line.error}",
        )
        for line in lines
    ]


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def aims(results: Results) -> list[Aim]:
    """Each aim with what was found; an aim whose lines are not there is not met."""
    found = []
    for model, least in (("mlp", 0.85), ("logistic", 0.6)):
        lines = {line.contender: line for line in lines_of(results, model)}
        ratio = _ratio(lines, ("bare",))
        found.append(Aim(f"{model}: marginal ≥ {least} of bare", _told(ratio), ratio >= least))
        ratio = _ratio(lines, JVM_FED)
        text = f"{model}: marginal ≥ 2 times the best of {', '.join(JVM_FED)}"
        limit = _best(lines, ("bare",)) / _best(lines, JVM_FED)
        found.append(Aim(text, _told(ratio, f"; bare itself {_told(limit)}"), ratio >= 2))
        fixed = lines["ours"].fixed if "ours" in lines else math.nan
        found.append(Aim(f"{model}: fixed cost ≤ 2 s once the session is up", _told(fixed, " s"), fixed <= 2))
    return [*found, *(_flat_memory(results, model) for model in MODELS)]


def _best(lines: dict[str, Line], names: tuple[str, ...]) -> float:
    """The best marginal rate of some contenders."""
    rates = [lines[name].marginal for name in names if name in lines and lines[name].error is None]
    return max(rates, default=math.nan)


def _ratio(lines: dict[str, Line], others: tuple[str, ...]) -> float:
    """Of our marginal rate to the best of others'."""
    return _best(lines, ("ours",)) / _best(lines, others)


def _flat_memory(results: Results, model: str) -> Aim:
    peaks = {item.rows: item.peak_bytes for item in results.memory if item.model == model}
    small, large = (peaks.get(rows, math.nan) for rows in results.rows)
    times = results.rows[1] // results.rows[0]
    text = f"{model}: memory of a worker flat in rows: ≤ 1.1 times with {times} times the rows"
    found = _told(large / small, f" ({small / 2**20:.0f} and {large / 2**20:.0f} MiB)")
    return Aim(text, found, large / small <= 1.1)


def _told(value: float, unit: str = "") -> str:
    return "not measured" if math.isnan(value) else f"{value:.2f}{unit}"
