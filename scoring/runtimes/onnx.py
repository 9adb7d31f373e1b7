"""onnxruntime, and nothing else imports it: a session from bytes, on the device that was asked for or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from scoring.errors import BundleError, DeviceError, InferenceError
from scoring.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scoring.runtimes.base import RuntimeOptions

__all__ = ["Session"]

_PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}


class Session:
    """A loaded model."""

    def __init__(self, model: bytes, options: RuntimeOptions, where: str) -> None:
        """Load the model.

        Raises:
            DeviceError: the device is not there, or the runtime did not take it.
            BundleError: the bytes are no model that this runtime can load.
        """
        provider = _PROVIDERS[options.device]
        available = ort.get_available_providers()
        if provider not in available:
            message = (
                f"device {options.device} was asked for, onnxruntime {ort.__version__} has {', '.join(available)}. "
                "Install onnxruntime-gpu in place of onnxruntime, or ask for device cpu."
            )
            raise DeviceError(message)
        try:
            self._session = ort.InferenceSession(model, _session_options(options), providers=[provider])
        except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
            message = f"{where}: onnxruntime {ort.__version__} cannot load this model: {error}."
            if "xternal data" in str(error):
                message += " Save it with its weights inside: a file beside it would not be audited."
            raise BundleError(message) from error
        self.provider: str = self._session.get_providers()[0]
        if self.provider != provider:
            message = f"{where}: {provider} was asked for, onnxruntime took {self.provider}. Its log says why."
            raise DeviceError(message)
        self.signature = Signature(
            inputs=tuple(_tensor(node, where) for node in self._session.get_inputs()),
            outputs=tuple(_tensor(node, where) for node in self._session.get_outputs()),
        )
        self._output_names = [tensor.name for tensor in self.signature.outputs]

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Outputs by name, those of `names` or all.

        Raises:
            InferenceError: the runtime failed; the message is its own.
        """
        wanted = list(names) or self._output_names
        try:
            values = self._session.run(wanted, dict(feeds))
        except Exception as error:  # see above
            message = f"the model failed: {error}"
            raise InferenceError(message) from error
        return dict(zip(wanted, (np.asarray(value) for value in values), strict=True))


def _session_options(options: RuntimeOptions) -> ort.SessionOptions:
    """Fixed thread counts and no spinning: the runtime would take every core of the host for each worker."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads
    made.inter_op_num_threads = 1
    made.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.log_severity_level = 3
    # Weights in a file beside the model would be read from the current folder, unaudited: let none be found.
    made.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return made


def _tensor(node: ort.NodeArg, where: str) -> TensorSpec:
    if node.type not in _DTYPES:
        message = f"{where}: tensor {node.name} has type {node.type}, which this release cannot feed or read."
        raise BundleError(message)
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)
