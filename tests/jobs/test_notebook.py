"""The notebook on scores runs on what runs publish, and shows what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jupytext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.record import RunState
from tests.jobs.notebooks import NOTEBOOKS, charts, data_of, executed, printed
from tests.jobs.outputs import run_job, write_job
from tests.jobs.published_pair import CHALLENGER, challenger_onnx, scores_of
from tests.numbers_job import FEATURES, WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ROWS = 900
CANCELLED = 30
"""Flights that never arrived."""
BAD = 3
"""Flights that cannot be scored."""
SPOILT = "ZZ"
"""The carrier whose flights are late whatever the model says."""
WARN = 0.3
"""The threshold of the notebook."""


def write_flights(folder: Path) -> pa.Table:
    """Flights of three carriers; late as the model says, but for one carrier."""
    rng = np.random.default_rng(5)
    columns = {name: rng.normal(size=ROWS).astype(np.float32) for name in FEATURES}
    probability = 1 / (1 + np.exp(-(np.stack(list(columns.values()), axis=1) @ WEIGHTS)[:, 0]))
    carrier = np.array(["AA", "BB", SPOILT])[np.arange(ROWS) % 3]
    late = (carrier == SPOILT) | (rng.random(ROWS) < probability)
    delay = np.where(late, 60, -5).astype(object)
    delay[:CANCELLED] = None
    features = {name: pa.array(values) for name, values in columns.items()}
    features["f1"] = pa.array(
        [None if row >= ROWS - BAD else value for row, value in enumerate(columns["f1"])], pa.float32()
    )
    table = pa.table(
        {
            "flight_id": [f"flight-{row}" for row in range(ROWS)],
            "carrier": carrier.tolist(),
            "arr_delay": pa.array(delay.tolist(), pa.int32()),
            **features,
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "flights.parquet")
    return table


@pytest.fixture(scope="module")
def shown(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Cells of the notebook, executed on a small output: a run of one model, and before it one of another."""
    folder = tmp_path_factory.mktemp("notebook")
    write_flights(folder / "in")
    output = {"uri": str(folder / "out"), "passthrough": ["flight_id", "carrier"]}
    for onnx, run_id in ((challenger_onnx(folder), "q3"), (logistic_onnx, "q4")):
        model = {
            "onnx": str(onnx),
            "inputs": {"X": list(FEATURES)},
            "outputs": [{"column": "p_late", "tensor": "p", "type": "float32"}],
        }
        job = write_job(folder, onnx, model=model, output=output, budgets={"contract": {"max_rows": BAD}})
        assert run_job(job, run_id).state is RunState.PARTIALLY_SUCCEEDED
    return executed("explore_scores", {"EXPLORE_WHERE": str(folder / "job.yaml")})


@pytest.fixture(scope="module")
def moves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """By numpy, of each row that is scored: carrier, score before and now."""
    table = write_flights(tmp_path_factory.mktemp("flights") / "in").slice(0, ROWS - BAD)
    scores = {"before": scores_of(table, CHALLENGER), "now": scores_of(table, WEIGHTS)}
    return {"carrier": np.array(table["carrier"].to_pylist()), **scores}


def test_each_chart_is_drawn(shown: list[Any]) -> None:
    """The notebook draws scores, calibration, segments, reasons and changes, each from fewer rows than there are."""
    titles = ("Scores", "Calibration", "Predicted minus observed", "Rows set aside", "Both runs", "Change by carrier")
    for title, chart in zip(titles, charts(shown), strict=True):
        assert title in str(chart)
    assert all(sum(map(len, chart["datasets"].values())) < ROWS / 2 for chart in charts(shown))


def test_the_distribution_counts_every_score(shown: list[Any]) -> None:
    """The bars of the distribution add up to the rows that were scored."""
    assert sum(row["flights"] for row in data_of(charts(shown)[0], having="flights")) == ROWS - BAD


def test_flights_without_an_outcome_are_left_out(shown: list[Any]) -> None:
    """The calibration is of the flights that were scored and arrived."""
    groups = data_of(charts(shown)[1], having="flights")
    assert len(groups) == 10
    assert sum(row["flights"] for row in groups) == ROWS - BAD - CANCELLED


def test_the_worst_segment_is_found(shown: list[Any]) -> None:
    """The carrier whose flights are late whatever the model says comes first, beyond chance; the others are not."""
    segments = {row["carrier"]: row for row in data_of(charts(shown)[2], having="low")}
    first = next(iter(segments))
    assert first == SPOILT
    assert segments[SPOILT]["gap"] < -0.2
    assert segments[SPOILT]["beyond chance"]
    assert abs(segments["AA"]["gap"]) < 0.1
    assert segments["AA"]["AUC"] == pytest.approx(segments["BB"]["AUC"], abs=0.1)
    assert segments["AA"]["AUC"] > 0.8


def test_rows_set_aside_are_counted_by_reason(shown: list[Any]) -> None:
    """A chart counts the rows that could not be scored."""
    assert data_of(charts(shown)[3], having="rows") == [{"stage": "contract", "code": "MISSING", "rows": BAD}]


def test_what_changed_is_counted(shown: list[Any], moves: dict[str, np.ndarray]) -> None:
    """The run is compared with the one published before it, and the changes are numpy's."""
    delta = moves["now"].astype(float) - moves["before"]
    flips = int(((moves["now"] >= WARN) != (moves["before"] >= WARN)).sum())
    assert (
        f"{ROWS - BAD} flights have a score in both; it moved by {delta.mean():+.4f} in the mean and by "
        f"{np.abs(delta).max():.4f} at most; {flips} crossed 30%."
    ) in printed(shown)


def test_both_runs_are_drawn_in_squares(shown: list[Any], moves: dict[str, np.ndarray]) -> None:
    """Each flight is counted once, in the square of its two scores."""
    squares = data_of(charts(shown)[4], having="now_to")
    assert sum(square["flights"] for square in squares) == ROWS - BAD
    for square in squares:
        inside = [
            (moves[name] >= square[name] - 1e-6) & (moves[name] <= square[f"{name}_to"] + 1e-6)
            for name in ("before", "now")
        ]
        assert square["flights"] <= int((inside[0] & inside[1]).sum())


def test_changes_are_told_by_carrier(shown: list[Any], moves: dict[str, np.ndarray]) -> None:
    """The mean change and the share of flips of each carrier are numpy's."""
    found = {row["carrier"]: row for row in data_of(charts(shown)[5], having="crossed")}
    assert found.keys() == {"AA", "BB", SPOILT}
    for carrier, row in found.items():
        now, before = (moves[name][moves["carrier"] == carrier].astype(float) for name in ("now", "before"))
        assert row["flights"] == len(now)
        assert row["change"] == pytest.approx(float((now - before).mean()), abs=1e-6)
        assert row["crossed"] == pytest.approx(float(((now >= WARN) != (before >= WARN)).mean()))


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.py")))
def test_both_forms_of_a_notebook_are_alike(name: str) -> None:
    """The .ipynb has the cells of the text, in their order, and no output."""
    text, paired = (jupytext.read(NOTEBOOKS / f"{name}.{ending}") for ending in ("py", "ipynb"))
    assert [(cell.cell_type, cell.source) for cell in paired.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert [cell for cell in paired.cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_each_notebook_has_both_forms() -> None:
    """No notebook lacks its text, and no text its notebook."""
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {path.stem for path in NOTEBOOKS.glob("*.py")}
