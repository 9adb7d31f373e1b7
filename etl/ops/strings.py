"""Ops on texts. A text is a sequence of Unicode code points; nothing depends on a locale."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints, field_validator, model_validator

from etl.documents import Strict
from etl.ops.base import Params, RowStep, need_string
from etl.ops.codes import TextCodes
from etl.ops.failures import OnError, treat_failures
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "AsText",
    "CaseParams",
    "CharacterSet",
    "Concat",
    "ConcatParams",
    "Length",
    "Lower",
    "NormalizeUnicode",
    "NormalizeUnicodeParams",
    "ParseNumber",
    "ParseNumberParams",
    "Replace",
    "ReplaceParams",
    "StringStep",
    "Substring",
    "SubstringParams",
    "TextStep",
    "Trim",
    "TrimParams",
    "Upper",
]

_LARGEST = 2**31 - 1
"""Code points; no text in Arrow is longer."""

_WHITESPACE = " \t\n\v\f\r"


class AsText(Strict):
    """Put a text in the value's place."""

    as_value: str = Field(description="The text; it may be empty.")


class TextStep(RowStep):
    """An op that makes texts of texts."""

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text in, text out."""
        need_string(types)
        return (ColumnType("string"),)


class CaseParams(Params):
    """Which letters have two cases."""

    mode: Literal["ascii", "unicode_simple"] = Field(
        default="ascii",
        description="Only the 26 letters of ASCII; or all letters, each by itself, as Unicode's simple case mapping.",
    )


class Lower(TextStep):
    """The text in lower case. Missing stays missing, and empty text empty.

    `ascii`: A to Z become a to z, and nothing else changes. `unicode_simple`: each code point by itself becomes its
    simple lower-case mapping of the Unicode Character Database, so the number of code points stays: `İ` becomes `i`,
    `K` (U+212A) `k`, `ẞ` `ß`, and `Σ` is `σ` at the end of a word too. Python and Java map in full (`İ` becomes two
    code points, the last `Σ` of a word `ς`). It is pyarrow's kernel `utf8_lower`: what Unicode adds after version 14
    changes with pyarrow's releases.
    """

    op: Literal["lower"]
    params: CaseParams = CaseParams()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel."""
        kernel = kernels.ascii_lower if self.params.mode == "ascii" else kernels.utf8_lower
        return (kernel(frame.arrow(self.inputs[0])),)


class Upper(TextStep):
    """The text in upper case. Missing stays missing, and empty text empty.

    `ascii`: a to z become A to Z, and nothing else changes. `unicode_simple`: each code point by itself becomes its
    simple upper-case mapping of the Unicode Character Database, so the number of code points stays: `ſ` becomes `S`,
    `ı` `I`, `ŉ` and `ﬁ` stay, and `ᾳ` is `ᾼ`; other than there, `ß` becomes `ẞ` (U+1E9E). Python and Java map in full
    (`ß` becomes `SS`). It is pyarrow's kernel `utf8_upper`: what Unicode adds after version 14 changes with pyarrow's
    releases.
    """

    op: Literal["upper"]
    params: CaseParams = CaseParams()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel."""
        kernel = kernels.ascii_upper if self.params.mode == "ascii" else kernels.utf8_upper
        return (kernel(frame.arrow(self.inputs[0])),)


class CharacterSet(Strict):
    """Characters to trim."""

    set: str = Field(min_length=1, max_length=1000, description="Each of its code points is one of them.")


class TrimParams(Params):
    """What is taken away, and where."""

    chars: Literal["space", "whitespace_ascii"] | CharacterSet = Field(
        default="space",
        description="U+0020 alone; space, tab, line feed, vertical tab, form feed and carriage return; or a set.",
    )
    side: Literal["both", "left", "right"] = Field(default="both", description="Left is the beginning of the text.")

    @property
    def characters(self) -> str:
        """The code points that are taken away."""
        if isinstance(self.chars, CharacterSet):
            return self.chars.set
        return " " if self.chars == "space" else _WHITESPACE


class Trim(TextStep):
    """The text without the characters of `chars` at its ends, however many there are; others stay, and so do a no-break
    space and other white space beyond ASCII that is not declared. A text of nothing else becomes empty, and an empty
    text stays so. Missing stays missing.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["trim"]
    params: TrimParams = TrimParams()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel."""
        kernel = {"both": kernels.utf8_trim, "left": kernels.utf8_ltrim, "right": kernels.utf8_rtrim}[self.params.side]
        return (kernel(frame.arrow(self.inputs[0]), characters=self.params.characters),)


class ConcatParams(Params):
    """What stands between the texts, and what a missing one does."""

    separator: str = Field(default="", description="Between each two texts, empty ones too.")
    missing: Literal["as_missing"] | AsText = Field(
        default="as_missing", description="One missing text makes the result missing; or each is replaced by a text."
    )


class Concat(TextStep):
    """The texts one behind the other in the order of the inputs, with `separator` between each two, beside an empty one
    too. Where one is missing the result is missing, or a text stands for it, and then the result is never missing.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["concat"]
    params: ConcatParams = ConcatParams()
    arity = (None, 1)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel."""
        missing = self.params.missing
        rule = {"null_handling": "emit_null"}
        if isinstance(missing, AsText):
            rule = {"null_handling": "replace", "null_replacement": missing.as_value}
        columns = [frame.arrow(name) for name in self.inputs]
        return (kernels.binary_join_element_wise(*columns, self.params.separator, **rule),)


class SubstringParams(Params):
    """Which part of the text."""

    start: int = Field(
        ge=-_LARGEST,
        le=_LARGEST,
        description="Code point with which it begins: from 0, or from the end, of which -1 is the last.",
    )
    length: int | None = Field(
        default=None, ge=0, le=_LARGEST, description="How many code points; to the end of the text where not said."
    )


class Substring(TextStep):
    """The `length` code points from `start` on. What lies outside of the text is not there: from −5 on, 3 code points
    of a text of 4 are its first 2, and what lies outside as a whole is empty text. Missing stays missing. Letters with
    combining marks, or emoji of several code points, may be cut.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["substring"]
    params: SubstringParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel, whose end, too, counts from the end of the text where it is negative."""
        start, length = self.params.start, self.params.length
        stop = None if length is None or start < 0 <= start + length else start + length
        return (kernels.utf8_slice_codeunits(frame.arrow(self.inputs[0]), start=start, stop=stop),)


class Length(RowStep):
    """The number of code points, as float64; 0.0 for empty text. Missing stays missing. A letter with a combining mark
    is two, and an emoji may be several; normalize the text where that matters.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["length"]

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text in, float64 out."""
        need_string(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel."""
        lengths = kernels.utf8_length(frame.arrow(self.inputs[0])).cast(pa.float64())
        return (lengths.to_numpy(zero_copy_only=False),)


class ParseNumberParams(Params):
    """How numbers are written, and what happens to a text that is none."""

    decimal: Literal[".", ","] = Field(default=".", description="What stands before the fraction.")
    grouping: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = Field(
        default=None,
        description="What may stand between groups of three digits before the fraction; nothing if not said.",
    )
    on_error: OnError = Field(default="reject", description="Missing, the row is quarantined, or the run fails.")

    @field_validator("grouping")
    @classmethod
    def _is_a_separator(cls, grouping: str | None) -> str | None:
        if grouping is not None and (grouping.isalnum() or grouping in "+-"):
            message = "is no letter, digit or sign; a comma, a point, an apostrophe or a space may group digits"
            raise ValueError(message)
        return grouping

    @model_validator(mode="after")
    def _signs_differ(self) -> ParseNumberParams:
        if self.grouping == self.decimal:
            message = f"decimal and grouping are both {self.decimal!r}; each number would have two meanings"
            raise ValueError(message)
        return self

    @functools.cached_property
    def pattern(self) -> str:
        """What a number looks like, for RE2."""
        decimal, whole = re.escape(self.decimal), "[0-9]+"
        if self.grouping is not None:
            whole = rf"(?:[0-9]{{1,3}}(?:{re.escape(self.grouping)}[0-9]{{3}})+|[0-9]+)"
        return rf"\A[+-]?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?\z"


class ParseNumber(RowStep):
    """The number that the text writes: the nearest float64, as `cast` to float64 reads it, but with declared signs.

    A number is digits with at most one `decimal`, before them a sign and behind them `e`, a sign and digits where
    wanted. With `grouping`, the digits before `decimal` are all written in groups of three, of which the first may be
    shorter (`1,234,567.5`), or in none (`1234567.5`). Spaces (U+0020) around it do not count. What is no such number
    (empty text, `NaN`, `inf`, `1,23` with grouping `,`, a currency), and what is beyond float64's range, goes by
    `on_error`. Missing stays missing.
    """

    op: Literal["parse_number"]
    params: ParseNumberParams = ParseNumberParams()

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text in, float64 out."""
        need_string(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """Whole columns, through the number's text in Arrow's own form."""
        name, params = self.inputs[0], self.params
        texts = kernels.utf8_trim(frame.arrow(name), characters=" ")
        is_number = kernels.match_substring_regex(texts, params.pattern)
        texts = kernels.if_else(is_number, texts, pa.scalar(None, pa.string()))
        if params.grouping is not None:
            texts = kernels.replace_substring(texts, pattern=params.grouping, replacement="")
        if params.decimal != ".":
            texts = kernels.replace_substring(texts, pattern=params.decimal, replacement=".")
        values = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
        failed = ~np.isfinite(values) & ~frame.missing(name)
        treat_failures(
            self,
            frame,
            failed,
            on_error=params.on_error,
            code="NOT_PARSABLE",
            pointer=f"{pointer}/params/on_error",
            message=f"{name} has a text that is no number",
        )
        return (np.where(failed, np.nan, values),)


class NormalizeUnicodeParams(Params):
    """Which normal form."""

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = Field(
        description="C composes letters and marks, D takes them apart; K makes like signs alike (`ﬁ` becomes `fi`)."
    )


class NormalizeUnicode(TextStep):
    """The text in a normal form of Unicode (UAX #15), so that texts that look alike are equal. Missing stays missing,
    empty text empty, and ASCII as it is. Characters that Unicode adds after version 14 change with pyarrow's releases.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["normalize_unicode"]
    params: NormalizeUnicodeParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By a kernel, unless all is ASCII."""
        column = frame.arrow(self.inputs[0])
        if kernels.all(kernels.string_is_ascii(column)).as_py() is not False:
            return (column,)
        return (kernels.utf8_normalize(column, form=self.params.form),)


class ReplaceParams(Params):
    """Texts and what stands in their place."""

    mapping: dict[str, str] = Field(min_length=1, description="What a whole text becomes.")
    default: Literal["keep", "as_missing"] | AsText = Field(
        default="keep", description="What any other text becomes: itself, missing, or one text for all."
    )


class Replace(TextStep):
    """What `mapping` has for the whole text, compared code point by code point, case and spaces included; any other
    text goes by `default`. Empty text may be a key. Missing stays missing.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["replace"]
    params: ReplaceParams

    @functools.cached_property
    def _codes(self) -> TextCodes:
        return TextCodes(tuple(self.params.mapping))

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch."""
        column = frame.arrow(self.inputs[0])
        codes = self._codes.codes(column)
        replaced = pa.array(self.params.mapping.values(), pa.string()).take(pa.array(codes, mask=codes < 0))
        return (kernels.coalesce(replaced, self._others(column)),)

    def _others(self, column: ArrowArray) -> ArrowArray:
        """What texts become that the mapping does not have."""
        if self.params.default == "keep":
            return column
        text = self.params.default.as_value if isinstance(self.params.default, AsText) else None
        return kernels.if_else(column.is_valid(), pa.scalar(text, pa.string()), pa.scalar(None, pa.string()))


StringStep: TypeAlias = Concat | Length | Lower | NormalizeUnicode | ParseNumber | Replace | Substring | Trim | Upper
