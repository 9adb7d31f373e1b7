"""How the predictions of a run lie in files."""

from __future__ import annotations

from pydantic import Field

from etl.documents import Strict

__all__ = ["Shape"]


class Shape(Strict):
    """How the predictions of a run lie in files."""

    partition_by: tuple[str, ...] = Field(
        default=(), description="Published columns whose values name folders, outermost first."
    )
    sort_by: tuple[str, ...] = Field(
        default=(), description="Published columns by which the rows of each file are in ascending order; nulls last."
    )
    file_bytes: int = Field(
        default=128 << 20,
        ge=1,
        description="A file that has grown to so many bytes is ended, and another begun. With `sort_by` a file is "
        "made of so many bytes of rows in memory.",
    )
    open_files: int = Field(default=16, ge=1, description="Files that a task has open at a time.")
    is_hidden: bool = Field(
        default=False,
        description="Whether the run's folder lies below `_runs/`, where readers that list the output root find none "
        "of it: a later version may hold the run no more.",
    )
