"""Measure batchscore beside its peers: `make bench`, with `ARGS="--quick"` or `ARGS="--only ours,bare"` for less."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.contender import CONTENDERS, CORES
from tests.bench.document import document
from tests.bench.gpu_results import RESULT, GpuResults
from tests.bench.measure import Bench, Plan, measure, measure_memory
from tests.bench.report import HEADINGS, Results, aims, cells, lines_of
from tests.bench.workload import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "BENCHMARKS.md"
KEPT = RESULT.with_name("bench.json")
"""The last whole bench; the page is made of it and of `RESULT`."""
ROUNDS = 2
PACKAGES = ("batchscore", "pyarrow", "numpy", "onnxruntime", "pyspark", "pandas", "mlflow-skinny", "daft", "ray")


def main() -> None:
    """Run the bench, print the tables, and write the page when it was a whole one."""
    arguments = _arguments()
    if arguments.page:
        results = Results.model_validate_json(KEPT.read_bytes())
        _write_page(results)
        _show(results)
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    plan = _plan(arguments)
    bench = Bench(CACHE, plan, _say)
    runs = measure(bench, plan, _say)
    memory = []
    if "ours" in plan.contenders and arguments.memory:
        memory = measure_memory(bench, plan, _say)
    results = Results(about=_about(), facts=bench.facts, runs=runs, memory=memory)
    is_whole = not (arguments.quick or arguments.only) and arguments.memory
    KEPT.parent.mkdir(exist_ok=True)
    (KEPT if is_whole else CACHE / "part.json").write_text(results.model_dump_json(indent=1), encoding="utf-8")
    _show(results, has_aims=not arguments.quick)
    if is_whole:
        _write_page(results)


def _write_page(results: Results) -> None:
    gpu = GpuResults.model_validate_json(RESULT.read_bytes()) if RESULT.exists() else None
    PAGE.write_text(document(results, gpu), encoding="utf-8")


def _plan(arguments: argparse.Namespace) -> Plan:
    only = arguments.only or []
    contenders = [name for name in only if name in CONTENDERS and name != "bare"]
    workloads = [name for name in WORKLOADS if name in only] or list(WORKLOADS)
    if not contenders and "bare" not in only:
        contenders = [name for name in CONTENDERS if name != "bare"]
    rounds = 1 if arguments.quick else arguments.rounds
    return Plan(["bare", *contenders], workloads, rounds, 0 if arguments.quick else rounds, arguments.quick)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure batchscore beside its peers.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: whether it works, not how fast")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each at each size; 2 take about 45 minutes")
    names = ", ".join([*WORKLOADS, *CONTENDERS])
    parser.add_argument("--only", type=_names, help=f"workloads, contenders, or both, with a comma between: {names}")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the workers' memory")
    parser.add_argument("--page", action="store_true", help="write the page again from the last whole bench")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    asked = re.split(r",(?! )", text)
    unknown = [name for name in asked if name not in CONTENDERS and name not in WORKLOADS]
    if unknown:
        there = " | ".join([*WORKLOADS, *CONTENDERS])
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there is: {there}")
    return asked


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def _show(results: Results, *, has_aims: bool = True) -> None:
    console = Console(width=max(Console().width, 120))
    for name, facts in results.facts.items():
        table = Table(*HEADINGS, title=f"{name}, {facts.rows[0]:,} and {facts.rows[1]:,} rows")
        table.columns[0].no_wrap = True
        for row in cells(lines_of(results, name)):
            table.add_row(*row)
        console.print(table)
    for aim in aims(results) if has_aims else ():  # tiny sizes say nothing of speed
        console.print(f"{'met    ' if aim.is_met else 'NOT MET'} {aim.text}: {aim.found}")


def _about() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Machine": f"{_processor()}, {cores} cores of which each contender may use {CORES}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory, {platform.system()} {platform.machine()}",
        "Versions": f"Python {platform.python_version()}, Java {_java()}, {versions}",
        "Commit": _commit(),
        "Command": shlex.join(["make", "bench", *([f"ARGS={shlex.join(sys.argv[1:])}"] if sys.argv[1:] else [])]),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", facts.read_text(encoding="utf-8")) if facts.exists() else None
    return found[1].strip() if found else platform.processor()


def _java() -> str:
    found = re.search(r'version "([^"]+)"', _told("java", "-version"))
    return found[1] if found else "unknown"


def _commit() -> str:
    git = ("git", "-C", str(ROOT))
    commit, changed = _told(*git, "rev-parse", "--short", "HEAD"), _told(*git, "diff", "HEAD", "--stat")
    return f"{commit}{' and changes that were not committed' if changed else ''}"


def _told(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
