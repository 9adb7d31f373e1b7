"""Call a model with one batch, and find the rows on which it fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.engine.batching import ModelBatch, Outcome
from scoring.errors import InferenceError, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from scoring.engine.batch_rows import BatchRows

    Predict = Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]
    Feeds = dict[str, npt.NDArray[Any]]

__all__ = ["infer"]


def infer(predict: Predict, batch: ModelBatch, size: BatchRows) -> Outcome:
    """What the model makes of a batch: one that fails is halved until the culprits are alone, the rest is scored.

    Raises:
        InferenceError: an output has another number of rows than the model was given: what several calls gave could not
            be told apart.
    """
    return _infer(predict, batch.feeds, batch.rows, size=size)


def _infer(predict: Predict, feeds: Feeds, rows: int, *, size: BatchRows) -> Outcome:
    start = time.perf_counter()
    try:
        outputs = predict(feeds if size.fixed in {None, rows} else _padded(feeds, size.fixed - rows))
    except OutOfMemory as error:
        size.halve(rows)
        return _halves(predict, feeds, rows, size=size, reason=str(error))
    except InferenceError as error:
        return _halves(predict, feeds, rows, size=size, reason=str(error))
    _check_rows(outputs, size.fixed or rows)
    if size.fixed not in {None, rows}:
        outputs = {name: values[:rows] for name, values in outputs.items()}
    nbytes = sum(values.nbytes for values in (*feeds.values(), *outputs.values()))
    size.note(rows, time.perf_counter() - start, nbytes)
    return Outcome(np.arange(rows), outputs)


def _halves(predict: Predict, feeds: Feeds, rows: int, *, size: BatchRows, reason: str) -> Outcome:
    if rows == 1:
        return Outcome(np.empty(0, np.int64), {}, ((0, reason),))
    half = rows // 2
    first = _infer(predict, {name: tensor[:half] for name, tensor in feeds.items()}, half, size=size)
    second = _infer(predict, {name: tensor[half:] for name, tensor in feeds.items()}, rows - half, size=size)
    failed = (*first.failed, *((row + half, why) for row, why in second.failed))
    scored = np.concatenate([first.rows, second.rows + half])
    parts = [part.outputs for part in (first, second) if part.rows.size]
    return Outcome(scored, _joined(parts) if parts else {}, failed)


def _joined(parts: list[Feeds]) -> Feeds:
    if len(parts) == 1:
        return parts[0]
    for name, values in parts[0].items():
        if parts[1][name].shape[1:] != values.shape[1:]:
            shapes = f"{list(values.shape)} and {list(parts[1][name].shape)}"
            message = f"model output {name} has shapes {shapes} for rows of one batch, which is no column"
            raise InferenceError(message)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _padded(feeds: Feeds, rows: int) -> Feeds:
    """More rows, like the last one: made-up values may be none that the model takes."""
    return {name: np.concatenate([tensor, np.repeat(tensor[-1:], rows, axis=0)]) for name, tensor in feeds.items()}


def _check_rows(outputs: Feeds, rows: int) -> None:
    for name, values in outputs.items():
        if values.shape[:1] != (rows,):
            message = f"model output {name} has shape {list(values.shape)} for {rows} rows: one value a row is needed"
            raise InferenceError(message)
