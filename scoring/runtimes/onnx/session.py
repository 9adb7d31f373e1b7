"""A session of onnxruntime: from audited bytes, on the device that was asked for or with a word about it."""

from __future__ import annotations

import mmap
import os
import platform
import posixpath
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort

from scoring.errors import BundleError, DeviceError, InferenceError, OutOfMemory
from scoring.runtimes.base import HERE
from scoring.runtimes.onnx.graph import Graph, Zipped, listed, rewritten, widened
from scoring.runtimes.onnx.providers import PROVIDERS, chosen_device, provider_options, why_no_gpu, why_not_taken
from scoring.runtimes.onnx.reasons import is_out_of_memory, why_not_loaded
from scoring.runtimes.onnx.tensors import fed, input_spec, output_spec, sequence, unfolded, zipped_spec
from scoring.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scoring.runtimes.base import Device, Placement, RuntimeOptions

__all__ = ["Session", "load_onnx"]

Weights = bytes | mmap.mmap

_RETRY_SECONDS = (2.0, 5.0)
"""A task that was killed may hold its memory of the GPU a while longer."""
_ERROR = 3
"""Of onnxruntime's severities."""
_GPU_WORDS = ("cuda", "cudnn", "cublas", "tensorrt", "gpu")
_LEAKS_ON_ARM = ((1, 24, 1), (1, 27, 0))
"""From which onnxruntime and before which one its convolutions with KleidiAI lose memory at each run."""


def load_onnx(
    model: str, files: Mapping[str, Weights], options: RuntimeOptions, *, where: str, placement: Placement = HERE
) -> Session:
    """The model of a bundle; its weights may lie in other files of the bundle, named relative to the model's folder."""
    folder = posixpath.dirname(model)
    beside = {posixpath.relpath(name, folder or "."): data for name, data in files.items() if name != model}
    return Session(files[model], options, where, beside=beside, placement=placement)


class _File(NamedTuple):
    """What a session is made from."""

    model: bytes
    graph: Graph
    beside: Mapping[str, Weights]
    where: str


class Session:
    """A loaded model."""

    def __init__(
        self,
        model: Weights,
        options: RuntimeOptions,
        where: str,
        *,
        beside: Mapping[str, Weights] | None = None,
        placement: Placement = HERE,
    ) -> None:
        """Load the model. No file is read: weights that lie beside it are given in `beside`, by the model's names.

        Raises:
            DeviceError: the device is not there, or the runtime did not take it.
            BundleError: the bytes are no model that this runtime can load.
        """
        data, graph = rewritten(model)
        file = _File(data, graph, beside or {}, where)
        self.device: Device
        self.fell_back: str | None
        self._session: ort.InferenceSession | None
        self._session, self.device, self.fell_back = _opened(file, options, placement)
        self.provider: str = PROVIDERS[self.device]
        self.operators: Mapping[str, int] = _operators(self._session) if self.device != "cpu" else {}
        """Operators by the provider that runs them; empty where the runtime does not tell."""
        self._is_profiled = options.profile is not None
        self._zipped = graph.zipped
        self._fetched = {
            **{name: widened(name) for name in graph.bfloat16},
            **{name: zipped.tensor for name, zipped in graph.zipped.items()},
            **{listed(name, at): fed for name, tensors in graph.listed.items() for at, fed in enumerate(tensors)},
        }
        """By output that is had in another form: the name of that form."""
        self.signature = _signature(self._session, graph, where)
        self._inputs = {tensor.name: tensor.dtype for tensor in self.signature.inputs}
        self._outputs = {tensor.name: tensor for tensor in self.signature.outputs}
        self._maps = {node.name for node in self._session.get_outputs() if node.type.startswith("seq(map(")}

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Outputs by name, those of `names` or all.

        bfloat16 is fed as its bits in uint16, and comes back as float32. Maps come back as (rows, k) float32, a
        sequence of tensors as an array of arrays.

        Raises:
            OutOfMemory: there was not enough memory for so many rows.
            InferenceError: the runtime failed; the message is its own. Or the rows' maps have different keys.
        """
        if self._session is None:
            message = "the model failed: it was closed"
            raise InferenceError(message)
        wanted = list(names) or list(self._outputs)
        fetched = [self._fetched.get(name, name) for name in wanted]
        given = {name: fed(values, self._inputs.get(name, "")) for name, values in feeds.items()}
        try:
            values = self._session.run(fetched, given)
        except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
            message = f"the model failed: {error}"
            raise (OutOfMemory if is_out_of_memory(error) else InferenceError)(message) from error
        return {name: self._read(name, value) for name, value in zip(wanted, values, strict=True)}

    def _read(self, name: str, value: Any) -> np.ndarray:
        if zipped := self._zipped.get(name):
            return _in_order(value, zipped)
        if name in self._maps:
            return self._unfolded(name, value)
        if self._outputs[name].sequence:
            return sequence(value)
        return np.asarray(value)

    def _unfolded(self, name: str, maps: list[dict[Any, float]]) -> np.ndarray:
        """Maps of an unknown maker: the first ones tell the keys, which every later one must have."""
        known = self._outputs[name].keys
        values, keys = unfolded(maps, name)
        if known is None and maps:
            learned = self._outputs[name].model_copy(update={"keys": keys, "shape": (None, len(keys))})
            self._outputs[name] = learned
            self.signature = self.signature.model_copy(update={"outputs": tuple(self._outputs.values())})
        elif known is not None and maps and keys != known:
            message = f"the model failed: the keys of its output {name} are not those of earlier rows"
            raise InferenceError(message)
        return values.reshape(0, len(known)) if known is not None and not maps else values

    def warm_up(self) -> None:
        """Run once on a row of zeros or empty texts; that the model fails on them says nothing of it."""
        feeds = {}
        for tensor in self.signature.inputs:
            shape = tuple(1 if size is None else size for size in tensor.shape)
            dtype = {"string": "object", "bfloat16": "uint16"}.get(tensor.dtype, tensor.dtype)
            feeds[tensor.name] = np.full(shape, "" if tensor.dtype == "string" else 0, dtype)
        try:
            self.predict(feeds)
        except InferenceError:
            return

    def end_profile(self) -> str | None:
        """End the runtime's profile, where one was asked for and not yet ended: the file that it lies in."""
        if self._session is None or not self._is_profiled:
            return None
        self._is_profiled = False
        found: str = self._session.end_profiling()
        return found

    def close(self) -> None:
        """Free the model. It cannot be used any more; to close it again does nothing."""
        self.end_profile()
        self._session = None


def _opened(
    file: _File, options: RuntimeOptions, placement: Placement
) -> tuple[ort.InferenceSession, Device, str | None]:
    """A session, its device, and why that is the CPU where a GPU was asked for."""
    device, fell_back = chosen_device(options, placement)
    if device == "cpu":
        return _made(file, options, placement, device=device), device, fell_back
    try:
        return _on_gpu(file, options, placement, device=device), device, None
    except DeviceError as error:
        if options.device != "auto" and options.on_missing_gpu == "fail":
            raise
        return _made(file, options, placement, device="cpu"), "cpu", str(error)


def _on_gpu(file: _File, options: RuntimeOptions, placement: Placement, *, device: Device) -> ort.InferenceSession:
    """A session that runs on the GPU, at least in part: the runtime leaves to the CPU what only makes shapes.

    `session.disable_cpu_ep_fallback` would refuse a model for each operator that makes a shape.
    """
    # What belongs to no session: that CUDA is no plugin is nobody's business, that its libraries are not there is.
    ort.set_default_logger_severity(min(options.log_severity, _ERROR))
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    session = _with_retries(file, options, placement, device=device)
    provider, taken = PROVIDERS[device], session.get_providers()[0]
    if taken != provider:
        message = f"{file.where}: {provider} was asked for, onnxruntime took {taken}.{why_not_taken(placement, taken)}"
        raise DeviceError(message)
    operators = _operators(session)
    if operators and set(operators) == {PROVIDERS["cpu"]}:
        message = (
            f"{file.where}: {provider} was asked for, and none of the model's {operators[PROVIDERS['cpu']]} operators "
            "can run there. Ask for device cpu."
        )
        raise DeviceError(message)
    return session


def _with_retries(file: _File, options: RuntimeOptions, placement: Placement, *, device: Device) -> Any:
    for seconds in _RETRY_SECONDS:
        try:
            return _made(file, options, placement, device=device)
        except _NoMemory:
            time.sleep(seconds)
    return _made(file, options, placement, device=device)


class _NoMemory(DeviceError):
    """The GPU has not enough memory for the model."""


def _made(file: _File, options: RuntimeOptions, placement: Placement, *, device: Device) -> ort.InferenceSession:
    """Raises DeviceError where it is for the GPU that there is no session, else BundleError."""
    parts = [memoryview(data) for data in (file.model, *(file.beside[name] for name in sorted(file.beside)))]
    providers = provider_options(device, options, placement, model=parts)
    settings = _session_options(options, device, threads=options.intra_op_threads or placement.cores)
    if file.beside and hasattr(settings, "add_external_initializers_from_files_in_memory"):
        names, buffers = list(file.beside), list(file.beside.values())
        settings.add_external_initializers_from_files_in_memory(names, buffers, [len(data) for data in buffers])
    try:
        session = ort.InferenceSession(file.model, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
        if device != "cpu" and any(word in str(error).lower() for word in _GPU_WORDS):
            is_full = is_out_of_memory(error)
            why = "" if is_full else why_no_gpu(placement)
            message = f"{file.where}: onnxruntime {ort.__version__} cannot use device {device}: {error}.{why}"
            raise (_NoMemory if is_full else DeviceError)(message) from error
        raise BundleError(f"{file.where}: {why_not_loaded(error, file.graph)}") from error
    session._model_bytes = None  # noqa: SLF001  kept to open it anew with other providers, which nobody does here
    for data in file.beside.values():
        if isinstance(data, mmap.mmap):
            data.madvise(mmap.MADV_DONTNEED)  # the runtime has its own copy; these pages can be had again from the file
    return session


def _session_options(options: RuntimeOptions, device: Device, *, threads: int) -> ort.SessionOptions:
    """Fixed thread counts and no spinning: the runtime would take every core of the host for each worker."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.inter_op_num_threads = 1
    made.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    made.log_severity_level = options.log_severity
    entries = {
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        # Weights in a file beside the model would be read from the current folder, unaudited: let none be found.
        "session.model_external_initializers_file_folder_path": os.devnull,
    }
    if device != "cpu":
        entries["session.record_ep_graph_assignment_info"] = "1"
    if loses_memory(ort.__version__, platform.machine()):
        entries["mlas.disable_kleidiai"] = "1"
    for key, value in entries.items():
        made.add_session_config_entry(key, value)
    if options.profile is not None:
        Path(options.profile).mkdir(mode=0o700, parents=True, exist_ok=True)
        made.enable_profiling = True
        made.profile_file_prefix = f"{options.profile}/onnxruntime-{os.getpid()}"
    return made


def loses_memory(version: str, machine: str) -> bool:
    """Whether this onnxruntime loses memory at each run on such a machine, unless KleidiAI is off."""
    first, fixed = _LEAKS_ON_ARM
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return machine in {"aarch64", "arm64"} and first <= numbers < fixed


def _operators(session: ort.InferenceSession) -> dict[str, int]:
    """How many operators each provider runs; empty where this onnxruntime does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name] += len(part.get_nodes())
    return dict(found)


def _signature(session: ort.InferenceSession, graph: Graph, where: str) -> Signature:
    """Of the model as it was before outputs were rewritten, in the graph's order."""
    inputs = tuple(input_spec(node, where) for node in session.get_inputs())
    nodes = {node.name: node for node in session.get_outputs()}
    outputs: list[TensorSpec] = []
    for name in graph.outputs or nodes:
        if name in graph.zipped:
            outputs.append(zipped_spec(name, graph.zipped[name]))
        elif name in graph.listed:
            specs = [output_spec(nodes[tensor], where) for tensor in graph.listed[name]]
            outputs += [spec.model_copy(update={"name": listed(name, at)}) for at, spec in enumerate(specs)]
        else:
            outputs.append(output_spec(nodes[name], where))
    return Signature(inputs=inputs, outputs=tuple(outputs))


def _in_order(values: np.ndarray, zipped: Zipped) -> np.ndarray:
    """The columns in the order of their keys."""
    order = sorted(range(len(zipped.keys)), key=zipped.keys.__getitem__)
    return values if order == list(range(len(order))) else values[:, order]
