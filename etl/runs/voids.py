"""Receipts whose files are gone: each is marked void, and its split is scored again as its next generation.

A receipt cannot be replaced, for whoever has read it relies on it. So a mark is created beside it, under the receipt's
own name, and the split goes on under another one: the number of its marks is its generation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from etl.documents import Document

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from etl.runs.layout import Layout
    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split
    from etl.runs.storage import Storage

__all__ = ["Void", "call_void", "latest_generations"]


class Void(Document):
    """Says that a receipt is void."""

    format: Literal["batchscore.void/1"] = "batchscore.void/1"
    run_id: str
    split: int = Field(ge=0)
    attempt: str = Field(description="Of the receipt.")
    reason: str
    found_at: AwareDatetime


def latest_generations(storage: Storage, layout: Layout, splits: Iterable[Split]) -> tuple[Split, ...]:
    """The splits under the names that they have now."""
    marks = Counter(int(name.partition(".")[0]) for name in storage.names(layout.voids))
    if not marks:
        return tuple(splits)
    return tuple(replace(split, generation=marks[split.index]) for split in splits)


def call_void(
    storage: Storage, layout: Layout, found: Iterable[tuple[Split, Receipt]], *, reason: str, at: datetime
) -> None:
    """Mark receipts void, and throw away what is left of their files, so that nobody can publish those any more.

    The files of a receipt have its attempt's name, so those of the next generation are others.
    """
    for split, receipt in found:
        aside = [receipt.quarantine] if receipt.quarantine is not None else []
        for written in (*receipt.predictions, *aside, *receipt.keys.values()):
            storage.abort(written.pending)
            storage.delete(written.pending.path)
        void = Void(run_id=layout.run_id, split=split.index, attempt=receipt.attempt, reason=reason, found_at=at)
        storage.create_if_absent(layout.void(split.name), void.to_bytes())
