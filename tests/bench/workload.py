"""What every contender is given: generated Parquet files and an ONNX model, made once into a cache folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.models import Made, mlp, transformer, trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "BUCKETS",
    "FEATURES",
    "PIXELS",
    "TASKS",
    "TINY",
    "WORKLOADS",
    "Shape",
    "Size",
    "Task",
    "Workload",
    "data_folder",
    "model_file",
]

TASKS = 8
"""Files of each size, so that both sizes have the same number of tasks; and tasks of those who group small files."""
FEATURES = tuple(f"f{number}" for number in range(28))
"""The float32 columns of most workloads; beside them is `id`, 0 to rows - 1."""
PIXELS = 784
"""Values of a row of the lists that are read or written."""
BUCKETS = (32, 64)
"""Lengths that rows of ids are padded to, by everybody who can."""
_SHORTEST = 8
_WORDS = 1000
_SEED = 20_261_121

Shape = Literal["columns", "list", "ids"]
"""How a row comes: as 28 float32 columns, as a list of 784 float32 `X`, or as a list of 8 to 64 int64 `ids`."""


class Size(NamedTuple):
    """How much is scored."""

    files: int
    row_groups: int
    """Of each file."""
    group_rows: int

    @property
    def rows(self) -> int:
        """Of all files."""
        return self.files * self.row_groups * self.group_rows


class Workload(NamedTuple):
    """A kind of rows and a model."""

    title: str
    shape: Shape
    make: Callable[[], Made]
    sizes: tuple[Size, Size, Size]
    """Of the warm-up, the smaller and the larger one."""
    width: int = 1
    """Values of a score: 1 is a float32 column, more are a list."""
    is_heavy: bool = False
    """Whether the model takes most of the time."""
    has_jvm_aim: bool = False
    """Whether the hop through the JVM is a large part of what others do."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What the model reads."""
        return {"columns": FEATURES, "list": ("X",), "ids": ("ids",)}[self.shape]

    @property
    def input_bytes(self) -> int:
        """Bytes of a row's columns in memory, the id included; of ids at the longest."""
        return 8 + {"columns": 4 * len(FEATURES), "list": 4 * PIXELS, "ids": 8 * BUCKETS[-1]}[self.shape]

    @property
    def result(self) -> pa.Schema:
        """What every contender writes, as Parquet with zstd."""
        score = pa.float32() if self.width == 1 else pa.list_(pa.float32())
        return pa.schema([pa.field("id", pa.int64()), pa.field("score", score)])


def _sizes(group_rows: int, larger: int) -> tuple[Size, Size, Size]:
    """So many rows a row group, and row groups a file of the larger size."""
    return (Size(TASKS, 1, group_rows // 2), Size(TASKS, 2, group_rows), Size(TASKS, larger, group_rows))


WORKLOADS = {
    "logistic": Workload(
        "Logistic regression, 28 → 1: what is left when the model costs next to nothing",
        "columns",
        lambda: mlp((28, 1)),
        _sizes(1 << 16, 10),
        has_jvm_aim=True,
    ),
    "mlp": Workload(
        "MLP, 28 → 256 → 256 → 1: a model of 147 kFLOP a row",
        "columns",
        lambda: mlp((28, 256, 256, 1)),
        _sizes(1 << 16, 10),
        is_heavy=True,
        has_jvm_aim=True,
    ),
    "tree": Workload(
        "Tree ensemble, 300 boosted trees of depth 6 over 28 columns",
        "columns",
        lambda: trees(28, 300, depth=6),
        _sizes(1 << 14, 8),
        is_heavy=True,
    ),
    "transformer": Workload(
        "Transformer, two layers of width 64 over lists of 8 to 64 token ids, padded to 32 or 64 with a mask",
        "ids",
        transformer,
        _sizes(1 << 9, 12),
        is_heavy=True,
    ),
    "list": Workload(
        "List column, 784 float32 in, 784 → 16 → 1",
        "list",
        lambda: mlp((PIXELS, 16, 1)),
        _sizes(1 << 12, 8),
        has_jvm_aim=True,
    ),
    "wide": Workload(
        "Wide output, 28 → 784 float32 in a list",
        "columns",
        lambda: mlp((28, PIXELS), is_probability=False),
        _sizes(1 << 12, 6),
        width=PIXELS,
    ),
    "files": Workload(
        "Many small files: 400 and 2,000 of 500 rows each, logistic regression",
        "columns",
        lambda: mlp((28, 1)),
        (Size(200, 1, 500), Size(400, 1, 500), Size(2000, 1, 500)),
    ),
}
"""All of them, in the order in which they run."""

TINY = {
    name: tuple(
        Size(size.files // 20 if size.files > TASKS else size.files, size.row_groups, max(64, size.group_rows >> 4))
        for size in workload.sizes
    )
    for name, workload in WORKLOADS.items()
}
"""Sizes that tell whether it works, and nothing of speed."""


class Task(NamedTuple):
    """One run of one contender."""

    workload: str
    """Its name in `WORKLOADS`."""
    onnx: Path
    """The model's file."""
    model_rows: int
    """Rows of one call of the model at its knee, for all who cut calls themselves."""
    source: Path
    """Folder of the input files."""
    rows: int
    """Rows of all input files."""
    out: Path
    """Folder to make and to write into."""

    @property
    def kind(self) -> Workload:
        """The workload."""
        return WORKLOADS[self.workload]

    @property
    def files(self) -> list[Path]:
        """The input files."""
        return sorted(self.source.glob("*.parquet"))

    @property
    def is_of_small_files(self) -> bool:
        """Whether tasks have several files."""
        return self.workload == "files"

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps([str(value) if isinstance(value, Path) else value for value in self])

    @classmethod
    def from_json(cls, text: str) -> Task:
        """From `to_json`."""
        workload, onnx, model_rows, source, rows, out = json.loads(text)
        return cls(workload, Path(onnx), model_rows, Path(source), rows, Path(out))


def model_file(cache: Path, name: str) -> Path:
    """The ONNX file of a workload, written anew: always the same bytes with the same packages."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name}.onnx"
    path.write_bytes(WORKLOADS[name].make().onnx)
    return path


def data_folder(cache: Path, shape: Shape, size: Size) -> Path:
    """The folder of a size; written once."""
    folder = cache / f"{shape}-{size.files}-{size.row_groups}-{size.group_rows}"
    if not folder.exists():
        building = folder.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for number in range(size.files):
            groups = range(number * size.row_groups, (number + 1) * size.row_groups)
            _write_file(building / f"part-{number:05d}.parquet", shape, groups, rows=size.group_rows)
        building.rename(folder)
    return folder


def _write_file(path: Path, shape: Shape, groups: Iterable[int], *, rows: int) -> None:
    """Plain pages: a dictionary of values that never come twice helps no writer and no reader."""
    tables = (_group(shape, group, rows) for group in groups)
    first = next(tables)
    # Of ids, a dictionary is what any writer makes.
    with pq.ParquetWriter(path, first.schema, compression="zstd", use_dictionary=shape == "ids") as writer:
        writer.write_table(first, row_group_size=rows)
        for table in tables:
            writer.write_table(table, row_group_size=rows)


def _group(shape: Shape, group: int, rows: int) -> pa.Table:
    rng = np.random.default_rng([_SEED, group])
    columns: dict[str, Any] = {"id": np.arange(group * rows, (group + 1) * rows, dtype=np.int64)}
    if shape == "columns":
        columns |= {name: rng.standard_normal(rows, dtype=np.float32) for name in FEATURES}
    elif shape == "list":
        ends = np.arange(0, rows * PIXELS + 1, PIXELS, dtype=np.int32)
        columns["X"] = pa.ListArray.from_arrays(ends, rng.standard_normal(rows * PIXELS, dtype=np.float32))
    else:
        lengths = rng.integers(_SHORTEST, BUCKETS[-1] + 1, rows)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        columns["ids"] = pa.ListArray.from_arrays(ends, rng.integers(0, _WORDS, ends[-1]))
    return pa.table(columns)
