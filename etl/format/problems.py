"""All errors of a document at once, each with its place and, for a name that is nearly right, the right one."""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import re
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from etl.documents import strictly
from etl.format.positions import escape, read_text
from etl.format.wording import WRONG_KINDS, choices, kind_of, worded
from etl.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["Problem", "Source", "ended", "few_hints", "listed", "near", "nearest", "parse", "problem_lines"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_SHOWN = 60
"""Characters of a value in a message, and names of a list."""

_NEAR = 0.6
"""Share of letters that a name has in common with one that may have been meant."""

_MOST_LINES = 50
_MOST_FAULTS = 2000
"""Faults that are looked at, since a document of megabytes may have millions."""

_LEARNED = re.compile(r"/(?:golden|reference|steps/[0-9]+/state)(?:/|$)")
"""Parts of a spec that hold values of rows, which may be personal data: a message says only of which kind they are."""


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
            TextError: the text is neither; a ValueError whose message gives file, line and column.
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
        """In the order of the text, and no more than a document is told."""
        some = list(itertools.islice(problems, _MOST_FAULTS))
        return sorted(some, key=lambda problem: self._position(problem.pointer))

    def _position(self, pointer: str) -> tuple[int, int]:
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places.get(pointer, (1, 1))


_SYNONYMS = {"gpu": "cuda"}
"""Words that people use, and that look like something else which is there: `cpu`."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?`, or what there is when nothing is near; to be put behind a sentence."""
    names = list(known)
    if hint := near(name, names):
        return hint
    left = _NAMES_LEFT.get()
    names = [] if left is not None and left[0] < 0 else sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" There is: {', '.join(names[:_SHOWN])}{more}." if names else ""


def near(name: str, known: Collection[str]) -> str:
    """` Did you mean "x"?`, or nothing where nothing is near."""
    if (meant := _SYNONYMS.get(name)) in known:
        return f' Did you mean "{meant}"?'
    close = difflib.get_close_matches(name[:_SHOWN], known, n=1, cutoff=_NEAR) if _is_looked_for(known) else None
    return f' Did you mean "{close[0]}"?' if close else ""


@contextmanager
def few_hints() -> Iterator[None]:
    """Bounds what is spent inside on nearest names, which costs names × names: thousands of misspelt columns of
    thousands would take minutes, and nobody is shown so many.
    """  # noqa: D205  one sentence
    token = _NAMES_LEFT.set([_MOST_COMPARED])
    try:
        yield
    finally:
        _NAMES_LEFT.reset(token)


_MOST_COMPARED = 200_000
"""Names that are compared with misspelt ones of a document; some 2 µs each."""

_NAMES_LEFT: ContextVar[list[int] | None] = ContextVar("_NAMES_LEFT", default=None)


def _is_looked_for(known: Collection[str]) -> bool:
    left = _NAMES_LEFT.get()
    if left is not None:
        left[0] -= len(known)
    return left is None or left[0] >= 0


def listed(found: Sequence[str]) -> str:
    """What was found as one sentence to be put behind a colon; some of it may end as `nearest` does."""
    return ended("; ".join(part.removesuffix(".") for part in found))


def ended(sentence: str) -> str:
    """The sentence with a full stop, where it does not end as `nearest` does."""
    return sentence if sentence.endswith(("?", ".")) else f"{sentence}."


def parse(model: type[ModelT], source: Source, shown: Any = None) -> tuple[ModelT | None, list[Problem]]:
    """Validate a source against a strict model; the model, or every problem in the order of the text.

    `shown` has the value's form, and what a message may show of it; by default the value itself.
    """
    shown = source.value if shown is None else shown
    error = _faults(model, source.value)
    if not isinstance(error, ValidationError):
        return error, []
    if error.error_count() > _MOST_FAULTS:
        # Pydantic would write out each. The lists that are so long have as many faults of the same kind.
        cut = _faults(model, _cut(source.value))
        error = cut if isinstance(cut, ValidationError) else error
    details = error.errors(include_url=False)[:_MOST_FAULTS]
    pairs = [(detail, _problem(detail, shown, _schema(model))) for detail in details]
    within = _counts_within(problem.pointer for _, problem in pairs)
    told = [problem for detail, problem in pairs if not _is_echo(detail, within[problem.pointer])]
    problems = _one_a_place(told or [problem for _, problem in pairs])
    return None, source.ordered(problems)


def _faults(model: type[ModelT], value: Any) -> ModelT | ValidationError:
    """The model, or what pydantic says is wrong."""
    try:
        return strictly(model, json.dumps(value))
    except ValidationError as error:
        return error


def _cut(value: Any) -> Any:
    """The value with the beginning of each list."""
    if isinstance(value, dict):
        return {key: _cut(part) for key, part in value.items()}
    return [_cut(part) for part in value[:_MOST_FAULTS]] if isinstance(value, list) else value


def problem_lines(problems: Sequence[Problem], source: Source, *, with_code: bool = False) -> list[str]:
    """`file:line:column: /pointer: message [CODE]`, one line a problem; what cannot be printed is escaped."""
    shown, others = problems[:_MOST_LINES], problems[_MOST_LINES:]
    lines = [
        f"{source.place(problem.pointer)}: {problem.pointer or '/'}: {problem.message}"
        + (f" [{problem.code}]" if with_code else "")
        for problem in shown
    ]
    if others:
        count = f"{len(others):,}" if len(problems) < _MOST_FAULTS else f"at least {len(others):,}"
        lines.append(f"{source.place(others[0].pointer)}: {others[0].pointer}: and {count} more from here on.")
    return ["".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line) for line in lines]


@functools.cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def _counts_within(pointers: Iterable[str]) -> Counter[str]:
    """How many of the pointers lead to a place, or below it, by the place."""
    counts: Counter[str] = Counter()
    for pointer in pointers:
        counts.update(itertools.accumulate(pointer.split("/"), "{}/{}".format))
    return counts


def _is_echo(detail: ErrorDetails, within: int) -> bool:
    """Whether other errors, in or at a list or mapping, say better what is wrong; `within` counts them and itself.

    To pydantic a list is short when its items are wrong, and a mapping in place of a word is no word.
    """
    return detail["type"] in {"literal_error", "too_short"} and isinstance(detail["input"], dict | list) and within > 1


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
    pointer = _pointer(parts)
    if kind == "missing":
        return _missing(pointer, detail["loc"][-1])
    if kind == "extra_forbidden":
        last = str(parts[-1])
        hint = nearest(last, _known_keys(schema, parts[:-1], raw))
        return Problem(pointer, f'unknown key "{last:.{_SHOWN}}".{hint}', "E-UNKNOWN-KEY")
    context = detail.get("ctx", {})
    found = _at(parts, raw)
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        key = str(context.get("discriminator", "")).strip("'")
        tags = choices(str(context.get("expected_tags", "")))
        if key.endswith("()"):
            return _untagged(pointer, [tag.strip() for tag in tags], found=context.get("tag"))
        return _mistagged(pointer, key, tags, found=found)
    message = worded(kind, context, detail["msg"])
    code = kind if kind.startswith("E-") else "E-TYPE"
    # Signs, such as operators, are too short for one to be near another.
    if kind == "literal_error" and isinstance(found, str) and any(map(str.isalpha, found)):
        said = f"{message}{_found(kind, found, pointer)}"
        return Problem(pointer, f"{said}{near(found, choices(str(context['expected'])))}", code)
    return Problem(pointer, message if message.endswith("?") else f"{message}{_found(kind, found, pointer)}", code)


def _missing(pointer: str, last: int | str) -> Problem:
    place = f"{pointer}/{escape(str(last))}"
    if isinstance(last, int):
        return Problem(place, f"the list ends before its element {last}, which is required.", "E-MISSING-KEY")
    return Problem(place, f'key "{last}" is required.', "E-MISSING-KEY")


def _mistagged(pointer: str, key: str, tags: Sequence[str], *, found: Any) -> Problem:
    """A mapping that is told from others by the word at one key, which is none of those words."""
    tag = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or key not in found:
        return Problem(f"{pointer}/{key}", f'key "{key}" is required.', "E-MISSING-KEY")
    if not isinstance(tag, str):
        return Problem(f"{pointer}/{key}", f"{key} should be text, found {kind_of(tag)}.")
    hint = nearest(tag, tags)
    return Problem(f"{pointer}/{key}", f'unknown {key} "{tag:.{_SHOWN}}".{hint}', f"E-UNKNOWN-{key.upper()}")


def _untagged(pointer: str, tags: Sequence[str], *, found: Any) -> Problem:
    """A mapping that is told from others by its one key, and has none of those keys."""
    message = f"should be a mapping of one of the keys {', '.join(tags)}" if any(tags) else "should be a mapping"
    if not found or found == "None":
        return Problem(pointer, f"{message}.", "E-UNKNOWN-KEY")
    return Problem(pointer, f'{message}, found "{found:.{_SHOWN}}".{near(found, tags)}', "E-UNKNOWN-KEY")


def _pointer(parts: Sequence[int | str]) -> str:
    return "".join(f"/{escape(str(part))}" for part in parts)


def _at(parts: Sequence[int | str], raw: Any) -> Any:
    return functools.reduce(lambda node, part: node[part], parts, raw)


def _found(kind: str, found: Any, pointer: str) -> str:
    if kind == HIDDEN:
        return "."
    if kind in {"too_short", "too_long"} and isinstance(found, list | dict):
        return f", found {len(found)}." if found else "."
    if isinstance(found, list | dict) and kind not in {*WRONG_KINDS, "literal_error"}:
        return "."
    is_shown = not isinstance(found, list | dict) and not _LEARNED.match(pointer)
    return f", found {found!r:.{_SHOWN}}." if is_shown else f", found {kind_of(found)}."


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
    nodes = _resolved(schema, schema, raw)
    for part in parts:
        raw = raw[part]
        children = [_child(node, part) for node in nodes]
        nodes = [found for child in children if isinstance(child, dict) for found in _resolved(child, schema, raw)]
    return list(dict.fromkeys(key for node in nodes for key in node.get("properties", {})))


def _child(node: dict[str, Any], part: int | str) -> Any:
    items = node.get("prefixItems", [])
    if isinstance(part, int) and part < len(items):
        return items[part]
    return node.get("properties", {}).get(part) or node.get("items") or node.get("additionalProperties")


def _resolved(node: dict[str, Any], schema: dict[str, Any], raw: Any) -> list[dict[str, Any]]:
    """What the schema says of a value: one part for each branch of a union that a mapping, or another value, may be."""
    if "$ref" in node:
        return _resolved(schema["$defs"][node["$ref"].rpartition("/")[2]], schema, raw)
    if "discriminator" in node:
        chooser = node["discriminator"]
        tag = raw.get(chooser["propertyName"]) if isinstance(raw, dict) else None
        is_known = isinstance(tag, str) and tag in chooser["mapping"]
        return _resolved({"$ref": chooser["mapping"][tag]}, schema, raw) if is_known else []
    branches = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    if not branches:
        return [node]
    return [found for branch in branches for found in _resolved(branch, schema, raw)]
