"""Where a session runs: what was asked for, what there is, and the options of CUDA and TensorRT."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from scoring.errors import DeviceError
from scoring.private import private_folder
from scoring.runtimes.gpu import Gpu, gpu_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scoring.runtimes.base import Device, Placement, RuntimeOptions

__all__ = [
    "PROVIDERS",
    "available_providers",
    "chosen_device",
    "memory_limit",
    "provider_options",
    "why_no_gpu",
    "why_not_taken",
]

PROVIDERS: dict[Device, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What onnxruntime calls each device."""

ProviderOptions = tuple[str, dict[str, str]]

_SHARE = 0.9
_RESERVE = 512 << 20
"""Of each worker: CUDA's context and the workspaces of its libraries are not in the arena that can be bounded."""


def available_providers() -> list[str]:
    """The execution providers of this onnxruntime."""
    return list(ort.get_available_providers())


def chosen_device(options: RuntimeOptions, placement: Placement) -> tuple[Device, str | None]:
    """The device to load on, and why it is the CPU where a GPU was asked for.

    Raises:
        DeviceError: this onnxruntime cannot use the device, and the CPU may not take its place.
    """
    here = available_providers()
    if options.device == "auto":
        has_gpu = placement.device_id is not None and PROVIDERS["cuda"] in here
        return ("cuda" if has_gpu else "cpu"), None
    if PROVIDERS[options.device] in here:
        return options.device, None
    reason = f"device {options.device} was asked for, onnxruntime {ort.__version__} has {', '.join(here)}. {_advice()}"
    if options.on_missing_gpu == "cpu":
        return "cpu", reason
    raise DeviceError(f"{reason} Or ask for device cpu, or for `on_missing_gpu: cpu`.")


def _advice() -> str:
    """Both distributions are one module: the one installed last is there, and nothing says so."""
    if len(_distributions()) > 1:
        return (
            f"{' and '.join(_distributions())} are both installed and overwrite each other: uninstall both, then "
            "install onnxruntime-gpu alone."
        )
    return (
        "Install onnxruntime-gpu in place of onnxruntime, in the Python of the workers (`batchscore pack`, then "
        "--environment); let executors have GPUs (spark-submit.sh --gpus N); `--doctor` tells what each worker has."
    )


def _distributions() -> list[str]:
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def why_no_gpu(placement: Placement) -> str:
    """What to do where the driver shows no GPU of a task's number; nothing where it does."""
    number = placement.device_id or 0
    if gpu_facts(number) is not None:
        return ""
    return f" NVIDIA's driver shows no GPU {number} here: see what nvidia-smi says on this machine."


def why_not_taken(placement: Placement, taken: str) -> str:
    """Why onnxruntime took another provider than the one that was asked for, and what to do."""
    if taken == PROVIDERS["cuda"]:
        return " TensorRT's own libraries are missing, or too old: install tensorrt; the task's log names the library."
    return why_no_gpu(placement) or (
        " The driver shows the GPU, so it is libraries of CUDA or cuDNN that are missing or too old: install "
        "onnxruntime-gpu[cuda,cudnn]; the task's log names the library."
    )


def memory_limit(memory: int | None, workers: int) -> int | None:
    """Bytes that a worker's arena may have: its part of 9/10 of the GPU, less 0.5 GB; None where that is not known.

    Raises:
        DeviceError: nothing would be left.
    """
    if memory is None:
        return None
    limit = int(memory * _SHARE / workers) - _RESERVE
    if limit <= 0:
        message = (
            f"a GPU of {memory:,} bytes is too small for {workers} workers: each needs {_RESERVE:,} bytes for CUDA "
            "itself. Raise spark.task.resource.gpu.amount, so that fewer tasks share a GPU."
        )
        raise DeviceError(message)
    return limit


def provider_options(
    device: Device, options: RuntimeOptions, placement: Placement, *, model: Iterable[memoryview]
) -> list[ProviderOptions]:
    """Providers in the order of preference, with their options; `model` is all that an engine is built from."""
    if device == "cpu":
        return [(PROVIDERS["cpu"], {})]
    number = placement.device_id or 0
    gpu = gpu_facts(number)
    memory = options.gpu_memory_limit or (gpu.memory if gpu is not None else None)
    cuda = {
        "device_id": str(number),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": str(int(options.tf32)),
    }
    if (limit := memory_limit(memory, placement.workers_per_device)) is not None:
        cuda["gpu_mem_limit"] = str(limit)
    providers = [(PROVIDERS["cuda"], cuda)]
    if device == "tensorrt":
        folder = str(_engine_folder(options, gpu, model))
        tensorrt = {
            "device_id": str(number),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            "trt_fp16_enable": str(int(options.tensorrt_fp16)),
        }
        providers.insert(0, (PROVIDERS["tensorrt"], tensorrt))
    return providers


def _engine_folder(options: RuntimeOptions, gpu: Gpu | None, model: Iterable[memoryview]) -> Path:
    """Where engines of one model, one kind of GPU and one version of all that builds them lie.

    Engines are machine code: the folder is this user's alone.
    """
    digest = hashlib.sha256()
    for part in model:
        digest.update(part)
    made_by = [f"ort{ort.__version__}", f"trt{_tensorrt_version()}", f"sm{gpu.capability}" if gpu else "sm"]
    made_by.append(gpu.name.replace(" ", "-").replace("/", "-") if gpu else "gpu")
    made_by.append("fp16" if options.tensorrt_fp16 else "fp32")
    base = Path(options.engine_cache) if options.engine_cache else _cache_home() / "batchscore" / "engines"
    mine = base.absolute() / f"batchscore-{os.geteuid()}"
    for folder in (mine, mine / digest.hexdigest(), mine / digest.hexdigest() / "_".join(made_by)):
        private_folder(folder, instead="So no engine is kept here: set scoring.engine_cache to another folder.")
    return folder


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _tensorrt_version() -> str:
    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
