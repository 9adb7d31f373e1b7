"""Numbers to shapes: paths of SVG, and shares of a width. Labels are HTML beside them, so that they never shrink.

An SVG of these is stretched to the width that there is; its unit is a bucket or a share of the axis, and not a pixel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jobs.report.distributions import round_step

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HEIGHT", "Bar", "Steps", "axis_top", "bars", "percent", "steps"]

HEIGHT = 100.0
"""Of every SVG, in its own units. Its y goes down, so 0 is the top of the axis."""


class Steps(NamedTuple):
    """Values by bucket as a line of steps."""

    line: str
    """Path of its upper edge."""
    area: str
    """Path of what lies below."""
    top: float
    """Value at the top of the axis."""
    width: int
    """Buckets: the width of the SVG."""


class Bar(NamedTuple):
    """A bar of a histogram, in units of its SVG: a width of 100, and `HEIGHT`."""

    x: float
    width: float
    y: float
    height: float


def axis_top(values: Sequence[float]) -> float:
    """A round number that is not below any of the values, which are finite and not negative; 1 where all are 0."""
    highest = max(values, default=0.0)
    # The step of a number near the least that there is rounds to nothing.
    return (round_step(highest) or highest) if highest > 0 else 1.0


def steps(values: Sequence[float]) -> Steps:
    """A line of steps over values that are finite and not negative."""
    top = axis_top(values)
    heights = [_down(value, top) for value in values]
    line = "".join(f"V{y:.2f}H{number}" for number, y in enumerate(heights, 1))
    start = f"M0,{heights[0]:.2f}" if heights else "M0,0"
    return Steps(f"{start}{line}", f"M0,{HEIGHT:.0f}{line}V{HEIGHT:.0f}Z", top, len(heights))


def bars(edges: Sequence[float], counts: Sequence[int]) -> list[Bar]:
    """A bar for each bin; one that has any rows is seen, however few they are."""
    if math.isinf(edges[-1] - edges[0]):
        edges = [edge / 2 for edge in edges]
    low, span, top = edges[0], edges[-1] - edges[0], max(counts, default=0)
    found = []
    for number, count in enumerate(counts):
        left, right = (100.0 * ((edges[at] - low) / span) for at in (number, number + 1))
        height = max(HEIGHT * count / top, 1.0) if count else 0.0
        found.append(Bar(round(left, 3), round(right - left, 3), round(HEIGHT - height, 3), round(height, 3)))
    return found


def percent(part: float, whole: float) -> float:
    """Share of a whole in percent, between 0 and 100, to a thousandth; 0 of nothing."""
    return round(min(max(100.0 * part / whole, 0.0), 100.0), 3) if whole > 0 else 0.0


def _down(value: float, top: float) -> float:
    return HEIGHT * (1.0 - min(value / top, 1.0))
