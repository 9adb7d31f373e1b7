from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections import Counter
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.contract import Contract
from etl.frame import Frame
from etl.learning.fitting import fit
from etl.learning.pieces import Piece
from etl.types import ColumnType
from tests.etl.nasty import (
    DATES,
    FLOATS,
    INF,
    INSTANTS,
    INT64S,
    NAN,
    TEXTS,
    applied,
    arrow,
    bits,
    frame_of,
    same_floats,
    spec_of,
    step_of,
)
from tests.etl.test_numeric_ops import learned, present

COLUMNS: dict[str, list[Any]] = {
    "bool": [True, None, False],
    "int32": [1, None],
    "int64": INT64S,
    "float32": [1.5, NAN, None, INF],
    "float64": FLOATS,
    "string": TEXTS,
    "date": DATES,
    "timestamp": INSTANTS,
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_missing_flag_is_one_for_null_and_nan_alone(kind):
    """The flag is 1.0 for null and NaN and 0.0 for everything else, the empty text included, and rejects no row."""
    frame = frame_of(x=(kind, COLUMNS[kind]))
    (found,) = applied(frame, "missing_flag", "x")
    assert found.tolist() == [float(value is None or value != value) for value in COLUMNS[kind]]  # noqa: PLR0124  NaN
    assert found.dtype == "float64"
    assert not frame.rejections


def test_nan_of_a_field_where_it_is_a_value_is_neither_flagged_nor_filled():
    """Where NaN is a value, only null is flagged and imputed, and what is computed of NaN is missing."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": "float64", "nan_is_value": True}]})
    frame = contract.apply(pa.table({"x": arrow([NAN, None, 1.0], "float64")}), "f")
    assert applied(frame, "missing_flag", "x")[0].tolist() == [0.0, 1.0, 0.0]
    (frame["filled"],) = applied(frame, "impute", "x", params={"strategy": "constant", "value": 7})
    assert same_floats(frame["filled"], [NAN, 7.0, 1.0])
    assert applied(frame, "missing_flag", "filled")[0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e308])
def test_impute_fills_numbers(value):
    """Null and NaN become the value and all other numbers stay the same to the bit."""
    params = {"strategy": "constant", "value": value}
    (found,) = applied(frame_of(x=("float64", FLOATS)), "impute", "x", params=params)
    assert same_floats(found, [number if present(number) else value for number in FLOATS])


def test_impute_fills_text():
    """Null becomes the text; the empty text is a text."""
    (found,) = applied(frame_of(x=("string", TEXTS)), "impute", "x", params={"strategy": "constant", "value": "\u017f"})
    assert found.to_pylist() == ["\u017f" if text is None else text for text in TEXTS]


def test_impute_passes_a_full_column_on():
    """A column without a missing value is the output itself."""
    frame = frame_of(x=("float64", [1.0, 2.0]))
    assert applied(frame, "impute", "x", params={"strategy": "constant", "value": 7})[0] is frame.float64("x")


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"params": {"strategy": "mean"}}, "string"),
        ({"params": {"strategy": "median"}}, "string"),
        ({"params": {"strategy": "mode"}}, "date"),
        ({"params": {"strategy": "constant", "value": 1}}, "string"),
        ({"params": {"strategy": "constant", "value": "1"}}, "int64"),
        ({"params": {"strategy": "mode"}, "state": {"value": "a", "n": 1}}, "bool"),
        ({"params": {"strategy": "mean"}}, "float32[2]"),
    ],
)
def test_impute_refuses_a_value_of_another_type(keys, kind):
    """A strategy or a value that the column's type cannot have is refused when the spec is read."""
    with pytest.raises(ValueError, match="takes"):
        step_of("impute", ["x"], **keys).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    "keys",
    [
        {"params": {"strategy": "constant"}},
        {"params": {"strategy": "mean", "value": 1}},
        {"params": {"strategy": "constant", "value": 1}, "state": {"value": 1, "n": 1}},
        {"params": {"strategy": "average"}},
        {"params": {"strategy": "constant", "value": INF}},
        {"params": {"strategy": "mean"}, "state": {"value": NAN, "n": 1}},
        {"params": {"strategy": "mean"}, "state": {"value": 1, "n": 0}},
    ],
)
def test_impute_refuses_half_a_meaning(keys):
    """A constant without a value, a value without a constant, and state that learned nothing are refused."""
    with pytest.raises(ValidationError):
        step_of("impute", ["x"], **keys)


NUMBERS: list[Any] = [3.0, 1.0, 1.0, -0.0, 0.0, None, NAN, 7.0, 7.0, -2.5]
CUTS = ((), (1,), (5,), (0, 2, 2, 9), tuple(range(1, 10)))


@pytest.mark.parametrize("cuts", CUTS)
def test_what_impute_learns_of_numbers(cuts):
    """Mean is the mean, median the lower of two middles, mode the least of the most frequent, however rows are cut."""
    values = [value for value in NUMBERS if present(value)]
    for strategy, wanted in (
        ("mean", statistics.fmean(values)),
        ("median", statistics.median_low(values)),
        ("mode", 0.0),
    ):
        state = learned("impute", NUMBERS, cuts=cuts, params={"strategy": strategy})
        assert (state.value, str(state.value), state.n) == (wanted, str(wanted), len(values))


@pytest.mark.parametrize("strategy", ["mean", "median", "mode"])
def test_no_order_of_the_zeros_gives_another_one(strategy):
    """0 and −0 are one value, and what is learned of them is 0, whichever comes first."""
    for values in ([0.0, -0.0, -0.0], [-0.0, -0.0, 0.0], [-0.0]):
        assert str(learned("impute", values, params={"strategy": strategy}).value) == "0.0"


@pytest.mark.parametrize("cuts", CUTS)
def test_what_impute_learns_of_text(cuts):
    """The mode of texts is the most frequent, ties by UTF-8 bytes and not by Python's or a reader's order."""
    texts = ["\uffff", "😀", "😀", "\uffff", None, "a", "", "", "b", "é"]
    state = learned("impute", texts, "string", cuts=cuts, params={"strategy": "mode"})
    counts = Counter(text for text in texts if text is not None)
    assert state.value == min(counts, key=lambda text: (-counts[text], text.encode())) == ""
    assert state.n == 9


@pytest.mark.parametrize(
    ("strategy", "values"), [("mean", [INF, 1.0]), ("median", [INF]), ("mode", [-INF]), ("mean", [])]
)
def test_a_value_that_cannot_fill_is_not_learned(strategy, values):
    """±inf and nothing at all are no filling value, and the message names the column."""
    with pytest.raises(ValueError, match=r"column 'x' (has no value|.*holds ±inf)"):
        learned("impute", values, params={"strategy": strategy})


def test_the_median_is_a_value_that_occurs():
    """The median of an even number of rows is the lower middle one, as inverted_cdf says, not a mean of two."""
    for count in range(1, 9):
        values = [float(number * number) for number in range(count)]
        state = learned("impute", values[::-1], params={"strategy": "median"})
        assert state.value == values[math.ceil(count / 2) - 1]


def pieces_of(values, cuts):
    """Return values cut into pieces, some of them empty."""
    edges = [0, *sorted(cut % (len(values) + 1) for cut in cuts), len(values)]
    return [values[start:stop] for start, stop in itertools.pairwise(edges)]


def learned_by_trees(values, pieces, params, kind="float64"):
    """Fit to pieces that are merged as a tree, in as many passes as it takes; the state and how many passes it took."""
    template = step_of("impute", ["x"], params=params).accumulator()
    for number in range(1, 6):
        parts = []
        for piece in pieces:
            part = template.fresh()
            part.update(frame_of(x=(kind, piece)))
            parts.append(part)
        while len(parts) > 1:
            for left, right in zip(parts[::2], parts[1::2], strict=False):
                left.merge(right)
            parts = parts[::2]
        further = parts[0].narrow()
        if further is None:
            return parts[0].finish(), number
        template = further
    raise AssertionError(values)


NASTY_NUMBERS = st.sampled_from([x for x in FLOATS if x is None or not math.isinf(x)]) | st.floats(allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(NASTY_NUMBERS, min_size=1, max_size=60), st.lists(st.integers(0, 99), max_size=6))
def test_no_partitioning_changes_what_is_learned(values, cuts):
    """Mean, median and mode are those of exact arithmetic, to the bit, in whatever pieces and by whatever merges."""
    numbers = [value + 0.0 for value in values if present(value)]
    if not numbers:
        return
    counts = Counter(numbers)
    wanted = {
        "mean": float(sum(map(Fraction, numbers)) / len(numbers)),
        "median": sorted(numbers)[math.ceil(len(numbers) / 2) - 1],
        "mode": min(counts, key=lambda value: (-counts[value], value)),
    }
    for strategy, value in wanted.items():
        state, _ = learned_by_trees(values, pieces_of(values, cuts), {"strategy": strategy})
        assert (state.value.hex(), state.n) == (value.hex(), len(numbers))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(TEXTS[:-8]), min_size=1, max_size=40), st.lists(st.integers(0, 99), max_size=6))
def test_no_partitioning_changes_the_mode_of_texts(values, cuts):
    """The most frequent text, ties by UTF-8 bytes, in whatever pieces the rows come."""
    counts = Counter(text for text in values if text is not None)
    if counts:
        state, _ = learned_by_trees(values, pieces_of(values, cuts), {"strategy": "mode"}, "string")
        assert state.value == min(counts, key=lambda text: (-counts[text], text.encode()))
        assert state.n == counts.total()


def test_the_median_of_many_values_takes_passes_and_not_memory():
    """The median of more values than a pass can count is exact, in no more passes than the step says it may take."""
    values = np.random.default_rng(5).standard_normal(150_001)
    pieces = [pa.array(part) for part in np.array_split(values, 7)]
    state, passes = learned_by_trees(values, pieces, {"strategy": "median"})
    assert state.value == np.sort(values)[75_000]
    assert 1 < passes <= 1 + step_of("impute", ["x"], params={"strategy": "median"}).most_extra_passes


def test_a_fit_takes_the_passes_that_a_median_needs():
    """`fit` reads the rows again for a median of many values, and finds the same for any pieces and workers."""
    values = np.random.default_rng(6).standard_normal(100_000)
    step = {"id": "i", "op": "impute", "in": ["x"], "out": ["y"], "params": {"strategy": "median"}}
    recipe = spec_of([{"name": "x", "type": "float64"}], [step], fitted=False)
    parts = [pa.record_batch({"x": part}) for part in np.array_split(values, 5)]
    pieces = [Piece(str(n), functools.partial(list, [part])) for n, part in enumerate(parts)]
    by_pieces = fit(recipe, pieces, workers=2)
    assert by_pieces.steps == fit(recipe, pa.Table.from_batches(parts)).steps
    assert by_pieces.steps[0].model_dump()["state"] == {"value": np.sort(values)[49_999], "n": 100_000}


def test_a_mode_of_too_many_numbers_is_refused_by_name():
    """More different numbers than are counted end in an error that names the column and what to do, not the memory."""
    accumulator = step_of("impute", ["x"], params={"strategy": "mode"}).accumulator()
    for start in range(0, 1_200_000, 300_000):
        accumulator.update(frame_of(x=("float64", pa.array(np.arange(start, start + 300_000, dtype=np.float64)))))
    assert accumulator.narrow() is None
    with pytest.raises(ValueError, match=r"column 'x' has more than 1,000,000 different numbers.*use the median"):
        accumulator.finish()


def test_rows_that_change_between_passes_are_noticed():
    """A column that another pass finds changed is refused by name instead of learned from."""
    step = step_of("impute", ["x"], params={"strategy": "median"})
    first = step.accumulator()
    first.update(frame_of(x=("float64", pa.array(np.random.default_rng(1).standard_normal(100_000)))))
    second = first.narrow()
    second.update(frame_of(x=("float64", pa.array(np.random.default_rng(2).standard_normal(100_000)))))
    assert second.narrow() is None
    with pytest.raises(ValueError, match="column 'x' is not what it was in the pass before"):
        second.finish()


def replaced(value, pairs):
    """Replace a value as the pairs say, by Python's equality within a type."""
    return next((new for old, new in pairs if value is not None and value == old), value)


PAIRS: dict[str, list[tuple[Any, Any, Any]]] = {
    "bool": [(True, False, False)],
    "int32": [(1, -(2**31), -(2**31)), (0, 1, 1)],
    "int64": [(2**53 + 1, 2**63 - 1, 2**63 - 1), (2**63 - 1, 0, 0), (-1, -2, -2)],
    "float32": [(1.5, 0.1, 0.10000000149011612), (0, -0.0, -0.0)],
    "float64": [(0, 7, 7.0), (1.5, -0.0, -0.0), (2.0**53, 1.5, 1.5), (2**63, 1, 1.0)],
    "string": [("", "empty", "empty"), ("A", "a", "a"), ("a", "A", "A"), ("漢字", "\x00", "\x00")],
    "date": [("1970-01-01", "2000-02-29", date(2000, 2, 29))],
    "timestamp": [("1970-01-01", "2000-02-29T06:07:08Z", datetime(2000, 2, 29, 6, 7, 8, tzinfo=UTC))],
}
EPOCHS = {"date": date(1970, 1, 1), "timestamp": datetime(1970, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("kind", PAIRS)
def test_values_are_replaced_all_at_once(kind):
    """What equals an old value becomes its new one, once; the rest, missing values too, stays as it is to the bit."""
    written = [[old, new] for old, new, _ in PAIRS[kind]]
    frame = frame_of(x=(kind, COLUMNS[kind]))
    step = step_of("replace_values", ["x"], params={"values": written})
    assert step.infer((ColumnType(kind),)) == (ColumnType(kind),)
    step.run(frame, "/s")
    pairs = [(EPOCHS.get(kind, old), new) for old, _, new in PAIRS[kind]]
    wanted = [replaced(value, pairs) for value in COLUMNS[kind]]
    if kind.startswith("float"):
        assert same_floats(frame.float64("out"), wanted)
    else:
        assert frame["out"].to_pylist() == wanted
    assert frame.kind("out") == kind


@pytest.mark.parametrize("kind", PAIRS)
def test_values_become_missing(kind):
    """What equals one of the values is missing, and the rest stays the same to the bit and in its type."""
    frame = frame_of(x=(kind, COLUMNS[kind]))
    step = step_of("nullif", ["x"], params={"values": [old for old, _, _ in PAIRS[kind]]})
    assert step.infer((ColumnType(kind),)) == (ColumnType(kind),)
    step.run(frame, "/s")
    olds = [EPOCHS.get(kind, old) for old, _, _ in PAIRS[kind]]
    wanted = [None if value in olds else value for value in COLUMNS[kind]]
    assert frame.missing("out").tolist() == [value is None or value != value for value in wanted]  # noqa: PLR0124  NaN
    if kind.startswith("float"):
        assert same_floats(frame.float64("out"), wanted)
    else:
        assert frame["out"].to_pylist() == wanted
    assert frame.kind("out") == kind


def test_columns_that_ops_made_are_replaced_too():
    """Numpy columns, and integers that were never missing before, are replaced and become missing like others."""
    frame = Frame(3, {"n": np.array([1, 2, 2**63 - 1]), "f": np.array([NAN, -0.0, 2.0])})
    assert applied(frame, "nullif", "n", params={"values": [2, 0.5, 1e300]})[0].to_pylist() == [1, None, 2**63 - 1]
    assert applied(frame, "replace_values", "n", params={"values": [[1, 5]]})[0].to_pylist() == [5, 2, 2**63 - 1]
    assert same_floats(applied(frame, "nullif", "f", params={"values": [0]})[0], [None, None, 2.0])
    assert same_floats(applied(frame, "replace_values", "f", params={"values": [[2, -0.0]]})[0], [None, -0.0, -0.0])


@pytest.mark.parametrize(
    ("op", "values", "kind"),
    [
        ("nullif", ["a"], "float64"),
        ("nullif", [1], "string"),
        ("nullif", [1], "list<int64>"),
        ("nullif", ["2023-02-29"], "date"),
        ("replace_values", [[1, 2.5]], "int64"),
        ("replace_values", [[1, 2**31]], "int32"),
        ("replace_values", [[1, "a"]], "int64"),
        ("replace_values", [["a", 1]], "string"),
        ("replace_values", [[0, 1e39]], "float32"),
        ("replace_values", [[True, 0]], "bool"),
    ],
)
def test_values_of_another_type_are_refused(op, values, kind):
    """A value that the column's type cannot have is refused when the spec is read."""
    with pytest.raises(ValueError, match="takes values of the column's type: it is"):
        step_of(op, ["x"], params={"values": values}).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("nullif", []),
        ("nullif", [None]),
        ("replace_values", []),
        ("replace_values", [[1]]),
        ("replace_values", [[1, 2], [1.0, 3]]),
        ("replace_values", [["a", "b"], ["a", "c"]]),
        ("replace_values", {"a": "b"}),
        ("replace_values", [[None, 1]]),
    ],
)
def test_values_that_say_nothing_or_two_things_are_refused(op, values):
    """No value, a missing one, a pair that is none, and an old value with two new ones are refused."""
    with pytest.raises(ValidationError):
        step_of(op, ["x"], params={"values": values})


def test_a_missing_list_or_struct_is_flagged():
    """A list or struct is missing where it is null, and not where it is empty or has missing parts."""
    frame = Frame(
        3,
        {"l": arrow([[], [None], None], "list<int64>"), "r": arrow([{"a": None}, None, {"a": 1}], "struct<a: int64>")},
    )
    assert applied(frame, "missing_flag", "l")[0].tolist() == [0.0, 0.0, 1.0]
    assert applied(frame, "missing_flag", "r")[0].tolist() == [0.0, 1.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(FLOATS), max_size=20), st.lists(st.integers(0, 20), max_size=4))
def test_no_cut_of_the_rows_changes_what_is_replaced(values, cuts):
    """Each batch gives the slice of what the whole gives, to the bit."""
    for op, params in (
        ("nullif", {"values": [0, 1.5, 2.0**53]}),
        ("replace_values", {"values": [[0, 1], [1, 0], [1e300, -0.0]]}),
        ("impute", {"strategy": "constant", "value": 0.5}),
    ):
        (whole,) = applied(frame_of(x=("float64", values)), op, "x", params=params)
        pieces = [applied(frame_of(x=("float64", part)), op, "x", params=params)[0] for part in pieces_of(values, cuts)]
        assert bits(np.concatenate(pieces)) == bits(whole)
