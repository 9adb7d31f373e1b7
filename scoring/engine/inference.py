"""Call a model with one batch, and find the rows on which it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scoring.engine.batching import ModelBatch, Outcome
from scoring.errors import InferenceError, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from scoring.engine.batch_rows import BatchRows

Predict: TypeAlias = "Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]"
"""Calls a model with tensors by input, and gives those of its outputs that are published."""
Feeds: TypeAlias = "dict[str, npt.NDArray[Any]]"

__all__ = ["Predict", "infer", "padded"]


def infer(predict: Predict, batch: ModelBatch, size: BatchRows) -> Outcome:
    """What the model makes of a batch: one that fails is halved until the culprits are alone, the rest is scored.

    Raises:
        InferenceError: an output has another number of rows than the model was given: what several calls gave could not
            be told apart.
    """
    before = size.room
    outcome = _infer(predict, batch.feeds, batch.rows, size=size)
    if size.is_alone:
        # A row that has no room even alone says nothing of the others.
        size.restore(before)
    return outcome


def _infer(predict: Predict, feeds: Feeds, rows: int, *, size: BatchRows, is_bare: bool = False) -> Outcome:
    """With `is_bare` no rows are made up, where the model takes fewer: they may be what it fails on."""
    full = rows if is_bare and size.fixed is None else size.full(rows)
    try:
        outputs = predict(feeds if full == rows else padded(feeds, full - rows))
    except OutOfMemory as error:
        if size.fixed is not None:
            message = f"{error} The model takes no other number of rows than {size.fixed}: export it with fewer."
            raise InferenceError(message) from error
        size.halve(full)
        if size.full(rows) < full:
            return _infer(predict, feeds, rows, size=size)
        return _pieces(predict, feeds, rows, size=size, reason=str(error))
    except InferenceError as error:
        if full != rows and size.fixed is None:
            found = _infer(predict, feeds, rows, size=size, is_bare=True)
        else:
            found = _pieces(predict, feeds, rows, size=size, reason=str(error), most=-(-rows // 2))
        if not found.failed:
            # No row is to blame, but perhaps their number: cuDNN takes no tensor of 2^31 values.
            size.blame(full)
        return found
    _check_rows(outputs, full)
    if full != rows:
        outputs = {name: values[:rows] for name, values in outputs.items()}
    nbytes = sum(values.nbytes for values in (*feeds.values(), *outputs.values()))
    size.note(rows, nbytes, made_up=full - rows)
    return Outcome(np.arange(rows), outputs)


def _pieces(
    predict: Predict, feeds: Feeds, rows: int, *, size: BatchRows, reason: str, most: int | None = None
) -> Outcome:
    """The same rows in smaller calls: of `most` rows, or of as many as there seems to be memory for."""
    if rows == 1:
        return Outcome(np.empty(0, np.int64), {}, ((0, reason),))
    scored: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    outputs: list[Feeds] = []
    failed: list[tuple[int, str]] = []
    start = 0
    while start < rows:
        end = min(rows, start + (most or size.rows))
        piece = {name: tensor[start:end] for name, tensor in feeds.items()}
        found = _infer(predict, piece, end - start, size=size, is_bare=most is not None)
        scored.append(found.rows + start)
        failed.extend((row + start, why) for row, why in found.failed)
        if found.rows.size:
            outputs.append(found.outputs)
        start = end
    return Outcome(np.concatenate(scored), _joined(outputs), tuple(failed))


def _joined(parts: list[Feeds]) -> Feeds:
    if len(parts) <= 1:
        return parts[0] if parts else {}
    for name in parts[0]:
        shapes = {part[name].shape[1:] for part in parts}
        if len(shapes) > 1:
            message = f"model output {name} has rows of {len(shapes)} shapes in one batch, which is no column"
            raise InferenceError(message)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def padded(feeds: Mapping[str, npt.NDArray[Any]], rows: int) -> Feeds:
    """More rows, like the last one: made-up values may be none that the model takes."""
    return {name: np.concatenate([tensor, np.repeat(tensor[-1:], rows, axis=0)]) for name, tensor in feeds.items()}


def _check_rows(outputs: Feeds, rows: int) -> None:
    for name, values in outputs.items():
        if values.shape[:1] != (rows,):
            message = f"model output {name} has shape {list(values.shape)} for {rows} rows: one value a row is needed"
            raise InferenceError(message)
