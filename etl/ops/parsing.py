"""Fixed formats of dates and times in texts, read by whole columns; the table of them is that of `parse_timestamp`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, StringConstraints

from etl.types import INTEGER_BOUNDS, ArrowArray, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EPOCHS", "Format", "Parsed", "parsed", "since_epoch"]

EPOCHS = {"epoch_seconds": 1_000_000, "epoch_milliseconds": 1000}
"""Formats of whole numbers since 1970, and the µs of one."""

_DAY = 86_400_000_000
"""Microseconds."""
_FINEST = 6
"""Digits of a microsecond."""
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def _in_any_case(word: str) -> str:
    """A pattern of ASCII letters; RE2's own flag lets other letters fold to them."""
    return "".join(f"[{letter.upper()}{letter.lower()}]" for letter in word)


_ONE_TO_TWELVE = "0?[1-9]|1[0-2]"
_MINUTES = "[0-5][0-9]"
_HOURS_AWAY = "0[0-9]|1[0-4]"

_TOKENS = {
    "yyyy": "(?P<year>[0-9]{4})",
    "MMMM": f"(?P<name>{'|'.join(map(_in_any_case, _MONTHS))})",
    "MMM": f"(?P<name>{'|'.join(_in_any_case(month[:3]) for month in _MONTHS)})",
    "MM": "(?P<month>0[1-9]|1[0-2])",
    "M": f"(?P<month>{_ONE_TO_TWELVE})",
    "dd": "(?P<day>0[1-9]|[12][0-9]|3[01])",
    "d": "(?P<day>0?[1-9]|[12][0-9]|3[01])",
    "HH": "(?P<hour>[01][0-9]|2[0-3])",
    "H": "(?P<hour>[01]?[0-9]|2[0-3])",
    "hh": "(?P<half>0[1-9]|1[0-2])",
    "h": f"(?P<half>{_ONE_TO_TWELVE})",
    "a": "(?P<noon>[AaPp][Mm])",
    "mm": f"(?P<minute>{_MINUTES})",
    "ss": f"(?P<second>{_MINUTES})",
    "XXX": f"(?:Z|(?P<sign>[+-])(?P<away>{_HOURS_AWAY}):(?P<rest>{_MINUTES}))",
    "XX": f"(?:Z|(?P<sign>[+-])(?P<away>{_HOURS_AWAY})(?P<rest>{_MINUTES}))",
    **{"S" * n: f"(?P<fraction>[0-9]{{{min(n, _FINEST)}}})[0-9]{{{n - min(n, _FINEST)}}}" for n in range(1, 10)},
}
_PIECE = re.compile(r"'((?:[^']|'')+)'|('')|([A-Za-z])\3*|([^A-Za-z'])")


class Parsed(NamedTuple):
    """Texts read as instants."""

    micros: npt.NDArray[np.int64]
    """µs since 1970; 0 where a text is none."""
    good: npt.NDArray[np.bool_]
    """Which texts have the format."""


def _pattern(text: str) -> str:
    """The RE2 pattern of a format, with a named group for each part.

    Raises:
        ValueError: a letter means nothing, a part stands twice, or parts do not go together.
    """
    pieces, end = [], 0
    for piece in _PIECE.finditer(text):
        if piece.start() != end:
            break
        end = piece.end()
        quoted, apostrophe, letter, sign = piece.groups()
        if letter and piece[0] not in _TOKENS:
            message = f"has {piece[0]!r}, which means nothing; there is {', '.join(_TOKENS)}, and 'text' in apostrophes"
            raise ValueError(message)
        literal = "'" if apostrophe else (quoted or sign or "").replace("''", "'")
        pieces.append(_TOKENS[piece[0]] if letter else re.escape(literal))
    if end != len(text):
        message = "has an apostrophe that is not closed"
        raise ValueError(message)
    pattern = "".join(pieces)
    _check_parts(re.findall(r"\?P<([a-z]+)>", pattern))
    return rf"\A{pattern}\z"


def _check_parts(parts: list[str]) -> None:
    twice = sorted({part for part in parts if parts.count(part) > 1})
    there = set(parts)
    message = ""
    if twice or {"month", "name"} <= there or {"hour", "half"} <= there:
        message = "has a part of the time twice"
    elif "year" not in there:
        message = "has no year (yyyy)"
    elif ("half" in there) != ("noon" in there):
        message = "has only one of hh and a, which go together; HH counts to 23"
    elif "day" in there and not there & {"month", "name"}:
        message = "has a day without a month"
    if message:
        raise ValueError(message)


def _checked(text: str) -> str:
    if text not in EPOCHS:
        _pattern(text)
    return text


Format = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_checked)]
"""A format in a document: of the table of `parse_timestamp`, or of `EPOCHS`."""


def parsed(texts: ArrowArray, format_: str) -> Parsed:
    """Read every text that has the format; a date that does not exist has none."""
    if format_ in EPOCHS:
        return _counted(texts, EPOCHS[format_])
    found = kernels.extract_regex(texts, _pattern(format_))
    good = found.is_valid().to_numpy(zero_copy_only=False)
    names = [field.name for field in found.type]
    groups = dict(zip(names, found.flatten(), strict=True))
    days, exists = _days(groups, good.shape)
    good = good & exists
    return Parsed(np.where(good, days * _DAY + _micros(groups), 0), good)


def since_epoch(numbers: npt.NDArray[np.int64], unit: int) -> Parsed:
    """Whole numbers of a unit of so many µs; one that a timestamp cannot hold is no instant."""
    furthest = INTEGER_BOUNDS["int64"][1] // unit
    good = (numbers >= -furthest) & (numbers <= furthest)
    return Parsed(np.where(good, numbers, 0) * unit, good)


def _counted(texts: ArrowArray, unit: int) -> Parsed:
    # Eighteen digits are within int64, and no instant that a timestamp can hold has more.
    found = kernels.extract_regex(texts, r"\A(?P<number>-?[0-9]{1,18})\z")
    numbers = since_epoch(found.flatten()[0].cast("int64").fill_null(0).to_numpy(), unit)
    return numbers._replace(good=numbers.good & found.is_valid().to_numpy(zero_copy_only=False))


def _number(groups: dict[str, ArrowArray], name: str, absent: int = 0) -> npt.NDArray[np.int64]:
    """A group as integers; `absent` where it is not in the format, 0 where the text lacks it."""
    if name not in groups:
        return np.full(1, absent, dtype=np.int64)
    group = groups[name].fill_null("0")
    digits = kernels.if_else(kernels.equal(group, ""), "0", group)
    return np.asarray(digits.cast("int64").to_numpy())


def _days(groups: dict[str, ArrowArray], shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Days since 1970, and whether there is such a day."""
    year, month, day = _number(groups, "year"), _number(groups, "month", 1), _number(groups, "day", 1)
    if "name" in groups:
        prefix = kernels.ascii_lower(kernels.utf8_slice_codeunits(groups["name"].fill_null("jan"), 0, 3))
        names = [name[:3].lower() for name in _MONTHS]
        month = kernels.index_in(prefix, value_set=pa.array(names)).to_numpy() + 1
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first, next_first = (start.astype("datetime64[D]").astype(np.int64) for start in (months, months + 1))
    exists = (year >= 1) & (day <= next_first - first)
    return first + day - 1, np.broadcast_to(exists, shape)


def _micros(groups: dict[str, ArrowArray]) -> npt.NDArray[np.int64]:
    """µs behind the day's midnight, in UTC."""
    hour = _number(groups, "hour")
    if "half" in groups:
        is_afternoon = kernels.equal(kernels.ascii_lower(groups["noon"].fill_null("am")), "pm")
        hour = _number(groups, "half") % 12 + 12 * is_afternoon.to_numpy(zero_copy_only=False)
    minutes = hour * 60 + _number(groups, "minute")
    if "sign" in groups:
        away = _number(groups, "away") * 60 + _number(groups, "rest")
        is_behind = kernels.equal(groups["sign"].fill_null(""), "-").to_numpy(zero_copy_only=False)
        minutes = minutes + np.where(is_behind, away, -away)
    micros = (minutes * 60 + _number(groups, "second")) * 1_000_000
    if "fraction" in groups:
        padded = kernels.utf8_rpad(groups["fraction"], _FINEST, "0")
        micros = micros + _number({"fraction": padded}, "fraction")
    return micros
