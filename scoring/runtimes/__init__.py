"""What runs a model: one file a runtime, behind two verbs, `load` and `predict`. Each is imported when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scoring.runtimes.base import Runtime, RuntimeOptions

__all__ = ["load"]


def load(model: str, files: Mapping[str, bytes], options: RuntimeOptions, *, where: str) -> Runtime:
    """Load a model: the file of this name among those of its bundle, whose digests were checked.

    Raises:
        DeviceError: the device is not there, or the runtime did not take it.
        BundleError: the runtime cannot load the model.
    """
    from scoring.runtimes.onnx import Session  # noqa: PLC0415  a runtime is imported when a model asks for it

    return Session(files[model], options, f"{where}/{model}")
