"""What becomes of a batch that several models scored: which rows are published, as what, and where the others go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from etl.frame import Rejection
from scoring.engine.choosing import NOBODY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from scoring.engine.items import Result, Rows
    from scoring.order import ModelOrder

__all__ = ["FOLDERS", "NO_FOLDER", "Combined", "combine"]

FOLDERS = "/output/partition_by"
"""The rule of a row that has its scores, and no folder that it could be published in."""
NO_FOLDER = "the value is an empty text, or one that no folder can be named by"
"""What is told of it."""


class Combined(NamedTuple):
    """Each row of a batch is in exactly one of the three."""

    scored: npt.NDArray[np.int64]
    """Positions that are published, ascending."""
    rejections: list[Rejection]
    """Rows that are set aside, each once."""
    filtered: npt.NDArray[np.int64]
    """Positions that are left out, ascending."""
    by_model: tuple[npt.NDArray[np.int64], ...]
    """For each model, the published positions of which it has scores."""
    unscored: dict[str, int]
    """Published rows without a score of a model that is not required, by `model/CODE`."""


_NO_ROWS = np.empty(0, dtype=np.int64)


def combine(
    rows: Rows, models: Sequence[ModelOrder], route_by: str = "", *, unplaceable: Sequence[Rejection] = ()
) -> Combined:
    """A row is published when every model that is to score it, and is required, has, and at least one model.

    Else it goes where the first such model says that has not. `route_by` is the column that tells a row's model.
    `unplaceable` are rows that have their scores, and no folder that they could be published in.
    """
    count = rows.batch.num_rows
    first = rows.results[0]
    is_plain = len(models) == 1 and rows.chosen is None and not unplaceable
    if is_plain and first is not None and models[0].required:
        return Combined(first.rows, first.rejections, first.filtered, (first.rows,), {})
    gone = np.zeros(count, dtype=bool)
    left_out = np.zeros(count, dtype=bool)
    rejections = list(unplaceable)
    gone[[row for rejection in unplaceable for row in rejection.rows]] = True
    if rows.chosen is not None and (nobody := rows.chosen == NOBODY).any():
        gone |= nobody
        told = "no model is for the value that the row has in the column of `route_by`"
        rejections.append(Rejection(np.flatnonzero(nobody), "NO_MODEL", "", route_by, told))
    has_score = np.zeros(count, dtype=bool)
    for result in rows.results:
        if result is not None:
            has_score[result.rows] = True
    for model, result in zip(models, rows.results, strict=True):
        if result is not None:
            # A row of which not even one model has a score is as good as refused by a required one.
            rejections.extend(_taken(result, model, gone=gone, left_out=left_out, spared=has_score))
    scored = np.flatnonzero(~gone)
    by_model = tuple(
        _NO_ROWS if result is None else np.intersect1d(result.rows, scored, assume_unique=True)
        for result in rows.results
    )
    return Combined(scored, rejections, np.flatnonzero(left_out), by_model, _unscored(rows, models, gone))


def _unscored(rows: Rows, models: Sequence[ModelOrder], gone: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Published rows without a score of a model that is not required, by `model/CODE`."""
    unscored: dict[str, int] = {}
    for model, result in zip(models, rows.results, strict=True):
        if result is not None and not model.required:
            seen = gone.copy()
            left = result.filtered[~seen[result.filtered]]
            seen[left] = True
            missed = [("FILTERED", left.size)] if left.size else []
            missed += [(found.code, found.rows.size) for found in _fresh(result.rejections, seen, model.name)]
            for code, size in missed:
                unscored[f"{model.name}/{code}"] = unscored.get(f"{model.name}/{code}", 0) + size
    return unscored


def _taken(
    result: Result,
    model: ModelOrder,
    *,
    gone: npt.NDArray[np.bool_],
    left_out: npt.NDArray[np.bool_],
    spared: npt.NDArray[np.bool_],
) -> list[Rejection]:
    """The rows that a model takes out: filtered, or rejected. An optional one takes none that is spared."""
    out = gone if model.required else gone | spared
    fresh = result.filtered[~out[result.filtered]]
    gone[fresh] = left_out[fresh] = True
    if model.required:
        return _fresh(result.rejections, gone, model.name)
    out[fresh] = True
    found = _fresh(result.rejections, out, model.name)
    for rejection in found:
        gone[rejection.rows] = True
    return found


def _fresh(rejections: Sequence[Rejection], gone: npt.NDArray[np.bool_], name: str) -> list[Rejection]:
    """A model's rejections of rows that are not gone already, each row once; they are gone then."""
    found = []
    for rejection in rejections:
        rows = rejection.rows[~gone[rejection.rows]]
        if rows.size:
            gone[rows] = True
            found.append(rejection._replace(rows=rows, message=f"model {name}: {rejection.message}"))
    return found
