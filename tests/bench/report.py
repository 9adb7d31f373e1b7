"""From runs to lines, and from lines to a table: ratios first, slope and fixed cost apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from tests.bench.contender import CONTENDERS, JVM_FED
from tests.bench.measure import MEMORY_RUNS, Case, Facts, Memory, Run, median
from tests.bench.workload import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HEADINGS", "Aim", "Line", "Results", "aims", "cells", "lines_of", "memory_limit"]

_SPARE = 300 << 20
"""What a worker may take beside its model, its batches and a row group: Python, Arrow, the runtime."""
_BATCHES = 4


class Results(BaseModel):
    """A whole bench, as it is kept."""

    about: dict[str, str]
    """Machine, versions, date, command."""
    facts: dict[str, Facts]
    """By workload, in the order in which they ran."""
    runs: list[Run]
    memory: list[Memory]

    def told(self, workload: str, contender: str) -> dict[str, float]:
        """Medians of what a contender told of itself at the larger size."""
        key = (contender, Case(workload, self.facts[workload].rows[1]))
        told = [run.facts for run in self.runs if run.key == key]
        names = dict.fromkeys(name for facts in told for name in facts)
        return {name: sorted(facts.get(name, 0) for facts in told)[len(told) // 2] for name in names}


class Line(NamedTuple):
    """A contender on a workload."""

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


def lines_of(results: Results, workload: str) -> list[Line]:
    """The table of a workload, in the order of `CONTENDERS`."""
    there = {run.contender for run in results.runs if run.workload == workload}
    return [_line(results, workload, name) for name in CONTENDERS if name in there]


def _line(results: Results, workload: str, name: str) -> Line:
    smaller, larger = (Case(workload, rows) for rows in results.facts[workload].rows)
    t1, t2 = (median(results.runs, name, case) for case in (smaller, larger))
    errors = [run.error for run in results.runs if (run.contender, run.workload) == (name, workload) and run.error]
    if t1 is None or t2 is None or errors:
        return Line(name, math.nan, math.nan, (math.nan, math.nan), "", errors[0] if errors else "not run")
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
            _number(line.marginal / 1000, ",.1f" if line.marginal < 100_000 else ",.0f"),
            _number(line.fixed, ".2f"),
            _number(line.seconds[0], ".2f"),
            _number(line.seconds[1], ".2f"),
            line.spread if line.error is None else line.error,
        )
        for line in lines
    ]


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def aims(results: Results) -> list[Aim]:
    """Each aim with what was found; an aim whose lines are not there is not met."""
    return [aim for workload in results.facts for aim in _aims_of(results, workload)]


def _aims_of(results: Results, workload: str) -> Iterator[Aim]:
    lines, kind = {line.contender: line for line in lines_of(results, workload)}, WORKLOADS[workload]
    if kind.is_heavy or workload == "logistic":
        yield _times(lines, workload, ("bare",), least=0.9 if kind.is_heavy else 0.7)
    for peer in ("Daft", "Ray Data"):
        yield _times(lines, workload, (peer,), least=1)
    if kind.has_jvm_aim:
        yield _times(lines, workload, JVM_FED, least=2.5)
    if workload == "wide":
        yield _times(lines, workload, ("arrow_udf",), least=2)
        yield _times(lines, workload, ("predict_batch_udf",), least=5)
    fixed = lines["ours"].fixed if "ours" in lines else math.nan
    yield Aim(f"{workload}: fixed cost ≤ 2 s once the session is up", _told(fixed, " s"), fixed <= 2)
    yield from _memory_aims(results, workload)


def _times(lines: dict[str, Line], workload: str, others: tuple[str, ...], *, least: float) -> Aim:
    """Our marginal rate by the best one of others'."""
    best = _best(lines, others)
    ratio, limit = _best(lines, ("ours",)) / best, _best(lines, ("bare",)) / best
    whom = others[0] if len(others) == 1 else f"the best of {', '.join(others)}"
    more = "" if others == ("bare",) or math.isnan(limit) else f"; bare itself {limit:.2f}"
    errors = [lines[name].error for name in others if name in lines]
    if errors and all(errors):
        return Aim(
            f"{workload}: marginal ≥ {least} × {whom}",
            f"{errors[0]}",
            all(str(error).startswith("cannot") for error in errors),
        )
    return Aim(f"{workload}: marginal ≥ {least} × {whom}", _told(ratio, more), ratio >= least)


def _best(lines: dict[str, Line], names: tuple[str, ...]) -> float:
    """The best marginal rate of some contenders."""
    rates = [lines[name].marginal for name in names if name in lines and lines[name].error is None]
    return max(rates, default=math.nan)


def memory_limit(facts: Facts) -> int:
    """What a worker may take: its model, four batches, a decoded row group, and 300 MB."""
    return facts.model_bytes + _BATCHES * facts.batch_bytes + facts.group_bytes + _SPARE


def _memory_aims(results: Results, workload: str) -> Iterator[Aim]:
    facts = results.facts[workload]
    peaks = {item.rows: item.peak_bytes for item in results.memory if item.workload == workload}
    once, often = (peaks.get(times * facts.rows[1], math.nan) for times in (1, MEMORY_RUNS))
    limit = memory_limit(facts)
    text = f"{workload}: memory of a worker ≤ model + 4 batches + a row group + 300 MiB = {limit / 2**20:,.0f} MiB"
    yield Aim(text, _told(often / 2**20, " MiB"), often <= limit)
    text = f"{workload}: and flat, ≤ 1.1 times with {MEMORY_RUNS} times the rows"
    found = _told(often / once, f" ({once / 2**20:.0f} and {often / 2**20:.0f} MiB)")
    yield Aim(text, found, often / once <= 1.1)


def _told(value: float, unit: str = "") -> str:
    return "not measured" if math.isnan(value) else f"{value:.2f}{unit}"
