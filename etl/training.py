"""What a fitted spec says of the rows it was fitted to: statistics, golden rows, provenance, its own digest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, FiniteFloat, StringConstraints

from etl.documents import Strict
from etl.ops.base import State

__all__ = ["FieldProfile", "GoldenRow", "Integrity", "Provenance"]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hexadecimal SHA-256."""


class FieldProfile(State):
    """One input field over the training rows that no rule rejected."""

    n: int = Field(ge=0, description="Rows.")
    missing: int = Field(ge=0, description="Rows without a value.")
    quantiles: dict[str, FiniteFloat] = Field(
        default={}, description="Numbers: values by probability, e.g. `0.5`, by `inverted_cdf`; without ±inf."
    )
    top: tuple[tuple[str, int], ...] = Field(
        default=(), description="Texts: the most frequent with their rows; none of a field with personal data."
    )


class GoldenRow(Strict):
    """A row and what must become of it. Values as JSON: instants as text, floats in shortest round-trip form, "nan"."""

    given: dict[str, Any] = Field(alias="in", description="The input fields and the columns of relational steps.")
    made: dict[str, Any] = Field(alias="out", description="Every column that a row step makes, by name.")


class Provenance(Strict):
    """Where the state was learned."""

    rows: int = Field(default=0, ge=0, description="Rows of the data.")
    rejected: int = Field(default=0, ge=0, description="Of them, rows that the contract or a step rejected.")
    filtered: int = Field(default=0, ge=0, description="Of them, rows that a filter left out.")
    passes: int = Field(default=0, ge=0, description="Passes over the data.")
    source: str | None = Field(default=None, description="Where the data was, e.g. a URI.")
    source_digest: str | None = Field(default=None, description="Digest of the pinned listing of its files.")
    fitted_by: str | None = Field(default=None, description="Who; given, never guessed.")
    fitted_at: str | None = Field(
        default=None, description="When; given, never guessed, so that a fit can be repeated."
    )
    tool: str | None = Field(default=None, description="Name and version of what fitted it.")
    parent: str | None = Field(default=None, description="Digest of the recipe or spec that it came from.")
    notes: dict[str, str] = Field(default={}, description="Free text.")


class Integrity(Strict):
    """The content's own digest."""

    content_sha256: Sha256 = Field(description="SHA-256 of the canonical JSON without `integrity`.")
