"""Measure our worker on a GPU, without Spark: `python -m tests.bench.gpu`, or `make bench-gpu`.

It needs numpy, pyarrow, pydantic, PyYAML and onnxruntime-gpu; neither Java, nor pyspark, nor the package onnx. Each model
is run bare, over batches that lie in memory as tensors, and by our worker, which reads Parquet, checks, scores and
writes: by one task on the GPU, and by two and four that share it.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.receipt import Receipt
from etl.runs.splits import SPLIT, Split
from scoring.order import Order
from scoring.runtimes.base import Placement
from scoring.worker import Unscored, score_splits
from tests.bench.gpu_bare import PROVIDERS, Wanted, bare, wanted
from tests.bench.gpu_device import Sampled, Sampler, device_facts
from tests.bench.gpu_results import RESULT, GpuModel, GpuResults, GpuRun
from tests.bench.gpu_work import GpuWork, works

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from scoring.runtimes.base import Device

__all__ = ["main", "measure"]

_START_SECONDS = 1800


class _Plan(NamedTuple):
    device: Device
    tasks: tuple[int, ...]
    seconds: float
    """How long bare runs at each batch size."""
    is_small: bool


class _Done(NamedTuple):
    """What a task says."""

    start: float
    end: float
    receipts: list[bytes]


def main(arguments: Sequence[str] | None = None) -> GpuResults:
    """Measure, print, and keep what was found."""
    asked = _parser().parse_args(arguments)
    plan = _Plan(asked.device, asked.tasks, 0.02 if asked.small else 0.5, asked.small)
    chosen = [work for work in works(is_small=asked.small) if not asked.only or work.name in asked.only.split("; ")]
    if asked.device != "cpu":
        missing = PROVIDERS[asked.device][0]
        name = missing if isinstance(missing, str) else missing[0]
        if name not in ort.get_available_providers():
            message = f"this onnxruntime has no {name}. Install onnxruntime-gpu, or try --device cpu --small."
            raise SystemExit(message)
    with contextlib.ExitStack() as stack:
        folder = Path(asked.work or stack.enter_context(tempfile.TemporaryDirectory()))
        results = GpuResults(about=_about(asked.device, asked.commit), models=[])
        out = Path(asked.out) if asked.out else None if asked.small or asked.device == "cpu" or asked.only else RESULT
        for work in chosen:
            results.models.append(measure(work, folder / work.name.replace(", ", "-"), plan))
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for aim in () if asked.small else results.aims:
        print("met    " if aim.is_met else "NOT MET", aim.text, aim.found)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure our worker on a GPU, without Spark.")
    parser.add_argument("--device", choices=list(PROVIDERS), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models: whether it works, not how fast")
    parser.add_argument("--tasks", type=lambda text: tuple(map(int, text.split(","))), default=(1, 2, 4))
    parser.add_argument("--only", help="names of models, with '; ' between")
    parser.add_argument("--out", help=f"file for the result; a whole measurement on a GPU goes to {RESULT.name}")
    parser.add_argument("--commit", default=_commit(), help="what is measured, where no repository tells")
    parser.add_argument("--work", help="empty folder to work in and to leave; else a temporary one")
    return parser


def _commit() -> str:
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def measure(work: GpuWork, folder: Path, plan: _Plan) -> GpuModel:
    """A model, bare and by so many tasks."""
    files = work.write(folder / "in")
    alone = bare(work, files[0], plan.device, least=plan.seconds, is_small=plan.is_small)
    others = "".join(f", {name} {rate / alone.rates[alone.best]:.2f} ×" for name, rate in alone.variants.items())
    print(f"{work.name}: bare {alone.rows_per_second:,.0f} rows/s at {alone.best} rows a call{others}", flush=True)
    expected, runs, off = wanted(work, files), [], 0.0
    for tasks in plan.tasks:
        run, receipts = _run(work, folder / f"tasks-{tasks}", files, plan=plan, tasks=tasks)
        off = max(off, _deviation(work, expected, receipts))
        runs.append(run)
        told = "" if run.busy is None else f", busy {run.busy:.0%}"
        print(
            f"{work.name}: {tasks} tasks {run.rows_per_second:,.0f} rows/s, {run.rows_per_second / alone.rows_per_second:.2f} of bare{told}",
            flush=True,
        )
    return GpuModel(
        name=work.name,
        bare_rows=alone.best,
        bare_rates=alone.rates,
        bare_rows_per_second=alone.rows_per_second,
        bare_variants=alone.variants,
        largest_deviation=off,
        runs=runs,
    )


def _run(work: GpuWork, folder: Path, files: list[Path], *, plan: _Plan, tasks: int) -> tuple[GpuRun, list[Receipt]]:
    """Ours: each task in a process of its own, which has scored a split before the clock starts."""
    order, splits = work.order(folder, files, plan.device)
    placement = Placement(None if plan.device == "cpu" else 0, tasks)
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(tasks), spawn.Queue()
    text = order.model_dump_json()
    processes = []
    with Sampler() as sampler:
        for number in range(tasks):
            own = [SPLIT.dump_json(split).decode() for split in splits[number::tasks]]
            process = spawn.Process(target=_task, args=(text, own, placement, barrier, answers))
            process.start()
            processes.append(process)
        done = [answers.get(timeout=_START_SECONDS) for _ in processes]
        for process in processes:
            process.join()
        errors = [answer for answer in done if isinstance(answer, str)]
        if errors:
            raise RuntimeError(errors[0])
        start, end = min(answer.start for answer in done), max(answer.end for answer in done)
        sampled = sampler.between(start, end)
    receipts = [Receipt.from_bytes(one, where="a task") for answer in done for one in answer.receipts]
    return _summed(work, receipts, tasks=tasks, seconds=end - start, sampled=sampled), receipts


def _task(order: str, splits: list[str], placement: Placement, barrier: Barrier, answers: Queue[Any]) -> None:
    """Runs in a process of its own, as a task of Spark would."""
    try:
        pa.set_cpu_count(1)
        told = Order.model_validate_json(order)
        own = [SPLIT.validate_json(split) for split in splits]
        _score(told.model_copy(update={"run_id": f"warm-up-{own[0].index}"}), own[:1], placement)
        barrier.wait(_START_SECONDS)
        start = time.time()
        receipts = _score(told, own, placement)
        answers.put(_Done(start, time.time(), [receipt.to_bytes() for receipt in receipts]))
    except Exception as error:  # noqa: BLE001  whatever fails is told
        barrier.abort()
        answers.put(f"{type(error).__name__}: {error}")


def _score(order: Order, splits: list[Split], placement: Placement) -> list[Receipt]:
    receipts = []
    for found in score_splits(order, splits, placement):
        if isinstance(found, Unscored):
            raise found.error
        receipts.append(found)
    return receipts


def _summed(work: GpuWork, receipts: list[Receipt], *, tasks: int, seconds: float, sampled: Sampled) -> GpuRun:
    rows = sum(receipt.account.scored.rows for receipt in receipts)
    if rows != work.rows:
        message = f"{work.name}: {rows} rows of {work.rows} were scored"
        raise RuntimeError(message)
    work_seconds, waiting = Counter[str](), Counter[str]()
    for receipt in receipts:
        work_seconds.update(receipt.seconds)
        waiting.update(receipt.waiting)
    batches = [facts for receipt in receipts for facts in receipt.batches.values()]
    return GpuRun(
        tasks=tasks,
        padding=work.padding,
        rows=rows,
        seconds=seconds,
        rows_per_second=rows / seconds,
        busy=sampled.busy,
        peak_gpu_bytes=sampled.peak_bytes,
        call_rows=statistics.median_low(facts.rows for facts in batches),
        seconds_per_row=batches[-1].seconds_per_row,
        seconds_by_phase=dict(work_seconds),
        waiting_by_phase=dict(waiting),
        provider=receipts[0].worker.provider,
    )


def _deviation(work: GpuWork, expected: list[Wanted], receipts: list[Receipt]) -> float:
    """The largest difference of a published score from the CPU's, of the first rows of each file."""
    by_split, off = {receipt.split: receipt for receipt in receipts}, 0.0
    for number, (ids, scores) in enumerate(expected):
        [written] = by_split[number].predictions
        places = [Path(written.pending.upload), Path(written.pending.path)]
        table = pq.read_table(pa.OSFile(str(next(place for place in places if place.exists()))))
        published = table.column("score").combine_chunks().flatten() if work.shape == "image" else table.column("score")
        found = published.to_numpy().reshape(table.num_rows, -1)
        at = {row: place for place, row in enumerate(table.column("id").to_pylist())}
        found = found[[at[row] for row in ids.tolist()]]
        off = max(off, float(np.nan_to_num(np.abs(found - scores), nan=np.inf).max()))
    return off


def _about(device: str, commit: str) -> dict[str, str]:
    versions = f"Python {platform.python_version()}, onnxruntime {ort.__version__}, pyarrow {pa.__version__}, numpy {np.__version__}"
    gpu = device_facts() if device != "cpu" else {"Device": f"CPU, {platform.machine()}", "Driver": "none"}
    return {
        **gpu,
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Commit": commit,
        "Versions": versions,
        "Cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "Provider": device,
    }


if __name__ == "__main__":
    main()
