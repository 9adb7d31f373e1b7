"""What every runtime is: options in, a loaded model out, and tensors by name through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from etl.documents import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from scoring.signature import Signature

__all__ = ["Device", "Runtime", "RuntimeOptions"]

Device = Literal["cpu", "cuda"]
"""Where the model runs."""


class RuntimeOptions(Strict):
    """What a model is loaded with; part of the key under which it is kept."""

    device: Device = "cpu"
    intra_op_threads: int = Field(default=1, ge=1, description="Threads of one operator: the task's cores.")


class Runtime(Protocol):
    """A loaded model. It may be used by one thread at a time."""

    signature: Signature
    """What the model takes and gives."""
    provider: str
    """What runs it, e.g. onnxruntime's execution provider."""

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Outputs by name, those of `names` or all; the first axis of each is the rows.

        Raises:
            InferenceError: the model failed; the message is the runtime's own.
        """
