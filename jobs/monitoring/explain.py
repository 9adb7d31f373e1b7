"""Why a run took longer than another one, in parts that add up to the difference.

With R rows, K slots and s worker-seconds a row of a phase, a phase takes R·s/K of the wall clock. From run A to run B

    R_B·s_B/K_B − R_A·s_A/K_A = (R_B − R_A)·s_A/K_A  +  R_B·(s_B − s_A)/K_A  +  R_B·s_B·(1/K_B − 1/K_A)
                                     more rows              slower phase             fewer workers

and the other pieces of a run's anatomy are compared as they are; so is what each worker does once, whatever its rows:
to load the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jobs.monitoring.anatomy import Anatomy

__all__ = ["Part", "explain"]

_FIXED = ("waiting", "retries", "skew", "unexplained")
_ONCE = "load"
_CAUSES = {"rows": ("more rows", "fewer rows"), "workers": ("fewer workers", "more workers")}
"""Of what made a run longer, and shorter."""
_TOLD = {"waiting": "waiting for executors"}


class Part(NamedTuple):
    """A cause of a difference."""

    name: str
    before: float | None
    """Seconds of the wall clock in the run that is compared with; None where it is no piece of a run."""
    now: float | None
    """In this run."""
    change: float
    """Seconds by which this made the run longer."""

    @property
    def cause(self) -> str:
        """In words, which say whether it made the run longer."""
        if self.name in _FIXED or self.name.startswith("driver: "):
            return _TOLD.get(self.name, self.name)
        longer, shorter = _CAUSES.get(self.name, (f"slower {self.name}", f"faster {self.name}"))
        return longer if self.change >= 0 else shorter


def explain(before: Anatomy, now: Anatomy) -> list[Part]:
    """The parts, the largest change first; they sum up to `now.seconds - before.seconds`."""
    old, new = before.parts, now.parts
    names = dict.fromkeys([*before.driver, *now.driver])
    parts = [_plain(f"driver: {name}", old, new) for name in names]
    parts += [_plain(name, old, new) for name in _FIXED]
    rows, workers = 0.0, 0.0
    for phase in dict.fromkeys([*before.phases, *now.phases]):
        then, here = before.phases.get(phase, 0.0), now.phases.get(phase, 0.0)
        if phase == _ONCE:
            parts.append(Part(phase, then, here, here - then))
            continue
        # Worker-seconds of a row, whatever the number of workers.
        cost_then = then * before.slots / (before.rows or 1)
        cost_here = here * now.slots / (now.rows or 1)
        if before.slots and now.slots and before.rows and now.rows:
            rows += (now.rows - before.rows) * cost_then / before.slots
            workers += now.rows * cost_here * (1 / now.slots - 1 / before.slots)
            slower = now.rows * (cost_here - cost_then) / before.slots
        else:
            slower = here - then
        parts.append(Part(phase, then, here, slower))
    parts += [Part("rows", None, None, rows), Part("workers", None, None, workers)]
    return sorted(parts, key=lambda part: -abs(part.change))


def _plain(name: str, old: dict[str, float], new: dict[str, float]) -> Part:
    then, here = old.get(name, 0.0), new.get(name, 0.0)
    return Part(name, then, here, here - then)
