"""What the benchmarks stand on: their models compute what numpy does, and the measurement on a GPU runs without one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest

from tests.bench import gpu, models
from tests.bench.document import document
from tests.bench.gpu_results import GpuModel, GpuResults, GpuRun
from tests.bench.gpu_work import works
from tests.bench.report import Results

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 300
NET = models.Net(width=32, heads=4, layers=2, hidden=64, words=100, longest=16)


def rows_of(kind: str) -> dict[str, Any]:
    """Made-up rows for a model."""
    rng = np.random.default_rng(3)
    if kind == "ids":
        mask = np.arange(16) < rng.integers(1, 17, ROWS)[:, None]
        return {"ids": rng.integers(0, 100, (ROWS, 16)), "mask": mask.astype(np.int64)}
    return {"X": rng.standard_normal((ROWS, 28), dtype=np.float32)}


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        pytest.param(models.mlp((28, 16, 1)), "columns", id="mlp"),
        pytest.param(models.mlp((28, 50), is_probability=False), "columns", id="wide"),
        pytest.param(models.trees(28, 20, depth=6, rows=500), "columns", id="trees"),
        pytest.param(models.transformer(NET), "ids", id="transformer"),
    ],
)
def test_a_model_computes_what_numpy_does(made: models.Made, kind: str) -> None:
    """A file that was put together byte by byte is sound, and onnxruntime gives for it what numpy computes."""
    onnx.checker.check_model(onnx.load_from_string(made.onnx), full_check=True)
    feeds = rows_of(kind)
    [found] = ort.InferenceSession(made.onnx, providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose(found, made.reference(feeds), rtol=0, atol=1e-5)
    assert np.ptp(found) > 0.1


def test_a_mask_hides_what_rows_are_padded_with() -> None:
    """The transformer's score of a row does not depend on what it is padded with, nor on how far."""
    session = ort.InferenceSession(models.transformer(NET).onnx, providers=["CPUExecutionProvider"])
    feeds = rows_of("ids")
    short = np.flatnonzero(feeds["mask"].sum(axis=1) <= 8)
    [whole] = session.run(None, {name: values[short] for name, values in feeds.items()})
    [cut] = session.run(None, {name: values[short, :8] for name, values in feeds.items()})
    np.testing.assert_allclose(whole, cut, rtol=0, atol=1e-6)


@pytest.mark.servers
def test_the_measurement_on_a_gpu_runs_without_one(tmp_path: Path) -> None:
    """Without a GPU, two tasks in processes of their own publish for each image what plain onnxruntime gives it."""
    arguments = ["--device", "cpu", "--small", "--tasks", "2", "--only", "ResNet"]
    gpu.main([*arguments, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "gpu.json")])
    [work] = [work for work in works(is_small=True) if work.name == "ResNet"]
    files = sorted((tmp_path / "work" / "ResNet" / "in").iterdir())
    given = {
        row["id"]: row["image"] for file in files for row in pq.ParquetFile(file).read(["id", "image"]).to_pylist()
    }
    written = (tmp_path / "work" / "ResNet" / "tasks-2" / "out" / "run_id=measured").iterdir()
    found = {row["id"]: row["score"] for file in written for row in pq.ParquetFile(file).read().to_pylist()}
    assert given.keys() == found.keys() == set(range(256))
    session = ort.InferenceSession(work.make().onnx, providers=["CPUExecutionProvider"])
    images = np.frombuffer(b"".join(given.values()), np.uint8).reshape(-1, 3, 16, 16)
    [wanted] = session.run(None, {"X": images})
    np.testing.assert_allclose([found[row] for row in given], wanted, rtol=0, atol=1e-5)
    [run] = json.loads((tmp_path / "gpu.json").read_bytes())["models"][0]["runs"]
    assert (run["tasks"], run["rows"], run["busy"], run["provider"]) == (2, 256, None, "CPUExecutionProvider")


@pytest.mark.servers
def test_the_measurement_on_a_gpu_needs_neither_spark_nor_the_package_onnx() -> None:
    """A fresh interpreter that makes its models has loaded neither pyspark, nor onnx, pandas or scikit-learn."""
    made = "[work.make() for work in gpu.works(is_small=True)]"
    program = f"import sys\nfrom tests.bench import gpu\n{made}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {"onnx", "pandas", "psutil", "pyspark", "rich", "sklearn", "torch", "typer"}


def gpu_results(busy: float | None) -> GpuResults:
    """A measurement of one model by one task."""
    run = GpuRun(
        tasks=1,
        padding="fixed",
        rows=95,
        seconds=1,
        rows_per_second=95,
        busy=busy,
        peak_gpu_bytes=1 << 30,
        call_rows=32,
        seconds_per_row={},
        seconds_by_phase={},
        waiting_by_phase={},
        provider="CUDAExecutionProvider",
    )
    model = GpuModel(name="net", bare_rows=32, bare_rates={}, bare_rows_per_second=100, largest_deviation=0, runs=[run])
    return GpuResults(about={"Device": "a device"}, models=[model])


def test_the_page_says_that_no_gpu_was_measured() -> None:
    """The page of the benchmarks says `not measured` without a result of a GPU, and else shows it."""
    empty = Results(about={}, facts={}, runs=[], memory=[])
    assert "*Not measured*" in document(empty, None)
    shown = document(empty, gpu_results(0.88))
    assert "*Not measured*" not in shown
    assert "**Device**: a device" in shown
    assert "| net | 1 | 95 | 0.95 | 88% | 1,024 | 32 |" in shown


@pytest.mark.parametrize(("busy", "is_met"), [(0.88, False), (0.9, True), (None, False)])
def test_a_gpu_that_is_not_busy_or_not_watched_misses_the_aim(busy: float | None, is_met: bool) -> None:  # noqa: FBT001  pytest gives it
    """The aims are nine tenths of bare's rate and of the device's time; what was not measured is not met."""
    [rate, time] = gpu_results(busy).aims
    assert (rate.is_met, rate.found) == (True, "0.95 with 1 task")
    assert time.is_met is is_met
