"""What a run's record says of the workers, in a few lines: what held them up, and what was out of the ordinary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.printable import counted

if TYPE_CHECKING:
    from jobs.display.summary import Facts
    from jobs.record import RunRecord

__all__ = ["engine_facts"]


def engine_facts(record: RunRecord) -> Facts:
    """Name and value of each thing worth telling."""
    facts: Facts = []
    engine, busy = record.engine, sorted(record.busy.items(), key=lambda pair: -pair[1])
    if busy:
        (limit, share), *others = busy
        rest = ", ".join(f"{phase} {part:.0%}" for phase, part in others)
        facts.append(("limit", f"{limit}, busy {share:.0%} of its time{f'; {rest}' if rest else ''}"))
    elif total := sum(record.worker_seconds.values()):
        parts = sorted(record.worker_seconds.items(), key=lambda pair: -pair[1])
        facts.append(
            (
                "time",
                f"{', '.join(f'{name} {part / total:.0%}' for name, part in parts)}; one after the other in a worker",
            )
        )
    if engine.calls:
        sizes = "; ".join(
            f"{f'{name}: ' if name else ''}{' or '.join(f'{rows:,}' for rows in found)} rows"
            for name, found in engine.batch_rows.items()
        )
        memory = f", {engine.out_of_memory:,} of them too large and halved" if engine.out_of_memory else ""
        facts.append(("calls", f"{engine.calls:,} of the model{memory}, with up to {sizes}"))
    by_name = {"models": engine.by_model, "no score": engine.unscored, "not finite": engine.non_finite}
    for told, counts in by_name.items():
        if counts:
            facts.append((told, ", ".join(f"{name} {counted(rows, 'row')}" for name, rows in counts.items())))
    if engine.contained_rows:
        facts.append(
            ("apart", f"{counted(engine.contained_rows, 'row')} in a process of their own, after a worker had died")
        )
    return facts
