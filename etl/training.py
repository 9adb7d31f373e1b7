"""What a fitted spec says of the rows it was fitted to: statistics, golden rows, provenance, its own digest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from etl.documents import Strict
from etl.format.positions import escape
from etl.format.problems import Problem, nearest
from etl.format.wording import kind_of
from etl.ops.base import State
from etl.plain import array_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from etl.types import ColumnType, Schema

__all__ = ["FieldProfile", "GoldenRow", "Integrity", "Provenance", "golden_problems", "reference_problems"]

_PROBABILITY = re.compile(r"0(?:\.[0-9]+)?|1(?:\.0+)?")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hexadecimal SHA-256."""


class FieldProfile(State):
    """One input field over the training rows that no rule rejected."""

    n: int = Field(ge=0, description="Rows.")
    missing: int = Field(ge=0, description="Rows without a value.")
    quantiles: dict[str, FiniteFloat] = Field(
        default={}, description="Numbers: values by probability, e.g. `0.5`, by `inverted_cdf`; without ±inf."
    )
    top: tuple[tuple[str, Annotated[int, Field(ge=1)]], ...] = Field(
        default=(), description="Texts: the most frequent with their rows; none of a field with personal data."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> FieldProfile:
        for problem in self._contradictions():
            raise ValueError(problem)
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.missing > self.n:
            yield f"has {self.missing} missing rows of {self.n}"
        if sum(rows for _, rows in self.top) > self.n - self.missing:
            yield f"has more rows in top than the {self.n - self.missing} that are not missing"
        if len({text for text, _ in self.top}) < len(self.top):
            yield "has a text twice in top"
        if not all(_PROBABILITY.fullmatch(key) for key in self.quantiles):
            yield "has a quantile whose key is no probability, such as 0.5"
            return
        values = [value for _, value in sorted((float(key), value) for key, value in self.quantiles.items())]
        if values != sorted(values):
            yield "has quantiles that fall while their probabilities rise"


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

    @model_validator(mode="after")
    def _adds_up(self) -> Provenance:
        if self.rejected + self.filtered > self.rows > 0:
            message = f"has {self.rejected} rejected and {self.filtered} filtered rows of {self.rows}"
            raise ValueError(message)
        return self


class Integrity(Strict):
    """The content's own digest."""

    content_sha256: Sha256 = Field(description="SHA-256 of the canonical JSON without `integrity`.")


def reference_problems(reference: Mapping[str, FieldProfile], fields: Collection[str]) -> list[Problem]:
    """Statistics of what is no input field."""
    return [
        Problem(f"/reference/{escape(name)}", f"{name!r} is no input field.{nearest(name, fields)}", "E-NO-COLUMN")
        for name in reference
        if name not in fields
    ]


def golden_problems(golden: Sequence[GoldenRow], given: Schema, made: Collection[str]) -> list[Problem]:
    """Golden rows with columns that are not the spec's (`given` to the row steps, `made` by them), or with values that
    no such column can hold.
    """  # noqa: D205  one sentence
    problems = []
    for index, row in enumerate(golden):
        for part, values, known in (("in", row.given, given), ("out", row.made, made)):
            for name in values:
                if name not in known:
                    message = f"column {name!r} is none of the spec's that stand here.{nearest(name, known)}"
                    problems.append(Problem(f"/golden/{index}/{part}/{escape(name)}", message, "E-NO-COLUMN"))
    for name, kind in given.items():
        for index, value in _misfits({index: row.given.get(name) for index, row in enumerate(golden)}, kind):
            message = f"column {name!r} is {kind}, which has no such value, found {kind_of(value)}."
            problems.append(Problem(f"/golden/{index}/in/{escape(name)}", message))
    return problems


def _misfits(values: Mapping[int, Any], kind: ColumnType) -> list[tuple[int, Any]]:
    if _are(list(values.values()), kind):
        return []
    return [(index, value) for index, value in values.items() if not _are([value], kind)]


def _are(values: list[Any], kind: ColumnType) -> bool:
    """Whether JSON values are values of a column type."""
    form = {"vector": list, "list": list, "struct": dict}.get(kind.kind)
    if form is not None and not all(value is None or isinstance(value, form) for value in values):
        return False
    try:
        with np.errstate(over="ignore"):
            array_of(values, kind)
    except ValueError:
        return False
    return True
