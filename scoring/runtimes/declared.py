"""A model behind its signature: what it is fed and what it gives is checked by name, type and shape, in one place.

onnxruntime does this itself. Other libraries take a float64 for a float32 and a transposed matrix without a word.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import BundleError, DeviceError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scoring.runtimes.base import Device, RuntimeOptions, Trusted
    from scoring.signature import Signature, TensorSpec

__all__ = ["DeclaredModel", "cpu_only", "needs_trust"]

_WARM_UP_ROWS = 2


class DeclaredModel(ABC):
    """A loaded model of a library that does not check its calls; a `Runtime` in all but how it computes."""

    device: Device = "cpu"
    fell_back: str | None = None
    operators: Mapping[str, int] = MappingProxyType({})

    def __init__(self, signature: Signature, provider: str) -> None:
        """`provider` says what runs it, e.g. `torch 2.15.0`."""
        self.signature = signature
        self.provider = provider
        self._inputs = {tensor.name: tensor for tensor in signature.inputs}
        self._outputs = {tensor.name: tensor for tensor in signature.outputs}
        self._is_open = True

    @abstractmethod
    def _run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All outputs by name. Errors are InferenceErrors."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of what the library holds."""

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Outputs by name, those of `names` or all; the first axis of each is the rows.

        Raises:
            OutOfMemory: there was not enough memory for so many rows; fewer may do.
            InferenceError: the model failed; the message is the library's own. Or it was fed, or it gave, something
                else than its signature says.
        """
        if not self._is_open:
            raise InferenceError("the model failed: it was closed")
        wanted = list(names) or list(self._outputs)
        if unknown := [name for name in wanted if name not in self._outputs]:
            raise InferenceError(f"the model has no output {unknown[0]!r}; it gives {', '.join(self._outputs)}")
        given = self._run(self._fed(feeds))
        return {name: _given(given, self._outputs[name]) for name in wanted}

    def _fed(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The feeds in the signature's order."""
        if feeds.keys() != self._inputs.keys():
            found = ", ".join(sorted(feeds)) or "nothing"
            raise InferenceError(f"the model takes {', '.join(self._inputs)}; it was fed with {found}")
        for name, tensor in self._inputs.items():
            if _kind(feeds[name]) != tensor.dtype or not _fits(feeds[name].shape, tensor.shape):
                raise InferenceError(f"model input {tensor} was fed with {_told(feeds[name])}")
        if len({feeds[name].shape[0] for name in self._inputs}) > 1:
            rows = ", ".join(f"{name} {feeds[name].shape[0]}" for name in self._inputs)
            raise InferenceError(f"the model was fed with inputs of several numbers of rows: {rows}")
        return {name: feeds[name] for name in self._inputs}

    def end_profile(self) -> str | None:
        """There is none: of these libraries none writes a profile by itself."""
        return None

    def warm_up(self) -> None:
        """Run once on rows of zeros or empty texts, so that the first real ones do not wait; a failure is no error."""
        feeds = {}
        for name, tensor in self._inputs.items():
            shape = (_WARM_UP_ROWS, *(1 if size is None else size for size in tensor.shape[1:]))
            feeds[name] = (
                np.full(shape, "", dtype=object) if tensor.dtype == "string" else np.zeros(shape, tensor.dtype)
            )
        try:
            self.predict(feeds)
        except InferenceError:
            return

    def close(self) -> None:
        """Free what it holds. It cannot be used any more; to close it again does nothing."""
        if self._is_open:
            self._is_open = False
            self._release()


def cpu_only(options: RuntimeOptions, what: str) -> str | None:
    """Why a runtime that has no use for a GPU runs on the CPU though one was asked for; None where none was.

    Raises:
        DeviceError: a GPU was asked for, and the CPU will not do.
    """
    if options.device in {"auto", "cpu"}:
        return None
    reason = f"device {options.device} was asked for, {what} runs on the CPU only"
    if options.on_missing_gpu == "cpu":
        return reason
    raise DeviceError(f"{reason}. Ask for device cpu, or export the model to ONNX.")


def needs_trust(options: RuntimeOptions, kind: Trusted, what: str) -> None:
    """See that the job lets models of a kind run code of their own, before any byte of one is read.

    Raises:
        BundleError: it does not.
    """
    if kind not in options.trust:
        message = (
            f"{what} can run any code of its own when it is loaded, and this job does not allow that. If you know who "
            f"made the bundle, set `scoring.trust: [{kind}]`. A model in ONNX needs no trust."
        )
        raise BundleError(message)


def _given(given: Mapping[str, np.ndarray], tensor: TensorSpec) -> np.ndarray:
    """An output as the signature declares it. A number may become wider or narrower, never of another kind."""
    if tensor.name not in given:
        found = ", ".join(given) or "nothing"
        raise InferenceError(f"the model gave no {tensor.name!r}, which its signature declares; it gave {found}")
    values = given[tensor.name]
    if _kind(values) != tensor.dtype:
        is_number = tensor.dtype != "string" and np.can_cast(values.dtype, tensor.dtype, casting="same_kind")
        if not is_number:
            raise InferenceError(f"model output {tensor} came as {_told(values)}")
        values = values.astype(tensor.dtype)
    if not _fits(values.shape, tensor.shape):
        raise InferenceError(f"model output {tensor} came as {_told(values)}")
    return values


def _kind(values: np.ndarray) -> str:
    """The name of an array's type in a signature."""
    return "string" if values.dtype.kind in "OUT" else values.dtype.name


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        size in {None, found} for size, found in zip(declared, shape, strict=True)
    )


def _told(values: np.ndarray) -> str:
    return f"{_kind(values)} of shape {list(values.shape)}"
