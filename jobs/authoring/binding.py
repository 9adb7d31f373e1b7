"""Guess which columns feed a model, by name, type and number; each guess is told, and what cannot be guessed too."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl.printable import counted
from etl.tensors import listed
from etl.types import is_bytes, one_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scoring.signature import Signature, TensorSpec

__all__ = ["Bound", "Key", "bind", "guess_key"]

_KEY_NAMES = ({"id", "key", "uuid", "guid"}, ("id", "key", "uuid", "guid"))
"""Names of keys, and endings of such."""
_LABELS = {"label", "target", "y", "class", "outcome", "truth", "response"}
_LISTS = pa.ListType | pa.LargeListType | pa.FixedSizeListType
_FEW = 5


class Key(NamedTuple):
    """The column that seems to name a row."""

    column: str
    why: str


class Bound(NamedTuple):
    """What feeds the inputs of a model."""

    inputs: dict[str, str | list[str]]
    """By model input: one column, or columns side by side."""
    ragged: dict[str, dict[str, Any]]
    """`model.ragged` of a job: inputs whose lists have several lengths."""
    notes: list[str]
    """What was guessed, and by what."""
    problems: list[str]
    """Inputs that nothing was found for, each with what there is."""


def guess_key(sample: pa.Table, taken: Iterable[str] = ()) -> Key | None:
    """The column that names a row: unique and never missing in the sample, called like a key or else left over."""
    unique = [name for name in sample.column_names if name not in set(taken) and _names_rows(sample.column(name))]
    exact, endings = _KEY_NAMES
    for name in unique:
        if name.lower() in exact:
            return Key(name, f"it is called so, and is unique in {counted(sample.num_rows, 'row')}")
    for name in unique:
        if re.search(rf"(^|_)({'|'.join(endings)})$", name.lower()) or re.search(r"[a-z](Id|ID|Key)$", name):
            return Key(name, f"it is called like one, and is unique in {counted(sample.num_rows, 'row')}")
    return None


def _names_rows(column: pa.ChunkedArray) -> bool:
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_text(type_) or pa.types.is_integer(type_)) or column.null_count or not len(column):
        return False
    # Arrow counts no distinct values of a dictionary.
    return bool(pc.count_distinct(column.cast(type_)).as_py() == len(column))


def bind(signature: Signature, sample: pa.Table, *, key: str | None) -> Bound:
    """Columns for every input of a model; `key` feeds none but an input of its name."""
    binder = _Binder(sample, key)
    # Lists are bound before the masks that tell where they are padded.
    masks_last = sorted(signature.inputs, key=lambda tensor: "mask" in tensor.name.lower())
    for step in (binder.by_name, binder.by_similar_name, binder.by_type):
        for tensor in masks_last:
            binder.as_mask(tensor)
            if tensor.name not in binder.inputs and tensor.name not in binder.masks:
                step(tensor)
    left = [t for t in signature.inputs if t.name not in binder.inputs and t.name not in binder.masks]
    problems = [f"model input {tensor}: {binder.reasons.get(tensor.name, 'no column fits it')}" for tensor in left]
    return Bound(binder.inputs, binder.ragged, binder.notes, problems)


class _Binder:
    """The columns that are not bound yet, and what was decided so far."""

    def __init__(self, sample: pa.Table, key: str | None) -> None:
        self._bytes = {field.name for field in sample.schema if is_bytes(field.type)}
        arrays = [listed(one_chunk(column)) if is_bytes(column.type) else column for column in sample.columns]
        self._sample = pa.Table.from_arrays(arrays, sample.column_names)
        self._key = key
        self.inputs: dict[str, str | list[str]] = {}
        self.masks: set[str] = set()
        self.ragged: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.reasons: dict[str, str] = {}

    @property
    def _free(self) -> list[str]:
        used = {name for bound in self.inputs.values() for name in ([bound] if isinstance(bound, str) else bound)}
        return [name for name in self._sample.column_names if name not in used and name != self._key]

    def by_name(self, tensor: TensorSpec) -> None:
        if tensor.name in self._sample.column_names and self._feeds(tensor, tensor.name):
            self._take(tensor, tensor.name, "has its name")

    def by_similar_name(self, tensor: TensorSpec) -> None:
        same = [name for name in self._free if _plain(name) == _plain(tensor.name) and self._feeds(tensor, name)]
        if len(same) == 1:
            self._take(tensor, same[0], "has nearly its name")

    def as_mask(self, tensor: TensorSpec) -> None:
        """An input that tells where padding is comes of the lists that are padded, unless a column has its name."""
        if tensor.name in self.inputs or tensor.name in self.masks or tensor.name in self._sample.column_names:
            return
        padded = [name for name in self.ragged if "mask" not in self.ragged[name]]
        if "mask" in tensor.name.lower() and len(padded) == 1 and tensor.dtype in {"int64", "int32", "float32", "bool"}:
            self.ragged[padded[0]]["mask"] = {"model_input": tensor.name, "dtype": tensor.dtype}
            self.masks.add(tensor.name)
            self.notes.append(f"{tensor.name} tells the model where {padded[0]} is padded")

    def by_type(self, tensor: TensorSpec) -> None:
        lists = [name for name in self._free if self._is_list(name) and self._feeds(tensor, name)]
        if len(lists) == 1:
            self._take(tensor, lists[0], "is the only list column that fits")
            return
        scalars = [name for name in self._free if not self._is_list(name) and _holds(self._type(name), tensor.dtype)]
        if len(tensor.shape) > 2:  # noqa: PLR2004  more axes than a matrix
            self.reasons[tensor.name] = _several("list column", lists)
        elif tensor.shape[1:] in {(), (1,)}:
            self._one_of(tensor, scalars)
        else:
            self._side_by_side(tensor, scalars)

    def _one_of(self, tensor: TensorSpec, scalars: list[str]) -> None:
        likely = [name for name in scalars if name.lower() not in _LABELS]
        if len(likely) == 1:
            self._take(tensor, likely[0], "is the only column of its type that is left")
        else:
            self.reasons[tensor.name] = _several(f"column that holds {tensor.dtype}", likely)

    def _side_by_side(self, tensor: TensorSpec, scalars: list[str]) -> None:
        """Several columns for one input: all that there are, or those that are numbered, if they are as many."""
        wanted = tensor.shape[1]
        likely = [name for name in scalars if name.lower() not in _LABELS]
        numbered = _numbered(likely, wanted)
        for found in (likely, scalars, numbered):
            if found and len(found) == (wanted or len(likely)):
                self._take(tensor, found, "")
                return
        names = ", ".join(likely[:_FEW]) + (", …" if len(likely) > _FEW else "")
        told = f" ({names})" if likely else ""
        values = counted(wanted, "value") if wanted is not None else "any number of values"
        self.reasons[tensor.name] = f"takes {values}, and {counted(len(likely), 'column')}{told} could feed it"

    def _take(self, tensor: TensorSpec, found: str | list[str], why: str) -> None:
        self.inputs[tensor.name] = found
        if isinstance(found, list):
            order = "in their order in the file; see that it is the order of training"
            self.notes.append(f"{tensor.name} is fed by {counted(len(found), 'column')} side by side, {order}")
            return
        if why != "has its name":
            self.notes.append(f"{tensor.name} is fed by {found}, which {why}")
        if self._is_list(found) and self._needs_padding(tensor, found):
            self.ragged[tensor.name] = {"on_ragged": "pad"}
            self.notes.append(f"{found} has lists of several lengths, which are padded with 0 for {tensor.name}")

    def _feeds(self, tensor: TensorSpec, name: str) -> bool:
        if name not in self._sample.column_names:
            return False
        type_ = self._type(name)
        if not isinstance(type_, _LISTS):
            return tensor.shape[1:] in {(), (1,), (None,)} and _holds(type_, tensor.dtype)
        axes = tensor.shape[1:]
        length = _length(self._sample.column(name))
        if name in self._bytes and (length is None or (None in axes and not self._is_fixed(name))):
            return False  # rows of bytes are of one length, which the model or the type has to say
        fits = None in axes or length is None or length == math.prod(axis for axis in axes if axis is not None)
        return bool(axes) and fits and _holds(_innermost(type_), tensor.dtype)

    def _needs_padding(self, tensor: TensorSpec, name: str) -> bool:
        is_open = len(tensor.shape) == 2 and tensor.shape[1] is None  # noqa: PLR2004  a matrix
        return is_open and not self._is_fixed(name)

    def _is_fixed(self, name: str) -> bool:
        return isinstance(self._type(name), pa.FixedSizeListType)

    def _is_list(self, name: str) -> bool:
        return isinstance(self._type(name), _LISTS)

    def _type(self, name: str) -> pa.DataType:
        type_ = self._sample.schema.field(name).type
        return type_.value_type if pa.types.is_dictionary(type_) else type_


def _several(what: str, found: list[str]) -> str:
    if not found:
        return f"there is no {what}"
    return f"several could feed it: {', '.join(found[:_FEW])}{', …' if len(found) > _FEW else ''}"


def _numbered(names: list[str], wanted: int | None) -> list[str]:
    """The only group of so many names that differ in their last number, in the order of that."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if found := re.fullmatch(r"(.*?)(\d+)", name):
            groups.setdefault(found[1], []).append((int(found[2]), name))
    fitting = [group for group in groups.values() if len(group) == wanted]
    return [name for _, name in sorted(fitting[0])] if len(fitting) == 1 else []


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _holds(type_: pa.DataType, dtype: str) -> bool:
    """Whether values of a column can be elements of a tensor."""
    if dtype == "string":
        return _is_text(type_)
    whole = bool(pa.types.is_integer(type_) or pa.types.is_boolean(type_))
    return whole or ("float" in dtype and bool(pa.types.is_floating(type_)))


def _innermost(type_: pa.DataType) -> pa.DataType:
    while isinstance(type_, _LISTS):
        type_ = type_.value_type
    return type_


def _length(column: pa.ChunkedArray) -> int | None:
    """Values in each list, with those inside; None where they are not all as many, or there is none."""
    length = 1
    while isinstance(column.type, _LISTS):
        sizes = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
        if len(sizes) != 1:
            return None
        length *= int(sizes[0])
        column = pc.list_flatten(column)
    return length
