"""How the values of one score are distributed: bins with round edges for numbers, counts for labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["Distribution", "Histogram", "Labels", "distribution_of", "histogram_of", "is_countable", "round_step"]

_BINS = 40
"""Most bins of a histogram; there are 16 at least, so that steps can be round."""
_LABELS = 12
_FEW = 20
"""Up to so many whole numbers are counted one by one, as labels are."""
_TAILS = (0.005, 0.995)
_FAR = 6.0
"""Where all values span so many times what 99 % of them do, the rest is counted at the sides."""
_EXTREME = 1e300
"""A span that is not below it makes one bin: multiples of a step might overflow."""
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Histogram(NamedTuple):
    """Numbers by bin: `counts[i]` lie in [edges[i], edges[i + 1]), those of the last bin up to its upper edge."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    """Left of the first edge."""
    above: int
    quantiles: tuple[float, ...]
    """Lowest, 5 %, 25 %, 50 %, 75 %, 95 % and highest, each the value of some row."""
    mean: float


class Labels(NamedTuple):
    """How often each value occurs."""

    counts: tuple[tuple[str, int], ...]
    """The most frequent first; of whole numbers in their order."""
    others: int
    """Rows with a value that is not listed."""


class Distribution(NamedTuple):
    """Of one column, over the rows that were looked at."""

    name: str
    type: str
    """Arrow's name of it."""
    rows: int
    nulls: int
    non_finite: int
    """NaN and ±inf."""
    numbers: Histogram | None
    labels: Labels | None
    """Neither where every value is null or not finite."""


def is_countable(type_: pa.DataType) -> bool:
    """Whether a column of this type can be told by bins or by labels."""
    of_labels = (pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return _is_number(type_) or any(holds(type_) for holds in of_labels)


def _is_number(type_: pa.DataType) -> bool:
    return any(holds(type_) for holds in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))


def distribution_of(name: str, column: ArrowArray | pa.ChunkedArray) -> Distribution:
    """Of a column whose type is countable."""
    type_, known = column.type, column.drop_null()
    empty = Distribution(name, str(type_), len(column), len(column) - len(known), 0, None, None)
    if not len(known):
        return empty
    if not _is_number(type_) or (pa.types.is_integer(type_) and len(known.unique()) <= _FEW):
        return empty._replace(labels=_labels(known, in_order=_is_number(type_)))
    values = known.cast(pa.float64(), safe=False).to_numpy()
    finite = values[np.isfinite(values)]
    numbers = histogram_of(finite) if finite.size else None
    return empty._replace(non_finite=values.size - finite.size, numbers=numbers)


def histogram_of(values: npt.NDArray[np.float64]) -> Histogram:
    """Of finite values, float64[n], at least one."""
    ordered = np.sort(values)
    places = np.maximum(np.ceil(np.array(_QUANTILES) * values.size).astype(np.int64) - 1, 0)
    low, high = float(ordered[0]), float(ordered[-1])
    near = [float(ordered[int(share * (values.size - 1))]) for share in _TAILS]
    if near[1] > near[0] and (high - low) / _FAR > near[1] - near[0]:
        low, high = near
    edges = _edges(low, high)
    inside = ordered[np.searchsorted(ordered, edges[0]) : np.searchsorted(ordered, edges[-1], side="right")]
    counts = np.histogram(inside, edges)[0]
    with np.errstate(over="ignore"):
        mean = (ordered / ordered.size).sum()
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        below=int(np.searchsorted(ordered, edges[0])),
        above=int(ordered.size - np.searchsorted(ordered, edges[-1], side="right")),
        quantiles=tuple(ordered[places].tolist()),
        mean=float(np.clip(mean, ordered[0], ordered[-1])),
    )


def round_step(width: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is not below a width above 0."""
    power = 10.0 ** math.floor(math.log10(width))
    return next((factor * power for factor in (1.0, 2.0, 2.5, 5.0) if factor * power >= width), 10.0 * power)


def _edges(low: float, high: float) -> npt.NDArray[np.float64]:
    """Ascending edges of bins that hold both; of one value a bin that has it at an end."""
    with np.errstate(over="ignore"):
        span = float(np.subtract(high, low))
    if span == 0:
        return np.sort([low, low / 2 if low + 1.0 == low else low + 1.0])
    if not span < _EXTREME or span / _BINS < np.finfo(np.float64).tiny:
        return np.array([low, high])
    step = round_step(span / _BINS)
    first, last = math.floor(low / step), math.ceil(high / step)
    edges = np.unique(np.arange(first, last + 1) * step)
    # Where the steps are finer than numbers of this size, rounding may leave an end outside.
    return np.unique(np.concatenate([[min(low, edges[0])], edges[1:-1], [max(high, edges[-1])]]))


def _labels(known: ArrowArray | pa.ChunkedArray, *, in_order: bool) -> Labels:
    if pa.types.is_dictionary(known.type):
        known = known.cast(known.type.value_type)
    counted = pc.value_counts(known).to_pylist()
    by_count = sorted(((one["values"], one["counts"]) for one in counted), key=lambda one: (-one[1], str(one[0])))
    kept = sorted(by_count) if in_order else by_count[:_LABELS]
    others = sum(count for _, count in by_count) - sum(count for _, count in kept)
    return Labels(tuple((_text(value), count) for value, count in kept), others)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
