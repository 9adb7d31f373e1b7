"""A page for people, as Markdown: what a spec does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.inspection.op_reference import markdown_table
from etl.ops.relations import unpinned
from etl.printable import code_span, prose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etl.contract import InputField
    from etl.ops.base import Step
    from etl.spec import Spec
    from etl.types import Schema

__all__ = ["page_of"]

_CELL = 120


def page_of(spec: Spec) -> str:
    """A page that explains a spec: what comes in, what each step does and has learned, what comes out.

    Raises:
        SpecError: the spec is inconsistent.
    """
    lines = [f"# {spec.spec_id}", "", *([prose(spec.doc), ""] if spec.doc else [])]
    lines += [f"Revision {spec.revision}, `{spec.format}`, profile `{spec.semantics.profile}`.", _learned(spec), ""]
    lines += [f"SHA-256 `{spec.digest}`.", "", "## What comes in", ""]
    lines += markdown_table(("field", "type", "rules", ""), (_field(field) for field in spec.input.fields))
    if spec.relational:
        lines += ["", "## Joined and filtered first", "", *_steps(spec, spec.relational)]
        lines += _references(spec)
    lines += ["", "## Steps", "", *_steps(spec, spec.steps)]
    lines += ["", "## What comes out", "", *_outputs(spec)]
    if spec.expectations:
        lines += ["", "## What must hold", "", *_expectations(spec)]
    if spec.reference:
        lines += ["", "## The training rows", "", *_reference(spec)]
    return "\n".join(lines) + "\n"


def _learned(spec: Spec) -> str:
    told = spec.provenance
    if not spec.is_fitted:
        return "A recipe: its state is not learned yet."
    if told is None or not told.rows:
        return "It learns nothing from data."
    by = f" by {prose(told.fitted_by)}" if told.fitted_by else ""
    source = f" of {code_span(told.source)}" if told.source else ""
    passes = f"{told.passes} pass{'' if told.passes == 1 else 'es'}"
    left_out = f"{told.rejected:,} were rejected and {told.filtered:,} filtered"
    return f"Learned from {told.rows:,} rows{source} in {passes}{by}; {left_out}."


_FINITE = [(-largest, largest) for largest in (float(np.finfo(kind).max) for kind in (np.float32, np.float64))]
"""Ranges that all floats of a width are in but ±inf, as an import from scikit-learn says it."""


def _field(field: InputField) -> tuple[str, ...]:
    plain = field.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    rules = {key: part for key, part in plain.items() if key not in {"name", "type", "doc", "pii"}}
    told = ", ".join(f"{key} {_value(part)}" for key, part in rules.items() if key != "range" or not _is_finite(field))
    told = ", ".join(filter(None, ["finite" if _is_finite(field) else "", told]))
    marked = " ".join(filter(None, ["*personal*" if field.pii else "", prose(field.doc or "")]))
    return code_span(field.name), code_span(str(field.type)), told, marked


def _is_finite(field: InputField) -> bool:
    """Whether all that its range keeps out is ±inf."""
    return field.range is not None and (field.range.min, field.range.max) in _FINITE


def _steps(spec: Spec, steps: Sequence[Step]) -> list[str]:
    schemas = dict(spec.schemas())
    personal = spec.derived_from(field.name for field in spec.input.of_training.fields if field.pii)
    rows = []
    for step in steps:
        plain = step.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        types = schemas[step.id]
        makes = ", ".join(_typed(name, types) for name in step.outputs)
        told = [f"{key} {_value(part)}" for key, part in plain.get("params", {}).items()]
        state = [f"{key} {_value(part)}" for key, part in (plain.get("state") or {}).items()]
        if state and not personal.isdisjoint((*step.reads, *step.learns_from)):
            state = ["(of personal data)"]
        learned = f"learned: {', '.join(state)}" if state else ""
        rows.append(
            (
                code_span(step.id),
                step.op,
                _names(step.reads),
                makes or "none",
                "; ".join(filter(None, [*told, learned])),
                prose(step.doc or ""),
            )
        )
    return markdown_table(("step", "op", "reads", "makes", "how", ""), rows)


def _references(spec: Spec) -> list[str]:
    """Which tables are joined whatever is in them, and those that the training rows were joined to."""
    free = unpinned(spec.relational)
    lines = ["", f"Not pinned, so joined whatever is in them: {_names(free)}."] if free else []
    told = spec.provenance.notes.get("references", "") if spec.provenance is not None else ""
    return [*lines, *(["", "The training rows were joined to:", ""] if told else []), *_listed(told)]


def _listed(lines: str) -> list[str]:
    return [f"- {prose(line)}" for line in lines.splitlines()]


def _outputs(spec: Spec) -> list[str]:
    widths = spec.widths()
    rows = []
    for tensor in spec.outputs.tensors:
        form = tensor.form(widths[tensor.tensor])
        rows.append((code_span(tensor.tensor), form, _names(tensor.model_inputs), _names(tensor.columns)))
    lines = markdown_table(("tensor", "type", "model input", "columns, in this order"), rows)
    if spec.outputs.passthrough:
        lines += ["", f"Handed through: {_names(spec.outputs.passthrough)}."]
    return lines


def _expectations(spec: Spec) -> list[str]:
    rows = []
    for expectation in spec.expectations:
        plain = expectation.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        told = plain.get("row") or plain.get("batch")
        rows.append((code_span(expectation.id), _value(told), expectation.severity, prose(expectation.doc or "")))
    told = spec.provenance.notes.get("expectations", "") if spec.provenance is not None else ""
    over = ["", "Over the training rows:", "", *_listed(told)] if told else []
    return [*markdown_table(("expectation", "what", "severity", ""), rows), *over]


def _reference(spec: Spec) -> list[str]:
    rows = []
    for name, profile in spec.reference.items():
        share = f"{profile.missing / profile.n:.2%}" if profile.n else ""
        numbers = ", ".join(f"{key}: {value:.6g}" for key, value in profile.quantiles.items())
        texts = ", ".join(f"{code_span(text)} ({count:,})" for text, count in profile.top[:5])
        rows.append((code_span(name), f"{profile.n:,}", share, numbers or texts))
    return markdown_table(("field", "rows", "missing", "quantiles, or the most frequent"), rows)


def _typed(name: str, types: Schema) -> str:
    return f"{code_span(name)} {code_span(str(types[name]))}" if name in types else code_span(name)


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(code_span, names))


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return code_span(text if len(text) <= _CELL else f"{text[:_CELL]}…")
