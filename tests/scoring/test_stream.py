from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.errors import ContractError, SpecError
from scoring.bundles.create import create_bundle
from scoring.engine.stream import ScoreOptions, pinned_tables, score_batches, stream_order
from scoring.errors import InferenceError, RowsRefused
from scoring.scorer import make_scorer
from scoring.spark.frames import score
from scoring.spark.udf import score_udf
from scoring.tables import score_table
from tests.scoring.workshop import (
    LOOKUP_SPEC,
    STORE,
    VALUES,
    P,
    logistic_bundle,
    lookup_bundle,
    lookup_model,
    numbers,
    parts_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.order import Order
    from scoring.scorer import Scorer

ROWS = 40
BAD = {3: 99, 17: 99, 18: 99}
"""Rows on which the model fails, by the index that they have."""


def table() -> pa.Table:
    """Rows of the look-up model."""
    index = np.arange(ROWS) % 4
    for row, value in BAD.items():
        index[row] = value
    return pa.table({"index": index, "id": np.arange(ROWS)})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Order, Scorer]:
    """A loaded look-up model whose calls have three rows and whose tables have five."""
    audited = lookup_bundle(tmp_path_factory.mktemp("stream") / "bundle")
    order = stream_order(audited, {}, ScoreOptions(batch_rows=3, table_rows=5))
    return order, make_scorer(audited, {}, order, model=order.models[0])


@given(cuts=st.lists(st.integers(0, ROWS), max_size=12), is_overlapped=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_batches_give_the_same_rows(engine: tuple[Order, Scorer], cuts: list[int], *, is_overlapped: bool) -> None:
    """However rows are cut, empty batches too, each comes back once, in its order, with the score that it has alone."""
    edges = [0, *sorted(cuts), ROWS]
    whole = table().combine_chunks().to_batches()[0]
    batches = [whole.slice(start, end - start) for start, end in itertools.pairwise(edges)]
    found = list(score_batches(*engine, batches, where="the rows", is_overlapped=is_overlapped))
    assert [row for part in found for row in part.batch.column("id").to_pylist()] == list(range(ROWS))
    scores = [score for part in found for score in part.columns[0].to_pylist()]
    assert scores == [None if row in BAD else VALUES[row % 4] for row in range(ROWS)]
    reasons = [reason for part in found for reason in part.rejected.to_pylist()]
    assert [row for row, reason in enumerate(reasons) if reason is not None] == list(BAD)
    assert all(reasons[row].startswith("MODEL_FAILED: ") for row in BAD)


@pytest.mark.parametrize("is_overlapped", [True, False])
def test_errors_come_out(engine: tuple[Order, Scorer], *, is_overlapped: bool) -> None:
    """What ends a stream is raised to whoever reads it: a refused row, a wrong column, an error of its source."""
    batches = table().to_batches()
    with pytest.raises(RowsRefused, match=r"the rows: 1 of \d+ rows of a batch have no score, the first one: MODEL"):
        list(score_batches(*engine, batches, where="the rows", on_bad_row="fail", is_overlapped=is_overlapped))
    wrong = [batch.rename_columns(["idx", "id"]) for batch in batches]
    with pytest.raises(ContractError, match="the rows: breaks the input contract: column 'index' is not there"):
        list(score_batches(*engine, wrong, where="the rows", is_overlapped=is_overlapped))

    def failing() -> Any:
        yield batches[0]
        message = "the source is gone"
        raise OSError(message)

    with pytest.raises(OSError, match="the source is gone"):
        list(score_batches(*engine, failing(), where="the rows", is_overlapped=is_overlapped))


def test_no_thread_outlives_an_error_that_is_kept(engine: tuple[Order, Scorer]) -> None:
    """Whoever keeps the error of a refused row keeps no thread with it."""
    with pytest.raises(RowsRefused) as kept:
        list(score_batches(*engine, table().to_batches() * 5, where="the rows", on_bad_row="fail"))
    alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("batchscore-")]
    assert (alive, kept.type) == ([], RowsRefused)


def test_a_model_that_gives_too_few_rows_ends_the_stream(engine: tuple[Order, Scorer]) -> None:
    """Outputs that cannot be told apart are nobody's scores."""
    order, scorer = engine

    short = SimpleNamespace(predict=lambda *_: {"p": np.zeros(1, np.float32)}, device="cpu")
    broken: Any = scorer._replace(runtime=short, sizes={})
    with pytest.raises(InferenceError, match="one value a row is needed"):
        list(score_batches(order, broken, table().to_batches(), where="the rows"))


def test_rows_that_a_filter_leaves_out_are_not_refused(tmp_path: Any) -> None:
    """A table is scored without the rows that the spec filters, and `fail` does not fail for them."""
    spec = LOOKUP_SPEC.replace(
        "outputs:",
        'relational:\n- {id: few, op: filter, params: {keep: {cmp: [index, "<", 4]}}}\noutputs:',
    )
    golden = pa.table({"index": [0, 1], "id": [0, 1]})
    create_bundle(STORE, str(tmp_path / "b"), parts_of(spec, lookup_model(), golden, [P]))
    scored = score_table(table(), tmp_path / "b", on_bad_row="fail")
    assert scored.column("id").to_pylist() == [row for row in range(ROWS) if row not in BAD]
    assert scored.column("p").to_pylist() == [VALUES[row % 4] for row in range(ROWS) if row not in BAD]


def test_a_table_is_pinned_under_its_content(tmp_path: Any) -> None:
    """The same reference tables have the same names wherever they are given, so a worker loads them once."""
    audited = logistic_bundle(tmp_path / "bundle")
    assert pinned_tables(audited, None) == {}
    orders = [stream_order(audited, {"t": data}, ScoreOptions()) for data in (b"1", b"1", b"2")]
    digests = [order.models[0].references["t"] for order in orders]
    assert digests[0] == digests[1] != digests[2]
    assert score_table(numbers(3), audited).num_rows == 3


def test_nothing_falls_back_where_nobody_is_told() -> None:
    """A stream has no record, so the option to fall back to the CPU is refused, with what to ask for."""
    with pytest.raises(ValidationError, match="here, ask for device auto"):
        ScoreOptions(device="cuda", on_missing_gpu="cpu")


@pytest.mark.parametrize("asked", ["rejectt", "Fail", "", None, 0])
def test_a_word_that_means_nothing_is_refused(asked: Any) -> None:
    """What is to happen to bad rows is never guessed: the words that there are are told before anything is read."""
    nothing: Any = None
    with pytest.raises(SpecError, match=r"on_bad_row: there is no .*; give one of 'null', 'drop', 'fail'"):
        score_table(nothing, "nowhere", on_bad_row=asked)
    with pytest.raises(SpecError, match=r"on_bad_row: there is no .*; give one of 'null', 'drop', 'fail'"):
        score(nothing, "nowhere", on_bad_row=asked)
    with pytest.raises(SpecError, match=r"on_bad_row: there is no .*; give one of 'null', 'reason', 'fail'"):
        score_udf("nowhere", on_bad_row=asked)
    with pytest.raises(SpecError, match=r"way: there is no .*; give one of 'auto', 'arrow', 'pandas'"):
        score_udf("nowhere", way=asked)


def test_options_that_are_none_are_refused(tmp_path: Path) -> None:
    """Options as a dict are told what to be."""
    with pytest.raises(TypeError, match=r"give ScoreOptions, as in ScoreOptions\(batch_rows=4096\), and no dict"):
        stream_order(logistic_bundle(tmp_path), {}, {"batch_rows": 4096})  # type: ignore[arg-type]
