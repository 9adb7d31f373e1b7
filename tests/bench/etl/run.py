"""Measure `apply`: `python -m tests.bench.etl.run`, as `make bench` does behind the rest. One core for each contender."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.bench.etl.contenders import BATCH_ROWS, CONTENDERS
from tests.bench.etl.workload import rows

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "BENCHMARKS-ETL.md"
ROWS = 1_048_576
COMPARED = 1_000


def main() -> None:
    """Run the contenders in turn, compare their features, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", action="store_true", help="write docs/BENCHMARKS-ETL.md")
    asked = parser.parse_args()
    found = {name: _in_a_process("contender", name, asked.rows, asked.rounds) for name in CONTENDERS}
    wanted = np.array(found["batchscore"]["features"], np.float32)
    for told in found.values():
        told["off"] = float(np.nanmax(np.abs(np.array(told.pop("features"), np.float32) - wanted)))
    lookups = _in_a_process("lookups", "", 0, asked.rounds)
    lines = _lines(found, lookups, asked)
    print("\n".join(lines))
    if asked.page:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


_LOOKUPS = 5
"""Look-ups are quick: so many are timed for each round of the others."""


def _lines(found: dict[str, Any], lookups: dict[str, Any], asked: argparse.Namespace) -> list[str]:
    ours = found["batchscore"]["rate"]
    lines = [
        "# How quickly a spec is applied",
        "",
        f"14 raw columns (10 numbers, 4 texts, 5 % missing) to 54 features, {asked.rows:,} rows, one core each, medians",
        f"of {asked.rounds} rounds. {_machine()}. Made by `make bench`.",
        "",
        "| | million rows/s | ours ÷ it | largest difference from ours |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, told in found.items():
        lines.append(f"| {name} | {told['rate'] / 1e6:.2f} | {ours / told['rate']:.2f} | {told['off']:.2g} |")
    lines += [
        "",
        "Spark's contenders read their rows from the session's own memory and keep nothing. Spark ML divides by the sample",
        "deviation and has no stage that clips, hence its difference, and is spared that work.",
        "",
        "| look-up | ns a value | `pyarrow.compute.index_in` | ours ÷ it |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, (mine, theirs) in lookups.items():
        lines.append(f"| {name} | {mine:.1f} | {theirs:.1f} | {mine / theirs:.2f} |")
    return lines


def _machine() -> str:
    python = f"Python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"
    return f"{platform.processor() or platform.machine()}, {python}"


def _in_a_process(kind: str, name: str, count: int, rounds: int) -> dict[str, Any]:
    """A process of its own on one core: its threads and imports are nobody else's."""
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, kind, name), kwargs={"count": count, "rounds": rounds})
    process.start()
    told: dict[str, Any] = json.loads(mine.recv())
    process.join()
    return told


def _serve(pipe: Any, kind: str, name: str, *, count: int, rounds: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    told = _contend(name, count, rounds) if kind == "contender" else _look_up(rounds)
    pipe.send(json.dumps(told))


def _contend(name: str, count: int, rounds: int) -> dict[str, Any]:
    contender = CONTENDERS[name]()
    contender.start(rows(count))
    contender.make()
    seconds = [_clocked(contender.make) for _ in range(rounds)]
    return {"rate": count / statistics.median(seconds), "features": contender.features(COMPARED).tolist()}


def _look_up(rounds: int) -> dict[str, Any]:
    """A vocabulary of 100,000 entries on texts, and one of 30,000 on 128 tokens a row."""
    from etl.ops.codes import TextCodes

    rng = np.random.default_rng(7)
    found = {}
    for name, entries, values in (
        ("100,000 entries, one text a row", 100_000, BATCH_ROWS),
        ("30,000 entries, 128 tokens a row", 30_000, BATCH_ROWS * 128),
    ):
        vocabulary = [f"entry-{number}" for number in range(entries)]
        texts = pa.array([f"entry-{number}" for number in range(entries + entries // 10)])
        # As words are: few are frequent.
        column = texts.take(pa.array(np.minimum(rng.zipf(1.2, values), len(texts)) - 1))
        codes, value_set = TextCodes(vocabulary), pa.array(vocabulary)
        ours, theirs = [], []
        # The first call of each pays for memory that later ones find, and ours for its index.
        codes.codes(column), pc.index_in(column, value_set=value_set)
        for _ in range(_LOOKUPS * rounds):
            ours.append(_clocked(lambda: codes.codes(column)))  # noqa: B023  called at once
            theirs.append(_clocked(lambda: pc.index_in(column, value_set=value_set)))  # noqa: B023  called at once
        found[name] = [statistics.median(part) / values * 1e9 for part in (ours, theirs)]
    return found


def _clocked(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
