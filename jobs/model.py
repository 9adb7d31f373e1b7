"""Resolve what a config says scores: a bundle, or a bare .onnx file for which a bundle is made on the spot."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, get_args

import pyarrow as pa

from etl.contract import Contract, InputField
from etl.documents import sha256_hex
from etl.format.problems import nearest
from etl.spec import Outputs, Spec, TensorOutput
from etl.types import ColumnType
from jobs.errors import Refused
from scoring.bundles.bundle import AuditedBundle, Bundle, FileDigest
from scoring.bundles.misfits import misfits
from scoring.bundles.sources import audited_source, locate
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn, ScalarType
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session

if TYPE_CHECKING:
    from jobs.config import Model
    from scoring.bundles.sources import Source
    from scoring.signature import Signature, TensorSpec

__all__ = ["bare_signature", "resolve_model"]


def resolve_model(model: Model, schema: pa.Schema) -> AuditedBundle:
    """The audited bundle that a config names; `schema` is that of the input, for binding a bare model.

    Raises:
        BundleError: the bundle or model cannot be used.
        Refused: a bare model's inputs cannot be bound to columns.
    """
    if model.bundle is not None:
        return audited_source(model.bundle)
    data, source, signature = _load_bare(model)
    return _BareModel(model, data, source.path, signature, schema).bundle()._replace(origin=source.origin)


def bare_signature(model: Model) -> Signature:
    """Inputs and outputs of a bare model, without any columns that it could be bound to.

    Raises:
        BundleError: no model is there, or the runtime cannot load it.
    """
    return _load_bare(model)[2]


def _load_bare(model: Model) -> tuple[bytes, Source, Signature]:
    assert model.onnx is not None  # noqa: S101  the config has exactly one of the two
    source = locate(model.onnx)
    if source.is_bundle:
        message = f"{model.onnx}: is a bundle, with its own ETL. Name it under `model.bundle`."
        raise BundleError(message)
    data = source.storage.read_bytes(source.path)
    if data is None:
        message = f"{model.onnx}: no model is there. Check `model.onnx`."
        raise BundleError(message)
    return data, source, Session(data, RuntimeOptions(), source.path).signature


class _BareModel(NamedTuple):
    """An .onnx file and the input that it is to be fed from."""

    config: Model
    data: bytes
    path: str
    signature: Signature
    schema: pa.Schema
    """Of the input."""

    def bundle(self) -> AuditedBundle:
        """A bundle whose spec does nothing but bind columns to inputs."""
        columns = self.config.outputs or tuple(
            OutputColumn(column=tensor.name, tensor=tensor.name, type=_scalar(tensor))
            for tensor in self.signature.outputs
        )
        spec = self._spec()
        files = {"model.onnx": self.data, "etl.json": spec.to_bytes()}
        stem = PurePath(self.path).stem.lower()
        bundle = Bundle(
            name=f"onnx-{re.sub('[^a-z0-9]', '-', stem)}"[:100],
            version=sha256_hex(self.data)[:12],
            model="model.onnx",
            spec="etl.json",
            files={name: FileDigest(bytes=len(content), sha256=sha256_hex(content)) for name, content in files.items()},
            signature=self.signature,
            columns=columns,
        )
        problems = misfits(bundle, spec)
        if problems:
            message = f"{self.path}: {'; '.join(problems)}."
            raise Refused(message)
        text = bundle.to_bytes()
        return AuditedBundle(bundle, spec, files, text, sha256_hex(text))

    def _spec(self) -> Spec:
        inputs = {tensor.name for tensor in self.signature.inputs}
        for name in sorted((self.config.inputs or {}).keys() - inputs):
            message = f"{self.path}: has no input {name!r}.{nearest(name, inputs)}"
            raise Refused(message)
        fields: dict[str, InputField] = {}
        for tensor in self.signature.inputs:
            for column in self._columns(tensor):
                fields.setdefault(column, self._field(tensor, column))
        return Spec(
            format="scorespec/1",
            spec_id="bare",
            input=Contract(fields=tuple(fields.values())),
            outputs=Outputs(tensors=tuple(self._tensor(tensor) for tensor in self.signature.inputs)),
        )

    def _columns(self, tensor: TensorSpec) -> tuple[str, ...]:
        """The columns that feed an input: those the config names, or the one of its name."""
        inputs = self.config.inputs or {}
        bound = inputs.get(tensor.name, tensor.name)
        names = (bound,) if isinstance(bound, str) else bound
        for name in names:
            if name not in self.schema.names:
                hint = "" if tensor.name in inputs else " Bind it under `model.inputs`."
                found = f"the input has no column {name!r}.{hint}{nearest(name, self.schema.names)}"
                message = f"{self.path}: model input {tensor} is fed by nothing: {found}"
                raise Refused(message)
        return names

    def _field(self, tensor: TensorSpec, column: str) -> InputField:
        """NaN is a value to a bare model. A null is none: it is set aside, or becomes NaN where the config says so."""
        type_ = self._type(tensor, column)
        null_as_nan = self.config.nulls == "nan" and tensor.dtype.startswith("float")
        return InputField(name=column, type=type_, nullable=null_as_nan, nan_is_value=type_.is_float)

    def _type(self, tensor: TensorSpec, column: str) -> ColumnType:
        found = self.schema.field(column).type
        if pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found):
            declared = tensor.shape[1] if len(tensor.shape) > 1 else None
            width = declared or (found.list_size if pa.types.is_fixed_size_list(found) else None)
            if width is None:
                message = (
                    f"{self.path}: column {column!r} is a list, and model input {tensor} does not say how long. "
                    "Fix that axis in the model, or write fixed-size lists."
                )
                raise Refused(message)
            return ColumnType("vector", width)
        if tensor.dtype == "string":
            return ColumnType("string")
        if pa.types.is_boolean(found):
            return ColumnType("bool")
        if pa.types.is_integer(found):
            return ColumnType("int64")
        return ColumnType("float32" if found in {pa.float16(), pa.float32()} else "float64")

    def _tensor(self, tensor: TensorSpec) -> TensorOutput:
        if tensor.dtype not in get_args(ScalarType) or len(tensor.shape) not in {1, 2}:
            message = f"{self.path}: model input {tensor} cannot be fed from columns by this release."
            raise Refused(message)
        columns = self._columns(tensor)
        shape = (-1,) if len(tensor.shape) == 1 else None
        return TensorOutput.model_validate(
            {"tensor": tensor.name, "dtype": tensor.dtype, "from": columns, "shape": shape}
        )


def _scalar(tensor: TensorSpec) -> ScalarType:
    """The column type of a tensor's elements; narrower numbers are widened to float32."""
    types: tuple[ScalarType, ...] = get_args(ScalarType)
    return next((name for name in types if name == tensor.dtype), "float32")
