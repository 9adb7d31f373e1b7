"""What is printed fits a terminal, and is whole in a log."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from jobs.display.folding import folded
from jobs.display.history import history_sheet
from jobs.display.summary import Column, Screen, Sheet, rows_sheet
from jobs.monitoring.trend import RunLine
from jobs.record import RunState
from tests.jobs.nights import night

LINES = [
    RunLine.of_record(
        night(
            number,
            run_id=f"flights-20261121t0606{number}1-2c4f",
            state=state,
            seconds=4_000.0,
            rows=123_456_789,
            quarantined=77,
        )
    )
    for number, state in enumerate((RunState.SUCCEEDED, RunState.PARTIALLY_SUCCEEDED))
]


def printed(width: int | None, *, show: str, value: object) -> list[str]:
    """Lines that a method of a screen prints: a terminal of that width, or a log where it is None."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=width is not None, width=width or 80, color_system=None, highlight=False)
    getattr(Screen(console), show)(value)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_history_fits_a_terminal(width: int) -> None:
    """A table of runs has no line wider than the terminal, one line a run, and says which columns it leaves out."""
    lines = printed(width, show="sheet", value=history_sheet(LINES))
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 2 + len(LINES) + (width < 160)
    assert LINES[0].run_id in lines[2]
    assert "PARTIAL " in lines[3]


def test_history_in_a_log_has_whole_words() -> None:
    """In a log states stand as they are stored, so that grep finds them, and no line ends in blanks."""
    lines = printed(None, show="sheet", value=history_sheet(LINES))
    assert lines[2].split()[:2] == [LINES[1].run_id, "PARTIALLY_SUCCEEDED"]
    assert "32.4" in lines[1].split()


def test_scores_stay_when_space_is_short() -> None:
    """Of rows that do not fit, the key and the scores stay; stamps go first."""
    columns = {"id": [1], **{f"input_{n}": ["x" * 12] for n in range(6)}, "p": [0.5], "run_id": ["r" * 30]}
    lines = printed(80, show="sheet", value=rows_sheet(pa.table(columns), ["p"]))
    assert lines[0].split() == ["id", "input_0", "input_1", "input_2", "input_3", "p"]
    assert lines[-1] == "left out for want of width: input_4, input_5, run_id"


def test_values_are_shown_short() -> None:
    """Nulls, lists, long texts and floats have a short form."""
    table = pa.table({"a": [None], "b": [[1.0, 2.0, 3.0, 4.0]], "c": ["x" * 100], "d": [0.123456789]}).cast(
        pa.schema([("a", pa.int64()), ("b", pa.list_(pa.float32())), ("c", pa.string()), ("d", pa.float64())])
    )
    (row,) = rows_sheet(table, []).rows
    assert row == ("null", "[1, 2, 3, …]", "x" * 39 + "…", "0.123457")


def test_facts_are_two_columns_or_lines() -> None:
    """A fact is a label and a folded value on a terminal, and one whole greppable line in a log."""
    path = "/data/" + "long/" * 30
    facts = [("state", "SUCCEEDED"), ("predictions", path)]
    terminal, log = (printed(width, show="facts", value=facts) for width in (80, None))
    assert max(map(cell_len, terminal)) <= 80
    assert "".join(line.removeprefix("predictions").strip() for line in terminal[1:]) == path
    assert log == ["state: SUCCEEDED", f"predictions: {path}"]


def test_commands_to_try_can_be_copied() -> None:
    """A command stands whole on a line of its own, however narrow the terminal, so that it can be copied."""
    command = "batchscore results " + "x" * 100
    steps = [("look at predictions", command)]
    out = io.StringIO()
    Screen(Console(file=out, force_terminal=True, width=40, color_system=None)).next_steps(steps)
    assert f"\n  {command}\n" in out.getvalue()
    assert printed(None, show="next_steps", value=steps) == [f"next: {command}  # look at predictions"]


def test_a_long_path_is_folded_behind_its_dividers() -> None:
    """No name of a path is cut in two where it fits a line; one that does not is cut where the line ends."""
    text = "demo/data/flights-2026.parquet, demo/data/planes.parquet and others"
    assert folded(text, 24) == ["demo/data/flights-", "2026.parquet,", "demo/data/planes.parquet", "and others"]
    assert folded("abcdefgh ij", 4) == ["abcd", "efgh", "ij"]
    sheet = Sheet((Column("run"), Column("input", "fold")), [("x", "demo/data/flights/planes.parquet, demo/b.parquet")])
    lines = printed(30, show="sheet", value=sheet)
    assert [line.split()[-1] for line in lines[2:]] == ["demo/data/flights/", "planes.parquet,", "demo/b.parquet"]


@given(st.text("ab/,- ", max_size=60), st.integers(1, 30))
def test_folding_loses_nothing(text: str, width: int) -> None:
    """All characters but the spaces at which lines end are there in their order, and no line is too long."""
    lines = folded(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(map(len, lines)) <= width


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=30)


@given(st.lists(st.tuples(TEXT, st.integers(0, 5)), min_size=1, max_size=8), st.data())
def test_any_table_fits_and_loses_no_row(heads: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whatever a table holds, brackets and wide letters too, no line of it is wider than the terminal."""
    columns = tuple(Column(name, rank=rank) for name, rank in heads)
    rows = data.draw(st.lists(st.tuples(*[TEXT] * len(columns)), max_size=4))
    lines = printed(80, show="sheet", value=Sheet(columns, rows))
    table = [line for line in lines if not line.startswith("left out")]
    assert max(map(cell_len, table), default=0) <= 80
    log = printed(None, show="sheet", value=Sheet(columns, rows))
    assert len(log) - log[-1].startswith("left out") == 1 + len(rows)
