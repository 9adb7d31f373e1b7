"""Whether the parts of a spec fit each other: columns are there when they are read, and of types that fit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from etl.errors import Misfit
from etl.expectations import expectation_problems
from etl.format.positions import escape
from etl.format.problems import Problem, ended, nearest
from etl.ops.relations import table_problems
from etl.training import golden_problems, reference_problems
from etl.types import MOST_WIDTH, ColumnType, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from etl.ops.base import Step
    from etl.spec import Spec

__all__ = ["inconsistencies", "schema_at", "trace"]


def trace(spec: Spec) -> tuple[list[tuple[str, Schema]], list[Problem]]:
    """The schema after the input and after every step, by the step's id, and every step that does not fit."""
    schemas: list[tuple[str, Schema]] = []
    return schemas, _traced(spec, lambda step, schema: schemas.append((step, dict(schema))))


def schema_at(spec: Spec, count: int) -> tuple[Schema, list[Problem]]:
    """The schema behind the first `count` steps, relational ones first, and every step that does not fit."""
    found: Schema = {}
    places = itertools.count()

    def keep(_: str, schema: Schema) -> None:
        # Not of every step: that would be all columns times all steps.
        if next(places) == count:
            found.update(schema)

    return found, _traced(spec, keep)


def inconsistencies(spec: Spec) -> list[Problem]:
    """Everything that does not fit together, golden rows and statistics included."""
    entry: Schema = {}
    last = spec.relational[-1].id if spec.relational else "input"

    def keep(step: str, schema: Schema) -> None:
        # Not of every step: that would be all columns times all steps.
        if step == last:
            entry.update(schema)

    problems = _traced(spec, keep)
    fields = [field.name for field in spec.input.fields]
    joined = [name for step in spec.relational for name in step.outputs]
    given = {name: entry[name] for name in (*fields, *joined) if name in entry}
    made = {name for step in spec.steps for name in step.outputs}
    return [*problems, *reference_problems(spec.reference, fields), *golden_problems(spec.golden, given, made)]


def _traced(spec: Spec, behind: Callable[[str, Schema], None]) -> list[Problem]:
    """What does not fit; `behind` is told the schema, which changes afterwards, behind the input and each step."""
    schema: Schema = spec.input.columns()
    labels: Schema = {field.name: field.type for field in spec.input.labels}
    written = set(spec.input.of_training.columns())
    behind("input", schema)
    problems: list[Problem] = []
    makers = {name: step.id for step in (*spec.relational, *spec.steps) for name in step.outputs if name not in schema}
    seen: set[str] = set()
    for section, steps in (("relational", spec.relational), ("steps", spec.steps)):
        for index, step in enumerate(steps):
            pointer = f"/{section}/{index}"
            if step.id in seen:
                problems.append(Problem(f"{pointer}/id", f"id {step.id!r} is used by an earlier step.", "E-DUP-OUTPUT"))
            seen.add(step.id)
            problems.extend(_unlabelled(step, pointer, labels))
            problems.extend(_advance(step, pointer, schema, written=written, makers=makers))
            behind(step.id, schema)
            for name in step.outputs:
                makers.pop(name, None)
    problems.extend(table_problems(spec.relational, [name for field in spec.input.fields for name in field.flags]))
    problems.extend(spec.outputs.problems(schema))
    problems.extend(expectation_problems(spec.expectations, schema, spec.steps))
    return problems


def _advance(
    step: Step, pointer: str, schema: Schema, *, written: set[str], makers: Mapping[str, str]
) -> list[Problem]:
    """Bring the schema behind the step; unknown types become float64 so that later steps are still checked."""
    problems = [
        *_unread(step, pointer, schema, makers=makers),
        *_miscounted(step, pointer),
        *_rewritten(step, pointer, written),
    ]
    types: tuple[ColumnType, ...] = ()
    if not problems:
        try:
            types = step.infer(tuple(schema[name] for name in step.reads))
        except Misfit as error:
            problems.extend(problem._replace(pointer=f"{pointer}{problem.pointer}") for problem in error.problems)
        except ValueError as error:
            problems.append(Problem(pointer, ended(f"op {step.op} {error}"), "E-TYPE"))
    widest = max((found.width for found in types), default=0)
    if widest > MOST_WIDTH:
        message = f"op {step.op} would make a vector of {widest:,} values; at most {MOST_WIDTH:,} are possible."
        problems.append(Problem(pointer, message, "E-SIZE"))
        types = ()
    for position, name in enumerate(step.outputs):
        schema.setdefault(name, types[position] if position < len(types) else ColumnType("float64"))
    written.update(step.outputs)
    for name in step.dropped:
        schema.pop(name, None)
    return problems


def _unread(step: Step, pointer: str, schema: Schema, *, makers: Mapping[str, str]) -> list[Problem]:
    """Columns that are read and not there; one that only a later step makes would need a cycle, or another order."""
    problems: list[Problem] = []
    places: dict[str, list[str]] | None = None
    for position, name in enumerate(step.reads):
        if name not in schema:
            # What a step reads begins with its inputs; the columns that parameters name follow.
            places = _named_in_params(step) if places is None else places
            found = [f"/in/{position}"] if position < len(step.inputs) else places.get(name, ["/params"])
            message, code = f"column {name!r} is not there at step {step.id!r}.{nearest(name, schema)}", "E-NO-COLUMN"
            if name in makers:
                by = "itself" if makers[name] == step.id else f"the later step {makers[name]!r}"
                message = f"column {name!r}, which step {step.id!r} reads, is made by {by}; steps run in their order."
                code = "E-CYCLE"
            problems.extend(Problem(f"{pointer}{place}", message, code) for place in found)
    return problems


def _named_in_params(step: Step) -> dict[str, list[str]]:
    """Where parameters name columns that the step reads, from the step on."""
    reads = {name: position for position, name in enumerate(step.reads)}
    plain = step.model_dump(mode="json", by_alias=True, include={"params"}, context=reads)
    places: dict[str, list[str]] = {}
    for place, position in _marked(plain, ""):
        places.setdefault(step.reads[position], []).append(place)
    return places


def _marked(value: Any, pointer: str) -> Iterator[tuple[str, int]]:
    """The places of columns, as a dump with their positions has them."""
    if isinstance(value, dict) and isinstance(value.get("#"), int):
        yield pointer, value["#"]
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _marked(part, f"{pointer}/{escape(str(key))}")


def _unlabelled(step: Step, pointer: str, labels: Schema) -> list[Problem]:
    problems = []
    for name in step.learns_from:
        if name not in labels:
            message = (
                f"column {name!r}, which step {step.id!r} learns from, is not in /input/labels.{nearest(name, labels)}"
            )
            problems.append(Problem(f"{pointer}/params", message, "E-NO-COLUMN"))
        elif not labels[name].is_numeric:
            message = f"op {step.op} learns from numbers, found label {name!r} of type {labels[name]}."
            problems.append(Problem(f"{pointer}/params", message, "E-TYPE"))
    return problems


def _miscounted(step: Step, pointer: str) -> list[Problem]:
    return [
        Problem(f"{pointer}/{key}", f"op {step.op} takes {wanted} here, found {len(names)}.", "E-TYPE")
        for key, names, wanted in (("in", step.inputs, step.arity[0]), ("out", step.outputs, step.arity[1]))
        if wanted is not None and len(names) != wanted
    ]


def _rewritten(step: Step, pointer: str, written: set[str]) -> list[Problem]:
    first: dict[str, int] = {}
    for place, name in enumerate(step.outputs):
        first.setdefault(name, place)
    return [
        Problem(
            f"{pointer}/out/{place}", f"column {name!r} is already written; names are written once.", "E-DUP-OUTPUT"
        )
        for place, name in enumerate(step.outputs)
        if name in written or first[name] < place
    ]
