"""What sketches cost a worker: one process, no Spark, the same splits scored with and without, turn by turn.

`python -m tests.bench.sketches [--rounds 8]` prints, by workload, the seconds of processor time of both and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config.job import JobConfig
from jobs.planning.plan import target_of
from jobs.planning.resolving import list_inputs, make_plan, store_plan
from scoring.worker import score_splits
from tests.bench.workload import FEATURES, Size, data_folder, model_file

if TYPE_CHECKING:
    from jobs.planning.plan import Plan

__all__ = ["main"]

SIZES = {"logistic": Size(4, 16, 1 << 16), "mlp": Size(4, 5, 1 << 16)}
"""Four splits, of 120 MB each for the light model, which is about what a job cuts."""


def _plan(folder: Path, workload: str, source: Path, run_id: str) -> Plan:
    """The plan of a run that sketches the 28 inputs and the score."""
    job: dict[str, Any] = {
        "api_version": "batchscore/1",
        "name": "bench",
        "input": {"files": str(source)},
        "model": {"onnx": str(folder / f"{workload}.onnx"), "inputs": {"X": list(FEATURES)}},
        "output": {"uri": str(folder / "out"), "passthrough": ["id"]},
        "drift": {},
    }
    config = JobConfig.model_validate(job)
    target = target_of(config, run_id, scratch=False)
    return store_plan(target, make_plan(target, config, list_inputs(config.input.patterns), latest=None))


def _pair(folder: Path, workload: str, source: Path, turn: int) -> dict[str, float]:
    """Seconds of processor time without and with, and those that the workers tell; who comes first takes turns."""
    spent = {}
    for name in ("off", "on") if turn % 2 else ("on", "off"):
        plan = _plan(folder, workload, source, f"{workload}-{name}-{turn}")
        order = plan.order if name == "on" else plan.order.model_copy(update={"sketch": None})
        start = time.process_time()
        receipts = list(score_splits(order, plan.splits))
        spent[name] = time.process_time() - start
        if name == "on":
            told = [receipt.seconds for receipt in receipts if not hasattr(receipt, "error")]
            spent["share"] = sum(one["sketch"] for one in told) / sum(sum(one.values()) for one in told)
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for workload, size in SIZES.items():
            source = data_folder(folder, "columns", size)
            model_file(folder, workload)
            # The first pair loads the model and warms caches.
            pairs = [_pair(folder, workload, source, turn) for turn in range(asked.rounds + 1)][1:]
            ratios = [pair["on"] / pair["off"] - 1 for pair in pairs]
            off, on, share = (statistics.median(pair[name] for pair in pairs) for name in ("off", "on", "share"))
            print(
                f"{workload}: {size.rows:,} rows; {off:.3f} s of processor time without and {on:.3f} s with sketches; "
                f"median of the pairs {statistics.median(ratios):+.1%} (best {min(ratios):+.1%}, worst "
                f"{max(ratios):+.1%}); phase `sketch` {share:.1%} of the worker's seconds"
            )


if __name__ == "__main__":
    main()
