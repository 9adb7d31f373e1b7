"""torch, and nothing else imports it: a program of `torch.export`, or an installed module with weights of safetensors.

A module's weights are data, and its class is of the environment: nothing of the bundle runs. A program (.pt2) is not:
`torch.export.load` of torch 2.15 unpickles what is marked so in the archive, reads formulas of sizes with
`sympy.sympify`, which evaluates, and looks up what a node calls by any dotted path below `torch`. So a program is
loaded where the job trusts programs, and not otherwise.
"""

from __future__ import annotations

import importlib
import io
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, JsonValue, model_validator
from torch.export.passes import move_to_device_pass
from torch.utils import _pytree as pytree

from etl.documents import Document
from etl.errors import DocumentError
from scoring.errors import BundleError, DeviceError, InferenceError, OutOfMemory
from scoring.runtimes.declared import DeclaredModel, needs_trust
from scoring.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from scoring.runtimes.base import Placement, RuntimeOptions

__all__ = ["TorchCallable", "TorchModel", "TorchRuntime", "load_callable", "load_torch"]

_NAMES = {
    torch.float16: "float16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "float32",  # numpy has none; each is a float32
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
_TYPES = {name: type_ for type_, name in _NAMES.items() if type_ is not torch.bfloat16}


class TorchModel(Document):
    """A model file that declares what is loaded. Files are named from its own folder."""

    format: Literal["batchscore.torch/1"] = "batchscore.torch/1"
    program: str | None = Field(default=None, description="A program of torch.export (.pt2).")
    module: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:Class of a torch.nn.Module that is installed where the model runs.",
    )
    kwargs: dict[str, JsonValue] = Field(default_factory=dict, description="What the class is made with.")
    weights: str | None = Field(default=None, description="The module's state dict, a file of safetensors.")
    signature: Signature | None = Field(
        default=None,
        description="Inputs in the order of `forward`, outputs in the order in which it returns them or by their keys. "
        "A program has its own; one given here names its outputs.",
    )

    @model_validator(mode="after")
    def _one_model(self) -> TorchModel:
        if (self.program is None) == (self.module is None):
            message = "give exactly one of `program` and `module`"
            raise ValueError(message)
        if self.module is not None and (self.weights is None or self.signature is None):
            message = "a `module` comes with `weights` and a `signature`"
            raise ValueError(message)
        if self.program is not None and (self.weights is not None or self.kwargs):
            message = "`weights` and `kwargs` go with `module`"
            raise ValueError(message)
        return self


class TorchCallable(NamedTuple):
    """What computes, and how it is called."""

    call: Callable[[dict[str, torch.Tensor]], Any]
    """Tensors by name in, whatever it returns out."""
    types: dict[str, torch.dtype]
    """What the inputs are cast to, by name."""
    signature: Signature
    source: torch.nn.Module | torch.export.ExportedProgram
    """What it was made of, for an export."""


def load_torch(
    model: str, files: Mapping[str, Any], options: RuntimeOptions, *, where: str, placement: Placement
) -> TorchRuntime:
    """Load a .pt2 file, or what a declaration names.

    Raises:
        DeviceError: the device is not there.
        BundleError: it cannot be loaded, or it is a program and the job trusts none.
    """
    device, fell_back = _device(options, placement)
    made = load_callable(model, files, options, where=where, device=device)
    threads = options.intra_op_threads or placement.cores
    return TorchRuntime(made, device, threads=threads, fell_back=fell_back)


def load_callable(
    model: str, files: Mapping[str, Any], options: RuntimeOptions, *, where: str, device: torch.device
) -> TorchCallable:
    """The same, as what computes on a device.

    Raises:
        BundleError: as `load_torch`.
    """
    if model.endswith(".pt2"):
        return _program(files[model], device, where, declared=None, options=options)
    try:
        declared = TorchModel.from_bytes(bytes(files[model]), where=where)
    except DocumentError as error:
        raise BundleError(str(error)) from error
    file = posixpath.normpath(posixpath.join(posixpath.dirname(model), declared.program or declared.weights or ""))
    if file not in files:
        raise BundleError(f"{where}: names {file}, which is no file of the bundle.")
    if declared.program is not None:
        return _program(files[file], device, where, declared=declared.signature, options=options)
    return _module(declared, files[file], device, where=where)


class TorchRuntime(DeclaredModel):
    """A loaded module or program, in inference mode."""

    def __init__(self, made: TorchCallable, device: torch.device, *, threads: int, fell_back: str | None) -> None:
        """Take what `load_torch` made."""
        super().__init__(made.signature, f"torch {torch.__version__}")
        self.device = "cuda" if device.type == "cuda" else "cpu"
        self.fell_back = fell_back
        self._made: TorchCallable | None = made
        self._at = device
        self._threads = threads

    def _run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        assert self._made is not None  # noqa: S101  `predict` refuses what is closed
        # The count is the process's: another model of it may have set another.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                # A copy: a module may write into its inputs, and others read them after it.
                tensors = {
                    name: torch.tensor(np.ascontiguousarray(values), dtype=self._made.types[name], device=self._at)
                    for name, values in feeds.items()
                }
                made = self._made.call(tensors)
                return {name: _array(tensor) for name, tensor in _named(made, self.signature).items()}
        except InferenceError:
            raise
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"the model failed: {error}") from error
        except Exception as error:  # whatever a module raises
            if "can't allocate memory" in str(error):
                raise OutOfMemory(f"the model failed: {error}") from error
            raise InferenceError(f"the model failed: {error}") from error

    def _release(self) -> None:
        self._made = None
        if self._at.type == "cuda":
            torch.cuda.empty_cache()


def _device(options: RuntimeOptions, placement: Placement) -> tuple[torch.device, str | None]:
    """Where the model runs, and why not where it was asked for."""
    wants = options.device == "cuda" or (options.device == "auto" and placement.device_id is not None)
    if wants and torch.cuda.is_available():
        device = torch.device("cuda", placement.device_id or 0)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
        if options.gpu_memory_limit is not None:
            share = options.gpu_memory_limit / placement.workers_per_device
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, share / total), device)
        return device, None
    if options.device in {"auto", "cpu"}:
        return torch.device("cpu"), None
    has = "runs on cpu and cuda" if options.device == "tensorrt" else "finds no GPU that it can use"
    reason = f"device {options.device} was asked for, torch {torch.__version__} {has}"
    if options.on_missing_gpu == "cpu":
        return torch.device("cpu"), reason
    raise DeviceError(f"{reason}. Install torch for the GPU's driver, or ask for device cpu.")


def _module(declared: TorchModel, weights: Any, device: torch.device, *, where: str) -> TorchCallable:
    """An installed module with the bundle's weights."""
    from safetensors.torch import load as read_tensors  # noqa: PLC0415  programs do without

    assert declared.signature is not None  # noqa: S101  the document has one
    made_by = _module_class(declared.module or "", where)
    try:
        module = made_by(**declared.kwargs)
        tensors = read_tensors(bytes(weights))
        _fill(module, tensors)
    except Exception as error:  # whatever the class raises, and torch at weights that do not fit
        message = f"{where}: {declared.module} cannot be made with these kwargs and weights: {error}"
        raise BundleError(message) from error
    module.eval().to(device)
    types = {}
    for tensor in declared.signature.inputs:
        _check_type(tensor, where)
        is_narrow = tensor.dtype == "float32" and _float_type(tensors) is torch.bfloat16
        types[tensor.name] = torch.bfloat16 if is_narrow else _TYPES[tensor.dtype]
    for tensor in declared.signature.outputs:
        _check_type(tensor, where)
    return TorchCallable(lambda feeds: module(*feeds.values()), types, declared.signature, module)


def _module_class(name: str, where: str) -> type[torch.nn.Module]:
    """The class of that name, which is a torch.nn.Module: nothing else is called for a bundle."""
    package, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(package), attribute, None)
    except ImportError as error:
        message = f"{where}: {package} cannot be imported here: {error}. Install it on every worker."
        raise BundleError(message) from error
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise BundleError(f"{where}: {name} is no subclass of torch.nn.Module.")
    return found


def _float_type(tensors: Mapping[str, torch.Tensor]) -> torch.dtype | None:
    """The one type of all weights that are floats, if there is one."""
    types = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    return types.pop() if len(types) == 1 else None


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load weights in their own type, all of them and no others; of tied ones safetensors stores one."""
    own_type = _float_type(tensors)
    if own_type is not None:
        module.to(own_type)
    places = {name: tensor.data_ptr() for name, tensor in module.state_dict().items() if tensor.numel()}
    given = {places[name] for name in tensors if name in places}
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    absent = [name for name in missing if places.get(name) not in given]
    if absent or unexpected:
        message = f"weights missing: {', '.join(absent) or 'none'}; unknown: {', '.join(unexpected) or 'none'}"
        raise ValueError(message)


def _program(
    data: Any, device: torch.device, where: str, *, declared: Signature | None, options: RuntimeOptions
) -> TorchCallable:
    """A program of torch.export."""
    needs_trust(options, "torch_program", f"{where}: a program of torch.export")
    try:
        program = torch.export.load(io.BytesIO(data))
        if device.type == "cuda":
            program = move_to_device_pass(program, device)
        module = program.module()
    except Exception as error:  # torch's own have no common base but Exception
        message = f"{where}: torch {torch.__version__} cannot load this program: {error}."
        raise BundleError(message) from error
    _check_mode(program, where)
    args, kwargs = _arguments(program, where)
    found = _program_signature(program, where, [*args, *kwargs])
    types = dict(zip([*args, *kwargs], (value.dtype for value in _values(program)[0]), strict=True))

    def call(feeds: dict[str, torch.Tensor]) -> Any:
        return module(*(feeds[name] for name in args), **{name: feeds[name] for name in kwargs})

    if declared is None:
        return TorchCallable(call, types, found, program)
    if [tensor.name for tensor in declared.inputs] != list(types) or len(declared.outputs) != len(found.outputs):
        told = f"takes {', '.join(types)} and gives {len(found.outputs)} outputs"
        raise BundleError(f"{where}: the program {told}; the signature that is declared says otherwise.")
    return TorchCallable(call, types, declared, program)


def _check_mode(program: torch.export.ExportedProgram, where: str) -> None:
    """Dropout and batch normalisation of training are part of a program that was exported in that mode."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None) if node.op == "call_function" else None
        for place, argument in enumerate(schema.arguments if schema is not None else ()):
            given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            if argument.name in {"train", "training"} and given is True:
                message = (
                    f"{where}: the program was exported in training mode ({node.target}): its scores would be random. "
                    "Call `.eval()` on the module and export it again."
                )
                raise BundleError(message)


def _arguments(program: torch.export.ExportedProgram, where: str) -> tuple[list[str], list[str]]:
    """Names of the inputs by position and by keyword; each is one tensor."""
    called = program.module_call_graph[0].signature
    args, kwargs = pytree.tree_unflatten(list(range(called.in_spec.num_leaves)), called.in_spec)
    values = _values(program)[0]
    nested = any(not isinstance(place, int) for place in (*args, *kwargs.values()))
    if nested or any(not isinstance(value, torch.Tensor) for value in values):
        raise BundleError(f"{where}: the program takes something else than tensors, one an argument. Wrap the module.")
    return list(called.forward_arg_names[: len(args)]), list(kwargs)


def _values(program: torch.export.ExportedProgram) -> tuple[list[Any], list[Any]]:
    """The example values of inputs and outputs, which know their types and which of their axes are fixed."""
    by_name = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    return [by_name.get(name) for name in signature.user_inputs], [by_name.get(n) for n in signature.user_outputs]


def _program_signature(program: torch.export.ExportedProgram, where: str, inputs: list[str]) -> Signature:
    """Outputs have the keys that the module returned them under, else `output`, or `output_0` and so on."""
    taken, given = _values(program)
    out = program.module_call_graph[0].signature.out_spec
    shape = pytree.tree_unflatten(list(range(out.num_leaves)), out)
    if isinstance(shape, Mapping):
        names = [str(name) for name in shape]
    else:
        names = ["output"] if isinstance(shape, int) else [f"output_{place}" for place in range(len(shape))]
    if len(names) != len(given) or any(not isinstance(value, torch.Tensor) for value in given):
        raise BundleError(f"{where}: the program gives something else than tensors, one an output. Wrap the module.")
    return Signature(
        inputs=tuple(_spec(name, value, where) for name, value in zip(inputs, taken, strict=True)),
        outputs=tuple(_spec(name, value, where) for name, value in zip(names, given, strict=True)),
    )


def _spec(name: str, value: torch.Tensor, where: str) -> TensorSpec:
    if value.dtype not in _NAMES:
        raise BundleError(f"{where}: tensor {name} has type {value.dtype}, which this release cannot feed or read.")
    # The size of a dynamic axis is a formula and no int.
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=name, dtype=_NAMES[value.dtype], shape=shape)


def _check_type(tensor: TensorSpec, where: str) -> None:
    if tensor.dtype not in _TYPES:
        raise BundleError(f"{where}: tensor {tensor} has a type that torch has not, or this release cannot feed.")


def _named(made: Any, signature: Signature) -> dict[str, torch.Tensor]:
    """What was returned, by the names of the signature: by its keys, or in its order."""
    names = [tensor.name for tensor in signature.outputs]
    if isinstance(made, Mapping):
        if set(names) <= made.keys():
            return {name: made[name] for name in names}
        made = tuple(made.values())  # a signature that was declared beside a program may rename them
    given = (made,) if isinstance(made, torch.Tensor) else tuple(made)
    if len(given) != len(names):
        raise InferenceError(f"the model gave {len(given)} outputs, its signature declares {len(names)}")
    return dict(zip(names, given, strict=True))


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The same memory where it is the CPU's."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return np.asarray(tensor.detach().cpu().numpy())
