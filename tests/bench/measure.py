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

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel

from tests.bench.check import WrongResultError, check_reference, check_scores, read_scores
from tests.bench.contender import Answer, Remote, home_of
from tests.bench.inference import Scoring, knee
from tests.bench.workload import TINY, WORKLOADS, Size, Task, data_folder, model_file

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MEMORY_RUNS", "Bench", "Case", "Facts", "Memory", "Plan", "Run", "measure", "measure_memory", "median"]

Say = Callable[[str], None]

MEMORY_RUNS = 4
"""How often a worker scores the larger size, to see whether its memory grows."""
_QUICK_SECONDS = 5.0
"""Who is done with the larger size in less is run `extra` times more: noise is a larger part of such a time."""
_BATCH_BYTES = 8 << 20
"""Of the rows that our contract and steps take at once."""


class Case(NamedTuple):
    """A workload and a size."""

    workload: str
    rows: int


class Plan(NamedTuple):
    """What is measured and how often."""

    contenders: list[str]
    """The first is `bare`, whose scores the others are compared with."""
    workloads: list[str]
    rounds: int
    """Runs of every contender at each size."""
    extra: int
    """More of them for quick contenders."""
    is_tiny: bool


class Run(BaseModel):
    """One contender once on one case."""

    contender: str
    workload: str
    rows: int
    seconds: float = 0
    facts: dict[str, float] = {}
    error: str | None = None

    @property
    def key(self) -> tuple[str, Case] | None:
        """Whose run of what; None where it failed."""
        return None if self.error else (self.contender, Case(self.workload, self.rows))


class Facts(BaseModel):
    """What is true of a workload here, whoever runs it."""

    rows: tuple[int, int]
    """Of the smaller and the larger size."""
    files: tuple[int, int]
    knee: int
    """Rows of one call of the model, for all but ours and MLflow."""
    rates: dict[int, float]
    """Rows a second of one thread, by rows of a call: how the knee was found."""
    model_bytes: int
    batch_bytes: int
    """What contract and steps take at once, with the scores."""
    group_bytes: int
    """A decoded row group of the columns that are read."""


class Memory(BaseModel):
    """Peak resident bytes of a worker of ours that has scored the larger size, once or several times, and nothing else."""

    workload: str
    rows: int
    peak_bytes: float


def median(runs: Iterable[Run], contender: str, case: Case) -> float | None:
    """Median seconds of a contender on a case; None where it never came through."""
    seconds = [run.seconds for run in runs if run.key == (contender, case)]
    return statistics.median(seconds) if seconds else None


class Bench:
    """The processes of the contenders and what they share."""

    def __init__(self, cache: Path, plan: Plan, say: Say) -> None:
        """Make models and files, and find each model's knee while nothing else runs."""
        self._cache = cache
        self._say = say
        self._remotes: dict[str, Remote] = {}
        self._wanted: dict[Case, Path] = {}
        self._models: dict[str, Path] = {}
        self._sources: dict[Case, Path] = {}
        self.sizes: dict[str, tuple[Size, Size, Size]] = {}
        self.facts: dict[str, Facts] = {}
        for name in plan.workloads:
            say(f"make {name}")
            self._prepare(name, TINY[name] if plan.is_tiny else WORKLOADS[name].sizes)

    def _prepare(self, name: str, sizes: Sequence[Size]) -> None:
        kind = WORKLOADS[name]
        warm_up, smaller, larger = sizes
        self.sizes[name] = (warm_up, smaller, larger)
        self._models[name] = model_file(self._cache, name)
        for size in sizes:
            self._sources[Case(name, size.rows)] = data_folder(self._cache, kind.shape, size)
        first = self._task(Case(name, larger.rows), 1)
        rows = pq.ParquetFile(first.files[0]).read_row_group(0, columns=["id", *kind.columns])
        found, rates = knee(Scoring.of(first), [rows.column(column).combine_chunks() for column in kind.columns])
        width = rows.nbytes / rows.num_rows + 4 * kind.width
        self.facts[name] = Facts(
            rows=(smaller.rows, larger.rows),
            files=(smaller.files, larger.files),
            knee=found,
            rates=rates,
            model_bytes=first.onnx.stat().st_size,
            batch_bytes=int(min(_BATCH_BYTES, larger.rows * width)),
            group_bytes=rows.nbytes,
        )
        self._say(f"  a call has {found} rows: {rates[found]:,.0f} rows/s a thread")

    def _task(self, case: Case, model_rows: int) -> Task:
        model, source = self._models[case.workload], self._sources[case]
        return Task(case.workload, model, model_rows, source, case.rows, self._cache / "out")

    def start(self, name: str) -> None:
        """Bring a contender up; a bench that one cannot even begin is worth nothing, and ends here."""
        logs, home = self._cache / "logs", home_of(name)
        logs.mkdir(exist_ok=True)
        log = logs / f"{home.replace(', ', '-').replace(' ', '-')}.txt"
        if home not in self._remotes:
            self._remotes[home] = Remote(home, log)
        answer = self._remotes[home].start(name)
        if answer.error is not None:
            message = f"{name} did not start: {answer.error}. Its own words are in {log}."
            raise SystemExit(message)

    def stop(self, name: str) -> None:
        """Take a contender down, and those that share its process."""
        remote = self._remotes.pop(home_of(name), None)
        if remote is not None:
            remote.stop()

    def run(self, name: str, case: Case) -> Run:
        """One run: an empty folder, the files in the page cache, nothing to be written back; then checked."""
        task = self._task(case, self.facts[case.workload].knee)
        self._clean(task)
        _read_through(task)
        os.sync()
        answer = self._remotes[home_of(name)].score(name, task)
        answer = self._checked(name, case, task, answer=answer)
        self._clean(task)
        self._say(f"  {name}, {case.rows:,} rows: {answer.error or f'{answer.seconds:.2f} s'}")
        run = Run(contender=name, workload=case.workload, rows=case.rows)
        return run.model_copy(update=answer._asdict())

    def _checked(self, name: str, case: Case, task: Task, *, answer: Answer) -> Answer:
        if answer.error is not None:
            return answer
        try:
            if case not in self._wanted and name == "bare":
                found = read_scores(task)
                check_reference(found, task)
                self._wanted[case] = self._cache / f"wanted-{case.workload}-{case.rows}.npy"
                np.save(self._wanted[case], found)
            check_scores(task, np.load(self._wanted[case], mmap_mode="r"))
        except WrongResultError as error:
            return answer._replace(error=f"failed: wrong result: {error}")
        return answer

    @staticmethod
    def _clean(task: Task) -> None:
        for folder in (task.out, Path(f"{task.out}.scratch")):
            shutil.rmtree(folder, ignore_errors=True)


def measure(bench: Bench, plan: Plan, say: Say) -> list[Run]:
    """All runs of all contenders."""
    for name in plan.contenders:
        say(f"start {name}")
        bench.start(name)
    runs: list[Run] = []
    for turn in range(plan.rounds + plan.extra):
        for workload in plan.workloads:
            say(f"round {turn + 1}: {workload}")
            larger = Case(workload, bench.facts[workload].rows[1])
            for name in plan.contenders:
                has_failed = any(run.error for run in runs if (run.contender, run.workload) == (name, workload))
                is_due = turn < plan.rounds or (median(runs, name, larger) or math.inf) < _QUICK_SECONDS
                if is_due and not has_failed:
                    runs += _turn(bench, name, workload)
    for name in plan.contenders:
        bench.stop(name)
    return runs


def _turn(bench: Bench, name: str, workload: str) -> list[Run]:
    """A contender's runs of all sizes; the warm-up is one only where it failed."""
    warm_up, *sizes = (Case(workload, size.rows) for size in bench.sizes[workload])
    first = bench.run(name, warm_up)
    return [first] if first.error is not None else [bench.run(name, case) for case in sizes]


def measure_memory(bench: Bench, plan: Plan, say: Say) -> list[Memory]:
    """Peak memory of our workers, for each workload in a session of its own: a worker's peak never goes down again.

    The larger size is scored `MEMORY_RUNS` times. The smaller one would not do: its buffers are never full.
    """
    found = []
    for workload in plan.workloads:
        rows = bench.facts[workload].rows[1]
        say(f"memory: {workload}, {MEMORY_RUNS} times {rows:,} rows")
        bench.start("ours")
        peaks = [bench.run("ours", Case(workload, rows)).facts.get("peak bytes", math.nan) for _ in range(MEMORY_RUNS)]
        bench.stop("ours")
        found.append(Memory(workload=workload, rows=rows, peak_bytes=peaks[0]))
        found.append(Memory(workload=workload, rows=MEMORY_RUNS * rows, peak_bytes=max(peaks)))
    return found


def _read_through(task: Task) -> None:
    for path in task.files:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
