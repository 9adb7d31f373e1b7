"""A served bundle: rows as JSON gives them, in the types of the contract, each answered in its place."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.contract import Contract, InputField
from etl.errors import ContractError
from etl.types import ColumnType
from scoring.bundles.requests import read_frame
from scoring.bundles.served import Served, ServedOptions
from scoring.errors import BundleError
from tests.scoring.workshop import VALUES, logistic_bundle, logistic_scores, lookup_bundle, numbers

if TYPE_CHECKING:
    from pathlib import Path


def read(kind: str, values: list[Any]) -> tuple[list[Any], list[int]]:
    """One column of a request, as it went through JSON: the values that were read, and the rows that could not be."""
    contract = Contract(fields=(InputField(name="x", type=ColumnType.parse(kind)),))
    frame = pd.DataFrame.from_records(json.loads(json.dumps([{"x": value} for value in values])))
    table, unread = read_frame(frame, contract)
    return table.column("x").to_pylist(), [int(row) for rejection in unread for row in rejection.rows]


NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "values", "expected", "bad"),
    [
        ("float64", [1, 2.5, None], [1.0, 2.5, None], []),
        ("float32", [16_777_217, 1], [16_777_216.0, 1.0], []),
        ("float64", ["1.5", 2.0], [None, 2.0], [0]),
        ("float64", [True, 2.0], [None, 2.0], [0]),
        ("int64", [1, None, 3], [1, None, 3], []),
        ("int64", [1.5, 2], [None, 2], [0]),
        ("string", ["a", None, 7], ["a", None, None], [2]),
        ("bool", [True, None, 1], [True, None, None], [2]),
        ("timestamp", ["2026-11-25T12:00:00", "2026-11-25T13:00:00+01:00", "noon"], [NOON, NOON, None], [2]),
        ("timestamp", [1764072000, None], [None, None], [0]),
        ("date", ["2026-11-25", "25.11."], [date(2026, 11, 25), None], [1]),
        ("float32[2]", [[1, 2], [0.5, 1]], [[1.0, 2.0], [0.5, 1.0]], []),
        ("list<string>", [["a"], [], None, [1]], [["a"], [], None, None], [3]),
        ("float64", [None, None], [None, None], []),
    ],
)
def test_a_value_is_read_as_its_field_says(kind: str, values: list[Any], expected: list[Any], bad: list[int]) -> None:
    """What has an equal in the field's type is read, gaps stay gaps, and of the others only their rows are at fault."""
    assert read(kind, values) == (expected, bad)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The logistic bundle, three rows a call."""
    return Served(logistic_bundle(tmp_path_factory.mktemp("served") / "b"), {}, ServedOptions(batch_rows=3))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["good", "null", "text", "high"]), max_size=12))
def test_each_row_is_answered_in_its_place(served: Served, kinds: list[str]) -> None:
    """However many rows are bad and wherever, a good one has the score of onnxruntime and a bad one its own reason."""
    frame = numbers(len(kinds)).to_pandas().astype(object)
    bad = {"null": None, "text": "x", "high": 1000.0}
    for row, kind in enumerate(kinds):
        if kind != "good":
            frame.loc[row, "f2"] = bad[kind]
    answer = served.predict(frame)
    codes = {"null": "MISSING", "text": "NOT_CASTABLE", "high": "OUT_OF_RANGE"}
    told = [None if reason is None else reason.partition(":")[0] for reason in answer["rejected"].tolist()]
    assert told == [codes.get(kind) for kind in kinds]
    good = np.array([kind == "good" for kind in kinds], dtype=bool)
    expected = logistic_scores(numbers(len(kinds))) if kinds else np.empty(0, np.float32)
    np.testing.assert_array_equal(answer["p"][good].to_numpy(np.float32), expected[good])
    assert all(value is None for value in answer["p"][~good])


def test_a_row_on_which_the_model_fails_is_told_alone(tmp_path: Path) -> None:
    """An index that the model does not know fails its call; the rows beside it are scored."""
    served = Served(lookup_bundle(tmp_path / "b"), {}, ServedOptions())
    answer = served.score(pa.table({"index": [0, 9, 3], "id": [0, 1, 2]}))
    assert answer.columns["p"].to_pylist() == [VALUES[0], None, VALUES[3]]
    told = answer.rejected.to_pylist()
    assert told[0] is told[2] is None
    assert told[1].startswith("MODEL_FAILED: the model failed: ")


def test_what_is_no_frame_or_lacks_a_column_is_refused(served: Served) -> None:
    """A list of numbers has no columns, a frame without one that is read is told which, and parameters are refused."""
    with pytest.raises(ContractError, match="has no column names"):
        served.predict([[1.0, 2.0]])
    with pytest.raises(ContractError, match="has no column 'f1', 'f3'"):
        served.predict(numbers(2).drop_columns(["f1", "f3"]).to_pandas())
    with pytest.raises(BundleError, match="takes no parameters"):
        served.predict(numbers(2).to_pandas(), {"temperature": 0})
