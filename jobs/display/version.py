"""Versions, and what `gc` finds, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.display.summary import Column, Sheet, count_text, size_text, when_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.manifest import Manifest
    from jobs.settling.garbage import Garbage

__all__ = ["garbage_sheet", "versions_sheet"]


def versions_sheet(versions: Sequence[Manifest], *, kept_from: int) -> Sheet:
    """A version a line."""
    columns = (
        Column("version", "right"),
        Column("committed"),
        Column("by", rank=1),
        Column("operation"),
        Column("runs", "right", rank=2),
        Column("rows", "right"),
        Column("files", rank=3),
        Column("reason", "fold", rank=4),
    )
    rows = [
        (
            str(version.seq),
            when_text(version.committed_at),
            version.committed_by,
            f"{version.operation} to {version.restores}" if version.restores else version.operation,
            count_text(len(version.runs)),
            count_text(sum(run.rows for run in version.runs)),
            "kept" if version.seq >= kept_from else "may be gone",
            version.reason or "",
        )
        for version in versions
    ]
    return Sheet(columns, rows)


def garbage_sheet(garbage: Sequence[Garbage], root: str) -> Sheet:
    """Something that nobody needs a line."""
    columns = (
        Column("what"),
        Column("where"),
        Column("files", "right"),
        Column("size", "right"),
        Column("why", "fold", rank=1),
    )
    rows = [
        (
            found.kind,
            found.where.removeprefix(f"{root}/"),
            count_text(found.files),
            "" if found.bytes is None else size_text(found.bytes),
            found.why,
        )
        for found in garbage
    ]
    return Sheet(columns, rows)
