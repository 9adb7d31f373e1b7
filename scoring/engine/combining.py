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

__all__ = ["Combined", "combine"]


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


def combine(rows: Rows, models: Sequence[ModelOrder]) -> Combined:
    """A row is published when every model that is to score it, and is required, has.

    Else it goes where the first such model says that has not.
    """
    count = rows.batch.num_rows
    if len(models) == 1:
        [result] = rows.results
        assert result is not None  # noqa: S101  it was given all rows
        return Combined(result.rows, result.rejections, result.filtered, (result.rows,), {})
    gone = np.zeros(count, dtype=bool)
    left_out = np.zeros(count, dtype=bool)
    rejections: list[Rejection] = []
    if rows.chosen is not None and (nobody := rows.chosen == NOBODY).any():
        gone |= nobody
        rejections.append(Rejection(np.flatnonzero(nobody), "NO_MODEL", "", "", "no model is for rows of this kind"))
    for model, result in zip(models, rows.results, strict=True):
        if result is None or not model.required:
            continue
        fresh = result.filtered[~gone[result.filtered]]
        gone[fresh] = left_out[fresh] = True
        rejections.extend(_fresh(result, gone, model.name))
    scored = np.flatnonzero(~gone)
    by_model = tuple(
        _NO_ROWS if result is None else np.intersect1d(result.rows, scored, assume_unique=True)
        for result in rows.results
    )
    unscored: dict[str, int] = {}
    for model, result in zip(models, rows.results, strict=True):
        if result is not None and not model.required:
            seen = gone.copy()
            for rejection in _fresh(result, seen, model.name):
                key = f"{model.name}/{rejection.code}"
                unscored[key] = unscored.get(key, 0) + rejection.rows.size
    return Combined(scored, rejections, np.flatnonzero(left_out), by_model, unscored)


def _fresh(result: Result, gone: npt.NDArray[np.bool_], name: str) -> list[Rejection]:
    """A model's rejections of rows that are not gone already, each row once; they are gone then."""
    found = []
    for rejection in result.rejections:
        rows = rejection.rows[~gone[rejection.rows]]
        if rows.size:
            gone[rows] = True
            found.append(rejection._replace(rows=rows, message=f"model {name}: {rejection.message}"))
    return found
