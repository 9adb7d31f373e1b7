"""Each notebook runs on what `make demo` leaves, in under two minutes, and the first model scores as it was trained."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.examples.oracle import Oracle
from tests.jobs.notebooks import charts, data_of, executed, printed

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]
SECONDS = 120
"""That a notebook may take."""
SAMPLE = 5_000
"""Rows that the job of the first model is asked for; one of them is planted, and bad."""


class Done(NamedTuple):
    """A notebook that was executed."""

    cells: list[Any]
    seconds: float


def execute(demo: Path, name: str, environment: Mapping[str, str] | None = None) -> Done:
    """Execute it where the demo is."""
    began = time.perf_counter()
    cells = executed(name, environment or {}, demo / "notebooks")
    return Done(cells, time.perf_counter() - began)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, with what `make demo` leaves in it."""
    root: Path = tmp_path_factory.mktemp("demo")
    for name in ("conf", "notebooks", "examples/flights"):
        shutil.copytree(REPOSITORY / name, root / name)
    programs = Path(sys.executable).parent
    subprocess.run([sys.executable, root / "examples/flights/prepare.py"], check=True, cwd=root)
    command = [str(programs / "batchscore"), "run", "conf/flights.yaml", "--run-id", "flights-2013-q4"]
    subprocess.run(command, check=True, cwd=root)
    return root


@pytest.fixture(scope="module")
def first(demo: Path) -> Done:
    """The notebook of the first model."""
    return execute(demo, "first_model")


@pytest.fixture(scope="module")
def made(demo: Path, first: Done) -> Path:
    """The folder that it made."""
    [folder] = (demo / "demo" / "first_model").iterdir()
    return folder


def scores_by_hand(demo: Path, made: Path, month: str) -> pd.DataFrame:
    """Flights of a month, with the features that pandas makes of them and the scores that onnxruntime gives those."""
    flights = pd.read_parquet(demo / "demo" / "data" / "flights" / month)
    flights = flights[~flights["flight_id"].str.startswith("planted-")].reset_index(drop=True)
    matrix, _ = Oracle(made / "bundle" / "etl.json", demo / "demo" / "data").matrix(flights)
    session = ort.InferenceSession(made / "bundle" / "model.onnx", providers=["CPUExecutionProvider"])
    [probabilities] = session.run(["probabilities"], {"features": matrix})
    return flights.assign(by_hand=probabilities[:, 1])


def test_scores_are_explored_and_the_models_compared(demo: Path, first: Done, made: Path) -> None:
    """The notebook on scores holds the demo's run against the first model's trial, in its time."""
    done = execute(demo, "explore_scores", {"EXPLORE_BEFORE": f"{made / 'job.yaml'}#trial"})
    assert done.seconds < SECONDS
    assert "84,292 scored, 82,609 arrived" in printed(done.cells)
    assert f"{SAMPLE - 1:,} flights have a score in both" in printed(done.cells)
    assert len(charts(done.cells)) == 6


def test_one_run_is_a_history(demo: Path) -> None:
    """The notebook on history draws the demo's only run, and says that there is none to hold it against."""
    done = execute(demo, "job_history")
    assert done.seconds < SECONDS
    assert data_of(charts(done.cells)[2], having="rows_in") == [{"run_id": "flights-2013-q4", "rows_in": 84_299}]
    assert "too few to say what is usual" in printed(done.cells)


def test_the_first_model_scores_as_it_was_trained(demo: Path, first: Done, made: Path) -> None:
    """What its job published are the scores of a second implementation, of the first rows of the file, one left out."""
    assert first.seconds < SECONDS
    published = pd.concat(map(pd.read_parquet, made.rglob("part-*.parquet")), ignore_index=True)
    both = published.merge(scores_by_hand(demo, made, "2013-10"), on="flight_id", validate="one_to_one")
    assert len(both) == len(published) == SAMPLE - 1
    np.testing.assert_allclose(both["p_late"], both["by_hand"], rtol=0, atol=1e-5)
    assert both["by_hand"].std() > 0.01


def test_the_first_model_tells_its_deviation_and_its_auc(demo: Path, first: Done, made: Path) -> None:
    """The largest deviation that it tells is one of float32, of all rows, and its AUC is that of the second scores."""
    found = re.search(r"([\d,]+) rows, largest deviation (\S+), mean", printed(first.cells))
    assert found is not None
    assert found[1] == f"{SAMPLE - 1:,}"
    assert 0 < float(found[2]) < 1e-6
    assert sum(row["rows"] for row in data_of(charts(first.cells)[1], having="rows")) == SAMPLE - 1
    test = scores_by_hand(demo, made, "2013-09").dropna(subset=["arr_delay"])
    auc = roc_auc_score(test["arr_delay"] > 15, test["by_hand"])
    assert f"AUC on 2013-09: {auc:.3f}, on {len(test):,} flights" in printed(first.cells)
