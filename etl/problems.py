"""All errors of a document at once, each with its place and, for a name that is nearly right, the right one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["Problem", "Source", "nearest", "parse", "problem_lines"]

ModelT = TypeVar("ModelT", bound=BaseModel)


class Problem(NamedTuple):
    """One thing that is wrong with a document."""

    pointer: str
    """JSON pointer (RFC 6901) of the value, or of the place where one is missing."""
    message: str
    """What is wrong and what would be right."""


class Source(NamedTuple):
    """A parsed YAML or JSON text that remembers where each value stands."""

    name: str
    """The file's path, as an error names it."""
    value: Any
    """The plain value: dicts, lists, scalars."""
    places: dict[str, tuple[int, int]]
    """(line, column), from 1, of each value's key by JSON pointer."""

    @classmethod
    def read(cls, text: str, name: str) -> Source:
        """Parse YAML (JSON is a subset); duplicate keys are refused because the last would silently win.

        Raises:
            ValueError: the text is not YAML; the message gives line and column.
        """
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            places: dict[str, tuple[int, int]] = {}
            if node is not None:
                _collect_places(node, "", places)
            return cls(name, yaml.safe_load(text), places)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            message = f"{name}{place}: not valid YAML: {error.problem}."
            raise ValueError(message) from error

    def place(self, pointer: str) -> str:
        """`file:line:column` of the value or of the nearest enclosing one that stands in the text."""
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        line, column = self.places.get(pointer, (1, 1))
        return f"{self.name}:{line}:{column}"


def _collect_places(node: yaml.Node, pointer: str, places: dict[str, tuple[int, int]]) -> None:
    places.setdefault(pointer, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            child = f"{pointer}/{_escape(key.value)}"
            if child in places:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            places[child] = (key.start_mark.line + 1, key.start_mark.column + 1)
            _collect_places(value, child, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_places(value, f"{pointer}/{index}", places)


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?`, or what there is when nothing is near; to be put behind a sentence."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" There is: {', '.join(names)}." if names else ""


def parse(model: type[ModelT], source: Source) -> tuple[ModelT | None, list[Problem]]:
    """Validate a source against a strict model; the model, or every problem in the order of the text."""
    try:
        return model.model_validate(source.value), []
    except ValidationError as error:
        schema = model.model_json_schema(by_alias=True)
        problems = [_problem(detail, source.value, schema) for detail in error.errors(include_url=False)]
        return None, sorted(set(problems), key=lambda problem: source.places.get(problem.pointer, (0, 0)))


def problem_lines(problems: Sequence[Problem], source: Source) -> list[str]:
    """`file:line:column: /pointer: message`, one line a problem."""
    return [f"{source.place(p.pointer)}: {p.pointer or '/'}: {p.message}" for p in problems]


def _escape(part: str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _problem(detail: ErrorDetails, raw: Any, schema: dict[str, Any]) -> Problem:
    parts, last = _real_parts(detail["loc"], raw)
    pointer = "".join(f"/{_escape(str(part))}" for part in parts)
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _known_keys(schema, parts[:-1], raw)
        return Problem(pointer, f'unknown key "{last}".{nearest(str(last), known)}')
    if kind == "missing":
        return Problem(pointer, f'key "{last}" is required.')
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        context = detail.get("ctx", {})
        key = str(context.get("discriminator", "")).strip("'")
        if kind == "union_tag_not_found":
            return Problem(pointer, f'key "{key}" is required.')
        tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        found = str(context.get("tag"))
        return Problem(f"{pointer}/{key}", f'unknown {key} "{found}".{nearest(found, tags)}')
    return Problem(pointer, f"{detail['msg'].removeprefix('Value error, ')}{_shown(detail)}")


def _shown(detail: ErrorDetails) -> str:
    found = detail.get("input")
    return f", found {found!r}." if isinstance(found, str | int | float | bool) or found is None else "."


def _real_parts(loc: tuple[int | str, ...], raw: Any) -> tuple[list[int | str], int | str]:
    """The location without the tags that pydantic adds for unions; they are keys of no text."""
    parts: list[int | str] = []
    for position, part in enumerate(loc):
        if isinstance(raw, dict):
            if part in raw:
                raw = raw[part]
            elif position < len(loc) - 1:
                continue
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            continue
        parts.append(part)
    return parts, (parts[-1] if parts else "")


def _known_keys(schema: dict[str, Any], parts: list[int | str], raw: Any) -> list[str]:
    """Keys that the JSON Schema allows at a place; discriminated unions are followed by the text's own tag."""
    node = _resolve(schema, schema, raw)
    for part in parts:
        raw = raw[part]
        properties = node.get("properties", {})
        child = properties.get(part) or node.get("items") or node.get("additionalProperties") or {}
        node = _resolve(child, schema, raw) if isinstance(child, dict) else {}
    return list(node.get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any], raw: Any) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        elif "discriminator" in node:
            chooser = node["discriminator"]
            tag = raw.get(chooser["propertyName"]) if isinstance(raw, dict) else None
            if tag not in chooser["mapping"]:
                return {}
            node = {"$ref": chooser["mapping"][tag]}
        elif "anyOf" in node:
            objects = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
            fitting = [b for b in objects if isinstance(raw, dict) == ("$ref" in b or b.get("type") == "object")]
            if not fitting:
                return {}
            node = fitting[0]
        else:
            return node
