"""How good scores are against what was true, and how alike two columns of numbers are. Numbers in numpy, no nulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Bin", "auc", "brier", "calibration", "calibration_error", "log_loss", "rank_correlation", "ranks"]

Floats: TypeAlias = "npt.NDArray[np.floating]"
Truths: TypeAlias = "npt.NDArray[np.bool_]"


class Bin(NamedTuple):
    """Rows whose scores are near each other."""

    lowest: float
    highest: float
    """Scores of the bin's rows lie from the one to the other."""
    rows: int
    score: float
    """Mean of the scores."""
    rate: float
    """Share of the rows whose label is positive."""


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """From 1, in the order of the values; equal ones share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: npt.NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    return found


def rank_correlation(left: Floats, right: Floats) -> float | None:
    """Spearman's, with ties at the mean of their ranks; None where one side has a single value."""
    if not len(left):
        return None
    mine, yours = (found - found.mean() for found in (ranks(left), ranks(right)))
    scale = np.sqrt(np.dot(mine, mine) * np.dot(yours, yours))
    return float(np.clip(np.dot(mine, yours) / scale, -1, 1)) if scale > 0 else None


def auc(truths: Truths, scores: Floats) -> float | None:
    """Share of pairs of a positive and a negative row that are in order, equal scores by half; None of one class."""
    positive = int(truths.sum())
    negative = len(truths) - positive
    if not positive or not negative:
        return None
    above = ranks(scores)[truths].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def log_loss(truths: Truths, scores: Floats) -> float:
    """Mean of -ln of what was given to the truth; 0 and 1 count as the nearest that their type tells from them."""
    nearest = float(np.finfo(scores.dtype).eps)
    given = np.clip(scores.astype(np.float64), nearest, 1 - nearest)
    return float(-np.mean(np.where(truths, np.log(given), np.log1p(-given))))


def brier(truths: Truths, scores: Floats) -> float:
    """Mean squared distance of the score from 0 or 1."""
    return float(np.mean(np.square(scores.astype(np.float64) - truths)))


def calibration(truths: Truths, scores: Floats, bins: int) -> list[Bin]:
    """At most so many bins of about equally many rows, the lowest scores first; equal scores share a bin."""
    order = np.argsort(scores, kind="stable")
    ordered, true = scores[order].astype(np.float64), truths[order]
    ends = np.searchsorted(ordered, np.quantile(ordered, np.arange(1, bins + 1) / bins, method="inverted_cdf"), "right")
    ends = np.unique(ends)
    starts = np.concatenate([[0], ends[:-1]])
    sums = np.add.reduceat(ordered, starts), np.add.reduceat(true.astype(np.int64), starts)
    sizes = ends - starts
    return [
        Bin(float(ordered[start]), float(ordered[end - 1]), int(rows), float(score / rows), float(hits / rows))
        for start, end, rows, score, hits in zip(starts, ends, sizes, *sums, strict=True)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Mean distance, over rows, of a bin's scores from its rate."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.score - one.rate) for one in bins) / rows
