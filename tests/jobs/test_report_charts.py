"""Numbers become shapes that say the same: nothing is lost, and nothing leaves its box."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.report.charts import HEIGHT, axis_top, bars, percent, steps
from jobs.report.distributions import distribution_of, histogram_of, is_countable, round_step
from jobs.report.page import _rough, _share
from jobs.report.work import pace_of

amounts = st.floats(min_value=0, max_value=1e12, allow_nan=False)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_round_step_is_no_smaller_and_not_much_larger(width: float) -> None:
    """A step is 1, 2, 2.5, 5 or 10 times a power of ten, and at most 2.5 times what was asked for."""
    step = round_step(width)
    assert width <= step <= 2.5 * width * (1 + 1e-9)
    digits = f"{step:.12e}".partition("e")[0].rstrip("0").rstrip(".")
    assert digits in {"1", "2", "2.5", "5"}


@example([5e-324])
@given(st.lists(amounts, min_size=1, max_size=80))
def test_steps_stay_in_their_box_and_keep_their_order(values: list[float]) -> None:
    """Each value has a step inside the SVG, a larger value is never below a smaller one, and the path has no NaN."""
    found = steps(values)
    assert found.top >= max(values)
    heights = [float(y) for y in re.findall(r"V([0-9.]+)H", found.line)]
    assert len(heights) == found.width == len(values)
    assert all(0 <= y <= HEIGHT for y in heights)
    for value, y in zip(values, heights, strict=True):
        assert y == pytest.approx(HEIGHT * (1 - value / axis_top(values)), abs=0.006)
    assert re.fullmatch(r"M0,[0-9.]+(V[0-9.]+H\d+)+", found.line)
    assert re.fullmatch(r"M0,100(V[0-9.]+H\d+)+V100Z", found.area)


@given(st.lists(finite, min_size=1, max_size=300))
@example([1e308, -1e308])
@example([5e-324, 0.0])
@example([1e16, 1e16 + 2])
@example([1.7976931348623157e308] * 3)
@example([*[0.5] * 400, 1e9])
def test_a_histogram_loses_no_value(values: list[float]) -> None:
    """Bins and the two sides add up to the values, edges ascend, and bins are as numpy counts them."""
    given_values = np.array(values)
    found = histogram_of(given_values)
    assert sum(found.counts) + found.below + found.above == len(values)
    edges = np.array(found.edges)
    assert all(low < high for low, high in pairwise(found.edges))
    shapes = bars(found.edges, found.counts)
    assert all(one.x >= 0 and one.width >= 0 and one.x + one.width <= 100.01 for one in shapes)
    assert len(found.counts) == len(edges) - 1 <= 45
    assert found.below == (given_values < edges[0]).sum()
    assert found.above == (given_values > edges[-1]).sum()
    assert (found.quantiles[0], found.quantiles[-1]) == (min(values), max(values))
    assert list(found.quantiles) == sorted(found.quantiles)
    assert min(values) <= found.mean <= max(values)


@given(st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=60), finite, amounts)
def test_bars_are_side_by_side(counts: list[int], low: float, span: float) -> None:
    """Bars lie inside the SVG, a bin with a row has a bar that is seen, and one without has none."""
    edges = np.unique(np.linspace(low, low + span, len(counts) + 1))
    if not np.isfinite(edges).all() or edges.size != len(counts) + 1:
        return
    found = bars(edges.tolist(), counts)
    assert all(one.x >= 0 and one.x + one.width <= 100.01 and one.y + one.height == HEIGHT for one in found)
    assert [one.height > 0 for one in found] == [count > 0 for count in counts]


@given(finite, finite)
def test_a_share_of_a_width_is_between_nought_and_a_hundred(part: float, whole: float) -> None:
    """Whatever is divided, a bar stays in its track."""
    assert 0 <= percent(part, whole) <= 100


def test_what_is_little_is_not_told_as_nothing() -> None:
    """A share that is more than nothing is not `0 %`, and one that is less than all is not `100 %`."""
    assert _share(0, 10) == "0 %"
    assert _share(1, 10**9) == "< 0.001 %"
    assert _share(10**9 - 1, 10**9) == "99.9999 %"
    assert _share(5, 5) == "100 %"
    assert _share(1, 8) == "12.5 %"
    assert (_rough(1, 1000), _rough(0, 1000), _rough(1, 2)) == ("< 1 %", "0 %", "50 %")


spans = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=1e5),
        st.floats(min_value=0, max_value=1e5),
        st.integers(min_value=0, max_value=10**7),
    ),
    min_size=1,
    max_size=50,
)


@given(spans)
def test_throughput_loses_no_row(found: list[tuple[float, float, int]]) -> None:
    """Over all buckets rows and splits at work add up; no bucket is below nought; buckets span first to last."""
    begin = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    table = np.array([(begin + start, begin + start + length, rows) for start, length, rows in found])
    pace = pace_of(table)
    length = table[:, 1].max() - table[:, 0].min()
    if pace is None:
        assert length < 1e-3
        return
    assert pace.seconds == pytest.approx(length, rel=1e-9)
    assert pace.began.timestamp() == pytest.approx(table[:, 0].min(), abs=1e-5)
    assert min(pace.rows_per_second) >= -1e-6
    assert sum(pace.rows_per_second) * pace.width == pytest.approx(table[:, 2].sum(), rel=1e-6, abs=1e-6)
    worked = (table[:, 1] - table[:, 0]).sum()
    assert sum(pace.at_work) * pace.width == pytest.approx(worked, rel=1e-6, abs=1e-4)


def test_throughput_of_one_split_is_even() -> None:
    """A split of 600 rows in 60 s is 10 rows/s all the time, of one split."""
    pace = pace_of(np.array([[1e9, 1e9 + 60, 600.0]]))
    assert pace is not None
    assert pace.rows_per_second == pytest.approx([10.0] * 60)
    assert pace.at_work == pytest.approx([1.0] * 60)
    assert pace_of(np.empty((0, 3))) is None
    assert pace_of(np.array([[1e9, 1e9, 5.0]])) is None


def test_columns_are_told_by_what_they_hold() -> None:
    """Texts, booleans and few whole numbers are counted, other numbers put into bins, NaN and null counted apart."""
    texts = distribution_of("t", pa.array(["b", "a", "b", None, *map(str, range(20))]))
    assert texts.labels is not None
    assert texts.labels.counts[:2] == (("b", 2), ("0", 1))
    assert sum(rows for _, rows in texts.labels.counts) + texts.labels.others == 23
    assert texts.nulls == 1
    flags = distribution_of("f", pa.array([True, False, True]))
    assert flags.labels is not None
    assert flags.labels.counts == (("true", 2), ("false", 1))
    few = distribution_of("n", pa.array([3, -1, 3, 3, 10]))
    assert few.labels is not None
    assert few.labels.counts == (("-1", 1), ("3", 3), ("10", 1))
    many = distribution_of("n", pa.array(range(100)))
    assert many.numbers is not None
    assert sum(many.numbers.counts) == 100
    odd = distribution_of("x", pa.array([1.5, float("nan"), float("inf"), None, 2.5], pa.float32()))
    assert (odd.nulls, odd.non_finite) == (1, 2)
    assert odd.numbers is not None
    assert odd.numbers.mean == 2.0
    none = distribution_of("x", pa.array([None, None], pa.float64()))
    assert (none.rows, none.nulls, none.numbers, none.labels) == (2, 2, None, None)
    dictionary = distribution_of("d", pa.array(["u", "v", "u"]).dictionary_encode())
    assert dictionary.labels is not None
    assert dictionary.labels.counts == (("u", 2), ("v", 1))
    assert [is_countable(kind) for kind in (pa.list_(pa.float32()), pa.timestamp("us"), pa.decimal128(9, 2))] == [
        False,
        False,
        True,
    ]
