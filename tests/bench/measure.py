"""Run the contenders in turn, A B C A B C …, so that a drifting machine hits all of them; nothing else is running.

A turn is a warm-up and then the sizes, one right after another: Spark ends a Python worker that was idle for a minute,
and the seconds of its restart would be counted as the smaller size's.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from tests.bench.check import WrongResultError, check_reference, check_scores, read_scores
from tests.bench.contender import Answer, Remote
from tests.bench.workload import FILES, MODELS, Workload, data_folder, make_model

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Case", "Memory", "Run", "Sizes", "measure", "measure_memory", "median"]

Say = Callable[[str], None]

_QUICK_SECONDS = 5.0
"""Who is done with the larger size in less is run `extra` times more: noise is a larger part of such a time."""


class Case(NamedTuple):
    """A model and a size."""

    model: str
    rows: int


class Sizes(NamedTuple):
    """How much is scored and how often."""

    row_groups: tuple[int, int]
    """Row groups a file, of the smaller and of the larger size."""
    warm_up: int
    """Row groups a file of the warm-up."""
    group_rows: int
    """Rows of a row group."""
    rounds: int
    """Runs of every contender at each size."""
    extra: int
    """More of them for quick contenders."""

    def rows(self, row_groups: int) -> int:
        """Rows of a size."""
        return FILES * row_groups * self.group_rows

    @property
    def cases(self) -> list[Case]:
        """What is measured, in order."""
        return [Case(model, self.rows(groups)) for model in MODELS for groups in self.row_groups]


class Run(BaseModel):
    """One contender once on one case."""

    contender: str
    model: str
    rows: int
    seconds: float = 0
    facts: dict[str, float] = {}
    error: str | None = None

    @property
    def key(self) -> tuple[str, Case] | None:
        """Whose run of what; None where it failed."""
        return None if self.error else (self.contender, Case(self.model, self.rows))


class Memory(BaseModel):
    """Peak resident bytes of a worker of ours that has scored one case and nothing else."""

    model: str
    rows: int
    peak_bytes: float


def median(runs: Iterable[Run], contender: str, case: Case) -> float | None:
    """Median seconds of a contender on a case; None where it never came through."""
    seconds = [run.seconds for run in runs if run.key == (contender, case)]
    return statistics.median(seconds) if seconds else None


class _Bench:
    """The processes of the contenders and what they share."""

    def __init__(self, cache: Path, sizes: Sizes, say: Say) -> None:
        self._cache = cache
        self._say = say
        self._models = {name: make_model(cache, name) for name in MODELS}
        groups = (sizes.warm_up, *sizes.row_groups)
        self._sources = {rows: folder for folder, rows in (data_folder(cache, n, sizes.group_rows) for n in groups)}
        self._wanted: dict[Case, np.ndarray] = {}
        self._remotes: dict[str, Remote] = {}

    def start(self, name: str) -> None:
        """Bring a contender up."""
        logs = self._cache / "logs"
        logs.mkdir(exist_ok=True)
        self._remotes[name] = Remote(name, logs / f"{name.replace(', ', '-').replace(' ', '-')}.txt")

    def stop(self, name: str) -> None:
        """Take a contender down."""
        self._remotes.pop(name).stop()

    def run(self, name: str, case: Case) -> Run:
        """One run: an empty folder, the files in the page cache, nothing to be written back; then checked."""
        work = Workload(case.model, self._models[case.model], self._sources[case.rows], case.rows, self._cache / "out")
        self._clean(work)
        _read_through(work)
        os.sync()
        answer = self._remotes[name].score(work)
        answer = self._checked(name, case, work, answer)
        self._clean(work)
        self._say(f"  {name}: {answer.error or f'{answer.seconds:.2f} s'}")
        run = Run(contender=name, model=case.model, rows=case.rows)
        return run.model_copy(update=answer._asdict())

    def _checked(self, name: str, case: Case, work: Workload, answer: Answer) -> Answer:
        if answer.error is not None:
            return answer
        try:
            found = read_scores(work.out, case.rows)
            if case not in self._wanted and name == "bare":
                check_reference(found, work)
                self._wanted[case] = found
            check_scores(found, self._wanted[case])
        except WrongResultError as error:
            return answer._replace(error=f"wrong result: {error}")
        return answer

    @staticmethod
    def _clean(work: Workload) -> None:
        for folder in (work.out, Path(f"{work.out}.scratch")):
            shutil.rmtree(folder, ignore_errors=True)


def measure(cache: Path, sizes: Sizes, names: list[str], say: Say) -> list[Run]:
    """All runs of all contenders; `names` begins with `bare`, whose scores the others are compared with."""
    bench = _Bench(cache, sizes, say)
    for name in names:
        say(f"start {name}")
        bench.start(name)
    runs: list[Run] = []
    for turn in range(sizes.rounds + sizes.extra):
        for model in MODELS:
            say(f"round {turn + 1}: {model}")
            larger = Case(model, sizes.rows(sizes.row_groups[1]))
            for name in names:
                if turn < sizes.rounds or (median(runs, name, larger) or math.inf) < _QUICK_SECONDS:
                    runs += _turn(bench, name, model, sizes)
    for name in names:
        bench.stop(name)
    return runs


def _turn(bench: _Bench, name: str, model: str, sizes: Sizes) -> list[Run]:
    """A contender's runs of all sizes; the warm-up is one only where it failed."""
    warm_up = bench.run(name, Case(model, sizes.rows(sizes.warm_up)))
    if warm_up.error is not None:
        return [warm_up]
    return [bench.run(name, Case(model, sizes.rows(groups))) for groups in sizes.row_groups]


def measure_memory(cache: Path, sizes: Sizes, say: Say) -> list[Memory]:
    """Peak memory of our workers, for each case in a session of its own: a worker's peak never goes down again."""
    bench = _Bench(cache, sizes, say)
    bench.start("bare")
    found = []
    for case in sizes.cases:
        say(f"memory: {case.model}, {case.rows:,} rows")
        bench.run("bare", case)
        bench.start("ours")
        run = bench.run("ours", case)
        bench.stop("ours")
        found.append(Memory(model=case.model, rows=case.rows, peak_bytes=run.facts.get("peak bytes", 0)))
    bench.stop("bare")
    return found


def _read_through(work: Workload) -> None:
    for path in work.files:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
