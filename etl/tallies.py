"""Count expectations over the rows of one batch. Counts add up, so it does not matter how the rows of a run are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.errors import TransformError
from etl.expectations import (
    BatchExpectation,
    InSetShare,
    NullShare,
    OovShare,
    RowExpectation,
    RowShare,
    TruncatedShare,
    maker_of,
)
from etl.printable import counted
from etl.runs.receipt import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.expectations import AnyExpectation
    from etl.frame import Frame
    from etl.ops.base import RowStep

__all__ = ["tally"]


def tally(expectations: Sequence[AnyExpectation], steps: Sequence[RowStep], frame: Frame) -> dict[str, Tally]:
    """Counts by the expectation's id, over rows that are neither rejected nor filtered; without `unique`, whose counts
    do not add up. Rows that break a row expectation of severity `quarantine` are rejected, and count in no later one.

    `steps` are those that made the frame's columns.

    Raises:
        TransformError: a row breaks an expectation of severity `fail`.
    """  # noqa: D205  one sentence each
    if not expectations:
        return {}
    # All before any is counted: to read a column as a number may reject rows, which then count nowhere.
    masks = [_mask(expectation, steps, frame) for expectation in expectations]
    found: dict[str, Tally] = {}
    for index, (expectation, mask) in enumerate(zip(expectations, masks, strict=True)):
        if isinstance(expectation, RowExpectation):
            found[expectation.id] = _judged(expectation, f"/expectations/{index}", frame, broken=~mask)
    kept = ~frame.gone
    rows = int(np.count_nonzero(kept))
    for expectation, mask in zip(expectations, masks, strict=True):
        if isinstance(expectation, BatchExpectation) and isinstance(expectation.batch, OovShare):
            found[expectation.id] = _unknown(expectation.batch, steps, frame, kept=kept)
        elif isinstance(expectation, BatchExpectation) and mask is not None:
            found[expectation.id] = Tally(hits=int(np.count_nonzero(mask & kept)), rows=rows)
    return found


def _mask(expectation: AnyExpectation, steps: Sequence[RowStep], frame: Frame) -> Any:
    """For which rows the condition holds, or which count in the share; None where rows are not what is counted."""
    if isinstance(expectation, RowExpectation):
        return expectation.row.holds(frame)
    share = expectation.batch
    if isinstance(share, NullShare):
        return frame.missing(share.null_share[0])
    if isinstance(share, InSetShare | RowShare):
        return share.condition.holds(frame)
    if isinstance(share, TruncatedShare):
        column = share.truncated_share[0]
        maker = maker_of(column, steps)
        cut = None if maker is None else maker.truncation(column)
        return None if cut is None else frame.float64(cut[0]) > cut[1]
    return None


def _judged(expectation: RowExpectation, pointer: str, frame: Frame, *, broken: npt.NDArray[np.bool_]) -> Tally:
    """Count the rows that break a row expectation, and do with them what it says."""
    gone = frame.gone
    broken = broken & ~gone
    count = int(np.count_nonzero(broken))
    if count and expectation.severity == "fail":
        row = int(np.argmax(broken))
        first = f"in {counted(count, 'row')} of the batch, the first at {row}"
        message = f"{pointer}: expectation {expectation.id!r} is not met {first}; the spec says fail."
        raise TransformError.at(row, message)
    if count and expectation.severity == "quarantine":
        column = next(iter(expectation.row.columns), "")
        message = f"expectation {expectation.id!r} is not met"
        frame.reject(broken, code="EXPECTATION", pointer=pointer, column=column, message=message)
    return Tally(hits=count, rows=frame.rows - int(np.count_nonzero(gone)))


def _unknown(share: OovShare, steps: Sequence[RowStep], frame: Frame, *, kept: npt.NDArray[np.bool_]) -> Tally:
    """Ids that stand for unknown categories or tokens, of all ids but padding."""
    name = share.oov_share[0]
    column, maker = frame[name], maker_of(name, steps)
    if isinstance(column, pa.Array):
        ids: npt.NDArray[Any] = column.filter(pa.array(kept)).drop_null().to_numpy()
    else:
        ids = column if kept.all() else column[kept]
    padding = None if maker is None else maker.padding_id(name)
    unknown = None if maker is None else maker.unknown_ids(name)
    # No step has an id that is both.
    hits = 0 if unknown is None else np.count_nonzero((ids >= unknown.start) & (ids < unknown.stop))
    padded = 0 if padding is None else int(np.count_nonzero(ids == padding))
    return Tally(hits=int(hits), rows=ids.size - padded)
