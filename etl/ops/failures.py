"""What happens to a row with a value of which a step can make nothing: three words that several ops share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from etl.errors import TransformError
from etl.printable import counted

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Frame, RejectionCode
    from etl.ops.base import RowStep

__all__ = ["OnError", "treat_failures"]

OnError = Literal["as_missing", "reject", "fail"]
"""The result is missing, the row is quarantined, or the run fails."""


def treat_failures(
    step: RowStep,
    frame: Frame,
    failed: npt.NDArray[np.bool_],
    *,
    on_error: OnError,
    code: RejectionCode,
    pointer: str,
    message: str,
) -> None:
    """Reject the rows, or fail if one is left that is not rejected or filtered already. The result is missing anyway.

    Raises:
        TransformError: the spec says fail.
    """
    if on_error == "reject":
        frame.reject(failed, code=code, pointer=pointer, column=step.inputs[0], message=message)
    elif on_error == "fail":
        rows = failed & ~frame.gone
        if rows.any():
            row = int(np.argmax(rows))
            found = f"in {counted(int(rows.sum()), 'row')} of the batch, the first at {row}"
            raise TransformError.at(row, f"{pointer}: step {step.id!r}: column {message} {found}; the spec says fail.")
