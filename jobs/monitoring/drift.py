"""How far the columns of a run have moved, and which of them too far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field, FiniteFloat

from etl.documents import Document, Strict
from etl.sketches.measures import Measure, Numbers, measure, portrait_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from etl.sketches.counting import Counts
    from etl.sketches.measures import Portrait, Texts
    from etl.sketches.sketch import Sketch

__all__ = ["ColumnFacts", "DriftCost", "DriftFacts", "DriftReport", "DriftValue", "column_facts", "drift_values"]

_PROBABILITIES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_FEW = 10


class DriftValue(Strict):
    """A measure of a column, against one of the things that it is compared with."""

    column: str
    measure: Measure
    reference: str = Field(description="`training`, `previous` or `baseline`.")
    value: FiniteFloat = Field(ge=0)
    error: FiniteFloat = Field(ge=0, description="By how much samples may put it off, with 95 % confidence; 0: exact.")
    limit: FiniteFloat | None = Field(
        default=None, description="The limit that it is beyond, or else the lowest one that it has; None without any."
    )
    verdict: Literal["ok", "warn", "fail"] = Field(description="`ok` also where there is no limit.")

    def __str__(self) -> str:
        """A sentence."""
        off = f" ± {self.error:.2g}" if self.error else ""
        beyond = "" if self.verdict == "ok" else f", above {self.limit:g}"
        return f"drift of {self.column!r}: {self.measure} is {self.value:.4g}{off} against {self.reference}{beyond}"


class ColumnFacts(Strict):
    """What is known of a column of the run."""

    rows: int = Field(ge=0, description="Published rows.")
    missing: int = Field(ge=0, description="Of them, those without a value: null or NaN.")
    least: FiniteFloat | None = Field(default=None, description="Of all numbers; None of texts, and where infinite.")
    most: FiniteFloat | None = Field(default=None, description="As least.")
    quantiles: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="Of the sample's numbers, by probability, by `inverted_cdf`; without ±inf."
    )
    top: tuple[tuple[str, float], ...] = Field(
        default=(), description="The most frequent texts of the sample, with their share of its rows with a value."
    )


class DriftCost(Strict):
    """What it took."""

    worker_seconds: float = Field(ge=0, description="Of all workers, for sketches.")
    worker_share: float = Field(ge=0, le=1, description="Of all that the workers did.")
    driver_seconds: float = Field(ge=0, description="To merge and to compare.")


class DriftFacts(Strict):
    """What the record tells of drift."""

    measured: int = Field(default=0, ge=0, description="Values that were measured; all are in the run's `drift.json`.")
    beyond: tuple[DriftValue, ...] = Field(default=(), description="Those beyond a limit, the worst first.")
    notes: tuple[str, ...] = Field(default=(), description="What could not be compared, and why.")
    cost: DriftCost | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each value that holds the run back."""
        return tuple(str(found) for found in self.beyond if found.verdict == "fail")


class DriftReport(Document):
    """All that was measured of a run."""

    format: Literal["batchscore.drift/1"] = "batchscore.drift/1"
    run_id: str
    measured_at: AwareDatetime
    rows: int = Field(ge=0, description="Published rows that were sketched.")
    sampled: int = Field(ge=0, description="Of them, those of the sample.")
    columns: dict[str, ColumnFacts]
    references: dict[str, str] = Field(description="What was compared with, by its name.")
    values: tuple[DriftValue, ...]
    notes: tuple[str, ...] = Field(default=(), description="What could not be compared, and why.")
    cost: DriftCost

    @property
    def facts(self) -> DriftFacts:
        """For the record."""
        beyond = tuple(found for found in self.worst_first if found.verdict != "ok")
        return DriftFacts(measured=len(self.values), beyond=beyond, notes=self.notes, cost=self.cost)

    @property
    def worst_first(self) -> list[DriftValue]:
        """The values: what fails, what is warned of, and the others, each by how far it is beyond its limit."""
        severity = {"fail": 0, "warn": 1, "ok": 2}
        return sorted(
            self.values,
            key=lambda found: (severity[found.verdict], -found.value / (found.limit or found.value or 1)),
        )


def drift_values(
    sketch: Sketch,
    references: Mapping[str, Mapping[str, Portrait]],
    limit: Callable[[Literal["warn", "fail"], str, str], float | None],
) -> tuple[list[DriftValue], list[str]]:
    """Each measure of each column against each reference that has it; and what cannot be compared.

    `limit` tells what a measure of a column may be before the run is warned of, or fails.
    """
    values, notes = [], []
    now = {name: portrait_of(sketch, name) for name in sketch.kinds}
    for reference, columns in references.items():
        for name, before in columns.items():
            if name not in now:
                continue
            try:
                found = measure(now[name], before)
            except TypeError as error:
                notes.append(f"{name!r} {error}, now and in {reference}")
                continue
            for one in found:
                warn, fail = (limit(severity, name, one.measure) for severity in ("warn", "fail"))
                verdict, beyond = _judged(one.value, warn, fail)
                values.append(
                    DriftValue(
                        column=name,
                        measure=one.measure,
                        reference=reference,
                        value=one.value,
                        error=one.error,
                        limit=beyond,
                        verdict=verdict,
                    )
                )
    return values, notes


def _judged(value: float, warn: float | None, fail: float | None) -> tuple[Literal["ok", "warn", "fail"], float | None]:
    """The verdict, and the limit that tells it."""
    if fail is not None and value > fail:
        return "fail", fail
    if warn is not None and value > warn:
        return "warn", warn
    return "ok", min((limit for limit in (warn, fail) if limit is not None), default=None)


def column_facts(sketch: Sketch) -> dict[str, ColumnFacts]:
    """What is known of each column of a sketch."""
    return {name: _facts(counts, portrait_of(sketch, name)) for name, counts in sketch.counts.items()}


def _facts(counts: Counts, portrait: Numbers | Texts) -> ColumnFacts:
    told = ColumnFacts(rows=counts.rows, missing=counts.missing, least=_finite(counts.least), most=_finite(counts.most))
    if isinstance(portrait, Numbers):
        return told.model_copy(update={"quantiles": dict(_quantiles(portrait.values))})
    rows = sum(portrait.counts.values())
    top = [(text, count / rows) for text, count in list(portrait.counts.items())[:_FEW]]
    return told.model_copy(update={"top": tuple(top)})


def _quantiles(values: npt.NDArray[np.float64]) -> Iterable[tuple[str, float]]:
    if values.size:
        for probability in _PROBABILITIES:
            found = float(values[math.ceil(probability * values.size) - 1])
            if math.isfinite(found):
                yield f"{probability:g}", found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
