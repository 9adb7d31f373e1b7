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
from tests.bench.measure import Sizes, measure, measure_memory
from tests.bench.report import HEADINGS, Results, aims, cells, lines_of
from tests.bench.workload import MODELS

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "BENCHMARKS.md"
FULL = Sizes(row_groups=(2, 12), warm_up=1, group_rows=1 << 16, rounds=3, extra=3)
QUICK = Sizes(row_groups=(2, 12), warm_up=1, group_rows=1 << 12, rounds=1, extra=0)
PACKAGES = ("batchscore", "pyarrow", "numpy", "onnxruntime", "pyspark", "pandas", "mlflow-skinny", "daft", "ray")


def main() -> None:
    """Run the bench, print the tables, and write the page when it was a whole one."""
    arguments = _arguments()
    kept = CACHE / "results.json"
    if arguments.page:
        results = Results.model_validate_json(kept.read_bytes())
        PAGE.write_text(document(results), encoding="utf-8")
        _show(results)
        return
    sizes = QUICK if arguments.quick else FULL._replace(rounds=arguments.rounds, extra=arguments.rounds)
    CACHE.mkdir(parents=True, exist_ok=True)
    names = ["bare", *(name for name in arguments.only or CONTENDERS if name != "bare")]
    runs = measure(CACHE, sizes, names, say=_say)
    memory = measure_memory(CACHE, sizes, _say) if "ours" in names else []
    rows = (sizes.rows(sizes.row_groups[0]), sizes.rows(sizes.row_groups[1]))
    results = Results(about=_about(), rows=rows, runs=runs, memory=memory)
    _show(results)
    if not arguments.quick and not arguments.only:
        kept.write_text(results.model_dump_json(indent=1), encoding="utf-8")
        PAGE.write_text(document(results), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure batchscore beside its peers.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: whether it works, not how fast")
    parser.add_argument(
        "--rounds", type=int, default=FULL.rounds, help="runs of each at each size; 3 take half an hour"
    )
    parser.add_argument("--only", type=_names, help=f"a comma between names: {', '.join(CONTENDERS)}")
    parser.add_argument("--page", action="store_true", help="write the page again from the last whole bench")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    asked = re.split(r",(?! )", text)
    unknown = [name for name in asked if name not in CONTENDERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no contender {', '.join(unknown)}; there is: {' | '.join(CONTENDERS)}")
    return asked


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def _show(results: Results) -> None:
    console = Console(width=max(Console().width, 120))
    for model in MODELS:
        table = Table(*HEADINGS, title=f"{model}, {results.rows[0]:,} and {results.rows[1]:,} rows")
        table.columns[0].no_wrap = True
        for row in cells(lines_of(results, model)):
            table.add_row(*row)
        console.print(table)
    if results.rows[1] < FULL.rows(FULL.row_groups[1]):
        return  # so few rows say nothing of speed
    for aim in aims(results):
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
