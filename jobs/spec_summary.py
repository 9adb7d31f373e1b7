"""What people see of ETL specs on a terminal: explanations, differences, samples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from etl.fitting import most_extra_passes
from jobs.summary import Column, Facts, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.importing import Imported
    from etl.inspection.diff import Change, Difference
    from etl.inspection.explain import ExplainedStep
    from etl.spec import Spec
    from etl.types import ColumnType
    from jobs.specs import Sample

__all__ = [
    "difference_sheet",
    "explained_facts",
    "explained_plain",
    "explained_sheet",
    "imported_sheet",
    "sample_sheet",
    "spec_facts",
]

_CELL = 36
_FEW = 4


def spec_facts(spec: Spec) -> Facts:
    """What a spec is, in a few lines."""
    learning = sum(not step.is_fitted for step in spec.steps)
    told = spec.provenance
    without = told.notes.get("golden", "none") if told is not None else "none"
    golden = f"{len(spec.golden)} rows, replayed" if spec.golden else without
    facts = [
        ("spec", f"{spec.spec_id}, revision {spec.revision}, {spec.format}, {spec.semantics.profile}"),
        ("input", f"{len(spec.input.fields)} fields"),
        ("steps", f"{len(spec.relational)} relational, {len(spec.steps)} row steps"),
        ("fitted", "yes" if spec.is_fitted else f"no, {learning} steps are to be learned"),
        ("tensors", ", ".join(_tensors(spec))),
        ("golden rows", golden),
        ("sha256", spec.digest),
    ]
    if told is not None and told.rows:
        learned = f"{told.rows:,} rows in {told.passes} passes, of which {told.rejected:,} rejected"
        facts.insert(4, ("learned from", learned))
    return facts


def _tensors(spec: Spec) -> list[str]:
    widths = spec.widths()
    made = []
    for tensor in spec.outputs.tensors:
        axes = ", ".join(["rows", *map(str, tensor.axes(widths[tensor.tensor]))])
        bound = "" if tensor.model_input == tensor.tensor else f" → {tensor.model_input}"
        made.append(f"{tensor.tensor} {tensor.dtype}[{axes}]{bound}")
    return made


def explained_sheet(steps: Sequence[ExplainedStep]) -> Sheet:
    """A line a step: what it reads and makes, when it is learned, what it costs."""
    columns = (
        Column("step"),
        Column("op"),
        Column("reads", "fold", 2),
        Column("makes", "fold"),
        Column("pass", "right", 1),
        Column("ns/row", "right", 3),
        Column("columns", "right", 4),
    )
    return Sheet(columns, [_explained(step) for step in steps])


def explained_plain(step: ExplainedStep) -> dict[str, Any]:
    """A step for programs, types as a spec writes them."""
    typed = {key: [[name, str(type_)] for name, type_ in getattr(step, key)] for key in ("reads", "makes")}
    return {**step._asdict(), **typed}


def _explained(step: ExplainedStep) -> tuple[str, ...]:
    passes = "" if step.learned_in is None else f"{step.learned_in}"
    if step.most_extra_passes:
        passes += f" (+{step.most_extra_passes})"
    drops = f", drops {', '.join(step.drops)}" if step.drops else ""
    return (
        step.id,
        step.op,
        _typed(step.reads),
        f"{_typed(step.makes)}{drops}" or "no column",
        passes,
        "" if step.nanoseconds is None else f"{step.nanoseconds:.1f}",
        str(step.columns),
    )


def _typed(columns: Sequence[tuple[str, ColumnType]]) -> str:
    shown = [f"{name} {type_}" for name, type_ in columns[:_FEW]]
    more = [f"and {len(columns) - _FEW} more"] if len(columns) > _FEW else []
    return ", ".join(shown + more)


def explained_facts(spec: Spec, steps: Sequence[ExplainedStep]) -> Facts:
    """Passes over the data, and what a row costs altogether."""
    passes = max((step.learned_in or 0 for step in steps), default=0)
    extra = most_extra_passes(spec)
    many = f", and up to {extra} more for exact quantiles (of fields too) of very many distinct values"
    said = f"{passes}{many if extra else ''}"
    cost = [step.nanoseconds for step in steps if step.nanoseconds is not None]
    per_row = "not measured: a fitted spec with golden rows is"
    if cost and sum(cost):
        per_row = f"{sum(cost):,.0f} ns a row on one core here, {1e3 / sum(cost):.2f} million rows a second"
    is_learned = "none: the spec is fitted" if spec.is_fitted else said
    return [("passes over the data", is_learned), ("row steps cost", per_row)]


def difference_sheet(found: Difference) -> Sheet:
    """A line a change."""
    parts: tuple[tuple[str, tuple[Change, ...]], ...] = (
        ("contract", found.contract),
        ("steps", found.steps),
        ("state", found.state),
        ("tensors", found.tensors),
        ("rest", found.rest),
    )
    rows = [(part, change.where, change.what) for part, changes in parts for change in changes]
    return Sheet((Column("part"), Column("where", rank=1), Column("change", "fold")), rows)


def imported_sheet(found: Imported) -> Sheet:
    """A line a part of the source: its place, what it became, and where the meaning differs."""
    columns = (Column("place"), Column("source", "fold", 1), Column("became", "fold"), Column("note", "fold"))
    rows = [(part.pointer or "/", part.source, part.became, part.note or "") for part in found.report]
    return Sheet(columns, rows)


def sample_sheet(sample: Sample) -> Sheet:
    """A line a column: who made it, its type, and its value in each row."""
    count = len(sample.outcomes)
    heads = [Column(f"row {number}", "fold", number) for number in range(count)]
    columns = (Column("column"), Column("made by", rank=count + 2), Column("type", rank=count + 1), *heads)
    rows = [(c.name, c.made_by, str(c.type), *map(_shown, c.values)) for c in sample.columns]
    rows.append(("", "", "", *sample.outcomes))
    return Sheet(columns, rows)


def _shown(value: Any) -> str:
    if value is None:
        return "·"
    if isinstance(value, list):
        told = ", ".join(_shown(part) for part in value)
        return f"[{told}]" if len(told) <= _CELL else f"[{told[:_CELL]}…] {len(value)} values"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"
