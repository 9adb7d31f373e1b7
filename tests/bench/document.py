"""The page of the benchmarks, as Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.bench.contender import CONTENDERS, CORES
from tests.bench.measure import MEMORY_RUNS
from tests.bench.report import HEADINGS, Results, aims, cells, lines_of, memory_limit
from tests.bench.workload import FEATURES, TASKS, WORKLOADS

if TYPE_CHECKING:
    from tests.bench.gpu_results import GpuModel, GpuResults

__all__ = ["document"]

_INTRODUCTION = (
    "`make bench` writes this page; do not edit it. All contenders ran on one machine in one go, in turn "
    "(A B C A B C …). A number means something beside the others of its table only."
)

_TERMS = """\
- **bare**: pyarrow and onnxruntime in two processes, no checks and no promises. The limit.
- **ours**: a job over files, from claim to record. **ours, frozen table**: the same over a query; the time in which Spark freezes it is part of it.
- **ours, score_udf** and **ours, score(df)**: our functions for DataFrames; Spark reads and writes, and rows pass through the JVM.
- **marginal**: rows between the two sizes ÷ seconds between them, medians of all runs.
- **fixed**: what the smaller size takes beyond its rows at the marginal rate. Near zero it is noise."""

_REASONS = {
    "ours": (
        "Beside the bare loop's work every row is checked against the contract and hashed into the account, files are "
        "digested and forced to disk, and the run is claimed, settled, published and recorded. Most of the fixed cost "
        "is Spark's: a Python task takes a tenth of a second of a core before it does anything."
    ),
    "ours, frozen table": (
        "Spark writes the table as Parquet before anything is scored, so that it can be pinned and resumed. Files do "
        "not pay that."
    ),
    "ours, score_udf": "Rows come and go as for any arrow_udf; each is checked against the contract on the way.",
    "ours, score(df)": "As score_udf, by mapInArrow: the id goes through Python, too.",
    "pandas_udf": (
        "Spark turns its columns into rows, the rows into Arrow batches, and sends these through a socket to Python, "
        "where they become pandas; the scores go the same way back."
    ),
    "arrow_udf": "As pandas_udf but for pandas. Rows, Arrow and the socket remain.",
    "predict_batch_udf": (
        "A pandas_udf inside. The columns travel as a struct, which becomes a DataFrame and a matrix. Rows of ids have "
        "to be of one length: Spark pads them all to the longest."
    ),
    "mlflow spark_udf": (
        "A pandas_udf inside. Each batch becomes a DataFrame that is checked against the signature, and the model gets "
        "the whole Arrow batch, which does not fit the cache of a core."
    ),
    "Daft": "It reads, scores and writes in one process without Spark; the table shows what its engine adds to that.",
    "Ray Data": "Each block passes through shared memory, and the scheduler takes its part of the same two cores.",
}
"""Why a line loses, by contender. Written by hand: look at them when the numbers change."""

_PHASES = (
    "Median seconds at the larger size: of the driver by phase (`wall`, they add up to the run); of the workers by phase "
    "(`worker`, work, summed over both cores); and of the same phases while they waited for rows, or for the next phase "
    "to take them (`waiting`). A phase that never waits is the limit. `rows a call` is what workers found for the model."
)

_MEMORY = (
    "Peak resident size of a worker that has scored the larger size, once and several times, and nothing else. The limit "
    "is the model, four batches (of 8 MiB as they are read, with their scores), one decoded row group of the columns that "
    "are read, and 300 MiB."
)


def document(results: Results, gpu: GpuResults | None) -> str:
    """Everything that a reader needs to believe it, or to run it again."""
    parts = ["# Benchmarks", _INTRODUCTION, _list(results.about), _METHOD, _TERMS]
    rows = [(aim.text, aim.found, "met" if aim.is_met else "**not met**") for aim in aims(results)]
    parts += ["## Aims", _table(("aim", "found", ""), rows)]
    for name in results.facts:
        parts += [f"## {WORKLOADS[name].title}", _about(results, name)]
        parts.append(_table(HEADINGS, cells(lines_of(results, name))))
    parts += ["## Why a line loses", _reasons(results), "## Memory of a worker", _MEMORY, _memory(results)]
    parts += ["## Where our seconds go", _PHASES]
    for contender in [name for name in CONTENDERS if name in {"ours", "ours, frozen table"}]:
        parts += [f"### {contender}", _phases(results, contender)]
    parts += ["## On a GPU", *_gpu(gpu)]
    return "\n\n".join(parts) + "\n"


_METHOD = (
    f"Everybody reads `id` and the model's columns ({len(FEATURES)} float32, or one list) from Parquet files (zstd) and "
    f"writes `id` and `score` as Parquet (zstd), two sizes in as many tasks, {TASKS} files each where nothing else is "
    f"said, on {CORES} cores with one thread of onnxruntime in each worker. The rows of one call of the model are found "
    "for each model before anything else runs, and given to all who cut calls themselves; ours finds its own. A turn is "
    "a warm-up and then the two sizes one right after another, so sessions and workers are up and warm before the clock "
    "starts; the input is in the page cache. Every result is read back whole: each id once, each score as bare's to "
    "1e-5, and bare's as numpy's. Who cannot do a workload says why."
)


def _list(items: dict[str, str]) -> str:
    return "\n".join(f"- **{key}**: {value}" for key, value in items.items())


def _about(results: Results, name: str) -> str:
    facts = results.facts[name]
    text = f"{facts.rows[0]:,} and {facts.rows[1]:,} rows; {facts.knee:,} rows a call for all but ours and MLflow, whose own is below."
    if facts.files[0] == facts.files[1]:
        return text
    more = facts.files[1] - facts.files[0]
    each = [
        f"{line.contender} {1000 * (line.seconds[1] - line.seconds[0]) / more:.1f}"
        for line in lines_of(results, name)
        if not math.isnan(line.marginal)
    ]
    return f"{text} Milliseconds that one more file takes: {', '.join(each)}."


def _table(headings: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    rule = ("---", *["---:"] * (len(headings) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *body))


def _reasons(results: Results) -> str:
    """The reasons of the lines that have a faster one beside them on some workload."""
    losing = set()
    for name in results.facts:
        lines = [line for line in lines_of(results, name) if not math.isnan(line.marginal)]
        best = max((line.marginal for line in lines), default=0)
        losing |= {line.contender for line in lines if line.marginal < best}
    return "\n".join(f"- **{name}**: {reason}" for name, reason in _REASONS.items() if name in losing)


def _memory(results: Results) -> str:
    body = []
    for name, facts in results.facts.items():
        peaks = {item.rows: item.peak_bytes for item in results.memory if item.workload == name}
        found = [_mib(peaks.get(times * facts.rows[1], math.nan)) for times in (1, MEMORY_RUNS)]
        body.append(
            (name, *found, *map(_mib, (memory_limit(facts), facts.model_bytes, facts.batch_bytes, facts.group_bytes)))
        )
    return _table(("MiB", "larger size", f"{MEMORY_RUNS} times that", "limit", "model", "a batch", "a row group"), body)


def _mib(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value / 2**20:,.1f}"


def _phases(results: Results, contender: str) -> str:
    columns = {name: results.told(name, contender) for name in results.facts}
    names = dict.fromkeys(name for facts in columns.values() for name in facts if name != "peak bytes")
    order = sorted(names, key=lambda name: ("wall", "worker", "waiting", "rows").index(name.split()[0]))
    body = [
        (name, *(_fact(name, facts[name]) if name in facts else "" for facts in columns.values())) for name in order
    ]
    return _table(("", *columns), body)


def _fact(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.startswith("rows") else f"{value:.2f}"


def _times(model: GpuModel, name: str) -> str:
    rate = model.bare_variants.get(name)
    return "not measured" if rate is None else f"{rate / model.bare_rates[model.bare_rows]:.2f} ×"


def _gpu(found: GpuResults | None) -> list[str]:
    if found is None:
        return [
            (
                "*Not measured*: no GPU was at hand. `make bench-gpu` on a machine that has one writes "
                "`tests/bench/results/gpu.json`, and this section from it."
            )
        ]
    tasks = [
        (
            model.name,
            str(run.tasks),
            f"{run.rows_per_second:,.0f}",
            f"{run.rows_per_second / model.bare_rows_per_second:.2f}",
            "not measured" if run.busy is None else f"{run.busy:.0%}",
            "not measured" if run.peak_gpu_bytes is None else f"{run.peak_gpu_bytes / 2**20:,.0f}",
            f"{run.call_rows:,}",
        )
        for model in found.models
        for run in model.runs
    ]
    headings = ("model", "tasks on the GPU", "rows/s", "÷ bare", "GPU busy", "its memory, MiB", "rows a call")
    bare = [
        (
            model.name,
            f"{model.bare_rows_per_second:,.0f}",
            f"{model.bare_rows:,}",
            *(_times(model, name) for name in ("IO binding", "tf32")),
            f"{model.largest_deviation:.1g}",
        )
        for model in found.models
    ]
    aims = [(aim.text, aim.found, "met" if aim.is_met else "**not met**") for aim in found.aims]
    return [
        _list(found.about),
        (
            "Bare is a loop over batches that lie in memory as tensors, at its best batch size. Ours reads Parquet, checks, "
            "scores and writes, in one worker process a task."
        ),
        _table(("bare", "rows/s", "rows a call", "with IO binding", "with TensorFloat-32", "ours off by"), bare),
        _table(headings, tasks),
        _table(("aim", "found", ""), aims),
    ]
