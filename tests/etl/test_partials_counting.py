from __future__ import annotations

import copy
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.partials import Counts, Histogram, KeyedSums, NumberCounts, Quantiles
from etl.partials.histogram import keys_of, values_of
from tests.etl.nasty import INF, TEXTS, bits, same_floats
from tests.etl.test_partials import LARGEST, content, merged, numbers, seeds, spread

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=3))
shares = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 0.1, 0.3, 1e-300, math.nextafter(1.0, 0.0)]), st.floats(0, 1))


def by_rank(values, probability):
    """Return a quantile by sorting: number ⌈n·p⌉, where p is a fraction or the decimal that was written."""
    share = probability if isinstance(probability, Fraction) else Fraction(repr(probability))
    return sorted(float(value) + 0.0 for value in values)[max(1, math.ceil(len(values) * share)) - 1]


def passes_over(template, values, rng):
    """Return the quantiles and how many passes they took, each pass over other pieces in another order."""
    for count in range(1, 70):
        state = merged(template, values, rng)
        following = state.narrow()
        if following is None:
            return state.values(), count
        with pytest.raises(RuntimeError, match="another pass"):
            state.values()
        template = copy.deepcopy(following)
    pytest.fail("the passes come to no end")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(numbers, min_size=1, max_size=60),
    st.lists(shares, min_size=1, max_size=5),
    st.sampled_from([2, 3, 16, 2**16]),
    seeds,
)
def test_quantiles_are_those_of_exact_ranks(values, probabilities, limit, seed):
    """Any quantiles of any finite values are those of sorting, however little is held, in few passes."""
    values = np.array(values)
    found, passes = passes_over(Quantiles(probabilities, limit), values, np.random.default_rng(seed))
    assert bits(found) == bits([by_rank(values, p) for p in probabilities])
    assert passes <= math.ceil(64 / math.log2(limit))
    if np.unique(values).size <= limit:
        assert passes == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(numbers, st.sampled_from([INF, -INF])), min_size=1, max_size=40), seeds)
def test_quantiles_count_infinite_values(values, seed):
    """A quantile is the least value with the share of all rows at or below it, and may be ±inf."""
    probabilities = [0.0, 0.125, 0.5, 0.75, 1.0]
    found, _ = passes_over(Quantiles(probabilities, 4), np.array(values), np.random.default_rng(seed))
    wanted = [min(v for v in values if sum(w <= v for w in values) >= p * len(values)) + 0.0 for p in probabilities]
    assert bits(found) == bits(wanted)


@pytest.mark.parametrize("name", ["standard_normal", "standard_exponential", "standard_cauchy", "random"])
def test_continuous_values_take_two_passes(name):
    """Quartiles and tails of a million different numbers take two passes, within the limit's room in the first."""
    rng = np.random.default_rng(9)
    values = getattr(rng, name)(1_000_000)
    probabilities = [0.001, 0.25, 0.5, 0.75, 0.999]
    first = merged(Quantiles(probabilities), values, rng)
    assert 2**15 < first.histogram.keys.size <= 2**16
    found, passes = passes_over(Quantiles(probabilities), values, rng)
    assert passes == 2
    assert found == np.quantile(values, probabilities, method="inverted_cdf").tolist()


def test_numbers_that_lie_close_at_every_scale_take_four_passes():
    """Where each pass leaves more rows in a cell than the next has room for, four passes are enough by default."""
    rng = np.random.default_rng(2)
    keys = [rng.integers(0, 2**width, 2**21, dtype=np.uint64) + np.uint64(2**63) for width in (62, 46, 26)]
    values, probabilities = values_of(np.concatenate(keys)), [0.1, 0.2, 0.3]
    state, passes = Quantiles(probabilities), 0
    following: Quantiles | None = state
    while following is not None:
        state, passes = following, passes + 1
        state.update(values)
        following = state.narrow()
    assert passes == 4
    assert state.values() == np.quantile(values, probabilities, method="inverted_cdf").tolist()


def test_ranks_are_exact():
    """Where n·p is a whole number that float64 misses, the row is still number n·p, for all n to 200 and hundredths."""
    floats, fractions = [k / 100 for k in range(101)], [Fraction(k, 100) for k in range(101)]
    for n in range(1, 201):
        state = Quantiles([*floats, *fractions])
        state.update(np.arange(1, n + 1, dtype=np.float64))
        assert state.values() == [float(max(1, -(-n * k // 100))) for k in range(101)] * 2
    assert Quantiles([0.07, 1e-300]).probabilities == [Fraction(7, 100), Fraction(1, 10**300)]


def test_quantiles_of_rows_that_changed_are_refused():
    """A pass over more or fewer rows than the one before, or over others where it looks, is refused."""
    values = np.random.default_rng(1).standard_normal(1000)
    first = Quantiles([0.5], 16)
    first.update(values)
    following = first.narrow()
    assert following is not None
    for changed in (values[:-1], np.append(values, 0.0), values + 1, -values[values != np.median(values)]):
        state = following.fresh()
        state.update(changed)
        with pytest.raises(ValueError, match="is not what it was in the pass before"):
            state.narrow() or state.values()


def test_quantiles_need_values_and_sense():
    """Without values there are no quantiles; no probability, one beyond [0, 1], or no room is refused."""
    empty = Quantiles([0.5])
    assert empty.narrow() is None
    with pytest.raises(ValueError, match=r"^has no value to learn from$"):
        empty.values()
    for probabilities in ([], [-0.1], [0.5, 1.1], [math.nan]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            Quantiles(probabilities)
    with pytest.raises(ValueError, match="2 or more"):
        Quantiles([0.5], 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(numbers, st.sampled_from([INF, -INF])), min_size=1, max_size=30))
def test_keys_have_the_order_of_values(values):
    """Keys ascend as their values do, equal ones are equal, −0.0 and 0.0 too, and each leads back to its value."""
    values = np.array(values)
    keys = keys_of(values).tolist()
    for i, one in enumerate(values.tolist()):
        for j, other in enumerate(values.tolist()):
            assert (keys[i] < keys[j], keys[i] == keys[j]) == (one < other, one == other)
    assert bits(values_of(keys_of(values))) == bits(values + 0.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60), st.integers(2, 20), seeds)
def test_a_histogram_is_as_fine_as_its_room_allows(values, limit, seed):
    """It drops the fewest last bits that give at most `limit` keys, and counts the rows of each."""
    keys = keys_of(np.array(values))
    found = merged(Histogram(limit), keys, np.random.default_rng(seed), Histogram.add)
    dropped = next(bits for bits in range(65) if len({key >> bits for key in keys.tolist()}) <= limit)
    assert found.dropped == dropped
    wanted = sorted(Counter(key >> dropped for key in keys.tolist()).items())
    assert list(zip(found.keys.tolist(), found.counts.tolist(), strict=True)) == wanted


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, max_size=40), seeds)
def test_texts_are_counted(values, seed):
    """Texts have their counts, null none; the most frequent stand first, equally frequent ones by UTF-8 bytes."""

    def give(state, rows):
        state.update_texts(pa.array([values[row] for row in rows], pa.string()))

    found = merged(Counts(), np.arange(len(values)), np.random.default_rng(seed), give)
    counted = Counter(text for text in values if text is not None)
    assert found.ordered() == sorted(counted.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    assert found.n == counted.total()
    assert list(found.counts.items()) == found.ordered()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(numbers, st.integers(-2, 2).map(float), st.just(INF)), max_size=40), seeds)
def test_numbers_are_counted(values, seed):
    """Numbers have their counts, −0.0 with 0.0; the most frequent stand first, equally frequent ones by size."""
    found, counts = merged(NumberCounts(), np.array(values, dtype=np.float64), np.random.default_rng(seed)).ordered()
    wanted = sorted(Counter(value + 0.0 for value in values).items(), key=lambda entry: (-entry[1], entry[0]))
    assert same_floats(found.tolist(), [value for value, _ in wanted])
    assert counts.tolist() == [count for _, count in wanted]


def test_too_many_different_numbers_are_refused():
    """As many different numbers as the limit are counted; one more is refused, in one part or only in all together."""
    refused = pytest.raises(ValueError, match=r"^has more than 1,000 different numbers, .*use the median instead")
    values = np.arange(1000.0)
    one, other = NumberCounts(1000), NumberCounts(1000)
    one.update(values)
    other.update(np.repeat(values, 3))
    one.merge(other)
    assert one.ordered()[1].tolist() == [4] * 1000
    other.update(np.array([0.5]))
    with refused:
        other.compact()
    other = NumberCounts(1000)
    other.update(np.array([-1.0]))
    with refused:
        one.merge(other)
    with refused:
        NumberCounts(1000).update(np.arange(200_000.0))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "a", "ß", "😀", "x" * 99]), numbers), max_size=60), seeds)
def test_sums_by_text_are_exact(rows, seed):
    """Each text has its rows and the rational sum of their values, rounded once, for any partitioning."""

    def give(state, chosen):
        keys = pa.array([rows[row][0] for row in chosen], pa.string())
        state.update(keys, np.array([rows[row][1] for row in chosen], dtype=np.float64))

    found = merged(KeyedSums(), np.arange(len(rows)), np.random.default_rng(seed), give)
    wanted = {key: [Fraction(value) for text, value in rows if text == key] for key, _ in rows}
    sums = {key: sum(values, Fraction()) for key, values in wanted.items()}
    everything = sum(sums.values(), Fraction())
    assert {key: total << found.place for key, total in found.sums.items()} == {
        key: total * 2**1074 for key, total in sums.items()
    }
    if all(abs(total) <= LARGEST for total in sums.values()):
        totals = found.totals()
        assert list(totals) == sorted(wanted, key=str.encode)
        assert [n for n, _ in totals.values()] == [len(wanted[key]) for key in totals]
        assert bits([total for _, total in totals.values()]) == bits([float(sums[key]) for key in totals])
    if abs(everything) <= LARGEST:
        assert found.total() == (len(rows), float(everything))


def test_sums_of_many_texts_are_those_of_fsum():
    """10^5 values of all magnitudes under 5,000 texts have the sums that math.fsum gives."""
    rng = np.random.default_rng(4)
    values, codes = spread(100_000) / 1e10, rng.integers(0, 5000, 100_000)
    state = KeyedSums()
    state.update(pa.array(codes.astype(str)), values)
    wanted = {str(code): values[codes == code] for code in range(5000)}
    assert state.totals() == {key: (len(wanted[key]), math.fsum(wanted[key].tolist())) for key in sorted(wanted)}


def test_sums_by_text_may_not_exist():
    """±inf and sums beyond float64 are refused; a state without rows has no texts, and values of 0 the sum 0."""
    empty = KeyedSums()
    empty.update(pa.array([], pa.string()), np.array([]))
    assert (empty.totals(), empty.total()) == ({}, (0, 0.0))
    state = KeyedSums()
    state.update(pa.array(["a", "b"]), np.array([0.0, -0.0]))
    assert bits([total for _, total in state.totals().values()]) == bits([0.0, 0.0])
    state.update(pa.array(["a", "a"]), np.array([1.7e308, 1.7e308]))
    with pytest.raises(ValueError, match="has a sum beyond float64"):
        state.totals()
    infinite = KeyedSums()
    infinite.update(pa.array(["b"]), np.array([-INF]))
    state.merge(infinite)
    for result in (state.totals, state.total):
        with pytest.raises(ValueError, match=r"^holds ±inf; clip it first$"):
            result()


def test_sums_of_zeros_and_ones_stay_small():
    """The sums of a target of 0 and 1 are held in the unit of its last bit, not in that of the least number."""
    state = KeyedSums()
    state.update(pa.array(["a", "b", "a"]), np.array([1.0, 0.0, 1.0]))
    assert (state.sums["a"].bit_length(), state.totals()) == (54, {"a": (2, 2.0), "b": (1, 0.0)})
    state.compact()
    assert content(state.fresh()) == content(KeyedSums())
