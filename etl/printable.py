"""Texts of others, such as names and values, as a terminal or a page may show them."""

from __future__ import annotations

import re

__all__ = ["code_span", "printable", "prose"]

_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"  # noqa: PLR2004  what two digits hold
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *(0x200E, 0x200F, 0x2028, 0x2029),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}
"""Control characters, line ends, and what turns the direction of writing: written out, so that nothing obeys them."""

_LINES = {code: text for code, text in _CONTROLS.items() if chr(code) != "\n"}


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with control characters written out, such as `\x1b`; `lines`: ends of lines stay."""
    return text.translate(_LINES if lines else _CONTROLS)


def code_span(text: str) -> str:
    """The text as code in Markdown, whatever backticks it has."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str) -> str:
    """The text as a paragraph of Markdown that shows it as it is: no HTML, no links, no marks."""
    text = printable(" ".join(text.split()))
    text = re.sub(r"([\\`*\[\]]|^[#+=-])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
