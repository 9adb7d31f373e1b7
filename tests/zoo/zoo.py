"""What the catalogue says of each model, and the oracle: plain onnxruntime on arrays that numpy makes of the rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from onnx import TensorProto

HERE = Path(__file__).parent
CATALOGUE: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "catalogue.yaml").read_text(encoding="utf-8"))["models"]


class ZooModel(NamedTuple):
    """A model of the zoo."""

    name: str
    rows: Path
    """Its Parquet file."""
    contract: dict[str, str]
    """Columns that it reads, by type; with a `?` a row may be without it."""
    tensors: list[dict[str, Any]]
    """As in a spec."""
    columns: list[dict[str, Any]]
    """As in a bundle."""
    expected: dict[str, dict[str, Any]]
    """Where the oracle finds each column in what the model gives."""
    near: float
    """How far a float may be off; 0 for not at all."""

    @property
    def onnx(self) -> Path:
        """Its file."""
        return HERE / "models" / f"{self.name}.onnx"

    @property
    def spec(self) -> str:
        """An ETL spec that does no more than feed its inputs."""
        fields: list[dict[str, Any]] = [{"name": "id", "type": "int64", "role": "id"}]
        for name, type_ in self.contract.items():
            fields.append({"name": name, "type": type_.rstrip("?"), "nullable": type_.endswith("?")})
        return yaml.safe_dump(
            {
                "format": "scorespec/1",
                "spec_id": self.name,
                "input": {"fields": fields},
                "outputs": {"tensors": self.tensors},
            },
            sort_keys=False,
        )


@cache
def model_of(name: str) -> ZooModel:
    """A model by its name in the catalogue."""
    told = CATALOGUE[name]
    contract = told["contract"]
    if "names" in contract:
        contract = dict.fromkeys(contract["names"], contract["type"])
    return ZooModel(
        name=name,
        rows=HERE / "rows" / f"{told.get('rows', name)}.parquet",
        contract=contract,
        tensors=told["tensors"],
        columns=told["columns"],
        expected=told["expected"],
        near=told.get("near", 0.0),
    )


def whole_rows(model: ZooModel) -> pa.Table:
    """The rows that lack nothing of what they need."""
    table = pq.read_table(model.rows)
    for name, type_ in model.contract.items():
        if not type_.endswith("?"):
            table = table.filter(table.column(name).is_valid())
    return table


@cache
def oracle(model_name: str) -> dict[str, list[Any]]:
    """What onnxruntime alone says: published columns and ids, by row."""
    model = model_of(model_name)
    table = whole_rows(model)
    session = ort.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    if any("ragged" in tensor for tensor in model.tensors):
        # Each row alone and without padding: what padding and mask must not change.
        calls = [_run(session, _feeds(model, table.slice(row, 1))) for row in range(table.num_rows)]
    else:
        calls = [_run(session, _feeds(model, table))]
    found: dict[str, list[Any]] = {"id": table.column("id").to_pylist()}
    for column, where in model.expected.items():
        found[column] = [value for outputs in calls for value in _taken(outputs[where["tensor"]], where)]
    return found


def _feeds(model: ZooModel, table: pa.Table) -> dict[str, np.ndarray]:
    """The model's inputs: columns side by side, and a mask of ones for rows of one length."""
    feeds: dict[str, np.ndarray] = {}
    for tensor in model.tensors:
        dtype = {"string": object, "bfloat16": ml_dtypes.bfloat16}.get(tensor.get("dtype", "float32"))
        parts = [np.array(_values(table.column(name))) for name in tensor["from"]]
        matrix = np.concatenate([part.reshape(table.num_rows, -1) for part in parts], axis=1)
        array = matrix.astype(dtype or tensor.get("dtype", "float32"))
        if "shape" in tensor:
            array = array.reshape(tensor["shape"])
        feeds[tensor["tensor"]] = array
        if "ragged" in tensor:
            feeds[tensor["ragged"]["mask"]["model_input"]] = np.ones(array.shape, dtype=np.int64)
    return feeds


def _values(column: pa.ChunkedArray) -> Any:
    """Plain Python values, but float32 as it is; a missing float is NaN."""
    if pa.types.is_floating(column.type):
        return column.to_numpy()
    return column.to_pylist()


def _run(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Outputs by name. Python has no bfloat16 of onnxruntime's: its bits go in and out as uint16."""
    names = [output.name for output in session.get_outputs()]
    if not any("bfloat16" in tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())):
        return dict(zip(names, session.run(names, feeds), strict=True))
    binding, found = session.io_binding(), {}
    given = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), TensorProto.BFLOAT16)
        for name, array in feeds.items()
    }
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    rows = len(next(iter(feeds.values())))
    for output in session.get_outputs():
        bits = np.zeros((rows, *output.shape[1:]), dtype=np.uint16)
        value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
        binding.bind_ortvalue_output(output.name, value)
        found[output.name] = bits
    session.run_with_iobinding(binding)
    return {name: bits.view(ml_dtypes.bfloat16).astype(np.float32) for name, bits in found.items()}


def _taken(values: Any, where: dict[str, Any]) -> list[Any]:
    """The part of an output that is published, a value or nested list a row."""
    if "key" in where:
        return [row[where["key"]] for row in values]
    array = np.asarray(values[where["item"]] if "item" in where else values)
    if "at" in where:
        array = array[..., where["at"]]
    if "best" in where:
        best = [row.index(max(row)) for row in array.tolist()]
        return best if where["best"] is True else [where["best"][place] for place in best]
    if array.shape[1:] == (1,):
        array = array[:, 0]
    taken: list[Any] = array.tolist()
    return taken


def differences(model: ZooModel, found: pa.Table) -> list[str]:
    """How what a path gave differs from the oracle: missing and doubled rows, and each column that is not near."""
    expected = oracle(model.name)
    found = found.sort_by("id")
    ids = found.column("id").to_pylist()
    if ids != expected["id"]:
        return [f"{model.name}: {len(ids)} rows of {len(expected['id'])}, or other ones"]
    told = []
    for column in model.columns:
        name = column["column"]
        values = found.column(name).combine_chunks()
        kind = values.type
        while pa.types.is_nested(kind):
            kind = kind.value_type
        if kind != pa.type_for_alias(column["type"]):
            told.append(f"{model.name}: {name} is {values.type}, not {column['type']}")
        if pa.types.is_floating(kind):
            got, want = np.array(values.to_pylist(), np.float64), np.array(expected[name], np.float64)
            if got.shape != want.shape or not (np.abs(got - want) <= model.near * (1 + np.abs(want))).all():
                off = np.abs(got - want).max() if got.shape == want.shape else f"{got.shape}, not {want.shape}"
                told.append(f"{model.name}: {name} is off by {off}")
        elif values.to_pylist() != expected[name]:
            told.append(f"{model.name}: {name} is not what onnxruntime gives")
    return told
