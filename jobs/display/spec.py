"""What people see of ETL specs on a terminal: explanations, differences, samples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from etl.learning.fitting import most_extra_passes
from etl.ops.base import FittedStep
from etl.ops.relations import reads_as_stored, unpinned
from etl.printable import counted
from jobs.display.summary import Column, Facts, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.importing import Imported
    from etl.inspection.diff import Change, Difference
    from etl.inspection.explain import ExplainedStep
    from etl.spec import Spec
    from etl.types import ColumnType
    from jobs.authoring.specs import Sample

__all__ = [
    "difference_sheet",
    "explained_facts",
    "explained_plain",
    "explained_sheet",
    "imported_sheet",
    "sample_sheet",
    "schema_facts",
    "spec_facts",
    "verdict_facts",
]

_CELL = 36
_FEW = 4


def spec_facts(spec: Spec) -> Facts:
    """What a spec is, in a few lines."""
    learning = sum(not step.is_fitted for step in spec.steps)
    told = spec.provenance
    without = told.notes.get("golden", "none") if told is not None else "none"
    golden = f"{counted(len(spec.golden), 'row')}, replayed" if spec.golden else without
    sealed = f"{spec.digest}, not sealed" if spec.is_fitted and spec.integrity is None else spec.digest
    facts = [
        ("spec", f"{spec.spec_id}, revision {spec.revision}, {spec.format}, {spec.semantics.profile}"),
        ("input", f"{len(spec.input.fields)} fields"),
        ("steps", f"{len(spec.relational)} relational, {len(spec.steps)} row steps"),
        ("fitted", "yes" if spec.is_fitted else f"no, {counted(learning, 'step')} to be learned"),
        ("tensors", ", ".join(_tensors(spec))),
        ("golden rows", golden),
        ("sha256", sealed),
    ]
    if told is not None and told.rows:
        left_out = f"of which {told.rejected:,} rejected and {told.filtered:,} filtered"
        facts.insert(
            4, ("learned from", f"{counted(told.rows, 'row')} in {counted(told.passes, 'pass', 'passes')}, {left_out}")
        )
    return facts


def verdict_facts(spec: Spec) -> Facts:
    """That a spec is sound, and what nothing tells of it."""
    facts = [("state", "ok")]
    has_learned = any(isinstance(step, FittedStep) and step.is_fitted for step in spec.steps)
    if has_learned and spec.is_fitted and spec.integrity is None:
        also = "" if spec.golden else " and has no golden rows"
        goes = "what it learned" if not spec.golden else "what no golden row shows of what it learned"
        facts.append(("warning", f"the spec is not sealed{also}: {goes} may have been changed, and nothing tells."))
    free = unpinned(spec.relational)
    if free:
        which = f"reference table{'' if len(free) == 1 else 's'} {', '.join(free)}"
        told = spec.provenance.notes.get("references") if spec.provenance is not None else None
        where = "the note `references` of the provenance says which" if told else "a fit notes which"
        facts.append(("warning", f"{which}: not pinned, any content is joined. Give `sha256` to the join; {where}."))
    return [*facts, *_stored_facts(spec)]


def _stored_facts(spec: Spec) -> Facts:
    """Which steps do not see what the contract makes of a field, for they run before it."""
    behind = "stands before a step that needs other rows, so it runs on the table, before the contract"
    return [
        ("warning", f"step {step!r} reads {name} as it is stored, not as the contract treats it: it {behind}.")
        for step, name in reads_as_stored(spec.relational, spec.input.fields)
    ]


def _tensors(spec: Spec) -> list[str]:
    widths = spec.widths()
    made = []
    for tensor in spec.outputs.tensors:
        form = tensor.form(widths[tensor.tensor])
        told = "" if "?" not in form else ", known behind the fit"
        bound = "" if tensor.model_input == tensor.tensor else f" → {tensor.model_input}"
        bound += "".join(f", mask → {name}" for name in tensor.model_inputs[1:])
        made.append(f"{tensor.tensor} {form}{bound}{told}")
    return made


def schema_facts(spec: Spec, steps: Sequence[ExplainedStep]) -> Facts:
    """Every column that there is behind the input and behind each step, with its type."""
    last = [(step.id, step.schema) for step in steps]
    return [(name, _typed(schema, len(schema))) for name, schema in (("input", _fields(spec)), *last)]


def _fields(spec: Spec) -> tuple[tuple[str, ColumnType], ...]:
    return tuple(spec.input.columns().items())


def explained_sheet(spec: Spec, steps: Sequence[ExplainedStep]) -> Sheet:
    """A line for the input, then one a step: what it reads and makes, when it is learned, what it costs."""
    columns = (
        Column("step"),
        Column("op"),
        Column("reads", "fold", 4),
        Column("makes", "fold"),
        Column("pass", "right", 1),
        Column("ns/row", "right", 2),
        Column("columns", "right", 3),
    )
    fields = _fields(spec)
    first = ("input", "", "", _typed(fields, len(fields)), "", "", str(len(fields)))
    rows = [first, *map(_explained, steps)]
    # A recipe costs nothing yet, and a fitted spec learns nothing more.
    shown = [place for place, column in enumerate(columns) if column.rank in {0, 3, 4} or any(r[place] for r in rows)]
    return Sheet(tuple(columns[place] for place in shown), [tuple(row[place] for place in shown) for row in rows])


def explained_plain(step: ExplainedStep) -> dict[str, Any]:
    """A step for programs, types as a spec writes them."""
    keys = ("reads", "makes", "schema")
    typed = {key: [[name, str(type_)] for name, type_ in getattr(step, key)] for key in keys}
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
        str(len(step.schema)),
    )


def _typed(columns: Sequence[tuple[str, ColumnType]], most: int = _FEW) -> str:
    shown = [f"{name} {type_}" for name, type_ in columns[:most]]
    more = [f"and {len(columns) - most} more"] if len(columns) > most else []
    return ", ".join(shown + more)


def explained_facts(spec: Spec, steps: Sequence[ExplainedStep]) -> Facts:
    """Passes over the data, and what a row costs altogether."""
    passes = max((step.learned_in or 0 for step in steps), default=0) + bool(spec.expectations)
    extra = most_extra_passes(spec)
    many = f", and up to {extra} more for exact quantiles (of fields too) of very many distinct values"
    said = f"{passes}{', the last of them for expectations' if spec.expectations else ''}{many if extra else ''}"
    cost = [step.nanoseconds for step in steps if step.nanoseconds is not None]
    per_row = "not measured: only a fitted spec with golden rows is measured"
    if cost and sum(cost):
        per_row = f"{sum(cost):,.0f} ns a row on one core here, {1e3 / sum(cost):.2f} million rows a second"
    is_learned = "none: the spec is fitted" if spec.is_fitted else said
    return [("passes over the data", is_learned), ("row steps cost", per_row), *_stored_facts(spec)]


def difference_sheet(found: Difference) -> Sheet:
    """A line a change."""
    parts: tuple[tuple[str, tuple[Change, ...]], ...] = (
        ("contract", found.contract),
        ("steps", found.steps),
        ("state", found.state),
        ("tensors", found.tensors),
        ("rest", found.rest),
    )
    rows = [(part, change.where, change.what) for part, changes in parts for change in _told_once(changes)]
    return Sheet((Column("part"), Column("where", rank=1), Column("change", "fold")), rows)


def _told_once(changes: tuple[Change, ...]) -> list[Change]:
    """A line a change; that one of the specs is a recipe is one of them, however many steps it has."""
    told: list[Change] = []
    for said, many in ((": was not fitted", "were not fitted"), (": is not fitted", "are not fitted")):
        unfitted = [change for change in changes if change.what.endswith(said)]
        if len(unfitted) > 1:
            names = ", ".join(change.what.removeprefix("step ").removesuffix(said) for change in unfitted)
            told.append(unfitted[0]._replace(where="/steps", what=f"{len(unfitted)} steps {many}: {names}"))
            changes = tuple(change for change in changes if change not in unfitted)
    return [*told, *changes]


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
