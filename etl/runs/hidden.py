"""Pending files where a store has no uploads that another process could complete: hidden names, which are moved.

A completion looks first: a publisher that died after it finds its own bytes under the final name.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from etl.errors import PendingLost, PendingTaken, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.runs.storage import Pending, Storage

__all__ = ["check_hidden", "complete_hidden", "prove_conditions"]

_CHUNK = 8 << 20


def check_hidden(storage: Storage, pending: Pending) -> None:
    """See `Storage.check`. The hidden name is looked at first, since a twin may complete it between the two looks."""
    found = storage.stat(pending.upload)
    if found is None:
        if storage.stat(pending.path) is None:
            message = f"{pending.path}: its pending file is gone, so its receipt is void. Run the same id again."
            raise PendingLost(message)
    elif found.bytes != pending.bytes:
        message = (
            f"{pending.upload}: has {found.bytes} bytes, its receipt says {pending.bytes}, so the receipt is void. "
            "Run the same id again."
        )
        raise PendingLost(message)


def complete_hidden(storage: Storage, pending: Pending, move: Callable[[], None]) -> None:
    """See `Storage.complete`. `move` gives the bytes their final name where that is free, and leaves no hidden one.

    It raises FileExistsError where the name is taken, and FileNotFoundError where there is nothing to move.
    """
    if storage.stat(pending.path) is None:
        check_hidden(storage, pending)
        try:
            move()
        except (FileExistsError, FileNotFoundError):
            # Another publisher of this run was quicker, or nobody has the bytes; both are looked at below.
            check_hidden(storage, pending)
        else:
            return
    if _sha256(storage, pending.path) != pending.sha256:
        message = f"{pending.path}: other bytes have this name. Nothing was overwritten; use another run id."
        raise PendingTaken(message)
    storage.delete(pending.upload)


def _sha256(storage: Storage, path: str) -> str:
    digest = hashlib.sha256()
    with storage.open_input(path) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def prove_conditions(storage: Storage, folder: str, told: str) -> None:
    """See `Storage.prove`. Some servers take the condition and create all the same: of 16 racers all won.

    `told` says what was asked, and what to use instead.
    """
    path = f"{folder}/_batchscore/probe-{uuid.uuid4().hex}"
    try:
        made = [storage.create_if_absent(path, data) for data in (b"first", b"second")]
    finally:
        storage.delete(path)
    if made != [True, False]:
        message = (
            f"{folder}: this store creates an object whose name is taken, although it was told not to. Two runs could "
            f"overwrite each other's commits. {told}"
        )
        raise StorageError(message)
