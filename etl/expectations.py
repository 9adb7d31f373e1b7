"""What must hold of rows, and of shares over all rows of a run; with what happens where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, FiniteFloat, Tag

from etl.documents import Strict
from etl.ops.base import Name, StepId
from etl.ops.conditions import AnyCondition, Operator
from etl.problems import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.types import Schema

__all__ = ["AnyExpectation", "BatchExpectation", "RowExpectation", "expectation_problems"]


class RowExpectation(Strict):
    """A condition on each row."""

    id: StepId = Field(description="Name, unique among the expectations.")
    row: AnyCondition = Field(description="What must be true.")
    severity: Literal["warn", "quarantine", "fail"] = Field(
        description="Rows for which it is false are counted, set aside, or end the run."
    )
    doc: str | None = Field(default=None, description="Why, for the reader of the spec.")


class BatchExpectation(Strict):
    """A bound on a share of all rows of a run, those that are rejected or filtered left out."""

    id: StepId = Field(description="Name, unique among the expectations.")
    batch: AnyShare = Field(description="Which share, and its bound.")
    severity: Literal["warn", "fail"] = Field(description="It is recorded, or the run is held back.")
    doc: str | None = Field(default=None, description="Why, for the reader of the spec.")


class NullShare(Strict):
    """`[column, operator, bound]`: rows in which the column is missing."""

    null_share: tuple[Name, Operator, FiniteFloat]


class InSetShare(Strict):
    """`[column, [values], operator, bound]`: rows whose value is one of these."""

    in_set_share: tuple[Name, tuple[str | int, ...], Operator, FiniteFloat]


class RowShare(Strict):
    """`[condition, operator, bound]`: rows for which a condition is true."""

    row_share: tuple[AnyCondition, Operator, FiniteFloat]


class OovShare(Strict):
    """`[column, operator, bound]`: ids, padding left out, that stand for unknown categories or tokens."""

    oov_share: tuple[Name, Operator, FiniteFloat]


class TruncatedShare(Strict):
    """`[column, operator, bound]`: rows of token ids that had more tokens than fit."""

    truncated_share: tuple[Name, Operator, FiniteFloat]


class Unique(Strict):
    """No two rows have the same values in these columns."""

    unique: tuple[Name, ...] = Field(min_length=1)


_SHARES: dict[str, type[Strict]] = {
    "null_share": NullShare,
    "in_set_share": InSetShare,
    "row_share": RowShare,
    "oov_share": OovShare,
    "truncated_share": TruncatedShare,
    "unique": Unique,
}


def _key(value: Any) -> str | None:
    if isinstance(value, dict):
        known = [key for key in value if key in _SHARES]
        return known[0] if known else str(next(iter(value), "nothing"))
    return next((key for key, kind in _SHARES.items() if isinstance(value, kind)), None)


AnyShare = Annotated[
    Annotated[NullShare, Tag("null_share")]
    | Annotated[InSetShare, Tag("in_set_share")]
    | Annotated[RowShare, Tag("row_share")]
    | Annotated[OovShare, Tag("oov_share")]
    | Annotated[TruncatedShare, Tag("truncated_share")]
    | Annotated[Unique, Tag("unique")],
    Discriminator(_key),
]
"""Any share."""


def _form(value: Any) -> str:
    has_row = "row" in value if isinstance(value, dict) else isinstance(value, RowExpectation)
    return "row" if has_row else "batch"


BatchExpectation.model_rebuild()
AnyExpectation = Annotated[
    Annotated[RowExpectation, Tag("row")] | Annotated[BatchExpectation, Tag("batch")], Discriminator(_form)
]
"""Any expectation."""


def expectation_problems(expectations: Sequence[AnyExpectation], schema: Schema) -> list[Problem]:
    """Everything that does not fit the columns that there are behind the last step."""
    problems: list[Problem] = []
    for index, expectation in enumerate(expectations):
        pointer = f"/expectations/{index}"
        if any(expectation.id == earlier.id for earlier in expectations[:index]):
            problems.append(Problem(f"{pointer}/id", f"id {expectation.id!r} is used before.", "E-DUP-OUTPUT"))
        if isinstance(expectation, RowExpectation):
            found = expectation.row.problems(schema)
            problems.extend(Problem(f"{pointer}/row", f"{problem}.", "E-NO-COLUMN") for problem in found)
            continue
        for name in _columns(expectation):
            if name not in schema:
                message = f"column {name!r} is made by no step.{nearest(name, schema)}"
                problems.append(Problem(f"{pointer}/batch", message, "E-NO-COLUMN"))
    return problems


def _columns(expectation: BatchExpectation) -> tuple[str, ...]:
    share = expectation.batch
    if isinstance(share, Unique):
        return share.unique
    if isinstance(share, RowShare):
        return share.row_share[0].columns
    (first, *_) = next(iter(share.model_dump().values()))
    return (str(first),)
