"""What every runtime is: options in, a loaded model out, and tensors by name through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pydantic import Field

from etl.documents import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from scoring.signature import Signature

__all__ = ["HERE", "Device", "DeviceChoice", "Kind", "Placement", "Runtime", "RuntimeOptions", "Trusted"]

Device = Literal["cpu", "cuda", "tensorrt"]
"""Where a model runs."""
DeviceChoice = Literal["auto", "cpu", "cuda", "tensorrt"]
"""Where a model may run: `auto` is cuda where the task has a GPU and the runtime can use it, else cpu."""

Kind = Literal["onnx", "numpy", "torch", "pyfunc"]
"""A runtime, as a bundle asks for it."""
Trusted = Literal["torch_program", "pyfunc"]
"""A kind of model file that can hold code and is run as such: no check of it can tell what it does."""


class RuntimeOptions(Strict):
    """What a model is loaded with; part of the key under which it is kept."""

    device: DeviceChoice = "cpu"
    on_missing_gpu: Literal["fail", "cpu"] = Field(
        default="fail",
        description="Where cuda or tensorrt was asked for and cannot be had: fail, or run on the CPU and say so.",
    )
    intra_op_threads: int | None = Field(
        default=None, ge=1, description="Threads of one operator. None: as many as the task has cores."
    )
    gpu_memory_limit: int | None = Field(
        default=None,
        ge=1,
        description="Bytes of one GPU that its workers share; each gets its part. None for all that it has.",
    )
    tf32: bool = Field(
        default=False, description="Products on the GPU in TensorFloat-32: quicker, 10 bits of fraction."
    )
    tensorrt_fp16: bool = Field(default=False, description="TensorRT may compute in float16.")
    engine_cache: str | None = Field(
        default=None, description="Folder of this host for TensorRT's engines. None: the host's folder for caches."
    )
    profile: str | None = Field(
        default=None, description="Folder of the worker's host for the runtime's own profile; None for none."
    )
    log_severity: int = Field(
        default=4,
        ge=0,
        le=4,
        description="Least that the runtime logs: 0 verbose, 2 warning, 3 error, 4 fatal.",
    )
    trust: tuple[Trusted, ...] = Field(
        default=(),
        description="Kinds of models that may run code of their own. A bundle that has such a model is not loaded "
        "without: that is for the job to say, never for a bundle.",
    )


class Placement(NamedTuple):
    """Where a task may run a model: what the scheduler gave it. Unlike the options, it differs from task to task."""

    device_id: int | None = None
    """Number of the GPU as the runtime counts them; None where the scheduler gave the task none."""
    workers_per_device: int = 1
    """Tasks that share the GPU at a time, and so its memory."""
    cores: int = 1
    """Cores that the scheduler gave the task."""


HERE = Placement()
"""No GPU was given."""


class Runtime(Protocol):
    """A loaded model. It may be used by one thread at a time."""

    signature: Signature
    """What the model takes and gives."""
    device: Device
    """Where it runs, whatever was asked for."""
    provider: str
    """What runs it, e.g. onnxruntime's execution provider."""
    fell_back: str | None
    """Why it runs on the CPU though a GPU was asked for; None where it runs as asked."""
    operators: Mapping[str, int]
    """On a GPU, operators of the model by the provider that runs them; empty where that is not known."""

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Outputs by name, those of `names` or all; the first axis of each is the rows.

        Raises:
            OutOfMemory: there was not enough memory for so many rows; fewer may do.
            InferenceError: the model failed; the message is the runtime's own.
        """

    def warm_up(self) -> None:
        """Run once on made-up rows, so that the first real ones do not wait; that they do not fit is no error."""

    def end_profile(self) -> str | None:
        """End the runtime's own profile and give its file; None where none was asked for, or it was ended before."""

    def close(self) -> None:
        """Free what it holds. It cannot be used any more; to close it again does nothing."""
