"""The notebook runs on what a run publishes, and shows what is there."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupytext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.record import RunState
from tests.jobs.outputs import run_job, write_job
from tests.numbers_job import FEATURES, WEIGHTS

with warnings.catch_warnings():
    # Its imports set the event loop's policy, which newer Pythons discourage.
    warnings.simplefilter("ignore")
    import nbclient
    import nbformat

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ROWS = 900
CANCELLED = 30
"""Flights that never arrived."""
BAD = 3
"""Flights that cannot be scored."""
SPOILT = "ZZ"
"""The carrier whose flights are late whatever the model says."""


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
    """Cells of the notebook, executed on a small output."""
    folder = tmp_path_factory.mktemp("notebook")
    write_flights(folder / "in")
    model = {
        "onnx": str(logistic_onnx),
        "inputs": {"X": list(FEATURES)},
        "outputs": [{"column": "p_late", "tensor": "p", "type": "float32"}],
    }
    output = {"uri": str(folder / "out"), "passthrough": ["flight_id", "carrier"]}
    job = write_job(folder, logistic_onnx, model=model, output=output, budgets={"contract": {"max_rows": BAD}})
    assert run_job(job, "q4").state is RunState.PARTIALLY_SUCCEEDED
    notebook = jupytext.read(NOTEBOOKS / "explore_scores.py")
    # Charts as their specification, which a test can read.
    setup = "import altair, os; altair.renderers.enable('json')\n" + f"os.environ['EXPLORE_WHERE'] = {str(job)!r}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = nbclient.NotebookClient(
            notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
        )
        client.execute()
    return list(notebook.cells[1:])


def charts(cells: list[Any]) -> list[dict[str, Any]]:
    """Vega-Lite specifications in the order of the notebook."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", []):
            with contextlib.suppress(AttributeError):
                found += [value for kind, value in output.data.items() if kind == "application/json"]
    return found


def data_of(chart: dict[str, Any], *, having: str) -> list[dict[str, Any]]:
    """The rows that a chart draws and that have a field."""
    return [row for rows in chart["datasets"].values() for row in rows if having in row]


def test_each_chart_is_drawn(shown: list[Any]) -> None:
    """The notebook draws the distribution, the calibration, the segments and the reasons, each from few rows."""
    titles = [str(chart) for chart in charts(shown)]
    for title, text in zip(
        ("Scores", "Calibration", "Predicted minus observed", "Rows set aside"), titles, strict=True
    ):
        assert title in text
    assert all(sum(map(len, chart["datasets"].values())) < 200 for chart in charts(shown))


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
    """The last chart counts the rows that could not be scored."""
    assert data_of(charts(shown)[3], having="rows") == [{"stage": "contract", "code": "MISSING", "rows": BAD}]


def test_both_forms_of_the_notebook_are_alike() -> None:
    """The .ipynb has the cells of the text, in their order, and no output."""
    text, paired = (jupytext.read(NOTEBOOKS / f"explore_scores.{ending}") for ending in ("py", "ipynb"))
    assert [(cell.cell_type, cell.source) for cell in paired.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert [cell for cell in paired.cells if cell.get("outputs") or cell.get("execution_count")] == []
