"""Texts of others, such as names and values, as a terminal or a page may show them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["code_span", "counted", "distinct", "printable", "prose"]

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


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with what is counted: `1 row`, `1,200 rows`; `several` where that is not `one` and an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with control characters written out, such as `\x1b`; `lines`: ends of lines stay."""
    return text.translate(_LINES if lines else _CONTROLS)


_ALIKE = _CONTROLS | {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"  # noqa: PLR2004  as above
    for code in (0xA0, 0xAD, 0x1680, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)
}
"""Those, and spaces other than the common one, with or without a width."""


def distinct(text: str) -> str:
    r"""A name or value so that no other looks the same: as `printable`, with spaces other than the common
    one written out (`\xa0`), and what is not composed as Unicode's NFC has it (`e\u0301`). Marks that have no composed
    form, as of Devanagari, stay. Letters of two alphabets that look alike stay, too.
    """  # noqa: D205  one sentence and another
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = "".join(_decomposed(sign) for sign in text.translate(_ALIKE))
    return text.translate(_ALIKE)


def _decomposed(sign: str) -> str:
    """The character, or how it is written where NFC would put it together with another one, or has another for it."""
    code = ord(sign)
    is_jamo = 0x1161 <= code <= 0x11FF  # noqa: PLR2004  vowels and endings of Hangul
    if is_jamo or unicodedata.combining(sign) or not unicodedata.is_normalized("NFC", sign):
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004  what four digits hold
    return sign


def code_span(text: str) -> str:
    """The text as code in Markdown, whatever backticks it has; none that looks like another's."""
    text = distinct(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str) -> str:
    """The text as a paragraph of Markdown that shows it as it is: no HTML, no links, no marks."""
    text = printable(" ".join(text.split()))
    text = re.sub(r"([\\`*\[\]]|^[#+=-])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
