"""Columns that are made of columns of several models: means and votes, whole columns at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.types import kernels
from scoring.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.types import ArrowArray
    from scoring.combination import Ensemble

__all__ = ["ensemble_column", "ensemble_type"]


def ensemble_type(ensemble: Ensemble, types: Mapping[str, pa.DataType]) -> pa.DataType:
    """The type of the column: float64 of a mean, that of the columns of a vote.

    Raises:
        BundleError: a column is not published, or is not of a type that goes.
    """
    missing = [name for name in ensemble.of if name not in types]
    if missing:
        message = f"ensemble {ensemble.column!r} is of {missing[0]!r}, which no model publishes: {', '.join(types)}."
        raise BundleError(message)
    found = [types[name] for name in ensemble.of]
    if ensemble.how == "vote":
        if len(set(found)) > 1 or pa.types.is_nested(found[0]) or pa.types.is_floating(found[0]):
            message = (
                f"ensemble {ensemble.column!r} votes over columns of types {', '.join(map(str, found))}: a vote is of "
                "columns of one type, whole numbers, texts or true and false, such as `argmax` and `labels` give."
            )
            raise BundleError(message)
        return found[0]
    wrong = [name for name, type_ in zip(ensemble.of, found, strict=True) if not _is_number(type_)]
    if wrong:
        message = f"ensemble {ensemble.column!r} takes the mean of {wrong[0]!r}, which is {types[wrong[0]]}, no number."
        raise BundleError(message)
    return pa.float64()


def ensemble_column(ensemble: Ensemble, made: Mapping[str, ArrowArray]) -> ArrowArray:
    """The column of a batch; null where one of its columns is."""
    columns = [made[name] for name in ensemble.of]
    missing = np.logical_or.reduce([column.is_null().to_numpy(zero_copy_only=False) for column in columns])
    values = _vote(columns) if ensemble.how == "vote" else _mean(columns, ensemble.weights)
    mask: Any = pa.array(missing)
    return kernels.if_else(mask, pa.scalar(None, values.type), values)


def _mean(columns: list[ArrowArray], weights: tuple[float, ...] | None) -> ArrowArray:
    """In float64, added in the order of the columns."""
    weights = weights or (1.0,) * len(columns)
    weights = tuple(weight / max(weights) for weight in weights)
    total = np.zeros(len(columns[0]))
    for column, weight in zip(columns, weights, strict=True):
        total += weight * kernels.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)
    return pa.array(total / sum(weights))


def _vote(columns: list[ArrowArray]) -> ArrowArray:
    """The value that most columns have; of several such, that of the column that comes first."""
    votes = [np.sum([_equal(column, other) for other in columns], axis=0, dtype=np.int64) for column in columns]
    winner = np.argmax(votes, axis=0)
    return kernels.choose(pa.array(winner), *columns)


def _equal(left: ArrowArray, right: ArrowArray) -> Any:
    return kernels.fill_null(kernels.equal(left, right), False).to_numpy(zero_copy_only=False)  # noqa: FBT003  pyarrow's own


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))
