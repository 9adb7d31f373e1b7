"""The page of the benchmarks, as Markdown."""

from __future__ import annotations

import math

from tests.bench.report import HEADINGS, REASONS, Results, aims, cells, lines_of
from tests.bench.workload import FEATURES, FILES, MODELS

__all__ = ["document"]

_TITLES = {
    "logistic": "Logistic regression, 28 → 1: what is left when the model costs next to nothing",
    "mlp": "MLP, 28 → 256 → 256 → 1: a model of 147 kFLOP a row",
}

_INTRODUCTION = (
    "`make bench` writes this page; do not edit it. All contenders ran on one machine in one go, in turn "
    "(A B C A B C …). A number means something beside the others of its table only."
)

_TERMS = """\
- **bare**: pyarrow and onnxruntime in two processes, no checks and no promises. The limit.
- **marginal**: rows between the two sizes ÷ seconds between them, medians of all runs.
- **fixed**: what the smaller size takes beyond its rows at the marginal rate. Near zero it is noise.
- **ours, frozen table**: the same run over a query; the time in which Spark freezes it is part of it."""

_PHASES = (
    "Median seconds at the larger size: of the driver by phase (`wall`, they add up to the run), and of the workers by "
    "phase (`worker`, summed over both cores)."
)


def document(results: Results) -> str:
    """Everything that a reader needs to believe it, or to run it again."""
    about = "\n".join(f"- **{key}**: {value}" for key, value in results.about.items())
    parts = ["# Benchmarks", _INTRODUCTION, about, _method(results), _TERMS]
    for model in MODELS:
        parts += [f"## {_TITLES[model]}", _table(HEADINGS, cells(lines_of(results, model)))]
    rows = [(aim.text, aim.found, "met" if aim.is_met else "**not met**") for aim in aims(results)]
    parts += ["## Aims", _table(("aim", "found", ""), rows), "## Why a line loses", _reasons(results)]
    parts += ["## Where our seconds go", _PHASES, _phases(results)]
    return "\n\n".join(parts) + "\n"


def _method(results: Results) -> str:
    smaller, larger = results.rows
    return (
        f"Everybody reads `id` and {len(FEATURES)} float32 columns from {FILES} Parquet files (zstd) and writes `id` "
        f"and `score` as Parquet (zstd), of {smaller:,} and of {larger:,} rows, in as many tasks, with one thread "
        "of onnxruntime in each worker. A turn is a warm-up and then the two sizes one right after another, so "
        "sessions and workers are up and warm before the clock starts; the input is in the page cache. Every result is read back whole: each id once, each score as bare's to 1e-5."
    )


def _table(headings: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    rule = ("---", *["---:"] * (len(headings) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *body))


def _reasons(results: Results) -> str:
    """The reasons of the lines that have a faster one beside them on some model."""
    losing = set()
    for model in MODELS:
        lines = [line for line in lines_of(results, model) if not math.isnan(line.marginal)]
        best = max((line.marginal for line in lines), default=0)
        losing |= {line.contender for line in lines if line.marginal < best}
    return "\n".join(f"- **{name}**: {reason}" for name, reason in REASONS.items() if name in losing)


def _phases(results: Results) -> str:
    columns = {
        f"{name}, {model}": results.facts(model, name) for name in ("ours", "ours, frozen table") for model in MODELS
    }
    names = dict.fromkeys(name for facts in columns.values() for name in facts if name != "peak bytes")
    body = [(name, *(f"{facts.get(name, 0):.2f}" for facts in columns.values())) for name in names]
    return _table(("", *columns), body)
