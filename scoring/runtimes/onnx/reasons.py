"""What onnxruntime says, told so that one knows what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnxruntime as ort

if TYPE_CHECKING:
    from scoring.runtimes.onnx.graph import Graph

__all__ = ["is_out_of_memory", "why_not_loaded"]

_OUT_OF_MEMORY = re.compile(
    r"Failed to allocate memory|bad_alloc|out of memory|OOM|ALLOC_FAILED|Available memory of \S+ is smaller than"
    r"|cudaErrorMemoryAllocation|CUDA failure 2:|MemoryError",
    re.IGNORECASE,
)
"""The CPU's arena, the host, and CUDA with its libraries each have their own words for it."""

_NEWER = "Install a newer onnxruntime, or"
_KNOWN = {
    r"Unsupported model IR version: (\d+), max supported IR version: (\d+)": (
        "it is written in ONNX IR version {1}, and this runtime reads up to {2}. "
        f"{_NEWER} save the model with `ir_version` {{2}} or less."
    ),
    r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)": (
        "it uses opset {1} of {2}, and this runtime knows up to {3}. "
        f"{_NEWER} export the model with opset {{3}} or less."
    ),
    r"(\S+):(\S+)\(-?\d+\) is not a registered function/op": (
        "it has operator {2} of domain {1}, which is no operator of this runtime. Operators of others are libraries of "
        "machine code, which a bundle cannot bring: export the model with standard operators."
    ),
    r"No Op registered for (\S+) with domain_version of (\d+)": (
        f"opset {{2}} has no operator {{1}} that this runtime knows. {_NEWER} export the model to another opset."
    ),
    r"Could not find an implementation for (\S+)\((\d+)\) node": (
        "this runtime has no code for operator {1} (of opset {2}) with the types that it is used with. Export the "
        "model with another type, float32 say."
    ),
    r"Initializer '([^']*)' declares a size of (\d+) bytes which exceeds": (
        "its tensor {1} has {2} bytes. Of a model whose weights were audited this runtime takes no single tensor above "
        "2 GiB, though as many of less as there are: split it, or keep it in float16."
    ),
    r"External initializer: (\S+) .*out of bounds": "the file of its tensor {1} is shorter than the model says.",
}
"""What is wrong, by the runtime's words for it; numbers are groups of the pattern."""
_NO_FILE = re.compile(r"External file: (\S+) not found|External data path does not exist: \"[^\"]*/([^\"/]+)\"")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the runtime says that there was not enough memory."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def why_not_loaded(error: BaseException, graph: Graph) -> str:
    """Why a model cannot be loaded, and what to do; the runtime's own words where they are all that is known."""
    text, here = str(error), f"onnxruntime {ort.__version__} cannot load this model"
    if found := _NO_FILE.search(text):
        return f"{here}: {_without_weights(found[1] or found[2])}"
    for pattern, told in _KNOWN.items():
        if found := re.search(pattern, text, re.DOTALL):
            return f"{here}: {told.format(found[0], *found.groups())}"
    # What is no model at all has no version.
    return f"{here} ({graph}): {text}." if graph.ir_version else f"{here}: {text}."


def _without_weights(name: str) -> str:
    lies = f"its weights lie beside it in {name}"
    if not hasattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory"):
        return (
            f"{lies}, and this runtime cannot be given weights that were audited. {_NEWER} save the model with its "
            "weights inside."
        )
    return (
        f"{lies}, which is no file of this bundle. What is not in `files` of bundle.json was not audited and is not "
        "read: make the bundle with that file, or save the model with its weights inside."
    )
