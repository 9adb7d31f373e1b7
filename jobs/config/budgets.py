"""Config of how much a run may set aside and still be published."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from etl.documents import Strict

__all__ = ["Budget", "Budgets", "FileBudget"]


class Budget(Strict):
    """How many quarantined rows a run may have and still be published. Both limits hold where both are given."""

    max_rows: int | None = Field(default=None, ge=0)
    max_ratio: FiniteFloat | None = Field(default=None, ge=0, le=1, description="Of all rows in.")

    def allows(self, rows: int, rows_in: int) -> bool:
        """Whether the budget covers `rows` of `rows_in`; without limits, none."""
        if self.max_rows is None and self.max_ratio is None:
            return rows == 0
        fits_rows = self.max_rows is None or rows <= self.max_rows
        return fits_rows and (self.max_ratio is None or rows <= self.max_ratio * rows_in)


class FileBudget(Strict):
    """How many damaged files a run may have and still be published, with `input.on_damaged: quarantine`.

    Without limits, any number but all: the policy has said already that a run may be without some. Rows are not
    counted, for of a file whose end is missing nobody knows them.
    """

    max_files: int | None = Field(default=None, ge=0)
    max_ratio: FiniteFloat | None = Field(default=None, ge=0, le=1, description="Of the bytes of all input files.")

    def allows(self, files: int, size: int, total: int) -> bool:
        """Whether the budget covers so many files, of `size` of the `total` bytes."""
        fits_files = self.max_files is None or files <= self.max_files
        return fits_files and (self.max_ratio is None or size <= self.max_ratio * total)


class Budgets(Strict):
    """A budget for each stage that can set rows aside. The default is strict: none; but see `FileBudget`."""

    read: FileBudget = FileBudget()
    contract: Budget = Budget()
    transform: Budget = Budget()
    inference: Budget = Budget()
