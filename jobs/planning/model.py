"""Resolve what a config says scores: a bundle, or a bare .onnx file for which a bundle is made on the spot."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import pyarrow as pa
from pydantic import ValidationError

from etl.contract import Contract, InputField
from etl.documents import sha256_hex
from etl.format.problems import nearest
from etl.outputs import TensorDtype
from etl.spec import Outputs, Spec, TensorOutput
from etl.types import VECTOR_ITEMS, ColumnType, is_bytes
from jobs.errors import Refused
from scoring.bundles.bundle import AuditedBundle, Bundle
from scoring.bundles.files import FileDigest, sha256_of
from scoring.bundles.misfits import misfits
from scoring.bundles.sources import audited_source, locate
from scoring.bundles.weights import bare_model
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import load_onnx

if TYPE_CHECKING:
    import mmap

    from etl.outputs import RaggedRows
    from jobs.config.job import Model
    from scoring.bundles.sources import Source
    from scoring.signature import Signature, TensorSpec

__all__ = ["VERSION_DIGITS", "bare_signature", "digest_of", "resolve_model"]

_MODEL = "model.onnx"
VERSION_DIGITS = 12
"""Of the digest of a bare model's files: its version."""


def resolve_model(model: Model, schema: pa.Schema) -> AuditedBundle:
    """The audited bundle that a config names; `schema` is that of the input, for binding a bare model.

    Raises:
        BundleError: the bundle or model cannot be used.
        Refused: a bare model's inputs cannot be bound to columns.
    """
    if model.bundle is not None:
        return audited_source(model.bundle)
    files, source, signature = _load_bare(model)
    return _BareModel(model, files, source.path, signature, schema).bundle()._replace(origin=source.origin)


def digest_of(model: Model) -> tuple[str, str]:
    """What tells a model from others whatever it reads, 64 digits, and the URI that never means another one.

    It is the digest of a bundle; of a bare model that of its files, whose first digits are its version.

    Raises:
        BundleError: the bundle or model cannot be used.
    """
    if model.bundle is not None:
        audited = audited_source(model.bundle)
        return audited.sha256, audited.origin.get("resolved", model.bundle)
    files, source = _files_of(model)
    return _digest([sha256_of(files[name]) for name in sorted(files)]), source.origin.get("resolved", source.uri)


def bare_signature(model: Model) -> Signature:
    """Inputs and outputs of a bare model, without any columns that it could be bound to.

    Raises:
        BundleError: no model is there, or the runtime cannot load it.
    """
    return _load_bare(model)[2]


def _load_bare(model: Model) -> tuple[dict[str, bytes | mmap.mmap], Source, Signature]:
    files, source = _files_of(model)
    runtime = load_onnx(_MODEL, files, RuntimeOptions(), where=source.path)
    signature = runtime.signature
    runtime.close()
    return files, source, signature


def _files_of(model: Model) -> tuple[dict[str, bytes | mmap.mmap], Source]:
    assert model.onnx is not None  # noqa: S101  the config has exactly one of the two
    source = locate(model.onnx)
    if source.is_bundle:
        message = f"{model.onnx}: is a bundle, with its own ETL. Name it under `model.bundle`."
        raise BundleError(message)
    files = bare_model(source.storage, source.path, _MODEL)
    if files is None:
        message = f"{model.onnx}: no model is there. Check `model.onnx`."
        raise BundleError(message)
    return files, source


def _digest(of_files: list[str]) -> str:
    return of_files[0] if len(of_files) == 1 else sha256_hex("".join(of_files).encode())


class _BareModel(NamedTuple):
    """An .onnx file and the input that it is to be fed from."""

    config: Model
    model: dict[str, bytes | mmap.mmap]
    """The file, and those with its weights."""
    path: str
    signature: Signature
    schema: pa.Schema
    """Of the input."""

    def bundle(self) -> AuditedBundle:
        """A bundle whose spec does nothing but bind columns to inputs."""
        columns = self.config.outputs or tuple(
            OutputColumn(column=tensor.name, tensor=tensor.name) for tensor in self.signature.outputs
        )
        spec = self._spec()
        files = {**self.model, "etl.json": spec.to_bytes()}
        digests = {name: FileDigest(bytes=len(data), sha256=sha256_of(data)) for name, data in files.items()}
        of_model = [digests[name].sha256 for name in sorted(self.model)]
        stem = PurePath(self.path).stem.lower()
        bundle = Bundle(
            name=f"onnx-{re.sub('[^a-z0-9]', '-', stem)}"[:100],
            version=_digest(of_model)[:VERSION_DIGITS],
            model=_MODEL,
            spec="etl.json",
            files=digests,
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
        inputs = {tensor.name: tensor for tensor in self.signature.inputs}
        masks = {rows.mask.model_input for rows in self._ragged.values() if rows.mask}
        for name in sorted((self.config.inputs or {}).keys() | self._ragged.keys() | masks):
            if name not in inputs:
                message = f"{self.path}: has no input {name!r}.{nearest(name, inputs)}"
                raise Refused(message)
        bound = [_Binding.of(self, tensor) for tensor in self.signature.inputs if tensor.name not in masks]
        fields: dict[str, InputField] = {}
        for binding in bound:
            for field in binding.fields():
                known = fields.setdefault(field.name, field)
                if known.type != field.type:
                    message = (
                        f"{self.path}: column {field.name!r} feeds two model inputs, as {known.type} and as "
                        f"{field.type}. Give each a column of its own."
                    )
                    raise Refused(message)
                if known.nullable and not field.nullable:
                    fields[field.name] = field
        spec = Spec(
            format="scorespec/1",
            spec_id="bare",
            input=Contract(fields=tuple(fields.values())),
            outputs=Outputs(tensors=tuple(binding.output() for binding in bound)),
        )
        problems = [problem.message for problem in spec.outputs.problems(spec.schema_at())]
        if problems:
            message = f"{self.path}: {' '.join(problems)}"
            raise Refused(message)
        return spec

    @property
    def _ragged(self) -> dict[str, RaggedRows]:
        return self.config.ragged or {}

    def columns(self, tensor: TensorSpec) -> tuple[str, ...]:
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


class _Binding(NamedTuple):
    """One input of a bare model and the columns that feed it."""

    path: str
    """Of the model."""
    tensor: TensorSpec
    columns: tuple[tuple[str, pa.DataType], ...]
    """Name and type of each, in order."""
    ragged: RaggedRows | None
    nulls: Literal["reject", "nan"]

    @classmethod
    def of(cls, model: _BareModel, tensor: TensorSpec) -> _Binding:
        """What the config says of an input, or what its name does.

        Raises:
            Refused: a column is not there.
        """
        columns = tuple((name, model.schema.field(name).type) for name in model.columns(tensor))
        rows = (model.config.ragged or {}).get(tensor.name)
        return cls(model.path, tensor, columns, rows, model.config.nulls)

    def fields(self) -> list[InputField]:
        """The contract of the columns.

        NaN is a value to a bare model. A null is none: it is set aside, or becomes NaN where the config says so.
        """
        null_as_nan = self.nulls == "nan" and "float" in self.tensor.dtype and self.ragged is None
        kinds = [(name, self._type(name, found)) for name, found in self.columns]
        return [
            InputField(name=name, type=kind, nullable=null_as_nan, nan_is_value=kind.is_float) for name, kind in kinds
        ]

    def output(self) -> TensorOutput:
        """The tensor that feeds the input.

        Raises:
            Refused: no column can.
        """
        dtype = self.tensor.dtype
        if dtype not in get_args(TensorDtype) or not self.tensor.shape:
            raise self._refused(f"no column feeds {dtype} of rank {len(self.tensor.shape)}. Make a bundle with a spec")
        shape = None if self.ragged and self.ragged.on_ragged == "pad" else self._shape()
        names = [name for name, _ in self.columns]
        form = {"tensor": self.tensor.name, "dtype": dtype, "from": names, "shape": shape, "ragged": self.ragged}
        try:
            return TensorOutput.model_validate(form)
        except ValidationError as error:
            found = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
            raise self._refused(f"{found}. See `model.ragged`") from error

    def _type(self, name: str, found: pa.DataType) -> ColumnType:
        dtype = self.tensor.dtype
        if isinstance(found, _LISTS):
            return self._list_type(name, found)
        if dtype == "string":
            return ColumnType("string")
        if is_bytes(found) and (len(self.columns) == 1 or pa.types.is_fixed_size_binary(found)):
            return self._vector_type(name, found, "uint8")
        if pa.types.is_boolean(found):
            return ColumnType("bool")
        if pa.types.is_integer(found):
            return ColumnType("uint64" if dtype == "uint64" and found == pa.uint64() else "int64")
        return ColumnType("float32" if found in {pa.float16(), pa.float32()} else "float64")

    def _list_type(self, name: str, found: pa.DataType) -> ColumnType:
        element = _innermost(found)
        if self.ragged is not None:
            return ColumnType("list", item=_item(element, self.tensor.dtype, _LIST_ITEMS))
        if self.tensor.dtype == "string":
            raise self._refused(f"column {name!r} is a list; texts are fed from one column each")
        return self._vector_type(name, found, _item(element, self.tensor.dtype, tuple(VECTOR_ITEMS)))

    def _vector_type(self, name: str, found: pa.DataType, item: str) -> ColumnType:
        width = self._width(found)
        if is_bytes(found) and (width is None or self.ragged is not None):
            advice = "Fix its axes in the model, or write lists of numbers, which may have several lengths"
            raise self._refused(f"column {name!r} holds bytes, and rows of them are of one length. {advice}")
        if width is None:
            advice = "Fix its axes in the model, or write fixed-size lists"
            if len(self.tensor.shape) == 2:  # noqa: PLR2004  a matrix
                advice += f"; or, to pad rows with 0, write `model.ragged: {{{self.tensor.name}: {{on_ragged: pad}}}}`"
            raise self._refused(
                f"column {name!r} is a list, and neither it nor the model says how long it is. {advice}"
            )
        return ColumnType("vector", width, item)

    def _width(self, found: pa.DataType) -> int | None:
        """Values of a row of a column of lists or bytes; None where nothing tells."""
        width = 1
        while isinstance(found, pa.FixedSizeListType):
            width, found = width * found.list_size, found.value_type
        if pa.types.is_fixed_size_binary(found):
            return int(found.byte_width)
        if not isinstance(found, _LISTS) and not is_bytes(found):
            return width
        axes = self.tensor.shape[1:]
        if len(self.columns) > 1 or None in axes:
            return None
        return math.prod(size for size in axes if size is not None)

    def _shape(self) -> tuple[int, ...] | None:
        """The declared axes; one that is open is as long as the columns make it."""
        axes = self.tensor.shape[1:]
        if len(axes) == 1 and self.ragged is None:
            return None
        width = sum(field.type.width for field in self.fields()) if self.ragged is None else 0
        known = math.prod(size for size in axes if size is not None)
        if None not in axes:
            return (-1, *(size for size in axes if size is not None))
        if axes.count(None) > 1 or not width or width % known:
            raise self._refused("its columns do not tell how long each of its axes is. Fix them in the model")
        return (-1, *(width // known if size is None else size for size in axes))

    def _refused(self, reason: str) -> Refused:
        return Refused(f"{self.path}: model input {self.tensor} cannot be fed: {reason}.")


_LISTS = pa.ListType | pa.LargeListType | pa.FixedSizeListType
_LIST_ITEMS = ("bool", "int64", "float32", "float64")


def _innermost(found: pa.DataType) -> pa.DataType:
    while isinstance(found, _LISTS):
        found = found.value_type
    return found


def _item(found: pa.DataType, dtype: str, items: tuple[str, ...]) -> str:
    """What elements are read as: the tensor's own type where values of the found one may be such, so that they are cast
    once, and not at all where they are such.
    """  # noqa: D205  one sentence
    if pa.types.is_boolean(found):
        return "bool"
    is_float = pa.types.is_floating(found)
    if dtype in items and dtype != "bool" and is_float == ("float" in dtype):
        return dtype
    if not is_float:
        return "int64"
    return "float64" if found == pa.float64() else "float32"
