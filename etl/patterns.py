r"""Regular expressions of specs: the RE2 subset that means the same in RE2, Java and Python, checked when one is read.

RE2 has no lookaround and no backreferences, so no pattern takes exponential time. `\d`, `\s`, `\w` and `\b` are
refused in favour of explicit classes such as `[0-9]`, because engines differ on which letters they hold.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, StringConstraints

from etl.types import ArrowArray, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Pattern", "matches"]


def _checked(pattern: str) -> str:
    """Refuse what is no RE2, or what engines read in different ways.

    Raises:
        ValueError: with the reason.
    """
    ambiguous = re.search(r"(?<!\\)(?:\\\\)*(\\[dDsSwWbBZzAGQEhHvVRX])", pattern)
    if ambiguous:
        message = f"has {ambiguous[1]}, which engines read in different ways; write an explicit class such as [0-9]"
        raise ValueError(message)
    try:
        kernels.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        message = f"is no RE2 pattern: {str(error).removeprefix('Invalid regular expression: ')}"
        raise ValueError(message) from error
    return pattern


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_checked)]
"""A pattern in a document."""


def matches(column: ArrowArray, pattern: str) -> npt.NDArray[np.bool_]:
    """Whether the whole of each text matches; false for null. shape (rows,)."""
    found = kernels.match_substring_regex(column, rf"\A(?:{pattern})\z")
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own
