"""The number by which two readings of the same rows are compared."""

from __future__ import annotations

import pyarrow as pa
import pytest

from etl.learning.checksum import checksum

FORMS = [pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view(), pa.string(), pa.large_string()]


def number_of(rows: list[bytes | None], kind: pa.DataType) -> int:
    """Of one column."""
    texts = [None if row is None else row.decode() for row in rows] if kind in FORMS[4:] else rows
    return checksum(pa.record_batch({"x": pa.array(texts, kind)}), ["x"])


@pytest.mark.parametrize("kind", FORMS, ids=str)
def test_bytes_that_change_have_another_number(kind: pa.DataType) -> None:
    """A byte, a null, or an order that changes changes the number; the same rows have it again."""
    rows = [b"ab", None, b"cd"]
    found = number_of(rows, kind)
    assert found == number_of(rows, kind) == number_of(rows, pa.binary())
    others: list[list[bytes | None]] = [[b"ab", None, b"ce"], [b"cd", None, b"ab"], [b"ab", b"cd", None], [b"ab", None]]
    assert found not in [number_of(other, kind) for other in others]
