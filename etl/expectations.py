"""What must hold of rows, and of shares over all rows of a run; with what happens where it does not.

A share is hits ÷ rows, rounded once, and compared with its bound as a number. Over no rows at all every bound holds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, FiniteFloat, Tag

from etl.documents import Strict
from etl.format.problems import Problem, nearest
from etl.ops.base import Name, StepId
from etl.ops.comparing import Operator, listing
from etl.ops.conditions import AnyCondition, Condition, In

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from etl.ops.base import RowStep
    from etl.types import Schema

__all__ = [
    "AnyExpectation",
    "BatchExpectation",
    "InSetShare",
    "NullShare",
    "OovShare",
    "RowExpectation",
    "RowShare",
    "TruncatedShare",
    "Unique",
    "expectation_problems",
    "maker_of",
    "unique_columns",
]

_SHARE = BeforeValidator(listing("column", "operator", "bound"))
_SHARE_OF_SET = BeforeValidator(listing("column", "[values]", "operator", "bound"))


class RowExpectation(Strict):
    """A condition on each row behind the last step. Rows that are rejected or filtered already are not looked at.

    Rows that break one teach all the same, whatever the severity: a fit looks at them once all is learned, says how
    many there are, and refuses only where the severity is `fail`. To keep rows from teaching, put the rule into the
    contract.
    """

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

    null_share: Annotated[tuple[Name, Operator, FiniteFloat], _SHARE]


class InSetShare(Strict):
    """`[column, [values], operator, bound]`: rows whose value is one of these; a missing value is none."""

    in_set_share: Annotated[tuple[Name, tuple[str | int, ...], Operator, FiniteFloat], _SHARE_OF_SET]

    @functools.cached_property
    def condition(self) -> Condition:
        """What is true of a row that counts."""
        return In.model_validate({"in": self.in_set_share[:2]})


class RowShare(Strict):
    """`[condition, operator, bound]`: rows for which a condition is true."""

    row_share: tuple[AnyCondition, Operator, FiniteFloat]

    @property
    def condition(self) -> Condition:
        """What is true of a row that counts."""
        return self.row_share[0]


class OovShare(Strict):
    """`[column, operator, bound]`: ids, padding left out, that stand for unknown categories or tokens."""

    oov_share: Annotated[tuple[Name, Operator, FiniteFloat], _SHARE]


class TruncatedShare(Strict):
    """`[column, operator, bound]`: rows of token ids that had more tokens than fit."""

    truncated_share: Annotated[tuple[Name, Operator, FiniteFloat], _SHARE]


class Unique(Strict):
    """No two rows have the same values in these columns, which steps may have made. Two missing values are the same,
    and so are 0.0 and −0.0, and where NaN is a value, any two NaN. Counted are all rows but the first of each key.

    In a job, workers write a digest of each row's key (`etl.keys`), which are counted before the run is published.
    """  # noqa: D205  one sentence each

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
        return f"{known[0]}{_TAG}" if known else str(next(iter(value), "nothing"))
    return next((f"{key}{_TAG}" for key, kind in _SHARES.items() if isinstance(value, kind)), None)


_TAG = " "
"""Behind each key: pydantic puts the tag into the place of an error, where it must not be taken for a key."""

AnyShare = Annotated[
    Annotated[NullShare, Tag(f"null_share{_TAG}")]
    | Annotated[InSetShare, Tag(f"in_set_share{_TAG}")]
    | Annotated[RowShare, Tag(f"row_share{_TAG}")]
    | Annotated[OovShare, Tag(f"oov_share{_TAG}")]
    | Annotated[TruncatedShare, Tag(f"truncated_share{_TAG}")]
    | Annotated[Unique, Tag(f"unique{_TAG}")],
    Discriminator(_key),
]
"""Any share."""


def _form(value: Any) -> str:
    has_row = "row" in value if isinstance(value, dict) else isinstance(value, RowExpectation)
    return f"row{_TAG}" if has_row else f"batch{_TAG}"


BatchExpectation.model_rebuild()
AnyExpectation = Annotated[
    Annotated[RowExpectation, Tag(f"row{_TAG}")] | Annotated[BatchExpectation, Tag(f"batch{_TAG}")],
    Discriminator(_form),
]
"""Any expectation."""


def maker_of(column: str, steps: Sequence[RowStep]) -> RowStep | None:
    """The step that makes a column; None for a column of the input, or of a relational step."""
    return next((step for step in steps if column in step.outputs), None)


def unique_columns(expectations: Sequence[AnyExpectation]) -> dict[str, tuple[str, ...]]:
    """The columns of each `unique` expectation, by its id."""
    return {
        expectation.id: expectation.batch.unique
        for expectation in expectations
        if isinstance(expectation, BatchExpectation) and isinstance(expectation.batch, Unique)
    }


def expectation_problems(
    expectations: Sequence[AnyExpectation], schema: Schema, steps: Sequence[RowStep] = ()
) -> list[Problem]:
    """Everything that does not fit the columns that there are behind the last step, or the steps that made them."""
    problems: list[Problem] = []
    makers = {name: step for step in reversed(steps) for name in step.outputs}
    ids: set[str] = set()
    for index, expectation in enumerate(expectations):
        pointer = f"/expectations/{index}"
        if expectation.id in ids:
            problems.append(Problem(f"{pointer}/id", f"id {expectation.id!r} is used before.", "E-DUP-OUTPUT"))
        ids.add(expectation.id)
        if isinstance(expectation, RowExpectation):
            problems.extend(_condition_problems(expectation.row, f"{pointer}/row", schema))
        elif isinstance(expectation.batch, Unique):
            problems.extend(_unique_problems(expectation.batch, f"{pointer}/batch/unique", schema))
        else:
            problems.extend(_share_problems(expectation.batch, f"{pointer}/batch", schema, makers=makers))
    return problems


def _condition_problems(condition: Condition, place: str, schema: Schema) -> Iterator[Problem]:
    for problem in condition.problems(schema):
        yield problem._replace(pointer=f"{place}{problem.pointer}")


def _unique_problems(share: Unique, place: str, schema: Schema) -> Iterator[Problem]:
    for position, name in enumerate(share.unique):
        if name not in schema:
            yield _absent(name, f"{place}/{position}", schema)
        elif not schema[name].is_scalar:
            yield Problem(f"{place}/{position}", f"column {name!r} is {schema[name]}, unique takes scalars.")


def _share_problems(share: Any, place: str, schema: Schema, *, makers: Mapping[str, RowStep]) -> Iterator[Problem]:
    """The column is there and of a type that fits, and the bound is a share."""
    key, (first, *_, bound) = next((key, getattr(share, key)) for key, kind in _SHARES.items() if type(share) is kind)
    place = f"{place}/{key}"
    if isinstance(share, RowShare):
        yield from _condition_problems(share.condition, f"{place}/0", schema)
    elif first not in schema:
        yield _absent(first, f"{place}/0", schema)
    elif isinstance(share, InSetShare):
        for problem in share.condition.problems(schema):
            yield problem._replace(pointer=f"{place}{problem.pointer.removeprefix('/in')}")
    elif isinstance(share, OovShare) and (ids := makers.get(first)) is not None:
        if ids.unknown_ids(first) is None:
            yield Problem(f"{place}/0", f"step {ids.id!r} ({ids.op}) makes no ids of unknown values in {first!r}.")
    elif isinstance(share, TruncatedShare) and (cut := makers.get(first)) is not None:
        yield from _truncation_problems(first, cut, f"{place}/0", schema=schema)
    elif isinstance(share, OovShare | TruncatedShare):
        yield Problem(f"{place}/0", f"column {first!r} is made by no step of ids, such as token_ids.")
    if not 0 <= bound <= 1:
        yield Problem(f"{place}/{len(getattr(share, key)) - 1}", f"a share is between 0 and 1, found {bound!r}.")


def _truncation_problems(column: str, step: RowStep, place: str, *, schema: Schema) -> Iterator[Problem]:
    found = step.truncation(column)
    if found is None:
        message = f"step {step.id!r} ({step.op}) does not say how many tokens {column!r} had; name an output for that."
        yield Problem(place, message)
    elif found[0] not in schema:
        yield Problem(place, f"column {found[0]!r}, the number of tokens, is dropped before the end.", "E-NO-COLUMN")


def _absent(name: str, place: str, schema: Schema) -> Problem:
    return Problem(place, f"column {name!r} is made by no step.{nearest(name, schema)}", "E-NO-COLUMN")
