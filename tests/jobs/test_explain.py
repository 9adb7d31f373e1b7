"""Why a run took longer: the parts add up, and what was planted is what is named."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.monitoring.anatomy import anatomy_of
from jobs.monitoring.explain import explain
from jobs.monitoring.tasks import TASKS
from jobs.record import Stretch, wall_seconds
from tests.jobs.nights import FIRST, night

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.monitoring.anatomy import Anatomy
    from jobs.record import RunRecord

DRIVER = {"list": 1.0, "plan": 2.0, "start_spark": 6.0}
"""Seconds before scoring; publication is 4."""


def task(
    worker: int, start: float, end: float, *, seconds: dict[str, float], rows: int, tries: int = 0
) -> dict[str, Any]:
    """A split's line, in seconds after the beginning of the run."""
    return {
        "run_id": "night-00",
        "split": 0,
        "attempt": "a",
        "files": ["/in/part.parquet"],
        "host": f"host-{worker % 2}",
        "pid": worker,
        "provider": "CPUExecutionProvider",
        "task_try": tries,
        "started_at": FIRST + timedelta(seconds=start),
        "ended_at": FIRST + timedelta(seconds=end),
        "rows_in": rows,
        "scored": rows,
        "quarantined": 0,
        "filtered": 0,
        "bytes_read": 1,
        "bytes_written": 1,
        "peak_rss_bytes": 1,
        "seconds": list(seconds.items()),
        "waiting": [],
    }


def schedule(
    *,
    splits: int = 40,
    workers: int = 4,
    rows: int = 100_000,
    read: float = 2.0,
    infer: float = 8.0,
    start: float = 3.0,
    slow_split: float = 0.0,
    retried_after: float = 0.0,
    plan: float = 2.0,
    load: float = 0.0,
) -> Anatomy:
    """The anatomy of a run whose splits are dealt out to workers in turn; seconds of a split and of what goes wrong."""
    began = sum(DRIVER.values()) - 2.0 + plan
    free = [began + start] * workers
    tasks = []
    for split in range(splits):
        worker = free.index(min(free))
        extra = slow_split if split == splits - 1 else 0.0
        lost = retried_after if split == splits // 2 else 0.0
        # To load is told as work of a worker's first split, and ends where that begins.
        loads = load if split < workers else 0.0
        begin = free[worker] + lost + loads
        free[worker] = begin + read + infer + extra
        spent = {"read": read, "infer": infer + extra, **({"load": loads} if load else {})}
        tasks.append(task(worker, begin, free[worker], seconds=spent, rows=rows, tries=int(lost > 0)))
    return anatomy_of(*told(tasks, {**DRIVER, "plan": plan}, began=began, end=max(free)))


def told(
    tasks: Sequence[dict[str, Any]], driver: dict[str, float], *, began: float, end: float
) -> tuple[RunRecord, pa.Table]:
    """A record and a table of tasks: the driver's phases, scoring until `end`, and four seconds of publication."""
    phases = {**driver, "score": end - began, "publish": 4.0}
    timeline, at = [], FIRST
    for phase, seconds in phases.items():
        timeline.append(Stretch(phase=phase, started_at=at, seconds=seconds))
        at += timedelta(seconds=seconds)
    record = night(
        0, seconds=(at - FIRST).total_seconds(), timeline=tuple(timeline), wall_seconds=wall_seconds(timeline)
    )
    return record, pa.Table.from_pylist(list(tasks), TASKS)


def largest(before: Anatomy, now: Anatomy) -> str:
    """The part that changed most."""
    return explain(before, now)[0].name


def test_a_schedule_has_the_anatomy_that_was_planted() -> None:
    """Forty splits of ten seconds on four workers are ten rounds, a fifth of it reading; waiting is as planted."""
    found = schedule()
    assert (found.slots, found.rows) == (4, 4_000_000)
    assert found.waiting == pytest.approx(3.0)
    assert found.phases == pytest.approx({"read": 20.0, "infer": 80.0})
    assert (found.skew, found.retries, found.unexplained) == pytest.approx((0.0, 0.0, 0.0), abs=1e-5)
    assert found.seconds == pytest.approx(9.0 + 3.0 + 100.0 + 4.0)


@pytest.mark.parametrize(
    ("cause", "planted", "seconds"),
    [
        ("rows", {"splits": 80}, 100.0),
        ("rows", {"splits": 20}, -50.0),
        ("read", {"read": 4.0}, 20.0),
        ("infer", {"infer": 12.0}, 40.0),
        ("infer", {"infer": 4.0}, -40.0),
        ("workers", {"workers": 2}, 100.0),
        ("workers", {"workers": 8}, -50.0),
        ("waiting", {"start": 60.0}, 57.0),
        ("skew", {"slow_split": 60.0}, 45.0),
        ("retries", {"retried_after": 200.0}, 50.0),
        ("driver: plan", {"plan": 90.0}, 88.0),
    ],
)
def test_the_planted_cause_is_the_largest_part(cause: str, planted: dict[str, Any], seconds: float) -> None:
    """One cause that is planted is the largest part, with its seconds as worked out by hand, and all parts add up."""
    before, now = schedule(), schedule(**planted)
    parts = explain(before, now)
    found = {part.name: part.change for part in parts}
    assert sum(found.values()) == pytest.approx(now.seconds - before.seconds)
    assert abs(found["unexplained"]) <= 0.02 * abs(now.seconds - before.seconds)
    assert found[cause] == pytest.approx(seconds, rel=0.02)
    if cause != "retries":  # the others wait for who tries again, which is the larger part
        assert parts[0].name == cause


@pytest.mark.parametrize(
    ("planted", "seconds", "words"),
    [
        ({"splits": 240, "load": 7.0}, {"rows": 500.0, "load": 4.0}, {"more rows", "slower load"}),
        ({"splits": 20, "load": 1.0}, {"rows": -50.0, "load": -2.0}, {"fewer rows", "faster load"}),
        ({"workers": 8, "load": 3.0}, {"workers": -50.0}, {"more workers"}),
        ({"infer": 4.0, "load": 3.0}, {"infer": -40.0}, {"faster infer"}),
    ],
)
def test_what_a_worker_does_once_does_not_grow_with_rows(
    planted: dict[str, Any], seconds: dict[str, float], words: set[str]
) -> None:
    """Each worker loads for three seconds before; with other rows and workers all that load adds is by how much longer
    a worker loads, and the cause says which way it went.
    """  # noqa: D205  one sentence
    before, now = schedule(load=3.0), schedule(**planted)
    parts = explain(before, now)
    assert before.phases["load"] == pytest.approx(3.0)
    assert sum(part.change for part in parts) == pytest.approx(now.seconds - before.seconds)
    found = {part.name: part for part in parts if abs(part.change) > 0.01}
    assert {name: part.change for name, part in found.items()} == pytest.approx(seconds, rel=0.001)
    assert {part.cause for part in found.values()} == words


causes = st.fixed_dictionaries(
    {
        "splits": st.integers(1, 60),
        "workers": st.integers(1, 8),
        "rows": st.integers(0, 10**7),
        "read": st.floats(0.01, 20),
        "infer": st.floats(0.01, 20),
        "start": st.floats(0, 60),
        "slow_split": st.floats(0, 100),
        "retried_after": st.floats(0, 100),
        "plan": st.floats(0, 100),
        "load": st.floats(0, 10),
    }
)


@given(causes, causes)
def test_the_parts_add_up(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Whatever two runs were like, their pieces add up to them, and the parts to what differs."""
    old, new = schedule(**before), schedule(**now)
    for one in (old, new):
        assert sum(one.parts.values()) == pytest.approx(one.seconds)
        assert one.unexplained == pytest.approx(0.0, abs=0.01)
        assert all(seconds >= -0.01 for seconds in one.parts.values())
    assert sum(part.change for part in explain(old, new)) == pytest.approx(new.seconds - old.seconds, abs=1e-6)


def test_workers_that_follow_one_another_share_a_slot() -> None:
    """A worker that begins where another of its host had ended is no second one at a time, and the gap is waiting."""
    tasks = [
        task(0, 12.0, 20.0, seconds={"infer": 8.0}, rows=1),
        task(2, 25.0, 30.0, seconds={"infer": 5.0}, rows=1),
        task(1, 12.0, 30.0, seconds={"infer": 18.0}, rows=1),
    ]
    found = anatomy_of(*told(tasks, DRIVER, began=9.0, end=30.0))
    assert found.slots == 2
    assert found.phases == pytest.approx({"infer": 15.5})
    assert found.waiting == pytest.approx(3.0 + 2.5)


def test_what_an_earlier_try_scored_is_none_of_it() -> None:
    """Of a run that was begun again only the splits of the last try are told."""
    tasks = [
        task(0, -50.0, -20.0, seconds={"infer": 30.0}, rows=7),
        task(1, 12.0, 30.0, seconds={"infer": 18.0}, rows=1),
    ]
    found = anatomy_of(*told(tasks, DRIVER, began=9.0, end=30.0))
    assert found.rows == 1
    assert found.phases == pytest.approx({"infer": 18.0})


def test_a_run_that_scored_nothing_has_its_driver_alone() -> None:
    """Where no split has a receipt, the seconds of scoring are told as unexplained."""
    found = anatomy_of(*told([], DRIVER, began=9.0, end=30.0))
    assert (found.slots, found.phases) == (0, {})
    assert found.unexplained == pytest.approx(21.0)
    assert sum(part.change for part in explain(found, schedule())) == pytest.approx(schedule().seconds - found.seconds)
