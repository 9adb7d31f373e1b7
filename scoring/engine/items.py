"""What flows from stage to stage: rows of one split, what models made of them, and the end of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from etl.frame import Frame, Rejection
    from etl.pipeline import Features
    from etl.types import ArrowArray
    from scoring.engine.attempt import Attempt
    from scoring.engine.owner import Owner

__all__ = ["End", "Fed", "Item", "Result", "Rows"]


class Result(NamedTuple):
    """What one model made of a batch. All positions are in the batch, ascending."""

    frame: Frame
    """The rows that the model was to score, as its contract and its steps made them."""
    given: npt.NDArray[np.int64] | None
    """Positions of the frame's rows in the batch; None where it was given all."""
    rows: npt.NDArray[np.int64]
    """Positions that it scored."""
    arrays: list[ArrowArray]
    """Its published columns, for these rows."""
    rejections: list[Rejection]
    """Rows that its contract, its steps or the model itself refused; a row may be in several."""
    filtered: npt.NDArray[np.int64]
    """Positions that its spec leaves out."""


class Rows(NamedTuple):
    """Rows of a split, and what models made of them so far."""

    attempt: Owner
    batch: pa.RecordBatch
    results: tuple[Result | None, ...] = ()
    """Of each model so far; None where it had no row."""
    chosen: npt.NDArray[np.int64] | None = None
    """The number of each row's model, or `choosing.NOBODY`; None where every model scores every row."""


class Fed(NamedTuple):
    """Rows that are ready for a model."""

    before: Rows
    given: npt.NDArray[np.int64] | None
    """As in `Result`."""
    frame: Frame
    features: Features

    @property
    def attempt(self) -> Owner:
        """Whose rows they are."""
        return self.before.attempt


class End(NamedTuple):
    """No more rows of a split come."""

    attempt: Attempt


Item: TypeAlias = Rows | Fed | End
