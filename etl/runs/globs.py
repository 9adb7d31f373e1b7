"""Which keys a path or glob means, in stores that list by prefix.

The rules are those of local folders: `*`, `?` and `[]` match within one level, `**` any number of folders, a folder is
all below it, and names that begin with `_` or `.` are hidden but where they are asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["has_magic", "is_hidden", "matcher", "stem_of"]

_MAGIC = re.compile(r"[*?\[]")
_VISIBLE = "(?![_.])"
_ANY_FOLDERS = "**"


def has_magic(pattern: str) -> bool:
    """Whether it is a glob."""
    return _MAGIC.search(pattern) is not None


def is_hidden(name: str) -> bool:
    """Whether readers pass over it."""
    return name.startswith(("_", "."))


def stem_of(pattern: str) -> str:
    """What every key begins with that a glob matches."""
    found = _MAGIC.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def matcher(pattern: str, *, is_literal: bool = False) -> Callable[[str], bool]:
    """Tells whether a key is meant by a glob, or by a path taken as it is."""
    parts = [part for part in pattern.split("/") if part]
    if is_literal:
        text = re.escape("/".join(parts))
    else:
        text = "".join(_part(part, is_last=at == len(parts) - 1) for at, part in enumerate(parts))
    # A key may have names without a sign in them, `a//b`, which S3 takes as they are.
    below = f"(?:/+{_VISIBLE}[^/]+)*" if parts else f"{_VISIBLE}[^/]+(?:/+{_VISIBLE}[^/]+)*"
    found = re.compile(text + below, re.DOTALL)
    return lambda key: found.fullmatch(key) is not None


def _part(part: str, *, is_last: bool) -> str:
    if part == _ANY_FOLDERS:
        return f"{_VISIBLE}[^/]+" if is_last else f"(?:{_VISIBLE}[^/]+/+)*"
    slash = "" if is_last else "/+"
    if not has_magic(part):
        return re.escape(part) + slash
    return f"{'' if is_hidden(part) else _VISIBLE}{_translated(part)}{slash}"


def _translated(part: str) -> str:
    """One name's glob as an expression, as `fnmatch` reads it."""
    text, at = "", 0
    while at < len(part):
        sign = part[at]
        closing = part.find("]", at + 3 if part[at + 1 : at + 2] == "!" else at + 2) if sign == "[" else -1
        if closing > 0:
            inside = part[at + 1 : closing].replace("\\", "\\\\")
            negated = inside.startswith("!")
            inside = inside.removeprefix("!").replace("[", "\\[").replace("^", "\\^")
            text += f"[^/{inside}]" if negated else f"(?!/)[{inside}]"
            at = closing
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
        at += 1
    return text
