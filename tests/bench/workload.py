"""What every contender is given: generated Parquet files and two ONNX models, made once into a cache folder."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FEATURES", "FILES", "MODELS", "RESULT", "Workload", "data_folder", "make_model"]

FILES = 8
"""Files of each size, so that both sizes have the same number of tasks."""
FEATURES = tuple(f"f{number}" for number in range(28))
"""The float32 columns that the models read; beside them is `id`, 0 to rows - 1."""
RESULT = pa.schema([pa.field("id", pa.int64()), pa.field("score", pa.float32())])
"""What every contender writes, as Parquet with zstd."""
MODELS = ("logistic", "mlp")
_LAYERS = {"logistic": (28, 1), "mlp": (28, 256, 256, 1)}
_SEED = 20_261_121


class Workload(NamedTuple):
    """One run of one contender."""

    model: str
    """One of `MODELS`."""
    onnx: Path
    """The model's file."""
    source: Path
    """Folder of the input files."""
    rows: int
    """Rows of all input files."""
    out: Path
    """Folder to make and to write into."""

    @property
    def files(self) -> list[Path]:
        """The input files."""
        return sorted(self.source.glob("*.parquet"))

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps({name: str(value) for name, value in self._asdict().items()})

    @classmethod
    def from_json(cls, text: str) -> Workload:
        """From `to_json`."""
        raw = json.loads(text)
        return cls(raw["model"], Path(raw["onnx"]), Path(raw["source"]), int(raw["rows"]), Path(raw["out"]))


def data_folder(cache: Path, row_groups: int, group_rows: int) -> tuple[Path, int]:
    """Folder and rows of a size: `FILES` files of so many row groups of so many rows each; written once."""
    rows = FILES * row_groups * group_rows
    folder = cache / f"rows-{rows}"
    if not folder.exists():
        building = folder.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for number in range(FILES):
            groups = range(number * row_groups, (number + 1) * row_groups)
            _write_file(building / f"part-{number:03d}.parquet", groups, group_rows)
        building.rename(folder)
    return folder, rows


def _write_file(path: Path, groups: range, rows: int) -> None:
    """Plain pages for the features: a dictionary of values that never come twice helps no writer and no reader."""
    schema = pa.schema([pa.field("id", pa.int64()), *(pa.field(name, pa.float32()) for name in FEATURES)])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for group in groups:
            rng = np.random.default_rng([_SEED, group])
            columns = [pa.array(rng.standard_normal(rows, dtype=np.float32)) for _ in FEATURES]
            ids = pa.array(np.arange(group * rows, (group + 1) * rows, dtype=np.int64))
            writer.write_table(pa.table([ids, *columns], schema=schema), row_group_size=rows)


def make_model(cache: Path, name: str) -> Path:
    """Write a model: input X float32[rows, 28], output score float32[rows, 1]; always the same bytes."""
    rng = np.random.default_rng(_SEED)
    widths = _LAYERS[name]
    nodes, weights = [], []
    value = "X"
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        is_last = layer == len(widths) - 2
        scale = np.float32(1 / np.sqrt(fan_in))
        weights += [
            numpy_helper.from_array(rng.standard_normal((fan_in, fan_out), dtype=np.float32) * scale, f"w{layer}"),
            numpy_helper.from_array(rng.standard_normal(fan_out, dtype=np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        value = "score" if is_last else f"a{layer}"
        nodes.append(helper.make_node("Sigmoid" if is_last else "Relu", [f"z{layer}"], [value]))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", widths[0]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        weights,
    )
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path
