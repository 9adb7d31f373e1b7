"""Resolve what a config says scores: a bundle, or a bare .onnx file for which a bundle is made on the spot."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.contract import Contract, InputField
from etl.documents import canonical_json, sha256_hex
from etl.errors import InputMissing
from etl.problems import nearest
from etl.spec import Outputs, Spec, TensorOutput
from etl.storage import storage_for
from etl.types import ColumnType
from jobs.errors import Refused
from scoring.bundle import AuditedBundle, Bundle, FileDigest, audit, misfits
from scoring.outputs import OutputColumn
from scoring.session import Session, SessionOptions

if TYPE_CHECKING:
    from jobs.config import Model
    from scoring.signature import TensorSpec

__all__ = ["resolve_model"]


def resolve_model(model: Model, schema: pa.Schema) -> AuditedBundle:
    """The audited bundle that a config names; `schema` is that of the input, for binding a bare model.

    Raises:
        BundleError: the bundle or model cannot be used.
        Refused: a bare model's inputs cannot be bound to columns.
    """
    if model.bundle is not None:
        storage, folder = storage_for(model.bundle)
        return audit(storage, folder)
    assert model.onnx is not None  # noqa: S101  the config has exactly one of the two
    storage, path = storage_for(model.onnx)
    data = storage.read_bytes(path)
    if data is None:
        message = f"{model.onnx}: no model is there. Check `model.onnx`."
        raise InputMissing(message)
    return _wrap(model, data, path, schema)


def _wrap(model: Model, data: bytes, path: str, schema: pa.Schema) -> AuditedBundle:
    """A bundle whose spec does nothing but bind columns to inputs."""
    signature = Session(data, SessionOptions(), path).signature
    binding = {tensor.name: _columns(model, tensor, schema, path) for tensor in signature.inputs}
    for name in sorted((model.inputs or {}).keys() - binding.keys()):
        message = f"{path}: has no input {name!r}.{nearest(name, binding)}"
        raise Refused(message)
    fields: dict[str, InputField] = {}
    tensors = []
    for tensor in signature.inputs:
        for column in binding[tensor.name]:
            fields.setdefault(column, _field(model, tensor, column, schema))
        tensors.append(_tensor(tensor, binding[tensor.name], path))
    columns = model.outputs or tuple(
        OutputColumn(column=tensor.name, tensor=tensor.name, type=_scalar(tensor)) for tensor in signature.outputs
    )
    spec = Spec(
        format="scorespec/1",
        spec_id="bare",
        input=Contract(fields=tuple(fields.values())),
        outputs=Outputs(tensors=tuple(tensors)),
    )
    files = {"model.onnx": data, "etl.json": spec.to_bytes()}
    stem = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in PurePath(path).stem.lower())
    bundle = Bundle(
        name=f"onnx-{stem}"[:100],
        version=sha256_hex(data)[:12],
        model="model.onnx",
        spec="etl.json",
        files={name: FileDigest(bytes=len(content), sha256=sha256_hex(content)) for name, content in files.items()},
        signature=signature,
        columns=columns,
    )
    problems = misfits(bundle, spec)
    if problems:
        message = f"{path}: {'; '.join(problems)}."
        raise Refused(message)
    text = canonical_json(bundle.model_dump(mode="json", by_alias=True))
    return AuditedBundle(bundle, spec, files, text, sha256_hex(text))


def _columns(model: Model, tensor: TensorSpec, schema: pa.Schema, path: str) -> tuple[str, ...]:
    bound = (model.inputs or {}).get(tensor.name, tensor.name)
    names = (bound,) if isinstance(bound, str) else bound
    for name in names:
        if name not in schema.names:
            hint = "" if model.inputs and tensor.name in model.inputs else " Bind it under `model.inputs`."
            message = f"{path}: model input {tensor} is fed by nothing: the input has no column {name!r}.{hint}{nearest(name, schema.names)}"
            raise Refused(message)
    return names


def _field(model: Model, tensor: TensorSpec, column: str, schema: pa.Schema) -> InputField:
    """NaN is a value to a bare model. A null is none: it is set aside, or becomes NaN where the config says so."""
    found = schema.field(column).type
    if pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found):
        width = tensor.shape[1] if len(tensor.shape) > 1 else None
        if width is None:
            width = found.list_size if pa.types.is_fixed_size_list(found) else 0
        if not width:
            message = f"column {column!r} is a list and model input {tensor} does not say how long; fix the axis in the model"
            raise Refused(message)
        type_ = ColumnType("vector", width)
    elif tensor.dtype == "string":
        type_ = ColumnType("string")
    elif pa.types.is_boolean(found):
        type_ = ColumnType("bool")
    elif pa.types.is_integer(found):
        type_ = ColumnType("int64")
    else:
        type_ = ColumnType("float32") if found in {pa.float16(), pa.float32()} else ColumnType("float64")
    null_as_nan = model.nulls == "nan" and tensor.dtype.startswith("float")
    return InputField(name=column, type=type_, nullable=null_as_nan, nan_is_value=type_.is_float)


def _tensor(tensor: TensorSpec, columns: tuple[str, ...], path: str) -> TensorOutput:
    if tensor.dtype not in {"float32", "float64", "int32", "int64", "bool", "string"} or len(tensor.shape) not in {1, 2}:
        message = f"{path}: model input {tensor} cannot be fed from columns by this release; wrap it in a bundle"
        raise Refused(message)
    return TensorOutput.model_validate(
        {"tensor": tensor.name, "dtype": tensor.dtype, "from": columns, "rank": len(tensor.shape)}
    )


def _scalar(tensor: TensorSpec) -> str:
    known = {"float32", "float64", "int32", "int64", "bool", "string"}
    return tensor.dtype if tensor.dtype in known else "float32"
