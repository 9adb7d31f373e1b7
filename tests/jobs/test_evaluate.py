"""Published scores beside labels that came later."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import csv
from sklearn import metrics
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import Refused
from jobs.monitoring.evaluating import Classified, Labels, Regressed, classified, evaluate, regressed
from jobs.monitoring.labels import Asked, evaluate_runs, read_labels
from jobs.monitoring.measures import calibration, calibration_error
from jobs.monitoring.runs import open_run
from tests.jobs.published_pair import Pair, publish_pair, scores_of
from tests.numbers_job import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from typer.testing import Result

SEED = 11


@pytest.fixture(scope="module")
def pair(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Published runs of a champion, which the second one replaced, and of a challenger."""
    return publish_pair(tmp_path_factory.mktemp("pair"), logistic_onnx)


@pytest.fixture(scope="module")
def truths(pair: Pair) -> np.ndarray:
    """What became of each row: drawn with the champion's probability."""
    return np.random.default_rng(SEED).random(pair.rows.num_rows) < scores_of(pair.rows, WEIGHTS)


@pytest.fixture(scope="module")
def labels(pair: Pair, truths: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of all rows but the last hundred of `one`, as 0 and 1, and one of a row that nobody scored."""
    table = pa.table({"id": pair.rows["id"], "y": pa.array(truths.astype(np.int64))}).slice(0, 500)
    table = pa.concat_tables([table, pa.table({"id": [-1], "y": [1]})])
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    pq.write_table(table, path)
    return path


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(app, [str(word) for word in words])


scored = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)),
    min_size=1,
    max_size=60,
)


@given(scored, st.sampled_from([np.float32, np.float64]))
def test_measures_of_classes_are_those_of_scikit_learn(rows: list[tuple[bool, float]], type_: Any) -> None:
    """AUC, log loss and Brier score are scikit-learn's, in either precision, with ties and with 0 and 1."""
    truths, scores = (np.array(side) for side in zip(*rows, strict=True))
    scores = scores.astype(type_)
    found = classified(truths, scores, 5)
    assert (found.rows, found.positives) == (len(rows), truths.sum())
    assert found.brier == pytest.approx(np.mean((scores.astype(float) - truths) ** 2), abs=1e-12)
    assert found.log_loss == pytest.approx(metrics.log_loss(truths, scores, labels=[False, True]), rel=1e-5, abs=1e-6)
    if len(set(truths.tolist())) == 1:
        assert found.auc is None
    else:
        assert found.auc == pytest.approx(metrics.roc_auc_score(truths, scores), abs=1e-12)
        assert found.brier == pytest.approx(metrics.brier_score_loss(truths, scores), abs=1e-6)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=60))
def test_measures_of_numbers_are_those_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    """RMSE, MAE and R² are scikit-learn's, and R² is not defined where all labels are equal."""
    truths, scores = (np.array(side) for side in zip(*rows, strict=True))
    assume(np.ptp(truths) == 0 or np.ptp(truths) > 1e-3)
    found = regressed(truths, scores)
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(truths, scores))
    assert found.mae == pytest.approx(metrics.mean_absolute_error(truths, scores))
    assert found.bias == pytest.approx(np.mean(scores) - np.mean(truths), abs=1e-9)
    if truths.min() == truths.max():
        assert found.r2 is None
    else:
        assert found.r2 == pytest.approx(metrics.r2_score(truths, scores), rel=1e-6, abs=1e-6)


@given(scored, st.integers(2, 12))
def test_bins_hold_each_row_once_in_order(rows: list[tuple[bool, float]], count: int) -> None:
    """The bins are disjoint and in order, and have the rows, mean and rate of the scores between their ends."""
    truths, scores = (np.array(side) for side in zip(*rows, strict=True))
    bins = calibration(truths, scores, count)
    assert 1 <= len(bins) <= count
    assert sum(one.rows for one in bins) == len(rows)
    assert all(one.highest < other.lowest for one, other in itertools.pairwise(bins))
    for one in bins:
        inside = (scores >= one.lowest) & (scores <= one.highest)
        assert one.rows == inside.sum()
        assert one.score == pytest.approx(scores[inside].mean())
        assert one.rate == pytest.approx(truths[inside].mean())
    assert 0 <= calibration_error(bins) <= 1


def test_bins_have_equally_many_rows_where_no_scores_are_equal() -> None:
    """Of a thousand distinct scores ten bins have a hundred each, and true probabilities are calibrated."""
    rng = np.random.default_rng(SEED)
    scores = rng.permutation(np.linspace(0.001, 0.999, 1000))
    bins = calibration(rng.random(1000) < scores, scores, 10)
    assert [one.rows for one in bins] == [100] * 10
    assert calibration_error(bins) < 0.06 < calibration_error(calibration(rng.random(1000) < scores**3, scores, 10))


def held(scores: pa.Table, table: pa.Table, *by: str) -> Any:
    """The evaluation of a score `p` by labels `y` of keys `k`."""
    return evaluate(scores, Labels(table, ("k",), "y"), ["p"], by=by, bins=4)


def test_rows_that_cannot_be_held_against_labels_are_counted() -> None:
    """Rows without label, with labels that differ, with a null one, without key and without score are told apart."""
    scores = pa.table({"k": [1, 1, 2, 3, 4, 5, None, 6], "p": [0.9, 0.8, 0.5, 0.5, 0.5, 0.1, 0.5, float("nan")]})
    table = pa.table({"k": [1, 3, 3, 4, 5, 6, 9], "y": [True, True, False, None, False, True, True]})
    found = held(scores, table)
    assert found.rows == (8, 5, 1, 1, 1)
    assert found.labels.alone == 1
    assert (found.unknown, found.scores[0].unscored) == (1, 1)
    quality = found.scores[0].quality
    assert (quality.rows, quality.positives, quality.auc) == (3, 2, 1.0)


def test_what_is_not_defined_is_none() -> None:
    """One class has no AUC, scores that are no probabilities have no log loss, and no rows have nothing at all."""
    scores = pa.table({"k": [1, 2, 3], "p": [0.2, 0.4, 3.0], "s": ["a", "a", "b"]})
    [one] = held(scores, pa.table({"k": [1, 2, 3], "y": [True, True, False]}), "s").scores
    assert isinstance(one.quality, Classified)
    assert (one.quality.auc, one.quality.log_loss, one.quality.brier, one.quality.bins) == (0.0, None, None, [])
    first, second = one.segments["s"]
    assert (first.value, first.quality.rows, second.value, second.quality.rows) == ("a", 2, "b", 1)
    assert isinstance(first.quality, Classified)
    assert first.quality.auc is None
    assert first.quality.log_loss == pytest.approx(-(np.log(0.2) + np.log(0.4)) / 2)
    [nothing] = held(scores, pa.table({"k": [7], "y": [True]})).scores
    assert nothing.quality[:3] == (0, 0, None)


def test_a_run_has_the_measures_of_scikit_learn(pair: Pair, labels: Path, truths: np.ndarray) -> None:
    """Published scores and labels of a file give scikit-learn's numbers by run and by segment, oldest run first."""
    asked = Asked(str(labels), ("id",), by=("country",))
    found = evaluate_runs(str(pair.champion), ["two", "one"], asked)
    assert [one.run_id for one in found] == ["one", "two"]
    scores = scores_of(pair.rows, WEIGHTS)
    for run, rows in zip(found, (500, 400), strict=True):
        [score] = run.evaluation.scores
        assert isinstance(score.quality, Classified)
        assert score.quality.rows == rows
        assert score.quality.auc == pytest.approx(metrics.roc_auc_score(truths[:rows], scores[:rows]), abs=1e-4)
        assert score.quality.log_loss == pytest.approx(metrics.log_loss(truths[:rows], scores[:rows]), rel=1e-4)
    assert found[0].evaluation.rows == (600, 500, 100, 0, 0)
    assert (found[0].evaluation.labels.alone, found[1].evaluation.labels.alone) == (1, 101)
    countries = np.array(pair.rows["country"].to_pylist(), dtype=object)[:500]
    for segment in found[0].evaluation.scores[0].segments["country"]:
        own = countries == segment.value
        assert isinstance(segment.quality, Classified)
        assert segment.quality.auc == pytest.approx(
            metrics.roc_auc_score(truths[:500][own], scores[:500][own]), abs=1e-4
        )


def test_numbers_make_a_regression_of_it(pair: Pair, tmp_path: Path) -> None:
    """Labels that are numbers, in a CSV, give RMSE and MAE of the published scores."""
    truths = np.random.default_rng(SEED).normal(size=pair.rows.num_rows)
    csv.write_csv(pa.table({"id": pair.rows["id"], "amount": truths}), tmp_path / "labels.csv")
    [found] = evaluate_runs(str(pair.challenger), [], Asked(str(tmp_path / "*.csv"), ("id",)))
    quality = found.evaluation.scores[0].quality
    assert isinstance(quality, Regressed)
    published = open_run(str(pair.challenger), "other").arrow().sort_by("id")
    expected = metrics.mean_absolute_error(truths, published["p"].to_numpy())
    assert quality.mae == pytest.approx(expected, rel=1e-6)


def labels_in(folder: Path, pair: Pair, table: pa.Table, **asked: Any) -> Labels:
    """What is read of a file with these columns, for the first run."""
    pq.write_table(table, folder / "labels.parquet")
    return read_labels(Asked(str(folder), ("id",), **asked), open_run(str(pair.champion), "one"), ["id"], by=())


def test_labels_are_read_as_classes_or_as_numbers(pair: Pair, tmp_path: Path) -> None:
    """0 and 1, true and false, and a named text are classes; other numbers are numbers; null and NaN are not known."""
    ids = pa.array(["1", "2", "3", "3"])  # texts, which the run has as numbers
    zeros = labels_in(tmp_path, pair, pa.table({"id": ids, "y": [0.0, 1.0, float("nan"), float("nan")]}))
    assert zeros.are_classes
    assert zeros.table.to_pydict() == {"id": [1, 2, 3], "y": [False, True, None]}
    texts = pa.table({"id": ids, "y": ["bad", "good", None, None]})
    assert labels_in(tmp_path, pair, texts, positive="bad").table["y"].to_pylist() == [True, False, None]
    numbers = labels_in(tmp_path, pair, pa.table({"id": ids, "y": [0, 1, 2, 3]}))
    assert not numbers.are_classes
    assert numbers.table.num_rows == 4, "labels that differ are not made one"


@pytest.mark.parametrize(
    ("columns", "asked", "told"),
    [
        ({"y": ["good"]}, {}, "column 'y' is string. Say which value is the positive class, with --positive"),
        ({"y": ["good"]}, {"positive": "goood"}, "never is 'goood'. Did you mean \"good\""),
        ({"y": [1], "z": [1]}, {}, "say which column is the label, with --label; it has id, y, z"),
        ({"why": [1]}, {"label": "wy"}, "has no column 'wy'. Did you mean \"why\""),
    ],
)
def test_labels_that_say_nothing_are_refused(
    pair: Pair, tmp_path: Path, columns: dict[str, list[Any]], asked: dict[str, Any], told: str
) -> None:
    """Texts without a positive class, one that is never there, a label that is not named or not there are refused."""
    with pytest.raises(Refused) as refused:
        labels_in(tmp_path, pair, pa.table({"id": [1], **columns}), **asked)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "The first line of a CSV has the names of its columns."),
        ("id,y\n", "1 file has no row, so there is no label. Were they delivered? Name other --labels."),
        ("id,y\n1,\n2,\n", "column 'y' is null in each of 2 rows. Name another with --label."),
    ],
)
def test_labels_that_are_empty_say_so(pair: Pair, tmp_path: Path, text: str, told: str) -> None:
    """A file without a byte, without a row, or without a value is refused with its name and what to do, exit code 2."""
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    done = batchscore("evaluate", pair.champion, "--labels", path, "--key", "id")
    assert done.exit_code == 2
    assert str(path) in done.stderr
    assert told in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("broken", "told"),
    [(0, "not a Parquet file, or a damaged one"), (1, "a damaged Parquet file: ")],
    ids=["no Parquet", "a page"],
)
def test_labels_that_are_damaged_are_refused(pair: Pair, tmp_path: Path, broken: int, told: str) -> None:
    """Nothing was evaluated, so a file that is no Parquet, or has a page that cannot be read, ends with 2 as others."""
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"id": list(range(100)), "y": [0, 1] * 50}), path)
    data = bytearray(path.read_bytes())
    if broken:
        start = pq.read_metadata(path).row_group(0).column(0).dictionary_page_offset
        data[start : start + 40] = b"\xff" * 40
    else:
        data[:] = b"garbage" * 10
    path.write_bytes(data)
    done = batchscore("evaluate", pair.champion, "--labels", path, "--key", "id")
    assert done.exit_code == 2, done.output
    assert f"{path}: {told}" in done.stderr.replace("\n", " ")


def test_keys_of_a_csv_are_read_as_the_run_has_them(pair: Pair, tmp_path: Path) -> None:
    """A key in a CSV that is none of the run's type is refused with the file's name, and a missing file is told."""
    path = tmp_path / "labels.csv"
    path.write_text("id,y\nx17,1\n", encoding="utf-8")
    run = open_run(str(pair.champion), "one")
    with pytest.raises(Refused, match=r"labels.csv: .*x17.*id int64"):
        read_labels(Asked(str(path), ("id",)), run, ["id"], by=())
    with pytest.raises(Refused, match="no input file is there"):
        read_labels(Asked(str(tmp_path / "none.csv"), ("id",)), run, ["id"], by=())


def test_labels_of_other_rows_are_refused(pair: Pair, tmp_path: Path) -> None:
    """Where no row of any run has a label the keys of both sides are shown, with exit code 2."""
    pq.write_table(pa.table({"id": [-5], "y": [1]}), tmp_path / "labels.parquet")
    done = batchscore("evaluate", pair.champion, "--labels", tmp_path, "--key", "id")
    assert done.exit_code == 2
    assert "no row has a label" in done.stderr
    assert "keys of the labels are -5" in done.stderr


def test_the_command_shows_runs_time_segments_and_calibration(pair: Pair, labels: Path) -> None:
    """The terminal has a line a run, how measures went over time, segments by run, and the newest run's calibration."""
    words = ("evaluate", pair.champion, "one", "two", "--labels", labels, "--key", "id", "--by", "country")
    done = batchscore(*words)
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert any(line[:1] == ["one"] and line[4:6] == ["600", "500"] for line in lines)
    assert any(line[:2] == ["over", "time"] for line in lines)
    assert any(line[:2] == ["AT", "two"] for line in lines)
    assert "calibration of run two" in done.stdout
    found = json.loads(batchscore(*words, "--bins", "4", "--json").stdout)
    assert [one["run_id"] for one in found] == ["one", "two"]
    [score] = found[1]["evaluation"]["scores"]
    assert len(score["quality"]["bins"]) == 4


def test_the_command_says_why_a_measure_is_not_there(pair: Pair, tmp_path: Path) -> None:
    """With labels of one class the command ends with 0, shows no AUC, and says why."""
    pq.write_table(pa.table({"id": pair.rows["id"], "y": pa.repeat(1, 600)}), tmp_path / "labels.parquet")
    done = batchscore("evaluate", pair.champion, "--labels", tmp_path, "--key", "id")
    assert done.exit_code == 0, done.output
    assert "AUC is not defined where all labels are of one class." in done.stdout
