"""What the wall clock of a run is made of, in pieces that add up to it.

    run = driver's phases + waiting + Σ phases of the workers + retries + skew + unexplained

Workers come and go, so they are put into *slots*: one begins in the slot of another that had ended. With K slots and
the span from the first split's beginning to the last one's end,

    span = mean(lead) + mean(busy) + mean(gaps) + mean(tail)

over the slots: `lead` until a slot has its first split, `busy` while it has any, `gaps` between splits, and `tail` from
its last split to the end of all. Lead, and gaps before splits of tasks' first tries, are waiting for executors; gaps
before splits of later tries are retries; the tail is skew. `busy` is shared out to the phases by their worker-seconds,
since they overlap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from jobs.record import RunRecord

__all__ = ["Anatomy", "anatomy_of"]

SCORE = "score"


class _Piece(NamedTuple):
    """A split on a worker."""

    worker: tuple[str, int]
    """Host and process id."""
    start: float
    """Seconds since the epoch."""
    end: float
    is_retry: bool
    """Whether Spark had tried its task before."""


class Anatomy(NamedTuple):
    """Where the wall clock of a run went, in seconds; the numbers add up to `seconds`."""

    seconds: float
    rows: int
    """Rows that went into the splits of this try."""
    slots: int
    """Workers at a time; 0 where nothing was scored."""
    driver: dict[str, float]
    """By phase, all but scoring."""
    waiting: float
    """For executors."""
    phases: dict[str, float]
    """By phase of the workers: their share of the time in which a slot was busy."""
    retries: float
    skew: float
    unexplained: float

    @property
    def parts(self) -> dict[str, float]:
        """All of them by name."""
        return {
            **{f"driver: {name}": seconds for name, seconds in self.driver.items()},
            "waiting": self.waiting,
            **self.phases,
            "retries": self.retries,
            "skew": self.skew,
            "unexplained": self.unexplained,
        }


class _Span(NamedTuple):
    """Means over slots."""

    slots: int
    start: float
    length: float
    lead: float
    busy: float
    gaps: float
    retries: float
    tail: float


def anatomy_of(record: RunRecord, tasks: pa.Table) -> Anatomy:
    """Of a run's last try: splits that an earlier one scored are none of it."""
    began = record.started_at
    rows = [row for row in tasks.to_pylist() if row["started_at"] >= began]
    driver = {phase: seconds for phase, seconds in record.wall_seconds.items() if phase != SCORE}
    scoring = record.wall_seconds.get(SCORE, 0.0)
    work: Counter[str] = Counter()
    for row in rows:
        work.update(dict(row["seconds"]))
    span = _span([_piece(row) for row in rows])
    before = min(max(span.start - _scoring_began(record), 0.0), max(scoring - span.length, 0.0)) if span.slots else 0.0
    waiting = before + span.lead + span.gaps
    total = work.total() or 1.0
    phases = {phase: span.busy * seconds / total for phase, seconds in sorted(work.items())}
    known = sum(driver.values()) + waiting + sum(phases.values()) + span.retries + span.tail
    return Anatomy(
        seconds=record.seconds,
        rows=sum(row["rows_in"] for row in rows),
        slots=span.slots,
        driver=driver,
        waiting=waiting,
        phases=phases,
        retries=span.retries,
        skew=span.tail,
        unexplained=record.seconds - known,
    )


def _piece(row: Mapping[str, Any]) -> _Piece:
    # Models are loaded before the first split of a task begins, and told as its work.
    start = row["started_at"].timestamp() - dict(row["seconds"]).get("load", 0.0)
    return _Piece((row["host"], row["pid"]), start, row["ended_at"].timestamp(), row["task_try"] > 0)


def _scoring_began(record: RunRecord) -> float:
    """By the driver's clock, which need not be that of a worker."""
    return next((one.started_at.timestamp() for one in record.timeline if one.phase == SCORE), 0.0)


def _span(pieces: Sequence[_Piece]) -> _Span:
    if not pieces:
        return _Span(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    start, end = min(one.start for one in pieces), max(one.end for one in pieces)
    slots = _slots(pieces)
    count = len(slots)
    busy, gaps, retries = (sum(found) / count for found in zip(*map(_busy_and_gaps, slots), strict=True))
    lead = sum(slot[0].start - start for slot in slots) / count
    tail = sum(end - max(one.end for one in slot) for slot in slots) / count
    return _Span(count, start, end - start, lead, busy, gaps, retries, tail)


def _slots(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Splits by slot, each in order; a worker is in one slot, behind others that had ended when it began."""
    workers: defaultdict[tuple[str, int], list[_Piece]] = defaultdict(list)
    for one in sorted(pieces, key=lambda one: one.start):
        workers[one.worker].append(one)
    slots: list[tuple[float, list[_Piece]]] = []
    for worker, own in workers.items():
        free = [index for index, (ended, slot) in enumerate(slots) if ended <= own[0].start]
        at_home = [index for index in free if slots[index][1][0].worker[0] == worker[0]]
        until = max(one.end for one in own)
        if at_home:
            slots[at_home[0]] = (until, [*slots[at_home[0]][1], *own])
        else:
            slots.append((until, own))
    return [slot for _, slot in slots]


def _busy_and_gaps(slot: Sequence[_Piece]) -> tuple[float, float, float]:
    """Seconds with a split, seconds without one between two, and those before a split that was tried again."""
    busy, gaps, retries = 0.0, 0.0, 0.0
    reached = slot[0].start
    for one in slot:
        if one.start > reached and one.is_retry:
            retries += one.start - reached
        elif one.start > reached:
            gaps += one.start - reached
        busy += max(0.0, one.end - max(one.start, reached))
        reached = max(reached, one.end)
    return busy, gaps, retries
