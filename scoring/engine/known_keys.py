"""Rows whose key is published already, by the table of keys that the run pinned."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etl.documents import sha256_hex
from etl.errors import ContractError, StorageError
from etl.runs.storage import storage_for

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from etl.types import ArrowArray
    from scoring.order import Order

__all__ = ["is_published"]


def is_published(order: Order, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Which rows of a batch have a key that is published; null is a key like any other."""
    assert order.missing_keys is not None  # noqa: S101  whoever calls this asked
    known = _keys(order.layout.published_keys(order.missing_keys.sha256), order.missing_keys.sha256)
    keys = _as(batch.column(order.missing_keys.column), known.type, order.missing_keys.column)
    found: npt.NDArray[np.bool_] = pc.is_in(keys, value_set=known).to_numpy(zero_copy_only=False)
    return found


@functools.lru_cache(maxsize=1)
def _keys(path: str, sha256: str) -> ArrowArray:
    """Once a process; workers of one run have one table."""
    storage, path = storage_for(path)
    data = storage.read_bytes(path)
    if data is None or sha256_hex(data) != sha256:
        message = f"{path}: the published keys that the run pinned are gone or changed. Score under a new run id."
        raise StorageError(message)
    return pa.ipc.open_file(pa.BufferReader(data)).read_all().column(0).combine_chunks()


def _as(keys: ArrowArray, type_: pa.DataType, column: str) -> ArrowArray:
    """Keys of a file in the type in which they are published."""
    decoded = keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys
    try:
        return decoded.cast(type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"column {column}, by whose published values rows are left out, is no {type_}: {error}"
        raise ContractError(message) from error
