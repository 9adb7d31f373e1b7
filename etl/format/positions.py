"""JSON and YAML texts as plain values, with the line and column of each value for the errors that need them.

A spec or config is JSON's data model whichever way it is written: keys are text, a text that looks like a date is text,
`1e5` and `010` are numbers, and there are no anchors, aliases, merges or tags that make anything else. So PyYAML's
YAML 1.1 rules (`no` is false, `010` is 8, `1e5` is text, `12:30` is 750) are replaced by those of YAML 1.2's core.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import yaml

from etl.errors import TextError

__all__ = ["escape", "read_text"]

_DEEPEST = 100
"""Levels of nesting; no document of ours comes near."""

_LONGEST_INTEGER = 400
"""Digits. Python refuses to print integers of more than 4,300, and no float is larger than one of 309."""


class _Unread(Exception):
    """Why a text is not the JSON or YAML that we read."""

    def __init__(self, problem: str, at: tuple[int, int], *, code: str = "E-SYNTAX", pointer: str = "") -> None:
        """`at` is line and column, from 1; `pointer` leads to the value at fault, as far as the text was understood."""
        super().__init__(problem)
        self.at = at
        self.code = code
        self.pointer = pointer


class _JsonPlaces(Mapping[str, tuple[int, int]]):
    """Places by JSON pointer in a text that is JSON, each looked for when it is asked for.

    A document without an error needs none. One of megabytes with an error needs few: what is not on the way to them is
    stepped over by the parser.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = _line_starts(text)
        start = _after_space(text, 0)
        self._offsets = {"": (start, start)}
        """Of the key, or of the element itself, and of the value."""
        self._opened: set[str] = set()

    def __getitem__(self, pointer: str) -> tuple[int, int]:
        """Line and column, from 1."""
        parents = list(itertools.accumulate(pointer.split("/"), "{}/{}".format))[:-1]
        for parent in parents:
            if parent not in self._opened:
                self._opened.add(parent)
                self._open(parent)
        return _line_and_column(self._lines, self._offsets[pointer][0])

    def __iter__(self) -> Iterator[str]:
        """The pointers in the order of the text."""
        return iter(_JsonScanner(self._text).places())

    def __len__(self) -> int:
        """How many values the text has."""
        return sum(1 for _ in self)

    def _open(self, pointer: str) -> None:
        """Find what stands directly in a value.

        Raises:
            KeyError: the text has no such value.
        """
        text, start = self._text, self._offsets[pointer][1]
        is_mapping, at, count = text[start] == "{", start + 1, 0
        while text[start] in "{[" and text[at := _after_space(text, at, also=",")] not in "}]":
            key, value = str(count), at
            if is_mapping:
                key, end = _DECODER.raw_decode(text, at)
                value = _after_space(text, end, also=":")
            self._offsets[f"{pointer}/{escape(key)}"] = (at, value)
            _, at = _DECODER.raw_decode(text, value)
            count += 1


_DECODER = json.JSONDecoder()


def _after_space(text: str, start: int, also: str = "") -> int:
    """Where the next value or bracket begins."""
    while text[start] in f" \t\n\r{also}":
        start += 1
    return start


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _line_and_column(starts: list[int], offset: int) -> tuple[int, int]:
    line = bisect.bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


def escape(part: str) -> str:
    """One part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def read_text(text: str, name: str) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    """The value of a text, and (line, column), from 1, of each value's key by JSON pointer.

    A text that begins with a brace is JSON, unless its name says YAML; any other is YAML.

    Raises:
        TextError: it is neither, a key stands twice, or a value is none of JSON's; with file, line and column.
    """
    text = text.removeprefix("\ufeff")
    is_json = text.lstrip()[:1] == "{" and not name.endswith((".yaml", ".yml"))
    try:
        return _read_json(text) if is_json else _read_yaml(text)
    except _Unread as error:
        place = f"{name}:{error.at[0]}:{error.at[1]}"
        refused = TextError(f"{place}: {error}.")
        refused.coded = f"{place}: {error.pointer or '/'}: {error}. [{error.code}]"
        raise refused from error


def _read_json(text: str) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_integer)
        _check_depth(value)
    except json.JSONDecodeError as error:
        raise _Unread(f"not valid JSON: {error.msg}", (error.lineno, error.colno)) from error
    except (_Refused, RecursionError) as error:
        _JsonScanner(text).places()
        raise _Unread(str(error), (1, 1)) from error
    if _HALF_A_PAIR.search(text):
        _JsonScanner(text).places()
    return value, _JsonPlaces(text)


_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class _Refused(Exception):
    """The fast parser met something whose place the scanner will find."""


def _refuse(what: str) -> NoReturn:
    raise _Refused(what)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _refuse("a key stands twice")


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else _refuse("an integer is too long")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        containers = [node.values() if isinstance(node, dict) else node for node in level]
        level = [child for container in containers for child in container if isinstance(child, dict | list)]
        if not level:
            return
    _refuse("nested too deeply")


class _JsonScanner:
    """Where each value stands in a text that is JSON, up to the first thing that `_read_json` refuses."""

    _TOKEN = re.compile(r'[{}\[\],:]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\],:"]+')

    def __init__(self, text: str) -> None:
        self._tokens = self._TOKEN.finditer(text)
        self._lines = _line_starts(text)
        self._places: dict[str, tuple[int, int]] = {}

    def places(self) -> dict[str, tuple[int, int]]:
        """(line, column) by JSON pointer: of the key for a member, else of the value; raises at what is refused."""
        self._value(next(self._tokens), "", 0)
        return self._places

    def _value(self, token: re.Match[str], pointer: str, depth: int) -> None:
        place = self._place(token)
        self._places.setdefault(pointer, place)
        if depth > _DEEPEST:
            raise _Unread("nested too deeply", place, code="E-SIZE", pointer=pointer)
        if token[0] == "{":
            self._members(pointer, depth)
        elif token[0] == "[":
            self._elements(pointer, depth)
        else:
            _check_scalar(token[0], place, pointer)

    def _members(self, pointer: str, depth: int) -> None:
        while (token := next(self._tokens))[0] != "}":
            if token[0] == ",":
                continue
            place = self._place(token)
            _check_scalar(token[0], place, pointer)
            key = json.loads(token[0])
            child = f"{pointer}/{escape(key)}"
            if child in self._places:
                raise _Unread(
                    f"key {json.dumps(key, ensure_ascii=False)} stands twice", place, code="E-DUP-KEY", pointer=child
                )
            self._places[child] = place
            next(self._tokens)  # the colon
            self._value(next(self._tokens), child, depth + 1)

    def _elements(self, pointer: str, depth: int) -> None:
        index = 0
        while (token := next(self._tokens))[0] != "]":
            if token[0] != ",":
                self._value(token, f"{pointer}/{index}", depth + 1)
                index += 1

    def _place(self, token: re.Match[str]) -> tuple[int, int]:
        return _line_and_column(self._lines, token.start())


def _check_scalar(token: str, place: tuple[int, int], pointer: str) -> None:
    if token in {"NaN", "Infinity", "-Infinity"}:
        raise _Unread(f"{token} is no number of JSON", place, pointer=pointer)
    if token.lstrip("-").isdigit() and len(token) > _LONGEST_INTEGER:
        raise _Unread(f"an integer of {len(token)} digits is too long", place, pointer=pointer)
    if _HALF_A_PAIR.search(token) and not _is_unicode(json.loads(token)):
        raise _Unread("half a surrogate pair is no character", place, pointer=pointer)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_LONGEST_YAML = 2**20
"""Characters, which take seconds; a longer document is one of a program's, and JSON is read a hundred times as fast."""


def _read_yaml(text: str) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    if len(text) > _LONGEST_YAML:
        most = f"{_LONGEST_YAML:,} characters"
        raise _Unread(f"YAML is read up to {most}; write what is longer as JSON", (1, 1), code="E-SIZE")
    places: dict[str, tuple[int, int]] = {}
    try:
        node = _CoreComposer(text).get_single_node()
        return (None if node is None else _plain(node, "", places)), places
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        place = _at(error.problem_mark or error.context_mark)
        code, pointer = (error.code, error.pointer) if isinstance(error, _RefusedYaml) else ("E-SYNTAX", "")
        raise _Unread(f"not valid YAML: {problem}", place, code=code, pointer=pointer) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, error.position - before.rfind("\n"))
        raise _Unread(f"not valid YAML: character U+{error.character:04X} is not allowed", place) from error
    except RecursionError as error:
        raise _Unread("not valid YAML: nested too deeply", _too_deep(text), code="E-SIZE") from error


class _RefusedYaml(yaml.MarkedYAMLError):
    """What is YAML, and none of ours."""

    def __init__(self, problem: str, mark: Any, *, code: str, pointer: str) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.code = code
        self.pointer = pointer


class _CoreComposer(yaml.SafeLoader):
    """YAML 1.2's core schema, without anchors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  as PyYAML declares it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases: a few lines of them make gigabytes, and a value stands where it is read."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML left it out
            _fail_at(event.start_mark, "aliases are not read; write the value out", "")
        return super().compose_node(parent, index)


def _bounded_integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(digits)
    return int(digits, 10)


_PREFIX = "tag:yaml.org,2002:"
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda _: None,
    "bool": _BOOLS.__getitem__,
    "int": _bounded_integer,
    "float": float,
}
for _kind, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "|".join(_BOOLS), list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _CoreComposer.add_implicit_resolver(f"{_PREFIX}{_kind}", re.compile(rf"(?:{_pattern})\Z"), _first)


def _plain(node: yaml.Node, pointer: str, places: dict[str, tuple[int, int]]) -> Any:
    places.setdefault(pointer, _at(node.start_mark))
    if pointer.count("/") > _DEEPEST:
        _fail_at(node.start_mark, "nested too deeply", pointer, code="E-SIZE")
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_PREFIX}map":
        return _plain_mapping(node, pointer, places)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_PREFIX}seq":
        return [_plain(child, f"{pointer}/{index}", places) for index, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or node.tag.removeprefix(_PREFIX) not in _SCALARS:
        _fail_at(node.start_mark, f"tag {node.tag!r} is not read here", pointer)
    try:
        value = _SCALARS[node.tag.removeprefix(_PREFIX)](node.value)
    except (ValueError, KeyError):
        _fail_at(node.start_mark, f"{node.value!r:.60} is not of tag {node.tag!r}", pointer)
    if isinstance(value, str) and not _is_unicode(value):
        _fail_at(node.start_mark, "half a surrogate pair is no character", pointer)
    return value


def _plain_mapping(node: yaml.MappingNode, pointer: str, places: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Keys are text, as in JSON, whatever they look like."""
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not _is_unicode(key.value):
            _fail_at(key.start_mark, "a key is text", pointer)
        child = f"{pointer}/{escape(key.value)}"
        if key.value in mapping:
            _fail_at(key.start_mark, f"key {key.value!r} stands twice", child, code="E-DUP-KEY")
        places[child] = _at(key.start_mark)
        mapping[key.value] = _plain(value, child, places)
    return mapping


def _fail_at(mark: Any, problem: str, pointer: str, *, code: str = "E-SYNTAX") -> NoReturn:
    raise _RefusedYaml(problem, mark, code=code, pointer=pointer)


def _at(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _too_deep(text: str) -> tuple[int, int]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return _at(event.start_mark)
    return 1, 1
