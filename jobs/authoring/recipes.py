"""Recipes as people begin with them: YAML with a line a field, and remarks where something is to be decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.tensors import listed
from etl.types import ColumnType, is_readable, one_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etl.types import ArrowArray
    from scoring.signature import Signature, TensorSpec

__all__ = ["skeleton", "spec_text"]

_SCALARS = ("bool", "int64", "float32", "float64", "string", "date", "timestamp")
_EXAMPLES = (
    "  # For example, a text that becomes a number, and a gap that is filled:",
    "  # - {id: city_code, op: string_index, in: [city], out: [city_code]}",
    "  # - {id: age_filled, op: impute, in: [age], out: [age_filled], params: {strategy: median}}",
    "  # `batchscore etl ops` prints all ops.",
)


def spec_text(
    spec_id: str,
    fields: Sequence[Mapping[str, Any]],
    tensors: Sequence[Mapping[str, Any]],
    *,
    remarks: Iterable[str] = (),
) -> str:
    """A recipe without steps."""
    lines = [
        "# Written by `batchscore init`: how a row becomes what the model takes. Add steps, then learn their state:",
        "# batchscore fit RECIPE --data URI --out FILE",
        "format: scorespec/1",
        f"spec_id: {json.dumps(spec_id)}",
        "input:",
        "  fields:",
        *(f"  - {_flow(field)}" for field in fields),
        "steps: []",
        *_EXAMPLES,
        *(f"# {remark}" for remark in remarks),
        "outputs:",
        "  tensors:",
        *(f"  - {_flow(tensor)}" for tensor in tensors),
    ]
    return "\n".join(lines) + "\n"


def skeleton(signature: Signature, sample: pa.Table, key: str | None) -> str:
    """A recipe of every column that a spec can read, for a model that needs steps before it.

    Each input is fed by what could feed it as it is; the remarks say what the model takes instead.
    """
    types = {field.name: _type(listed(one_chunk(sample.column(field.name)))) for field in sample.schema}
    fields = [
        {"name": name, "type": str(kind), "nullable": name != key, **({"role": "id"} if name == key else {})}
        for name, kind in types.items()
        if kind is not None
    ]
    known = {name: kind for name, kind in types.items() if kind is not None and name != key}
    tensors = [_tensor(tensor, known) for tensor in signature.inputs]
    remarks = [
        f"The model takes {tensor}: name columns for it, in the order of training." for tensor in signature.inputs
    ]
    return spec_text("model", fields, tensors, remarks=remarks)


def _tensor(tensor: TensorSpec, known: Mapping[str, ColumnType]) -> dict[str, Any]:
    if tensor.dtype == "string":
        fit = [name for name, kind in known.items() if kind.kind == "string"]
    else:
        fit = [
            name
            for name, kind in known.items()
            if kind.is_numeric and (kind.kind != "float64" or "float" in tensor.dtype)
        ]
    shape: dict[str, Any] = {"shape": [-1]} if len(tensor.shape) == 1 else {}
    columns = fit[:1] if shape else fit
    return {"tensor": tensor.name, "dtype": tensor.dtype, "from": columns or ["NAME-A-COLUMN"], **shape}


def _type(column: ArrowArray) -> ColumnType | None:
    """The narrowest type of a spec that reads a column, bytes being lists of uint8; None where none does."""
    found = column.type
    for kind in _SCALARS:
        wanted = ColumnType(kind)
        if is_readable(found, wanted) and not pa.types.is_null(found):
            return wanted
    if isinstance(found, pa.ListType | pa.LargeListType | pa.FixedSizeListType) and found.value_type == pa.uint8():
        sizes = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
        return ColumnType("vector", int(sizes[0]), "uint8") if len(sizes) == 1 and sizes[0] else None
    if isinstance(found, pa.FixedSizeListType) and pa.types.is_floating(found.value_type):
        return ColumnType("vector", found.list_size)
    if isinstance(found, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        inner = _type(column.flatten())
        return None if inner is None or not inner.is_scalar else ColumnType("list", item=inner.kind)
    return None


def _flow(value: Mapping[str, Any]) -> str:
    """A mapping on one line: JSON is YAML."""
    inside = ", ".join(
        f"{key}: {json.dumps(part, ensure_ascii=False)}" for key, part in value.items() if part is not None
    )
    return f"{{{inside}}}"
