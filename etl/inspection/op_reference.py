"""The reference of all ops for people, as Markdown, made of the ops' own classes."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from etl.ops.base import FittedStep
from etl.ops.catalogue import FAMILIES, OPS
from etl.ops.relations import AnyRelationalStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etl.ops.base import Step

__all__ = ["markdown_table", "op_names", "op_page", "ops_page"]


def ops_page() -> str:
    """The reference of all ops, by family; what each means is its class's own docstring."""
    lines = [
        "# Ops of ETL specs",
        "",
        "Made from the code by `make docs`. How a spec is written, fitted and applied: [ETL.md](ETL.md).",
        "",
        "Profile `f64-v1` holds for all of them: float64 inside, NaN in a float column is missing, missing in gives",
        "missing out unless the op is there to treat it, IEEE 754 where nothing else is said, UTC only, and one cast",
        "to float32 at the tensor. Ops marked *transcendental* may differ by one unit in the last place of float32",
        "between platforms; all others are equal to the bit.",
        "",
    ]
    relational = _relational()
    for family, names in [("relational", tuple(sorted(relational))), *sorted(FAMILIES.items())]:
        lines += [f"## {family.replace('_', ' ').capitalize()}", ""]
        for name in names:
            lines += [op_page(name), ""]
    return "\n".join(lines)


def op_page(name: str) -> str:
    """The reference of one op.

    Raises:
        KeyError: there is no such op.
    """
    op: type[Step] = _relational().get(name) or OPS[name]
    marks = ["learns" if issubclass(op, FittedStep) else "", "transcendental" if op.transcendental is True else ""]
    marked = ", ".join(mark for mark in marks if mark)
    takes, makes = (_counted(count) for count in op.arity)
    lines = [f"### `{name}`" + (f" · *{marked}*" if marked else ""), "", inspect.getdoc(op) or "", ""]
    lines += [f"`in`: {takes}; `out`: {makes}.", ""]
    for part in ("params", "state"):
        model = _model(op, part)
        if model is not None and model.model_fields:
            lines += [f"`{part}`:", "", *markdown_table(("key", "value", "default", "meaning"), _keys(model)), ""]
    return "\n".join(lines).rstrip() + "\n"


def op_names() -> tuple[str, ...]:
    """Every op, relational ones too."""
    return tuple(sorted((*_relational(), *OPS)))


def _relational() -> dict[str, type[Step]]:
    kinds = get_args(get_args(AnyRelationalStep)[0])
    named = {get_args(kind.model_fields["op"].annotation)[0]: kind for kind in kinds}
    return {name: kind for name, kind in named.items() if name not in OPS}


def _model(op: type[Step], part: str) -> type[BaseModel] | None:
    """The class of an op's parameters or state."""
    if part not in op.model_fields:
        return None
    annotation = op.model_fields[part].annotation
    candidates = [annotation, *get_args(annotation)]
    return next((kind for kind in candidates if inspect.isclass(kind) and issubclass(kind, BaseModel)), None)


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    schema = model.model_json_schema(by_alias=True)
    for key, told in schema.get("properties", {}).items():
        default = "required" if key in schema.get("required", ()) else f"`{json.dumps(told.get('default'))}`"
        yield f"`{key}`", _form(told, schema), default, told.get("description", "")


def _form(told: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a value looks like, in a few words, from its JSON Schema."""
    if "$ref" in told:
        return _form(schema["$defs"][told["$ref"].rpartition("/")[2]], schema)
    if "const" in told or "enum" in told:
        return ", ".join(f"`{json.dumps(value)}`" for value in told.get("enum", [told.get("const")]))
    branches = told.get("anyOf") or told.get("oneOf")
    if branches and any(branch.get("$ref", "").endswith("/Compare") for branch in branches):
        return "[condition](ETL.md#conditions)"
    if branches:
        return " or ".join(dict.fromkeys(_form(part, schema) for part in branches if part.get("type") != "null"))
    return _container(told, schema) or _WORDS.get(str(told.get("type")), "any")


_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true, false",
    "object": "mapping",
}


def _container(told: dict[str, Any], schema: dict[str, Any]) -> str | None:
    """A list or a mapping with what is in it; None for anything else."""
    if told.get("type") == "array":
        inner = [_form(part, schema) for part in told.get("prefixItems", ())]
        return f"[{', '.join(inner)}]" if inner else f"list of {_form(told.get('items', {}), schema)}"
    if told.get("type") == "object" and "properties" in told:
        parts = (f"`{key}`: {_form(part, schema)}" for key, part in told["properties"].items())
        return f"{{{', '.join(parts)}}}"
    return None


def _counted(count: int | None) -> str:
    if count is None:
        return "one column or more"
    return "no column" if not count else ("one column" if count == 1 else f"{count} columns")


def markdown_table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table of Markdown; a bar in a cell would end it."""
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
