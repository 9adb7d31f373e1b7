"""What pydantic's faults are called: it words them for Python programmers, we for whoever writes the document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WRONG_KINDS", "choices", "kind_of", "worded"]

WRONG_KINDS = {
    "bool_type": "should be true or false",
    "byte_size": "should be a size, such as 128MiB",
    "dict_type": "should be a mapping",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "list_type": "should be a list",
    "model_attributes_type": "should be a mapping",
    "model_type": "should be a mapping",
    "string_type": "should be text",
    "tuple_type": "should be a list",
}
"""Faults where a value is of another kind than it should be."""

_FORMS = {
    "^[a-z][a-z0-9_]{0,99}$": "should be a lower-case letter, then up to 99 lower-case letters, digits and _",
    "^[0-9a-f]{64}$": "should be a SHA-256, 64 lower-case hexadecimal digits",
}
"""Patterns of our own documents in words."""

_BOUNDS = {
    "finite_number": "should be a finite number",
    "greater_than": "should be above {gt}",
    "greater_than_equal": "should be {ge} or more",
    "int_parsing_size": "should be a whole number of fewer digits",
    "less_than": "should be below {lt}",
    "less_than_equal": "should be {le} or less",
    "string_too_long": "should have at most {max_length:,} characters",
}


def worded(kind: str, context: Mapping[str, Any], otherwise: str) -> str:
    """One of pydantic's faults in words, without an end; `otherwise` is how pydantic says it."""
    if kind in WRONG_KINDS:
        return WRONG_KINDS[kind]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map({key: _plain(value) for key, value in context.items()})
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return _FORMS.get(pattern, f"should match the pattern {pattern}")
    if kind in {"string_too_short", "too_short"}:
        return "should not be empty" if context["min_length"] == 1 else f"should have {context['min_length']} or more"
    if kind == "too_long":
        most = context["max_length"]
        return f"should have at most {_counted(most)}" if most else "should be empty"
    return otherwise.removeprefix("Value error, ").removeprefix("Input ")


def choices(expected: str) -> list[str]:
    """The words of `'a', 'b' or 'c'`, as pydantic lists what would be right."""
    return re.findall(r"'([^']*)'", expected)


def kind_of(value: Any) -> str:
    """What a JSON value is, without the value."""
    kinds: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return "nothing" if value is None else kinds.get(type(value), "a mapping")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _counted(most: int) -> str:
    return f"{most:,} element{'s' if most > 1 else ''}"
