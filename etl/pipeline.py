"""Run a fitted spec over batches: contract, relational steps, row steps, tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from etl.errors import SpecError
from etl.ops.lookup import ReferenceTable
from etl.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pyarrow as pa

    from etl.frame import Frame, Rejection
    from etl.spec import Spec

__all__ = ["Features", "Pipeline"]


class Features(NamedTuple):
    """What a batch became."""

    tensors: dict[str, np.ndarray]
    """Tensors by name; the first axis is the kept rows."""
    kept: npt.NDArray[np.int64] | None
    """Positions in the batch that the tensors' rows stand for; None when every row was kept."""
    rejections: list[Rejection]
    """Rows that a step sent to quarantine, by rule."""


class Pipeline:
    """A fitted spec with its reference tables indexed; made once per worker."""

    def __init__(self, spec: Spec, references: Mapping[str, pa.Table]) -> None:
        """Bind the spec to its reference tables, by the name each `lookup_join` gives.

        Raises:
            SpecError: the spec is not fitted, or a reference is not given.
            ContractError: a reference table is not as the spec declares it.
        """
        if not spec.is_fitted:
            message = f"spec {spec.spec_id} is a recipe: run `batchscore fit` to learn its state"
            raise SpecError(message)
        self.spec = spec
        self._tables: list[ReferenceTable] = []
        for index, step in enumerate(spec.relational):
            name = step.params.reference
            if name not in references:
                message = f"/relational/{index}: reference table {name!r} is not given; the job names it under `references`"
                raise SpecError(message)
            self._tables.append(ReferenceTable.index(step, references[name], f"reference {name!r}"))

    def contract(self, batch: pa.RecordBatch | pa.Table, where: str) -> Frame:
        """Check the input contract; see `Contract.apply`."""
        return self.spec.input.apply(batch, where)

    def transform(self, frame: Frame) -> Features:
        """Every step in order, then the tensors of the rows that no rule rejected."""
        self.run_steps(frame)
        tensors = {
            output.tensor: tensor_of(frame, output, f"/outputs/tensors/{index}")
            for index, output in enumerate(self.spec.outputs.tensors)
        }
        if not frame.rejections:
            return Features(tensors, None, [])
        keep = np.ones(frame.rows, dtype=bool)
        for rejection in frame.rejections:
            keep[rejection.rows] = False
        kept = np.flatnonzero(keep)
        return Features({name: tensor[kept] for name, tensor in tensors.items()}, kept, frame.rejections)

    def run_steps(self, frame: Frame) -> None:
        """Write every step's columns into the frame."""
        for index, (join, table) in enumerate(zip(self.spec.relational, self._tables, strict=True)):
            columns = join.join(frame, table, f"/relational/{index}")
            for name, column in zip(join.outputs, columns, strict=True):
                frame[name] = column
        for index, step in enumerate(self.spec.steps):
            for name, column in zip(step.outputs, step.apply(frame, f"/steps/{index}"), strict=True):
                frame[name] = column
