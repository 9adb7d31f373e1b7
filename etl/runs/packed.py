"""The receipts of a run as its driver holds them: packed, and read again whenever they are gone through.

A receipt of 1,200 bytes of JSON is 11,000 bytes of Python values, and 500 when it is packed: of 100,000 splits that was
1.1 GB of the driver. To read one takes some 40 µs.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING

from etl.runs.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["PackedReceipts", "pack"]

_QUICK = 1


def pack(document: bytes) -> bytes:
    """A stored receipt, packed."""
    return zlib.compress(document, _QUICK)


class PackedReceipts(Collection[Receipt]):
    """Receipts in the order of their splits."""

    def __init__(self, packed: Iterable[tuple[str, bytes]]) -> None:
        """Take the path and the packed bytes of each."""
        self._packed = tuple(packed)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._packed)

    def __iter__(self) -> Iterator[Receipt]:
        """Each in turn.

        Raises:
            DocumentError: one is damaged.
        """
        return (Receipt.from_bytes(zlib.decompress(data), where=path) for path, data in self._packed)

    def __contains__(self, receipt: object) -> bool:
        """Whether an equal one is there."""
        return any(receipt == one for one in self)
