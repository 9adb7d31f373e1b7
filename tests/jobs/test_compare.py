"""Two runs beside each other."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import Refused
from jobs.monitoring.comparing import Gate, Question, compare
from jobs.monitoring.matching import keyed_as, match
from jobs.monitoring.measures import rank_correlation, ranks
from jobs.monitoring.runs import Asked, compare_runs, keys_of, open_run
from tests.jobs.published_pair import CHALLENGER, Pair, publish_pair, scores_of
from tests.numbers_job import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from typer.testing import Result

QUESTION = Question(("k",), (("p", "p"),))


@pytest.fixture(scope="module")
def pair(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Published runs of a champion, which the second one replaced, and of a challenger."""
    return publish_pair(tmp_path_factory.mktemp("pair"), logistic_onnx)


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(app, [str(word) for word in words])


def run_of(keys: list[Any], scores: list[Any], **columns: list[Any]) -> pa.Table:
    """A table of keys `k` and scores `p`."""
    return pa.table({"k": keys, "p": scores, **columns})


keys = st.lists(st.none() | st.integers(0, 12), max_size=20)


@given(keys, keys, st.booleans())
def test_rows_are_matched_as_their_keys_say(left: list[int | None], right: list[int | None], repeats: bool) -> None:  # noqa: FBT001  drawn
    """Exactly the rows are paired whose key stands once on either side, and every row is counted once."""
    found = match(
        pa.table({"k": pa.array(left, pa.int64())}),
        pa.table({"k": pa.array(right, pa.int64())}),
        ["k"],
        left_repeats=repeats,
    )
    here, there = Counter(left), Counter(right)
    expected = [
        (row, right.index(key))
        for row, key in enumerate(left)
        if key is not None and there[key] == 1 and (repeats or here[key] == 1)
    ]
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected
    for side, own in zip(found.sides, (left, right), strict=True):
        assert side.rows == len(own) == side.matched + side.alone + side.repeated + side.keyless
        assert side.keyless == own.count(None)
    assert found.sides[0].matched == len(expected)
    lone = sum(key is not None and not there[key] and (repeats or here[key] == 1) for key in left)
    assert found.sides[0].alone == lone


@given(st.lists(st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.integers(0, 3)), max_size=12), st.randoms())
def test_a_key_of_several_columns_is_their_tuple(rows: list[tuple[str | None, int | None]], random: Any) -> None:
    """With two key columns the pairs are those of whole tuples, and a null in either is no key."""
    other = random.sample(rows, len(rows))

    def table(some: list[tuple[str | None, int | None]]) -> pa.Table:
        return pa.table(
            {"a": pa.array([a for a, _ in some], pa.string()), "b": pa.array([b for _, b in some], pa.int64())}
        )

    found = match(table(rows), table(other), ["a", "b"])
    once = [row for row, count in Counter(rows).items() if count == 1 and None not in row]
    assert sorted(rows[at] for at in found.left) == sorted(once)
    assert [rows[at] for at in found.left] == [other[at] for at in found.right]


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1e6, 1e6)), min_size=1))
def test_ranks_and_their_correlation_are_those_of_polars(pairs: list[tuple[int, float]]) -> None:
    """Ties share a rank, and Spearman's coefficient is that of Polars, undefined where Polars has none."""
    left, right = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    assert ranks(left).tolist() == pl.Series(left).rank("average").to_list()
    oracle = pl.DataFrame({"l": left, "r": right}).select(pl.corr("l", "r", method="spearman")).item()
    found = rank_correlation(left, right)
    if oracle is None or math.isnan(oracle):
        assert found is None
    else:
        assert found == pytest.approx(oracle, abs=1e-9)


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_deltas_and_flips_are_those_of_a_plain_loop(rows: list[tuple[str, float, float]], threshold: float) -> None:
    """Mean, mean size, largest and flips by segment are what a loop over rows finds; segments add up to the whole."""
    segment, before, now = (list(side) for side in zip(*rows, strict=True))
    ids = list(range(len(rows)))
    question = Question(("k",), (("p", "p"),), threshold, ("s",))
    [found] = compare(run_of(ids, before, s=segment), run_of(ids[::-1], now[::-1]), question).columns
    deltas = [new - old for old, new in zip(before, now, strict=True)]
    assert found.shift is not None
    assert found.flips is not None
    assert found.shift.mean == pytest.approx(math.fsum(deltas) / len(rows), abs=1e-12)
    assert found.shift.mean_absolute == pytest.approx(math.fsum(map(abs, deltas)) / len(rows))
    assert found.shift.largest == max(map(abs, deltas))
    assert found.shift.quantiles[0.5] == sorted(deltas)[(len(rows) - 1) // 2]
    up = sum(old < threshold <= new for old, new in zip(before, now, strict=True))
    down = sum(new < threshold <= old for old, new in zip(before, now, strict=True))
    assert (found.flips.rows, found.flips.up, found.flips.down) == (up + down, up, down)
    told = {one.value: one for one in found.segments["s"]}
    assert {value: one.rows for value, one in told.items()} == Counter(segment)
    assert sum(one.flips.rows for one in told.values() if one.flips is not None) == up + down
    for value, one in told.items():
        own = [delta for delta, of in zip(deltas, segment, strict=True) if of == value]
        assert one.mean == pytest.approx(math.fsum(own) / len(own), abs=1e-12)
    worst = found.worst["delta"].to_pylist()
    assert [abs(delta) for delta in worst] == sorted((abs(delta) for delta in deltas if delta), key=lambda d: -d)[:10]


def test_rows_that_cannot_be_compared_are_counted() -> None:
    """Rows alone, repeated and without a key are told of each side, and scores that are there on one side only, too."""
    before = run_of([1, 2, 2, 3, None, 5, 6, 7], [0.1, 0.2, 0.2, 0.3, 0.4, float("nan"), 0.6, None])
    now = run_of([7, 6, 5, 3, 9, 2], [float("inf"), None, 0.5, 0.3, 0.9, 0.2])
    found = compare(before, now, QUESTION)
    assert found.before == (8, 4, 1, 2, 1)
    assert found.now == (6, 4, 1, 1, 0)
    [change] = found.columns
    assert (change.rows, change.lost, change.gained, change.unscored) == (1, 1, 1, 1)
    assert found.breaches(Gate(unmatched=0.72)) == []
    [breach] = found.breaches(Gate(unmatched=0.5))
    assert breach.found == pytest.approx((4 + 2 + 4) / 14)


def test_true_and_false_flip_without_a_threshold_and_texts_change() -> None:
    """A column of booleans has flips either way; of texts those are counted whose value is another."""
    before = run_of([1, 2, 3, 4], [True, False, True, None], t=["a", "b", None, "d"])
    now = run_of([1, 2, 3, 4], [False, False, True, True], t=["a", "c", "x", "d"])
    flags, texts = compare(before, now, QUESTION._replace(columns=(("p", "p"), ("t", "t")))).columns
    assert flags.flips is not None
    assert flags.flips[:3] == (1, 0, 1)
    assert texts.flips == (1, None, None, 1 / 3)
    assert (texts.shift, texts.are_numbers, texts.lost, texts.gained) == (None, False, 0, 1)
    assert texts.worst.to_pylist() == [{"k": 2, "before": "b", "now": "c"}]


def test_a_limit_that_nothing_can_be_held_against_does_not_hold() -> None:
    """Where all scores are equal, all are NaN, or all are texts, a limit on what is not defined is a breach."""
    constant = compare(run_of([1, 2], [0.5, 0.5]), run_of([1, 2], [0.5, 0.5]), QUESTION)
    assert [one.found for one in constant.breaches(Gate(rank_correlation=0.5, mean_delta=0.0))] == [None]
    nothing = compare(run_of([1], [float("nan")]), run_of([1], [1.0]), QUESTION._replace(threshold=0.5))
    assert {one.limit for one in nothing.breaches(Gate(0.1, 0.1, 0.1, 0.1, 1.0))} == {
        "mean_delta",
        "delta",
        "flips",
        "rank_correlation",
    }
    texts = compare(run_of([1], ["a"]), run_of([1], ["a"]), QUESTION)
    assert [(one.column, one.limit) for one in texts.breaches(Gate(delta=1.0, flips=0.0))] == [(None, "delta")]


def test_limits_hold_up_to_the_number_itself() -> None:
    """A measure that equals its limit holds, and one beside it does not."""
    found = compare(
        run_of([1, 2, 3], [0.0, 0.5, 1.0]), run_of([1, 2, 3], [0.25, 0.5, 1.0]), QUESTION._replace(threshold=0.25)
    )
    assert found.breaches(Gate(0.25 / 3, 0.25, 1 / 3, 1.0, 0.0)) == []
    assert {one.limit for one in found.breaches(Gate(0.08, 0.24, 0.3, 1.0, 0.0))} == {"mean_delta", "delta", "flips"}


def test_keys_of_other_types_are_read_as_those_of_the_first_run() -> None:
    """Keys that are texts in one run and numbers in the other are matched by value, and refused where they are not."""
    ids = pa.table({"k": pa.array([1, 2], pa.int64())})
    assert keyed_as(pa.table({"k": ["2", "1"]}), ids, ["k"], what="x")["k"].to_pylist() == [2, 1]
    with pytest.raises(Refused, match=r"x: key 'k' is string, and cannot be read as int64.*'two'"):
        keyed_as(pa.table({"k": ["two"]}), ids, ["k"], what="x")


def test_what_cannot_be_compared_is_refused() -> None:
    """Runs without a common key, a number against a text and a segment column of too many values are refused."""
    with pytest.raises(Refused, match=r"no row of the two runs has the same k: 1 row has 1, 2 rows have 2, 3"):
        compare(run_of([1], [0.5]), run_of([2, 3], [0.5, 0.5]), QUESTION)
    with pytest.raises(Refused, match=r"--column p: double cannot be compared with string"):
        compare(run_of([1], [0.5]), run_of([1], ["a"]), QUESTION)
    many = list(range(10_001))
    with pytest.raises(Refused, match=r"--by s: has 10,001 values"):
        compare(run_of(many, many, s=many), run_of(many, many), QUESTION._replace(by=("s",)))


def test_published_runs_compare_as_their_models_do(pair: Pair) -> None:
    """Champion and challenger, of two output roots, have the deltas, flips and ranks that numpy gives their weights."""
    found = compare_runs(
        str(pair.champion), ("one", f"{pair.challenger}#other"), Asked(("id",), threshold=0.5, by=("country",), worst=3)
    )
    before, now = scores_of(pair.rows, WEIGHTS), scores_of(pair.rows, CHALLENGER)
    [change] = found.columns
    assert change.shift is not None
    assert change.flips is not None
    assert (change.name, change.rows, found.unmatched) == ("p", 600, 0)
    assert change.shift.mean == pytest.approx(np.mean(now.astype(float) - before), abs=1e-6)
    oracle = pl.DataFrame({"l": before, "r": now}).select(pl.corr("l", "r", method="spearman")).item()
    assert change.shift.rank_correlation == pytest.approx(oracle, abs=1e-4)
    flipped = (before >= 0.5) != (now >= 0.5)
    assert change.flips.rows == flipped.sum() > 0
    countries = np.array(pair.rows["country"].to_pylist(), dtype=object)
    for segment in change.segments["country"]:
        assert segment.flips is not None
        assert segment.flips.rows == flipped[countries == segment.value].sum()
    by_size = np.argsort(-np.abs(now - before))
    assert change.worst["id"].to_pylist() == pair.rows["id"].take(pa.array(by_size[:3])).to_pylist()


def test_a_run_that_was_replaced_is_compared_as_it_was_published(pair: Pair) -> None:
    """The run that an overwriting one replaced is whole on its side, and rows that came or went are told."""
    found = compare_runs(str(pair.champion), ("one", "two"), Asked(("id",)))
    assert found.before == (600, 400, 200, 0, 0)
    assert found.now == (400, 400, 0, 0, 0)
    assert found.unmatched == pytest.approx(0.2)
    [change] = found.columns
    assert change.shift is not None
    assert (change.shift.largest, change.worst.num_rows) == (0.0, 0)
    assert change.shift.rank_correlation == pytest.approx(1)


def test_the_key_is_the_only_column_of_the_input_or_has_to_be_named(pair: Pair) -> None:
    """Of two columns that came through none is taken for the key, and a wrong name is told with what there is."""
    results = open_run(str(pair.champion), "one")
    with pytest.raises(Refused, match=r"--key: 2 columns came through from the input. It has id, country, p\."):
        keys_of(results, ())
    with pytest.raises(Refused, match=r"--key idd: run one of .* has no such column. Did you mean \"id\""):
        keys_of(results, ("idd",))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("one", "one"), "compared with itself"),
        (("one", "tow"), 'Did you mean "two"'),
        (("one", "two", "--column", "q"), "--column q"),
        (("one", "two", "--by", "land"), "--by land"),
        (("one", "two", "--max-flips", "0.1"), "--threshold"),
        (("one", "two", "--max-flips", "0.1", "--threshold", "nan"), "--threshold nan"),
    ],
)
def test_a_wrong_question_ends_with_2(pair: Pair, words: tuple[str, ...], told: str) -> None:
    """What is not there, a run beside itself and flips without a threshold are refused with exit code 2."""
    done = batchscore("compare", pair.champion, *words, "--key", "id")
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


def test_the_gate_decides_the_exit_code(pair: Pair) -> None:
    """A comparison whose limits hold ends with 0, and one of which a limit does not with 4, and says which."""
    words = ("compare", pair.champion, "one", f"{pair.challenger}#other", "--key", "id", "--threshold", "0.5")
    held = batchscore(*words, "--by", "country", "--max-mean-delta", "0.5", "--min-rank-correlation", "0.5")
    assert held.exit_code == 0, held.output
    assert "holds: --max-mean-delta, --min-rank-correlation" in held.stdout
    assert "rows: 600 have it in both runs" in held.stdout
    assert re.search(r"^flips: \d+ rows \(\d\.\d{3}%\), \d+ up and \d+ down$", held.stdout, re.MULTILINE)
    broken = batchscore(*words, "--max-delta", "0.0001", "--max-unmatched", "0", "--worst", "0")
    assert broken.exit_code == 4
    assert "does not hold: --max-delta 0.0001: p: it is 0." in broken.stdout
    assert "holds: " not in broken.stdout


def test_json_has_all_that_was_found(pair: Pair) -> None:
    """The JSON of a comparison has the account of rows, the shift, segments, worst rows and what the gate says."""
    words = (
        "compare",
        pair.champion,
        "one",
        "two",
        "--key",
        "id",
        "--by",
        "country",
        "--json",
        "--max-unmatched",
        "0.1",
    )
    done = batchscore(*words)
    assert done.exit_code == 4
    found = json.loads(done.stdout)
    assert found["before"] == {"rows": 600, "matched": 400, "alone": 200, "repeated": 0, "keyless": 0}
    assert found["breaches"] == [{"column": "p", "limit": "unmatched", "allowed": 0.1, "found": pytest.approx(0.2)}]
    [column] = found["columns"]
    assert column["shift"]["quantiles"]["0.5"] == 0
    assert {one["value"]: one["rows"] for one in column["segments"]["country"]} == Counter(
        pair.rows.slice(0, 400)["country"].to_pylist()
    )
