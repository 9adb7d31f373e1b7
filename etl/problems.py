"""All errors of a document at once, each with its place and, for a name that is nearly right, the right one."""

from __future__ import annotations

import difflib
import functools
import itertools
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from etl.documents import strictly
from etl.positions import escape, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["Problem", "Source", "listed", "nearest", "parse", "problem_lines"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_SHOWN = 60
"""Characters of a value in a message, and names of a list."""

_MOST_LINES = 50

_KINDS = {
    "bool_type": "should be true or false",
    "dict_type": "should be a mapping",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "model_attributes_type": "should be a mapping",
    "model_type": "should be a mapping",
    "byte_size": "should be a size, such as 128MiB",
    "string_type": "should be text",
    "too_short": "should not be empty",
    "tuple_type": "should be a list",
}
"""Our words for kinds of fault that pydantic words for Python programmers."""


class Problem(NamedTuple):
    """One thing that is wrong with a document."""

    pointer: str
    """JSON pointer (RFC 6901) of the value, or of the place where one is missing."""
    message: str
    """What is wrong and what would be right."""
    code: str = "E-TYPE"
    """A stable word for the kind of fault; those of specs are in `docs/ETL.md`."""


class Source(NamedTuple):
    """A parsed YAML or JSON text that remembers where each value stands."""

    name: str
    """The file's path, as an error names it."""
    value: Any
    """The plain value: dicts, lists, scalars."""
    places: Mapping[str, tuple[int, int]]
    """(line, column), from 1, of each value's key by JSON pointer."""
    given: Mapping[str, str] = MappingProxyType({})
    """Where values come from that are not of the text, by JSON pointer, e.g. an option of the command line."""

    @classmethod
    def read(cls, text: str, name: str) -> Source:
        """Parse JSON (a text that begins with a brace, unless its name says YAML), else YAML 1.2.

        Duplicate keys are refused because the last would silently win.

        Raises:
            ValueError: the text is neither; the message gives file, line and column.
        """
        return cls(name, *read_text(text, name))

    def place(self, pointer: str) -> str:
        """What gave the value, or `file:line:column` of it or of the nearest enclosing one that stands in the text."""
        parents = itertools.accumulate(pointer.split("/"), "{}/{}".format)
        given = [self.given[parent] for parent in parents if parent in self.given]
        if pointer not in self.places:
            # Nothing of it stands in the text, so what gave a part of it gave all.
            given += [what for below, what in self.given.items() if pointer and below.startswith(f"{pointer}/")]
        line, column = self._position(pointer)
        return given[-1] if given else f"{self.name}:{line}:{column}"

    def ordered(self, problems: Iterable[Problem]) -> list[Problem]:
        """In the order of the text."""
        return sorted(problems, key=lambda problem: self._position(problem.pointer))

    def _position(self, pointer: str) -> tuple[int, int]:
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places.get(pointer, (1, 1))


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?`, or what there is when nothing is near; to be put behind a sentence."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:_SHOWN], names, n=1, cutoff=0.6)
    if close:
        return f' Did you mean "{close[0]}"?'
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" There is: {', '.join(names[:_SHOWN])}{more}." if names else ""


def listed(found: Sequence[str]) -> str:
    """What was found as one sentence to be put behind a colon; some of it may end as `nearest` does."""
    text = "; ".join(part.removesuffix(".") for part in found)
    return text if text.endswith("?") else f"{text}."


def parse(model: type[ModelT], source: Source, shown: Any = None) -> tuple[ModelT | None, list[Problem]]:
    """Validate a source against a strict model; the model, or every problem in the order of the text.

    `shown` has the value's form, and what a message may show of it; by default the value itself.
    """
    shown = source.value if shown is None else shown
    try:
        return strictly(model, json.dumps(source.value)), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        pairs = [(detail, _problem(detail, shown, _schema(model))) for detail in details]
        told = [problem for detail, problem in pairs if not _is_echo(detail, problem, pairs)]
        problems = _one_a_place(told or [problem for _, problem in pairs])
        return None, source.ordered(problems)


def problem_lines(problems: Sequence[Problem], source: Source, *, with_code: bool = False) -> list[str]:
    """`file:line:column: /pointer: message [CODE]`, one line a problem; what cannot be printed is escaped."""
    shown, others = problems[:_MOST_LINES], problems[_MOST_LINES:]
    lines = [
        f"{source.place(problem.pointer)}: {problem.pointer or '/'}: {problem.message}"
        + (f" [{problem.code}]" if with_code else "")
        for problem in shown
    ]
    if others:
        lines.append(f"{source.place(others[0].pointer)}: {others[0].pointer}: and {len(others)} more from here on.")
    return ["".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line) for line in lines]


@functools.cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def _is_echo(detail: ErrorDetails, problem: Problem, all_: list[tuple[ErrorDetails, Problem]]) -> bool:
    """Whether other errors, in or at a list or mapping, say better what is wrong.

    To pydantic a list is short when its items are wrong, and a mapping in place of a word is no word.
    """
    if detail["type"] not in {"literal_error", "too_short"} or not isinstance(detail["input"], dict | list):
        return False
    others = (other.pointer for _, other in all_ if other is not problem)
    return any(pointer == problem.pointer or pointer.startswith(f"{problem.pointer}/") for pointer in others)


def _one_a_place(problems: Iterable[Problem]) -> list[Problem]:
    """A value that fits no branch of a union has an error for each branch; together they say what would be right."""
    places: dict[str, list[str]] = {}
    codes: dict[str, str] = {}
    for problem in problems:
        codes.setdefault(problem.pointer, problem.code)
        messages = places.setdefault(problem.pointer, [])
        if problem.message not in messages:
            messages.append(problem.message)
    return [Problem(pointer, " Or: ".join(messages), codes[pointer]) for pointer, messages in places.items()]


def _problem(detail: ErrorDetails, raw: Any, schema: dict[str, Any]) -> Problem:
    kind = detail["type"]
    parts = _real_parts(detail["loc"], raw)
    if kind == "missing":
        last = str(detail["loc"][-1])
        return Problem(_pointer([*parts, last]), f'key "{last}" is required.', "E-MISSING-KEY")
    pointer = _pointer(parts)
    if kind == "extra_forbidden":
        last = str(parts[-1])
        hint = nearest(last, _known_keys(schema, parts[:-1], raw))
        return Problem(pointer, f'unknown key "{last:.{_SHOWN}}".{hint}', "E-UNKNOWN-KEY")
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        context = detail.get("ctx", {})
        key = str(context.get("discriminator", "")).strip("'")
        if key.endswith("()"):
            return _untagged(pointer, context)
        if kind == "union_tag_not_found":
            return Problem(f"{pointer}/{key}", f'key "{key}" is required.', "E-MISSING-KEY")
        tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        found = str(context.get("tag"))
        hint = nearest(found, tags)
        return Problem(f"{pointer}/{key}", f'unknown {key} "{found:.{_SHOWN}}".{hint}', f"E-UNKNOWN-{key.upper()}")
    message = _KINDS.get(kind, detail["msg"].removeprefix("Value error, ").removeprefix("Input "))
    code = kind if kind.startswith("E-") else "E-TYPE"
    return Problem(pointer, f"{message}{_found(kind, _at(parts, raw))}", code)


def _untagged(pointer: str, context: Mapping[str, Any]) -> Problem:
    """A mapping that is told from others by its one key, and has none of those keys."""
    tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
    found = str(context.get("tag", ""))
    message = f"should be a mapping of one of the keys {', '.join(tags)}" if any(tags) else "should be a mapping"
    if not found or found == "None":
        return Problem(pointer, f"{message}.", "E-UNKNOWN-KEY")
    hint = nearest(found, tags)
    said = f', found "{found:.{_SHOWN}}".{hint if hint.endswith("?") else ""}'
    return Problem(pointer, f"{message}{said}", "E-UNKNOWN-KEY")


def _pointer(parts: Sequence[int | str]) -> str:
    return "".join(f"/{escape(str(part))}" for part in parts)


def _at(parts: Sequence[int | str], raw: Any) -> Any:
    return functools.reduce(lambda node, part: node[part], parts, raw)


def _found(kind: str, found: Any) -> str:
    if isinstance(found, str | int | float | bool) or found is None:
        return f", found {found!r:.{_SHOWN}}."
    return f", found {'a list' if isinstance(found, list) else 'a mapping'}." if kind in _KINDS else "."


def _real_parts(loc: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """The location as far as it is in the text: without the names that pydantic adds for branches of unions."""
    parts: list[int | str] = []
    for part in loc:
        if isinstance(raw, dict) and part in raw:
            raw = raw[str(part)]
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            continue
        parts.append(part)
    return parts


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
            if not isinstance(tag, str) or tag not in chooser["mapping"]:
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
