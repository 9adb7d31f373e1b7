from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from etl.contract import Contract
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
    frame_of,
    same_floats,
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
    with pytest.raises(ValueError, match="column 'x' (has no value|.*holds ±inf)"):
        learned("impute", values, params={"strategy": strategy})


def test_the_median_is_a_value_that_occurs():
    """The median of an even number of rows is the lower middle one, as inverted_cdf says, not a mean of two."""
    for count in range(1, 9):
        values = [float(number * number) for number in range(count)]
        state = learned("impute", values[::-1], params={"strategy": "median"})
        assert state.value == values[math.ceil(count / 2) - 1]
