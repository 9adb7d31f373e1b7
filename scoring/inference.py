"""Run the model over a table's tensors: call by call, and around the rows on which it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from etl.frame import Rejection
from scoring.errors import InferenceError

if TYPE_CHECKING:
    from scoring.outputs.columns import OutputColumn
    from scoring.scorer import Scorer

__all__ = ["Fed", "Inferred", "infer"]

_REASON_CHARS = 1024


class Fed(NamedTuple):
    """What the model is given."""

    tensors: dict[str, np.ndarray]
    """By name; the first axis of each is the rows."""
    rows: np.ndarray
    """Positions in the table that the tensors' rows stand for."""

    def part(self, start: int, end: int) -> Fed:
        """Some of the rows, as views."""
        return Fed({name: tensor[start:end] for name, tensor in self.tensors.items()}, self.rows[start:end])


class Inferred(NamedTuple):
    """What the model made of it."""

    outputs: dict[str, np.ndarray]
    """By name, the first axis of each is the rows; empty where no row came through."""
    rows: np.ndarray
    """Positions in the table that the outputs stand for."""
    failures: list[Rejection]
    """The rows on which the model failed, each alone, and those whose output a column cannot hold."""


def infer(scorer: Scorer, fed: Fed, batch_rows: int) -> Inferred:
    """Run the model, `batch_rows` rows a call: the activations of a table would not fit the caches of a core."""
    starts = range(0, fed.rows.size, batch_rows)
    parts = [_infer_batch(scorer, fed.part(start, start + batch_rows)) for start in starts]
    return _publishable(scorer.audited.bundle.columns, _merged(parts, fed.rows))


def _publishable(columns: tuple[OutputColumn, ...], found: Inferred) -> Inferred:
    """The same without the rows of which a column's type cannot hold an output."""
    rows = found.rows
    bad = np.zeros(rows.size, dtype=bool)
    failures = list(found.failures)
    for column in columns if rows.size else ():
        unheld = column.unheld(found.outputs, rows.size)
        if unheld is None or not (fresh := unheld & ~bad).any():
            continue
        bad |= fresh
        message = f"model output {column.tensor} is a value that {column.type}, the type of its column, cannot hold"
        failures.append(Rejection(rows[fresh], "NOT_CASTABLE", "", column.column, message))
    if not bad.any():
        return found
    return Inferred({name: values[~bad] for name, values in found.outputs.items()}, rows[~bad], failures)


def _infer_batch(scorer: Scorer, fed: Fed) -> Inferred:
    """One call; a batch that fails is halved until the culprits are alone, and the rest is scored."""
    columns = scorer.audited.bundle.columns
    try:
        outputs = scorer.runtime.predict(fed.tensors, dict.fromkeys(column.tensor for column in columns))
    except InferenceError as error:
        if fed.rows.size == 1:
            # A runtime shows the value that it stumbled over.
            is_private = any(field.pii for field in scorer.pipeline.spec.input.fields)
            message = "the model failed; its reason may show personal data" if is_private else str(error)
            return Inferred({}, fed.rows[:0], [Rejection(fed.rows, "MODEL_FAILED", "", "", message[:_REASON_CHARS])])
        half = fed.rows.size // 2
        parts = [_infer_batch(scorer, fed.part(0, half)), _infer_batch(scorer, fed.part(half, fed.rows.size))]
        return _merged(parts, fed.rows)
    for column in columns:
        column.check_rows(outputs, fed.rows.size)
    return Inferred(outputs, fed.rows, [])


def _merged(parts: list[Inferred], rows: np.ndarray) -> Inferred:
    if len(parts) == 1:
        return parts[0]
    failures = [failure for part in parts for failure in part.failures]
    scored = [part for part in parts if part.rows.size]
    if not scored:
        return Inferred({}, rows[:0], failures)
    outputs = {name: np.concatenate([part.outputs[name] for part in scored]) for name in scored[0].outputs}
    return Inferred(outputs, np.concatenate([part.rows for part in scored]), failures)
