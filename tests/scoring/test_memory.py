"""What the projection of a worker's memory counts; how near it comes is measured in tests/jobs/test_memory.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from etl.references import PinnedReference
from scoring.memory import projected_task_bytes
from tests.scoring.workshop import Work, numbers

if TYPE_CHECKING:
    from pathlib import Path


def test_reference_tables_count(tmp_path: Path) -> None:
    """A worker that holds a reference table is projected to need several times its size more, and no less with two."""
    work = Work(tmp_path, numbers(50))
    footer, order = pq.read_metadata(work.input), work.make_order()
    table = PinnedReference(b"x" * 1_000_000, "0" * 64)
    sizes = [
        projected_task_bytes(footer, order, [work.audited], references=references)
        for references in ({}, {"a": table}, {"a": table, "b": table})
    ]
    assert 3_000_000 <= sizes[1] - sizes[0] <= 8_000_000
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
