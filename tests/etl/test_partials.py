from __future__ import annotations

import copy
import math
import statistics
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.partials import Counts, Extent, KeyedSums, Moments, NumberCounts, Partial, Quantiles, moments
from etl.partials.exact import root_of_quotient
from tests.etl.nasty import FLOATS, INF, bits

if TYPE_CHECKING:
    from collections.abc import Callable

FINITE = [value for value in FLOATS if value is not None and math.isfinite(value)]
TINY = 5e-324
LARGEST = Fraction(1.7976931348623157e308)

numbers = st.one_of(
    st.sampled_from(FINITE),
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(math.ldexp, st.floats(-1, 1), st.integers(-1074, 997)),
    st.integers(-3, 3).map(float),
)
seeds = st.integers(0, 2**32 - 1)

KINDS: dict[str, Callable[[], Any]] = {
    "extent": Extent,
    "moments": Moments,
    "quantiles": lambda: Quantiles((0, 0.1, 0.5, 0.9, 1)),
    "coarse quantiles": lambda: Quantiles((0.25, 0.5), 100),
    "counts": Counts,
    "number counts": NumberCounts,
    "keyed sums": KeyedSums,
}


def texts_of(values):
    """Return a text for each value: few, frequent and rare ones."""
    return pa.array([f"{hash(value) % 7}é" if value % 2 else f"{value:.0e}"[-3:] for value in values.tolist()])


def feed(partial, values):
    """Give values to a partial state of any kind; one that wants texts gets those of the values."""
    if isinstance(partial, Counts):
        partial.update_texts(texts_of(values))
    elif isinstance(partial, KeyedSums):
        partial.update(texts_of(values), values)
    else:
        partial.update(values)


def merged(template, values, rng, give=feed):
    """Shuffle values, cut them, give each piece in batches to a partial state, and merge these as a random tree."""
    values = values[rng.permutation(len(values))]
    states = []
    for piece in np.split(values, np.sort(rng.integers(0, len(values) + 1, rng.integers(0, 6)))):
        state = template.fresh()
        for batch in np.split(piece, np.sort(rng.integers(0, len(piece) + 1, rng.integers(0, 3)))):
            give(state, batch)
        if rng.random() < 0.5:
            state.compact()
        states.append(state)
    while len(states) > 1:
        one = states.pop(rng.integers(len(states)))
        states[rng.integers(len(states))].merge(one)
    states[0].compact()
    return states[0]


def content(value):
    """Return all that a state holds, to the byte, in a form that can be compared; only data may be in it."""
    if isinstance(value, Partial):
        return type(value).__name__, [(name, content(held)) for name, held in vars(value).items()]
    if isinstance(value, np.ndarray):
        assert value.dtype in (np.float64, np.uint64, np.int64)
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        assert {*map(type, value)} <= {str}
        assert {*map(type, value.values())} <= {int}
        return list(value.items())
    if isinstance(value, list):
        return [content(item) for item in value]
    assert type(value) in {int, float, str, bool, type(None)}
    return type(value).__name__, repr(value)


def spread(count, seed=5):
    """Return values of magnitudes from 5e-324 to 1e300, many of them more than once."""
    rng = np.random.default_rng(seed)
    values = np.ldexp(rng.standard_normal(count), rng.integers(-1074, 994, count))
    values[rng.random(count) < 0.3] = rng.choice(np.array([*FINITE, TINY, 1e300, -1e300]))
    values[rng.random(count) < 0.2] = rng.integers(-5, 5)
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_same_however_the_rows_are_cut(kind):
    """50 partitionings of 10^5 values, of magnitudes from 5e-324 to 1e300, in any order, give one state to the byte."""
    template = KINDS[kind]()
    values = spread(100_000)
    whole = template.fresh()
    feed(whole, values)
    whole.compact()
    wanted = content(whole)
    if isinstance(template, Counts | KeyedSums):
        # The texts are made once, not at each turn.
        texts = texts_of(values)

        def give(state, rows):
            if isinstance(state, Counts):
                state.update_texts(texts.take(rows))
            else:
                state.update(texts.take(rows), values[rows])
    else:

        def give(state, rows):
            state.update(values[rows])

    for seed in range(50):
        assert content(merged(template, np.arange(values.size), np.random.default_rng(seed), give)) == wanted


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([*KINDS]), st.lists(numbers, max_size=40), seeds)
def test_any_partitioning_gives_the_same_state(kind, values, seed):
    """Any few values, cut and merged in any way, give the state of all of them at once, to the byte."""
    template, values = KINDS[kind](), np.array(values, dtype=np.float64)
    whole = template.fresh()
    feed(whole, values)
    whole.compact()
    assert content(merged(template, values, np.random.default_rng(seed))) == content(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_shares_nothing_and_changes_no_input(kind):
    """What was merged may go on by itself, a fresh state is empty, and the values that came are left as they were."""
    values = spread(1000)
    kept = values.copy()
    one, other = KINDS[kind](), KINDS[kind]()
    empty = content(one)
    feed(other, values)
    one.merge(other)
    one.compact()
    held = content(one)
    feed(other, spread(50, seed=6))
    other.compact()
    other.merge(copy.deepcopy(other))
    assert content(one) == held != empty
    assert content(one.fresh()) == empty
    assert values.tobytes() == kept.tobytes()


def exact_std(values):
    """Return the population standard deviation by rational numbers and a decimal root of 1500 digits."""
    fractions = [Fraction(value) for value in values]
    mean = sum(fractions, Fraction()) / len(fractions)
    variance = sum(((value - mean) ** 2 for value in fractions), Fraction()) / len(fractions)
    with localcontext(prec=1500, Emin=-999_999, Emax=999_999):
        return float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60), seeds)
def test_moments_are_those_of_the_real_numbers(values, seed):
    """Mean, deviation and total are the rational ones, rounded once, for any values and any partitioning."""
    found = merged(Moments(), np.array(values), np.random.default_rng(seed))
    total = sum(map(Fraction, values), Fraction())
    assert Fraction(found.sum, 2**1074) == total
    assert Fraction(found.squares, 2**2148) == sum(Fraction(value) ** 2 for value in values)
    assert bits([found.mean(), found.std()]) == bits([float(total / len(values)), exact_std(values)])
    assert (found.n, found.least, found.largest) == (len(values), min(values), max(values))
    if abs(total) <= LARGEST:
        assert bits(found.total()) == bits(float(total))


def test_moments_are_those_of_the_standard_library():
    """Over 10^4 values of all magnitudes, and of ordinary ones, mean and deviation equal Python's statistics."""
    rng = np.random.default_rng(3)
    for values in (spread(10_000), rng.standard_normal(10_000) + 1e6, rng.integers(0, 9, 10_000).astype(np.float64)):
        found = merged(Moments(), values, rng)
        assert found.mean() == statistics.mean(values.tolist())
        assert found.std() == statistics.pstdev(values.tolist())
        assert found.total() == math.fsum(values.tolist())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**200), st.integers(1, 2**70), st.integers(0, 1074))
def test_a_root_is_rounded_once(radicand, divisor, unit):
    """√radicand ÷ divisor · 2^−unit is that of 1500 decimal digits, rounded to the nearest float64."""
    with localcontext(prec=1500, Emin=-999_999, Emax=999_999):
        wanted = float(Decimal(radicand).sqrt() / divisor / 2**unit)
    assert root_of_quotient(radicand, divisor, unit) == wanted


def test_a_root_between_two_numbers_goes_to_the_nearer_one():
    """Half way between two numbers a root goes to the even one, and beyond it by one part in 10^60 to the next."""
    half_way = (2**53 + 1) << 100
    assert root_of_quotient(half_way**2, 1, 100) == 2.0**53
    assert root_of_quotient(half_way**2 + 1, 1, 100) == 2.0**53 + 2
    assert root_of_quotient(half_way**2 - 1, 1, 100) == 2.0**53


def test_a_deviation_is_rounded_half_to_even_below_the_least_number():
    """The deviation of 0 and the least number is half of it and becomes 0; that of 0 and three of it becomes two."""
    for step, wanted in ((1, 0.0), (2, TINY), (3, 2 * TINY), (5, 2 * TINY)):
        found = Moments()
        found.update(np.array([0.0, step * TINY]))
        assert found.std() == wanted


@pytest.mark.parametrize("value", [0.1, -0.0, 0.0, TINY, -1e308, 1.7976931348623157e308])
def test_a_constant_has_itself_as_mean_and_no_deviation(value):
    """Equal values have exactly this mean and deviation 0; of −0.0 it is 0.0."""
    found = Moments()
    found.update(np.full(12_345, value))
    assert bits([found.mean(), found.std(), found.least, found.largest]) == bits([value + 0.0, 0.0] + [value + 0.0] * 2)


def test_nothing_between_overflows():
    """The largest numbers of both signs have a mean and a deviation, although their squares are beyond float64."""
    largest = 1.7976931348623157e308
    found = Moments()
    found.update(np.array([largest, -largest]))
    assert (found.mean(), found.std(), found.total()) == (0.0, largest, 0.0)
    found.update(np.array([largest, largest]))
    with pytest.raises(ValueError, match=r"^has a sum beyond float64; clip or scale it first$"):
        found.total()
    assert found.mean() == largest / 2


@pytest.mark.parametrize("values", [[INF], [1.0, -INF], [INF, -INF, 2.0], [INF, INF]])
def test_infinite_values_have_no_moments(values):
    """±inf is refused when a result is asked for, wherever it was met, and least and largest tell of it."""
    found, other = Moments(), Moments()
    found.update(np.array([3.0]))
    other.update(np.array(values))
    found.merge(other)
    for result in (found.mean, found.std, found.total):
        with pytest.raises(ValueError, match=r"^holds ±inf; clip it first$"):
            result()
    assert (found.n, found.least, found.largest) == (len(values) + 1, min(3.0, *values), max(3.0, *values))


def test_no_value_has_no_moments():
    """Without a value there is neither mean nor deviation, and the sum is 0."""
    found = Moments()
    found.update(np.array([]))
    for result in (found.mean, found.std):
        with pytest.raises(ValueError, match=r"^has no value to learn from$"):
            result()
    assert (found.n, found.total(), found.least, found.largest) == (0, 0.0, INF, -INF)


def test_full_bins_stay_exact(monkeypatch):
    """Mantissas of ones alone, in one bin, in more rows than a chunk has, are added without rounding."""
    largest, count = math.nextafter(2.0, 0.0), 2**18 + 7
    ones = np.full(count, largest)
    ones[::50] *= -1
    signs = int(np.sign(ones).sum())
    monkeypatch.setattr(moments, "_ROWS", 2**18)
    found, keyed = Moments(), KeyedSums()
    found.update(ones)
    keyed.update(pa.array(["a"] * count), ones)
    assert Fraction(found.sum, 2**1074) == signs * Fraction(largest)
    assert Fraction(found.squares, 2**2148) == count * Fraction(largest) ** 2
    assert keyed.totals() == {"a": (count, float(signs * Fraction(largest)))}


def test_a_trillion_rows_are_counted_exactly():
    """Merged with itself 40 times over, a state tells of 10^12 rows and more, with mean and deviation unchanged."""
    values = spread(10)
    for make in KINDS.values():
        state = make()
        feed(state, values)
        once = copy.deepcopy(state)
        for _ in range(40):
            state.merge(copy.deepcopy(state))
        if isinstance(state, Moments):
            assert (state.n, state.mean(), state.std()) == (10 * 2**40, once.mean(), once.std())
            assert state.total() == math.ldexp(once.total(), 40)
        elif isinstance(state, KeyedSums):
            assert state.totals() == {
                key: (n * 2**40, math.ldexp(total, 40)) for key, (n, total) in once.totals().items()
            }
        elif isinstance(state, Quantiles):
            assert state.n == 10 * 2**40
            assert state.values() == once.values()
        elif isinstance(state, Counts):
            assert state.ordered() == [(text, count * 2**40) for text, count in once.ordered()]


def test_values_may_lie_anywhere_in_memory():
    """Values that are a slice, read backwards or read-only are taken as they are."""
    values = spread(1001)
    values.flags.writeable = False
    for kind in ("extent", "moments", "quantiles", "number counts"):
        whole, parts = KINDS[kind](), KINDS[kind]()
        feed(whole, values)
        for part in (values[::-2], values[1::2]):
            feed(parts, part)
        for state in (whole, parts):
            state.compact()
        assert content(whole) == content(parts)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(numbers, st.sampled_from([INF, -INF])), max_size=30), seeds)
def test_the_extent_is_the_least_and_the_largest(values, seed):
    """Least and largest are Python's, ±inf included; −0.0 is 0.0; of no values they are inf and −inf."""
    found = merged(Extent(), np.array(values, dtype=np.float64), np.random.default_rng(seed))
    wanted = [min(values, default=INF) + 0.0, max(values, default=-INF) + 0.0]
    assert (found.n, bits([found.least, found.largest])) == (len(values), bits(wanted))
