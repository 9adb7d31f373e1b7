"""A model without us: a loop over batches that lie in memory as tensors, and what the CPU gives for the first rows."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from onnxruntime.capi import onnxruntime_pybind11_state as _errors

from tests.bench.gpu_work import Array, works

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scoring.runtimes.base import Device
    from tests.bench.gpu_work import GpuWork

__all__ = ["PROVIDERS", "Bare", "Wanted", "bare", "wanted"]

PROVIDERS: dict[Device, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})],
    "tensorrt": ["TensorrtExecutionProvider", ("CUDAExecutionProvider", {"use_tf32": "0"})],
}
"""As ours: products in float32, so that scores are those of the CPU."""
_TF32: list[Any] = [("CUDAExecutionProvider", {"use_tf32": "1", "cudnn_conv_algo_search": "HEURISTIC"})]
_SIZES = tuple(1 << power for power in range(3, 13))
_CHECKED_ROWS = 64
"""Of each file, compared with plain onnxruntime on the CPU."""

Feeds: TypeAlias = "dict[str, Array]"
Variant = Literal["tf32", "IO binding"]


class Bare(NamedTuple):
    """What the loop found."""

    best: int
    """Rows of a call at which it is quickest, of the longest rows."""
    rates: dict[int, float]
    """Rows a second by rows of a call, of the longest rows."""
    rows_per_second: float
    """Of rows of all lengths."""
    variants: dict[str, float]
    """Rows a second of the longest rows at the best size, in other ways; empty on the CPU."""


class Wanted(NamedTuple):
    """What the CPU gives for the first rows of a file."""

    ids: Array
    scores: Array


def bare(work: GpuWork, file: Path, device: Device, *, least: float, is_small: bool) -> Bare:
    """Measure; on a GPU in a process of its own, so that the device's memory is free again."""
    asked = (work.name, str(file), device, least, is_small)
    if device == "cpu":
        return _bare(*asked)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_bare, asked)


def _bare(name: str, file: str, device: Device, least: float, is_small: bool) -> Bare:  # noqa: FBT001  over a process's border
    [work] = [work for work in works(is_small=is_small) if work.name == name]
    session, seconds, total = _session(work, PROVIDERS[device]), 0.0, 0
    best, rates = 0, dict[int, float]()
    batch: Feeds = {}
    for rows, feeds in work.batches(pq.read_table(file)):
        rates, batch = {}, feeds
        for size in _SIZES:
            if size > rows.size:
                break
            try:
                rates[size] = _rate(lambda one: session.run(None, one), feeds, size, least=least)
            except (_errors.RuntimeException, _errors.Fail):  # out of memory
                break
        best = max(rates, key=lambda size: rates[size])
        seconds += rows.size / rates[best]
        total += rows.size
    variants = {}
    if device == "cuda":
        variants["IO binding"] = _rate(lambda one: _bound(session, one), batch, best, least=least)
        del session
        rounded = _session(work, _TF32)
        variants["tf32"] = _rate(lambda one: rounded.run(None, one), batch, best, least=least)
    return Bare(best, rates, total / seconds, variants)


def _session(work: GpuWork, providers: list[Any], *, threads: int = 1) -> ort.InferenceSession:
    if providers != PROVIDERS["cpu"] and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(work.make().onnx, options, providers=providers)


def _rate(run: Callable[[Feeds], object], feeds: Feeds, size: int, *, least: float) -> float:
    """Rows a second over batches that are there."""
    rows = len(next(iter(feeds.values())))
    batches = [
        {name: np.ascontiguousarray(values[start : start + size]) for name, values in feeds.items()}
        for start in range(0, rows - size + 1, size)
    ]
    run(batches[0])
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < least or not done:
        run(batches[done % len(batches)])
        done += 1
    return done * size / spent


def _bound(session: ort.InferenceSession, feeds: Feeds) -> list[Array]:
    """A call whose inputs are put on the device first, and whose outputs are fetched from it."""
    binding = session.io_binding()
    for name, values in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    session.run_with_iobinding(binding)
    found: list[Array] = binding.copy_outputs_to_cpu()
    return found


def wanted(work: GpuWork, files: list[Path]) -> list[Wanted]:
    """Plain onnxruntime's scores on the CPU, of the first rows of each file."""
    session = _session(work, PROVIDERS["cpu"], threads=0)
    made = []
    for file in files:
        with pq.ParquetFile(file) as parquet:
            head = pa.Table.from_batches([next(parquet.iter_batches(_CHECKED_ROWS))])
        ids = head.column("id").to_numpy()
        scores: dict[int, Array] = {}
        for rows, feeds in work.batches(head):
            [found] = session.run(None, feeds)
            scores.update(zip(rows.tolist(), found, strict=True))
        made.append(Wanted(ids, np.array([scores[row] for row in range(ids.size)])))
    return made
