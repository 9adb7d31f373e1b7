"""What the projection of a worker's memory counts; how near it comes is measured in tests/jobs/test_memory.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.contract import InputField
from etl.references import PinnedReference
from etl.types import ColumnType
from scoring.memory import projected_task_bytes, table_rows
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


@pytest.mark.parametrize(
    ("columns", "item", "width", "rows"),
    [
        (1, pa.float32(), 1, 1 << 16),  # as many as there may be
        (28, pa.float32(), 1, 1 << 16),
        (200, pa.float64(), 1, 1 << 12),  # 1,600 bytes a row
        (1, pa.float32(), 784, 1 << 11),  # lists
        (1, pa.float32(), 100_000, 1 << 10),  # no fewer, whatever they hold
    ],
)
def test_rows_at_once_go_by_their_width(tmp_path: Path, columns: int, item: pa.DataType, width: int, rows: int) -> None:
    """Contract and steps take 8 MiB at once, in powers of two from 1,024 to 65,536 rows, by what is read of a file."""
    values = pa.array(np.zeros(20 * width), item)
    column = values if width == 1 else pa.FixedSizeListArray.from_arrays(values, width)
    names = [f"c{number}" for number in range(columns)]
    pq.write_table(pa.table(dict.fromkeys(names, column)), tmp_path / "in.parquet")
    work = Work(tmp_path / "work", numbers(50))
    carried = [InputField(name=name, type=ColumnType("string"), role="id") for name in names]
    assert table_rows(pq.read_metadata(tmp_path / "in.parquet"), carried, [work.audited], is_one_each=False) == rows


def test_a_row_group_from_another_machine_counts_as_it_is_stored(tmp_path: Path) -> None:
    """The chunks of the largest row group that are read are projected on top, as they are stored, and no others."""
    table = numbers(6_000).append_column("other", pa.array([f"{number:0100}" for number in range(6_000)]))
    work = Work(tmp_path, table, row_group=4_000)
    footer, order = pq.read_metadata(work.input), work.make_order()
    here, there = (
        projected_task_bytes(footer, order, [work.audited], references={}, is_remote=is_remote)
        for is_remote in (False, True)
    )
    group = footer.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    read = [chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema != "other"]
    assert there - here == sum(read)
