"""How far the values of a column have moved, by what is known of them now and before.

Both sides are cut into the same bins: numbers at the deciles of the reference, or at the quantiles that a training
profile has; texts into the most frequent of the reference, and all others. With shares q before and p now:

- `psi`: Σ (p - q) ln(p / q), the population stability index. An empty bin counts as a share of 0.0001.
- `jensen_shannon`: the root of the Jensen-Shannon divergence with logarithms to the base of 2, so from 0 to 1, as
  `scipy.spatial.distance.jensenshannon(q, p, base=2)`.
- `ks`: the largest difference of the shares of rows up to a value, as `scipy.stats.ks_2samp`; against a training
  profile at its quantiles only, so that it may be larger between them.
- `null_rate`: the difference of the shares of missing rows, exact.
- `out_of_vocabulary`: by how much more rows with a value have one that the reference does not name.

The error of a value is by how much the samples may put it off, with 95 % confidence: of `ks` by Dvoretzky, Kiefer and
Wolfowitz, of a share by Hoeffding, of `psi` and `jensen_shannon` by the delta method, and their bias, which is
(bins - 1) (1/n + 1/m) where nothing moved (B. Yurdakul, Statistical Properties of Population Stability Index (2018)).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from etl.sketches.sketch import LONGEST_TEXT, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from etl.sketches.sketch import Sketch
    from etl.training import FieldProfile

__all__ = [
    "MEASURES",
    "Knots",
    "Measure",
    "Measured",
    "Named",
    "Numbers",
    "Portrait",
    "Texts",
    "measure",
    "portrait_of",
    "profiled",
]

Measure = Literal["psi", "jensen_shannon", "ks", "null_rate", "out_of_vocabulary"]
"""What is measured of a column; the module says what each is."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
_BINS = 10
_NAMED = 20
"""Texts of a sample that have a bin of their own."""
_EMPTY = 1e-4
_TWO_SIDED = 1.96


class Measured(NamedTuple):
    """A value of a measure."""

    measure: Measure
    value: float
    error: float
    """By how much the samples may put it off, with 95 % confidence; 0 where it is exact."""


class Numbers(NamedTuple):
    """A random sample of numbers."""

    rows: int
    missing: int
    values: npt.NDArray[np.float64]
    """Ascending, without NaN."""
    is_whole: bool


class Texts(NamedTuple):
    """A random sample of texts."""

    rows: int
    missing: int
    counts: Mapping[str, int]
    """Rows of the sample, the most frequent first, equal ones by their UTF-8 bytes."""
    is_whole: bool


class Knots(NamedTuple):
    """Quantiles of all numbers of the rows that a spec was fitted to."""

    rows: int
    missing: int
    probabilities: tuple[float, ...]
    """Ascending, between 0 and 1."""
    values: tuple[float, ...]


class Named(NamedTuple):
    """The most frequent texts of the rows that a spec was fitted to."""

    rows: int
    missing: int
    counts: Mapping[str, int]


Portrait: TypeAlias = Numbers | Texts | Knots | Named
"""What is known of a column."""


class _Shares(NamedTuple):
    """Both sides by the same bins."""

    before: npt.NDArray[np.float64]
    now: npt.NDArray[np.float64]
    seen: tuple[int, int]
    """Rows of the samples, before and now; 0 where the shares are exact."""


def portrait_of(sketch: Sketch, column: str) -> Numbers | Texts:
    """A column of a sketch."""
    counts, values = sketch.counts[column], sketch.values[column]
    if isinstance(values, np.ndarray):
        numbers = np.sort(values[~np.isnan(values)]).astype(np.float64)
        return Numbers(counts.rows, counts.missing, numbers, sketch.is_whole)
    found = values.drop_null().value_counts().to_pylist()
    ranked = sorted(((one["values"], one["counts"]) for one in found), key=lambda one: (-one[1], one[0].encode()))
    return Texts(counts.rows, counts.missing, dict(ranked), sketch.is_whole)


def profiled(profile: FieldProfile) -> Knots | Named | None:
    """A field of a training profile; None where it tells nothing of the values."""
    if profile.quantiles:
        pairs = sorted((float(key), value) for key, value in profile.quantiles.items())
        inner = [(probability, value) for probability, value in pairs if 0 < probability < 1]
        if inner:
            probabilities, values = zip(*inner, strict=True)
            return Knots(profile.n, profile.missing, probabilities, values)
    if profile.top:
        counts: dict[str, int] = {}
        for text, rows in profile.top:
            counts[text[:LONGEST_TEXT]] = counts.get(text[:LONGEST_TEXT], 0) + rows
        return Named(profile.n, profile.missing, counts)
    return None


def measure(now: Numbers | Texts, before: Portrait) -> list[Measured]:
    """All that can be measured; without values on one side, only the missing rows.

    Raises:
        TypeError: one side has numbers and the other one texts.
    """
    found = [Measured("null_rate", abs(_null_rate(now) - _null_rate(before)), 0.0)]
    if isinstance(now, Numbers) and isinstance(before, Numbers | Knots):
        if now.values.size and (isinstance(before, Knots) or before.values.size):
            shares = _numbers_by_decile(now, before) if isinstance(before, Numbers) else _numbers_by_knot(now, before)
            found += [*_divergences(shares), _ks(now, before)]
    elif isinstance(now, Texts) and isinstance(before, Texts | Named):
        if now.counts and before.counts:
            found += [*_divergences(_texts_by_name(now, before)), _out_of_vocabulary(now, before)]
    else:
        message = "has numbers on one side and texts on the other"
        raise TypeError(message)
    return sorted(found, key=lambda one: MEASURES.index(one.measure))


def _null_rate(portrait: Portrait) -> float:
    return portrait.missing / portrait.rows if portrait.rows else 0.0


def _up_to(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of ascending values up to each edge."""
    return np.searchsorted(values, edges, side="right") / values.size


def _between(up_to: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shares of bins by the shares up to their upper ends; the last bin has no end."""
    return np.diff(up_to, prepend=0.0, append=1.0)


def _numbers_by_decile(now: Numbers, before: Numbers) -> _Shares:
    at = np.ceil(np.arange(1, _BINS) / _BINS * before.values.size).astype(np.int64) - 1
    edges = np.unique(before.values[at])
    seen = (_seen(before, before.values.size), _seen(now, now.values.size))
    return _Shares(_between(_up_to(before.values, edges)), _between(_up_to(now.values, edges)), seen)


def _numbers_by_knot(now: Numbers, before: Knots) -> _Shares:
    edges = np.unique(before.values)
    bins = _between(_up_to(now.values, edges))
    return _Shares(_between(_profiled_up_to(now, before)), bins, (0, _seen(now, now.values.size)))


def _profiled_up_to(now: Numbers, before: Knots) -> npt.NDArray[np.float64]:
    """Share of the training rows up to each distinct quantile.

    A value that many rows have is the quantile of many shares, and a profile does not say how many: what is known is
    the largest of them that it names, and that it is less than the next. Within that, and within the share that the
    value has now, it is taken to have stayed as it is; of a value that hardly any row has, it is the share that the
    profile names.
    """
    edges, first = np.unique(before.values, return_index=True)
    last = np.append(first[1:], len(before.values)) - 1
    least = np.array(before.probabilities)[last]
    following = np.append(np.array(before.probabilities), 1.0)[last + 1]
    here = _up_to(now.values, edges)
    width = here - np.searchsorted(now.values, edges, side="left") / now.values.size
    width[width * now.values.size < 2] = 0.0  # noqa: PLR2004  one row is no value that many have
    return np.clip(here, least, np.minimum(least + width, following))


def _texts_by_name(now: Texts, before: Texts | Named) -> _Shares:
    names = list(before.counts)[:_NAMED]
    all_before = sum(before.counts.values()) if isinstance(before, Texts) else before.rows - before.missing
    all_now = sum(now.counts.values())
    rows = (
        np.array([before.counts[name] for name in names]) / all_before,
        np.array([now.counts.get(name, 0) for name in names]) / all_now,
    )
    seen = (_seen(before, all_before) if isinstance(before, Texts) else 0, _seen(now, all_now))
    before_now = [np.append(shares, max(0.0, 1 - float(shares.sum()))) for shares in rows]
    return _Shares(before_now[0], before_now[1], seen)


def _seen(portrait: Numbers | Texts, rows: int) -> int:
    return 0 if portrait.is_whole else rows


def _divergences(shares: _Shares) -> Iterator[Measured]:
    before, now = (np.maximum(side, _EMPTY) for side in shares[:2])
    psi = float(((now - before) * np.log(now / before)).sum())
    slopes = (np.log(before / now) + 1 - now / before, np.log(now / before) + 1 - before / now)
    samples = sum(1 / rows for rows in shares.seen if rows)
    bias = (before.size - 1) * samples
    yield Measured("psi", psi, _deviation(shares, slopes) + bias)
    mean = (shares.before + shares.now) / 2
    logs = [np.log2(np.divide(side, mean, out=np.ones_like(mean), where=side > 0)) for side in shares[:2]]
    divergence = max(0.0, float(sum((side * log).sum() for side, log in zip(shares[:2], logs, strict=True))) / 2)
    # To second order the divergence is 1/8 of the other one, in bits.
    error = _deviation(shares, [log / 2 for log in logs]) + bias / (8 * math.log(2))
    distance = math.sqrt(divergence)
    ends = (math.sqrt(divergence + error) - distance, distance - math.sqrt(max(0.0, divergence - error)))
    yield Measured("jensen_shannon", distance, max(ends))


def _deviation(shares: _Shares, slopes: Sequence[npt.NDArray[np.float64]]) -> float:
    """What random samples put a function of both shares off by, with 95 % confidence, by its slopes."""
    variance = 0.0
    for side, slope, rows in zip(shares[:2], slopes, shares.seen, strict=True):
        if rows:
            variance += float((side * slope**2).sum() - (side * slope).sum() ** 2) / rows
    return _TWO_SIDED * math.sqrt(max(0.0, variance))


def _ks(now: Numbers, before: Numbers | Knots) -> Measured:
    error = error_of(now.values.size) * (not now.is_whole)
    if isinstance(before, Knots):
        edges = np.unique(before.values)
        apart = _up_to(now.values, edges) - _profiled_up_to(now, before)
    else:
        edges = np.concatenate([before.values, now.values])
        apart = _up_to(now.values, edges) - _up_to(before.values, edges)
        error += error_of(before.values.size) * (not before.is_whole)
    return Measured("ks", float(np.abs(apart).max()), error)


def _out_of_vocabulary(now: Texts, before: Texts | Named) -> Measured:
    """What a sample has seen once estimates what it has not seen (I. J. Good, The Population Frequencies of Species
    and the Estimation of Population Parameters (1953)).
    """  # noqa: D205  one sentence
    all_now = sum(now.counts.values())
    outside = sum(rows for text, rows in now.counts.items() if text not in before.counts) / all_now
    error = error_of(all_now) * (not now.is_whole)
    if isinstance(before, Named):
        expected = 1 - sum(before.counts.values()) / (before.rows - before.missing)
    elif before.is_whole:
        expected = 0.0
    else:
        all_before = sum(before.counts.values())
        expected = sum(rows == 1 for rows in before.counts.values()) / all_before
        error += error_of(all_before)
    return Measured("out_of_vocabulary", max(0.0, outside - expected), error)
