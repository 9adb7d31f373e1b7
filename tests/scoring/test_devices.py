"""Which device a model runs on: asked for, there, given by Spark. What needs a GPU and cannot be had here is faked."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pytest

from jobs.config.job import Scoring
from jobs.settling.totals import totals_of
from scoring.errors import DeviceError
from scoring.runtimes.base import HERE, Placement, RuntimeOptions
from scoring.runtimes.gpu import Gpu, gpu_facts
from scoring.runtimes.onnx import Session, providers, session
from scoring.runtimes.onnx.providers import memory_limit, provider_options
from scoring.spark.devices import device_of, tasks_per_gpu
from scoring.worker import score_split
from tests.scoring.workshop import Work, logistic_model, numbers

if TYPE_CHECKING:
    from pathlib import Path

CUDA, CPU, TENSORRT = "CUDAExecutionProvider", "CPUExecutionProvider", "TensorrtExecutionProvider"
GPU = Placement(device_id=1, workers_per_device=2)


def open_session(placement: Placement = HERE, **options: Any) -> Session:
    """A session of the logistic model."""
    return Session(logistic_model(), RuntimeOptions(**options), "model.onnx", placement=placement)


@pytest.fixture
def only_the_cpu_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime without CUDA, whichever is installed."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])


@pytest.fixture
def cuda_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that says it has CUDA and TensorRT; whatever is asked of it, it takes the CPU."""
    make = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", lambda model, options, **_: make(model, options, providers=[CPU]))


@pytest.mark.usefixtures("only_the_cpu_is_offered")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_the_cpu_takes_the_place_of_a_gpu_only_where_that_was_said(device: str) -> None:
    """With `on_missing_gpu: cpu` a model runs on the CPU where there is no GPU, and the reason is told."""
    made = open_session(device=device, on_missing_gpu="cpu")
    assert (made.device, made.provider) == ("cpu", CPU)
    assert made.fell_back is not None
    assert f"device {device} was asked for, onnxruntime {ort.__version__} has" in made.fell_back
    assert made.predict({"X": np.zeros((1, 4), np.float32)})["p"].tolist() == [[0.5]]


@pytest.mark.usefixtures("cuda_is_offered")
def test_a_gpu_that_is_offered_and_not_taken_is_no_silent_success() -> None:
    """What the runtime took is compared with what was asked for: an error, or a reason where the CPU may do."""
    with pytest.raises(DeviceError, match=f"{CUDA} was asked for, onnxruntime took {CPU}"):
        open_session(device="cuda")
    told = open_session(device="cuda", on_missing_gpu="cpu").fell_back
    assert told is not None
    assert "onnxruntime took" in told


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (None, "NVIDIA's driver shows no GPU 1 here: see what nvidia-smi says"),
        (Gpu("H", "9.0", 80 << 30), "The driver shows the GPU, so it is libraries of CUDA or cuDNN that are missing"),
    ],
)
@pytest.mark.usefixtures("cuda_is_offered")
def test_why_a_gpu_was_not_taken_is_told(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, told: str) -> None:
    """Whether there is a GPU tells apart a machine without one from one without CUDA's libraries."""
    monkeypatch.setattr(providers, "gpu_facts", lambda number: gpu if number == 1 else None)
    with pytest.raises(DeviceError, match=told):
        open_session(device="cuda", placement=GPU)


@pytest.mark.usefixtures("only_the_cpu_is_offered")
def test_the_cpu_is_no_fall_back_where_it_was_asked_for() -> None:
    """Asked for, or all that `auto` has, the CPU is the device, and nothing fell back."""
    for device in ("cpu", "auto"):
        made = open_session(device=device, placement=GPU)
        assert (made.device, made.fell_back, dict(made.operators)) == ("cpu", None, {})


@pytest.mark.usefixtures("cuda_is_offered")
def test_auto_takes_a_gpu_only_where_the_task_has_one() -> None:
    """`auto` asks for CUDA where the scheduler gave a GPU, tells where that failed, and never asks elsewhere."""
    assert open_session(device="auto").fell_back is None
    told = open_session(device="auto", placement=GPU).fell_back
    assert told is not None
    assert "onnxruntime took" in told


def test_a_model_of_which_nothing_runs_on_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has the GPU's provider and leaves all operators to the CPU is an error with their number."""
    part = SimpleNamespace(ep_name=CPU, get_nodes=lambda: ["MatMul", "Sigmoid"])
    taken = SimpleNamespace(get_providers=lambda: [CUDA, CPU], get_provider_graph_assignment_info=lambda: [part])
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: taken)
    with pytest.raises(DeviceError, match=r"none of the model's 2 operators can run there\. Ask for device cpu"):
        open_session(device="cuda")


def test_operators_are_counted_by_provider() -> None:
    """What the runtime says of which provider runs which operator is counted, the CPU's too."""
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    made = ort.InferenceSession(logistic_model(), settings, providers=[CPU])
    assert session._operators(made) == {CPU: 2}


def test_a_gpu_that_is_full_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that finds the GPU full is tried again: the worker of a killed task holds its memory a while."""
    slept: list[float] = []
    tries: list[int] = []

    def full(*_: Any, **__: Any) -> None:
        tries.append(1)
        text = "CUDA failure 2: out of memory"
        raise RuntimeError(text)

    # Of this module alone: threads of py4j sleep, too.
    monkeypatch.setattr("scoring.runtimes.onnx.session.time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", full)
    with pytest.raises(DeviceError, match="cannot use device cuda: CUDA failure 2: out of memory"):
        open_session(device="cuda")
    assert (slept, len(tries)) == ([2.0, 5.0], 3)


@pytest.mark.usefixtures("only_the_cpu_is_offered")
def test_two_distributions_that_shadow_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime and onnxruntime-gpu are both installed, the error says that they overwrite each other."""
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: object())
    told = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
    with pytest.raises(DeviceError, match=told):
        open_session(device="cuda")


def test_the_options_of_cuda_are_those_that_keep_memory_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA grows by what is asked, searches no convolution anew, rounds no product, and knows its part of memory."""
    monkeypatch.setattr(providers, "gpu_facts", lambda number: Gpu(f"H{number}", "9.0", 80 << 30))
    [(name, found)] = provider_options("cuda", RuntimeOptions(device="cuda"), GPU, model=[])
    assert name == CUDA
    assert found == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
        "gpu_mem_limit": str(36 * (1 << 30) - (1 << 29)),
    }
    [(_, found)] = provider_options("cuda", RuntimeOptions(tf32=True, gpu_memory_limit=10 << 30), HERE, model=[])
    assert (found["use_tf32"], found["device_id"], found["gpu_mem_limit"]) == ("1", "0", str(9 * (1 << 30) - (1 << 29)))


def test_memory_that_is_not_known_is_not_bounded() -> None:
    """Where neither driver nor job tells the memory of the GPU there is no limit, and too little is an error."""
    assert memory_limit(None, 4) is None
    assert memory_limit(16 << 30, 1) == int(0.9 * (16 << 30)) - (512 << 20)
    with pytest.raises(DeviceError, match="too small for 32 workers"):
        memory_limit(16 << 30, 32)


def test_engines_are_kept_by_all_that_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's engines lie in this user's folder by model, weights, kind of GPU and precision; CUDA comes second."""

    def folder(gpu: Gpu, *model: bytes, fp16: bool = False) -> str:
        monkeypatch.setattr(providers, "gpu_facts", lambda _: gpu)
        options = RuntimeOptions(device="tensorrt", tensorrt_fp16=fp16, engine_cache=str(tmp_path / "engines"))
        [(name, found), (second, _)] = provider_options("tensorrt", options, GPU, model=map(memoryview, model))
        assert (name, second) == (TENSORRT, CUDA)
        assert (found["trt_engine_cache_enable"], found["trt_fp16_enable"]) == ("1", str(int(fp16)))
        assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"]
        return found["trt_engine_cache_path"]

    small, large = Gpu("T4", "7.5", 16 << 30), Gpu("H100", "9.0", 80 << 30)
    made = [folder(small, b"a"), folder(large, b"a"), folder(small, b"b"), folder(small, b"a", b"w")]
    made.append(folder(small, b"a", fp16=True))
    assert len(set(made)) == len(made)
    assert folder(small, b"a") == made[0]
    assert all(part.stat().st_mode & 0o077 == 0 for part in tmp_path.glob("engines/*/*"))


def test_the_driver_is_asked_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, capability and memory come from the driver's calls, by the number that CUDA gives the GPU."""

    class Driver:
        """Answers as libcuda does: by reference, and with 0 for success."""

        def cuInit(self, flags: int) -> int:  # noqa: N802  the driver's names
            return flags

        def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
            device._obj.value = number + 40
            return 0 if number < 2 else 101

        def cuDeviceGetName(self, name: Any, _: int, device: ctypes.c_int) -> int:  # noqa: N802
            name.value = f"GPU {device.value}".encode()
            return 0

        def cuDeviceTotalMem_v2(self, memory: Any, _: ctypes.c_int) -> int:  # noqa: N802
            memory._obj.value = 80 << 30
            return 0

        def cuDeviceGetAttribute(self, value: Any, which: int, _: ctypes.c_int) -> int:  # noqa: N802
            value._obj.value = {75: 9, 76: 0}[which]
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver())
    assert gpu_facts(1) == Gpu("GPU 41", "9.0", 80 << 30)
    assert gpu_facts(2) is None


def test_without_a_driver_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no driver, no GPU is known, and nothing fails."""

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpu_facts(0) is None


@pytest.mark.parametrize(
    ("addresses", "visible", "device"),
    [
        ([], None, None),
        (["0"], None, 0),
        (["3"], None, 3),
        (["2", "1"], None, 2),
        # Narrowed to one: that is the task's, whatever it is called on the host.
        (["3"], "3", 0),
        (["1"], "0", 0),
        (["GPU-8a"], "GPU-8a", 0),
        (["5"], "MIG-1f", 0),
        ([], "2", 0),
        # Several are visible: CUDA numbers them by their places.
        (["3"], "2,3", 1),
        (["2"], "2, 3", 0),
        (["0"], "1,0", 1),
        (["1"], "GPU-a,GPU-b", 1),
        (["GPU-b"], "GPU-a,GPU-b", 1),
        ([], "0,1", None),
        # None is.
        (["0"], "", None),
        (["0"], "-1", None),
    ],
)
def test_a_tasks_gpu_is_numbered_as_cuda_does(addresses: list[str], visible: str | None, device: int | None) -> None:
    """The address that Spark gave becomes the number that CUDA has for it among those that are visible."""
    assert device_of(addresses, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == device


@pytest.mark.parametrize(("address", "visible"), [("GPU-c", None), ("GPU-c", "GPU-a,GPU-b"), ("4", "0,1")])
def test_an_address_that_is_no_visible_gpu_is_refused(address: str, visible: str | None) -> None:
    """An address that CUDA cannot know is an error, and not GPU 0."""
    with pytest.raises(DeviceError, match=f"Spark gave the task the GPU '{address}'"):
        device_of([address], {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})


@pytest.mark.usefixtures("only_the_cpu_is_offered")
def test_a_receipt_and_a_run_say_what_fell_back(tmp_path: Path) -> None:
    """A worker that ran on the CPU in place of a GPU says so in its receipt, and the run's totals count its splits."""
    work = Work(tmp_path, numbers(50), pieces=2, row_group=10)
    asked = RuntimeOptions(device="cuda", on_missing_gpu="cpu")
    order = work.make_order()
    order = order.model_copy(
        update={"models": tuple(one.model_copy(update={"runtime": asked}) for one in order.models)}
    )
    receipts = [score_split(order, split, GPU) for split in work.splits]
    for receipt in receipts:
        assert (receipt.worker.provider, receipt.worker.device_id) == (CPU, None)
        assert "device cuda was asked for" in str(receipt.worker.fell_back)
    plan: Any = SimpleNamespace(expectations=[])
    totals = totals_of(receipts, plan, {})
    assert totals["provider"] == CPU
    assert totals["fell_back"] == {receipts[0].worker.fell_back: len(work.splits)}
    assert totals_of(work.score(), plan, {})["fell_back"] == totals["fell_back"]  # they were scored already


def test_what_a_job_says_of_devices_reaches_the_worker() -> None:
    """Each setting of a job's `scoring` that a runtime has is in the options that a worker loads its model with."""
    said = {
        "device": "tensorrt",
        "on_missing_gpu": "cpu",
        "gpu_memory_limit": "16GiB",
        "tf32": True,
        "tensorrt_fp16": True,
        "engine_cache": "/engines",
        "profile": "/profiles",
        "log_severity": 2,
        "threads": 3,
    }
    options = Scoring.model_validate(said).runtime_options()
    assert options.gpu_memory_limit == 16 << 30
    assert options.intra_op_threads == 3
    same = said.keys() - {"gpu_memory_limit", "threads"}
    assert {name: getattr(options, name) for name in same} == {name: said[name] for name in same}


_JOB = """
import json, sys, time
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession
from scoring.spark.devices import task_placement, tasks_per_gpu

def place(_, sharing):
    from pyspark import TaskContext
    began = time.time()
    time.sleep(0.5)
    found = task_placement(sharing)
    address = TaskContext.get().resources()["gpu"].addresses
    yield [found.device_id, found.workers_per_device, address, began, time.time()]

spark = (
    SparkSession.builder.master("local-cluster[1,4,1024]").config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.worker.resource.gpu.amount", "2")
    .config("spark.worker.resource.gpu.discoveryScript", sys.argv[1])
    .config("spark.executor.resource.gpu.amount", "2").config("spark.task.resource.gpu.amount", "0.5")
    .config("spark.executor.memory", "512m").config("spark.executor.extraJavaOptions", "-XX:TieredStopAtLevel=1")
    .getOrCreate()
)
sharing = tasks_per_gpu(spark)
rows = spark.sparkContext.parallelize(range(6), 6)
alone = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource("gpu", 1)).build
print("FOUND", json.dumps(rows.mapPartitions(lambda part: place(part, sharing)).collect()))
print("FOUND", json.dumps(rows.withResources(alone).mapPartitions(lambda part: place(part, 1)).collect()))
spark.stop()
"""


class _Task(NamedTuple):
    """What a task says of itself."""

    device: int
    sharing: int
    given: list[str]
    began: float
    ended: float


@pytest.mark.servers
def test_tasks_run_on_the_gpus_that_spark_gave_them(tmp_path: Path) -> None:
    """Each task takes the address that Spark gave it, all GPUs are used, and at a time no more share one than said."""
    discovery = tmp_path / "gpus.sh"
    discovery.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["4", "7"]}'\n""")
    discovery.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", _JOB, str(discovery)]
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    found = [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    for sharing, answers in zip((2, 1), found, strict=True):
        tasks = [_Task(*answer) for answer in json.loads(answers)]
        assert [[str(task.device)] for task in tasks] == [task.given for task in tasks]
        assert {task.device for task in tasks} == {4, 7}
        assert {task.sharing for task in tasks} == {sharing}
        for task in tasks:
            beside = [
                other for other in tasks if other.device == task.device and other.began <= task.began < other.ended
            ]
            assert len(beside) <= sharing


@pytest.mark.parametrize(("amount", "tasks"), [(None, 1), ("1", 1), ("2", 1), ("0.5", 2), ("0.3333", 3), ("0.1", 10)])
def test_the_share_of_a_gpu_says_how_many_tasks_have_one(amount: str | None, tasks: int) -> None:
    """`spark.task.resource.gpu.amount` is a task's share of a GPU: its inverse is how many tasks share one."""
    session_like: Any = SimpleNamespace(conf=SimpleNamespace(get=lambda _, default: amount or default))
    assert tasks_per_gpu(session_like) == tasks
