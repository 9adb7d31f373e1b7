"""Config of what is measured of a run's columns, and of what is too far."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from etl.documents import Strict
from etl.redaction import Uri

__all__ = ["ColumnLimits", "DriftSettings", "Limits", "Reference"]

Reference = Literal["training", "previous"]
"""`training`: the profile of the rows that the model's spec was fitted to. `previous`: the job's last published run."""
Limit = Annotated[FiniteFloat, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
"""What is measured is never above 1, so that a limit of 5, meant as percent, would always hold."""


class Limits(Strict):
    """Values that are still good, by measure; null: any value is. The measures are told in `etl.sketches.measures`."""

    psi: Limit | None = None
    jensen_shannon: Share | None = None
    ks: Share | None = None
    null_rate: Share | None = None
    out_of_vocabulary: Share | None = None


class ColumnLimits(Strict):
    """Limits of one column, each in the place of that of all columns."""

    warn: Limits = Limits()
    fail: Limits = Limits()


class DriftSettings(Strict):
    """What is noted of the rows that are published, what it is compared with, and what is too far."""

    columns: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None,
        min_length=1,
        description="Published columns, input fields, or columns that steps make; of one of several models "
        "`<model>.<column>`. Numbers, bools and texts, no personal data. Default: what is published of the models, and "
        "the input fields that they read.",
    )
    reference: tuple[Reference, ...] = Field(default=("training", "previous"), description="What is compared with.")
    baseline: Uri | None = Field(
        default=None,
        min_length=1,
        description="One more thing to compare with: the id of a run in the same output, or the URI of the sketch of a "
        "run, `…/sketch.arrow`.",
    )
    rows: int = Field(
        default=8192, ge=1000, le=1_000_000, description="Rows of the sample that all but counts are read off."
    )
    warn: Limits = Field(
        default=Limits(psi=0.2, null_rate=0.05, out_of_vocabulary=0.05), description="Beyond it the run is told of."
    )
    fail: Limits = Field(default=Limits(), description="Beyond it the run is held back.")
    by_column: dict[str, ColumnLimits] = Field(default_factory=dict, description="Limits of single columns.")

    def limit(self, severity: Literal["warn", "fail"], column: str, measure: str) -> float | None:
        """What a measure of a column may be; None where it may be anything."""
        own = self.by_column.get(column, ColumnLimits())
        limits: Limits = getattr(own, severity)
        if measure not in limits.model_fields_set:
            limits = getattr(self, severity)
        found: float | None = getattr(limits, measure)
        return found
