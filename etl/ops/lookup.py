"""`lookup_join`: columns of a small reference table, joined to each row in the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from etl.documents import Strict
from etl.ops.base import Name, Step, StepId
from etl.types import ColumnType, TypeName

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.frame import Column, Frame

__all__ = ["LookupJoin", "ReferenceColumn", "ReferenceTable"]


class ReferenceColumn(Strict):
    """A column that the reference table gives."""

    name: Name = Field(description="Its name in the reference table.")
    type: TypeName


class LookupParams(Strict):
    """Which table, by which keys, and what happens to a row without a match."""

    reference: StepId = Field(description="Name of the reference table; the job says where it is.")
    keys: tuple[ReferenceColumn, ...] = Field(min_length=1, description="Key columns of the table, in the order of `in`.")
    columns: tuple[ReferenceColumn, ...] = Field(min_length=1, description="Columns taken, in the order of `out`.")
    on_no_match: Literal["as_missing", "reject"] = "as_missing"


class LookupJoin(Step):
    """Left join to a table whose keys are unique. A row with a missing key has no match."""

    op: Literal["lookup_join"]
    params: LookupParams
    arity = (None, None)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """The types that the reference columns are declared with."""
        raise NotImplementedError

    def join(self, frame: Frame, table: ReferenceTable, pointer: str) -> tuple[Column, ...]:
        """One look-up for the whole batch."""
        raise NotImplementedError


class ReferenceTable:
    """A reference table with its keys indexed once, for all batches of a worker."""

    @classmethod
    def index(cls, step: LookupJoin, table: pa.Table, where: str) -> ReferenceTable:
        """Check the table's columns, types and the uniqueness of its keys, and index it.

        Raises:
            ContractError: the table lacks a column, has another type, or a key stands twice (the message shows one).
        """
        raise NotImplementedError
