"""Scores beside labels that came later: how good a run was, as a whole and by segment.

Labels of two values make a classifier of a score: AUC, log loss, Brier score, calibration. Labels that are numbers make
a regression of it: RMSE, MAE, bias, R².

Memory: the labels, the columns of one run that are asked for (key, scores, segments), and about 190 bytes a row
of it beside them, as measured with 3 million rows and as many labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused
from jobs.monitoring.matching import examples, match, numbers_in, slices_of
from jobs.monitoring.measures import auc, brier, calibration, calibration_error, log_loss, rank_correlation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from jobs.monitoring.matching import Side
    from jobs.monitoring.measures import Bin

__all__ = ["Classified", "Evaluation", "Labels", "Regressed", "ScoreQuality", "Segment", "evaluate", "no_label_fits"]

Floats: TypeAlias = "npt.NDArray[np.floating]"


class Labels(NamedTuple):
    """What was true."""

    table: pa.Table
    """Keys, segments, and the label: bool of a classifier, float64 of a regression, null where it is not known."""
    keys: tuple[str, ...]
    label: str

    @property
    def are_classes(self) -> bool:
        """Whether they are of two classes."""
        return bool(pa.types.is_boolean(self.table.schema.field(self.label).type))


class Classified(NamedTuple):
    """How good scores of a class are."""

    rows: int
    positives: int
    score: float | None
    """Mean of the scores; None where there are no rows, as everything below."""
    rate: float | None
    """Share of positives."""
    auc: float | None
    """None of one class, too."""
    log_loss: float | None
    """None where a score is no probability, which is between 0 and 1; so are all below."""
    brier: float | None
    calibration_error: float | None
    """Mean distance, over rows, of the scores of a bin from its rate."""
    bins: list[Bin]


class Regressed(NamedTuple):
    """How good scores of a number are."""

    rows: int
    rmse: float | None
    """Root of the mean squared error; None where there are no rows, as all others."""
    mae: float | None
    """Mean of |score - label|."""
    bias: float | None
    """Mean of score - label."""
    r2: float | None
    """Share of the labels' variance that the scores explain; None where all labels are equal."""
    rank_correlation: float | None
    """Spearman's; None where all labels, or all scores, are equal."""


class Segment(NamedTuple):
    """Of the rows that have one value of a column."""

    value: str | None
    quality: Classified | Regressed


class ScoreQuality(NamedTuple):
    """How good a score is."""

    name: str
    unscored: int
    """Rows with a label and without a score: null, NaN or infinite."""
    quality: Classified | Regressed
    segments: dict[str, list[Segment]]
    """By column, the segment with the most rows first."""


class Evaluation(NamedTuple):
    """A run beside labels."""

    rows: Side
    """Rows of the run: `alone` have no label (yet), `repeated` have several that differ."""
    labels: Side
    """Distinct labels: `alone` are of rows that the run does not have."""
    unknown: int
    """Rows whose label is null."""
    scores: list[ScoreQuality]


def evaluate(scores: pa.Table, labels: Labels, columns: Sequence[str], *, by: Sequence[str], bins: int) -> Evaluation:
    """How good the scores of a run are: a table with the key, the scores and the columns of segments, if not in labels.

    A key that stands several times in the run is so many predictions; one that stands several times among the labels,
    and not always with the same one, says nothing.

    Raises:
        Refused: a column is no score.
    """
    matches = match(scores, labels.table, labels.keys, left_repeats=True)
    left, right = pa.array(matches.left), pa.array(matches.right)
    truths = labels.table.column(labels.label).take(right)
    is_known = pc.is_valid(truths)
    unknown = len(truths) - int(is_known.to_numpy().sum())
    truths = truths.filter(is_known)
    slices = {}
    for name in by:
        held, rows = (scores, left) if name in scores.column_names else (labels.table, right)
        slices[name] = slices_of(name, held.column(name).take(rows).filter(is_known))
    true = truths.to_numpy()
    found = []
    for name in columns:
        values = numbers_in(scores.column(name).take(left).filter(is_known))
        if values is None:
            raise Refused(f"--column {name}: is {scores.schema.field(name).type}, and labels are held against numbers.")
        has = ~np.isnan(values)
        segments = {
            column: [
                Segment(value, _quality(true[rows[has[rows]]], values[rows[has[rows]]], bins))
                for value, rows in zip(*slice_, strict=True)
            ]
            for column, slice_ in slices.items()
        }
        found.append(ScoreQuality(name, int((~has).sum()), _quality(true[has], values[has], bins), segments))
    return Evaluation(*matches.sides, unknown, found)


def no_label_fits(scores: pa.Table, labels: Labels) -> Refused:
    """The refusal of labels that are of other rows."""
    return Refused(
        f"no row has a label: keys of the newest run are {examples(scores, labels.keys)}, keys of the labels are "
        f"{examples(labels.table, labels.keys)}. Name another --key, or other --labels."
    )


def _quality(truths: npt.NDArray[Any], scores: Floats, bins: int) -> Classified | Regressed:
    if truths.dtype == np.bool_:
        return classified(truths, scores, bins)
    return regressed(truths.astype(np.float64), scores.astype(np.float64))


def classified(truths: npt.NDArray[np.bool_], scores: Floats, bins: int) -> Classified:
    """Of a score and the labels of the same rows."""
    rows, positives = len(truths), int(truths.sum())
    if not rows:
        return Classified(0, 0, None, None, None, None, None, None, [])
    common = rows, positives, float(scores.mean(dtype=np.float64)), positives / rows, auc(truths, scores)
    if scores.min() < 0 or scores.max() > 1:
        return Classified(*common, None, None, None, [])
    shown = calibration(truths, scores, bins)
    return Classified(*common, log_loss(truths, scores), brier(truths, scores), calibration_error(shown), shown)


def regressed(truths: Floats, scores: Floats) -> Regressed:
    """Of a score and the labels of the same rows."""
    if not len(truths):
        return Regressed(0, None, None, None, None, None)
    error = scores - truths
    spread = float(np.square(truths - truths.mean()).sum())
    squares = float(np.square(error).sum())
    return Regressed(
        rows=len(truths),
        rmse=float(np.sqrt(squares / len(truths))),
        mae=float(np.abs(error).mean()),
        bias=float(error.mean()),
        r2=1 - squares / spread if spread > 0 and truths.min() < truths.max() else None,
        rank_correlation=rank_correlation(scores, truths),
    )
