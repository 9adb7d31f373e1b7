"""Ops with regular expressions on texts; what a pattern may have is said at `etl.patterns`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field, model_validator

from etl.ops.base import Params
from etl.ops.strings import TextStep
from etl.patterns import PATTERN_RULES, NonEmptyPattern, Pattern, parsed
from etl.types import kernels

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = ["RegexExtract", "RegexExtractParams", "RegexReplace", "RegexReplaceParams", "RegexStep"]


class RegexReplaceParams(Params):
    """What is replaced, and by what."""

    pattern: NonEmptyPattern = Field(description=f"{PATTERN_RULES}; it cannot match the empty text.")
    replacement: str = Field(
        max_length=1000, description="`\\1` to `\\9` are the match's groups, `\\0` the match, `\\\\` a backslash."
    )

    @model_validator(mode="after")
    def _groups_are_there(self) -> RegexReplaceParams:
        groups = len(parsed(self.pattern).openings)
        for escape in re.findall(r"\\(.?)", self.replacement, re.DOTALL):
            if escape == "\\":
                continue
            if escape not in set("0123456789"):
                message = f"replacement has \\{escape}; a backslash is \\\\, and \\1 is the first group"
                raise ValueError(message)
            if int(escape) > groups:
                message = f"replacement has \\{escape}, and the pattern has {groups} groups"
                raise ValueError(message)
        return self


class RegexReplace(TextStep):
    """Every match of `pattern` replaced by `replacement`: from left to right, each beginning where the one before ends
    or later, and what is put in is not searched again. A group that took no part in the match is empty. `$` and other
    signs in `replacement` stand for themselves. A text without a match stays as it is, and so does empty text, which no
    pattern of this op matches. Missing stays missing.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["regex_replace"]
    params: RegexReplaceParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By RE2."""
        column, params = frame.arrow(self.inputs[0]), self.params
        replaced = kernels.replace_substring_regex(column, pattern=params.pattern, replacement=params.replacement)
        return (replaced,)


class RegexExtractParams(Params):
    """What is looked for, and which part of it is wanted."""

    pattern: Pattern = Field(description=f"{PATTERN_RULES}.")
    group: int = Field(default=0, ge=0, description="Number of the group, from 1; 0 is the whole match.")

    @model_validator(mode="after")
    def _group_is_there(self) -> RegexExtractParams:
        groups = len(parsed(self.pattern).openings)
        if self.group > groups:
            message = f"group is {self.group}, and the pattern has {groups} groups"
            raise ValueError(message)
        return self

    @property
    def named(self) -> str:
        """The pattern with the name `part` for the wanted group, or for all of it; no other group captures."""
        parts, start = [], 0
        for number, opening in enumerate(parsed(self.pattern).openings, start=1):
            parts += [self.pattern[start:opening], "(?P<part>" if number == self.group else "(?:"]
            start = opening + 1
        named = "".join([*parts, self.pattern[start:]])
        return named if self.group else f"(?P<part>{named})"


class RegexExtract(TextStep):
    """The part of the text that `group` of the first match of `pattern` holds; the first is the one that begins
    leftmost. Missing where nothing matches and where the text is missing; empty text where the group matched nothing or
    took no part in the match (one of alternatives, or behind `?` or `*`). Of a repeated group, its last round counts.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["regex_extract"]
    params: RegexExtractParams

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By RE2, of which the kernel wants every group to have a name."""
        found = kernels.extract_regex(frame.arrow(self.inputs[0]), pattern=self.params.named)
        return (kernels.struct_field(found, [0]),)


RegexStep: TypeAlias = RegexExtract | RegexReplace
