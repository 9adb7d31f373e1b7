"""What is scored on a GPU: a transformer over token ids, a residual net over images; rows, bundles, and bare's tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.layout import model_folder
from etl.runs.local import LocalStorage
from etl.runs.splits import cut_splits
from etl.spec import read_spec
from scoring.bundles.bundle import copy_bundle
from scoring.bundles.create import BundleParts, create_bundle
from scoring.order import ModelOrder, Order
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import RuntimeOptions
from tests.bench.models import Made, Net, resnet, transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from etl.runs.splits import Split
    from scoring.runtimes.base import DeviceChoice

__all__ = ["FILES", "Array", "GpuWork", "works"]

Array: TypeAlias = "np.ndarray[Any, Any]"
FILES = 8
"""Input files, so that 1, 2, 4 and 8 tasks have as many each."""
_STORE = LocalStorage()
_SEED = 20_261_125
_SHORTEST = 8
_IMAGES_MADE = 512

_IDS = """
format: scorespec/1
spec_id: gpu_ids
input:
  fields:
  - {{name: ids, type: "list<int64>", nullable: false}}
  - {{name: id, type: int64, role: id}}
outputs:
  tensors:
  - tensor: ids
    dtype: int64
    from: [ids]
    ragged: {{on_ragged: pad, pad: 0, buckets: {buckets}, mask: {{model_input: mask}}}}
"""
_IMAGES = """
format: scorespec/1
spec_id: gpu_images
input:
  fields:
  - {{name: image, type: "uint8[{width}]", nullable: false}}
  - {{name: id, type: int64, role: id}}
outputs: {{tensors: [{{tensor: X, dtype: uint8, from: [image], shape: [-1, 3, {side}, {side}]}}]}}
"""


class GpuWork(NamedTuple):
    """A model and rows for it."""

    name: str
    shape: Literal["ids", "image"]
    make: Callable[[], Made]
    lengths: tuple[int, ...]
    """Lengths that ids are padded to; of images the side."""
    rows: int
    words: int = 0

    @property
    def padding(self) -> str:
        """As the page says it."""
        return "fixed" if len(self.lengths) == 1 else f"to {', '.join(map(str, self.lengths))}"

    @property
    def spec(self) -> str:
        """The bundle's spec."""
        side = self.lengths[0]
        text = _IDS if self.shape == "ids" else _IMAGES
        return text.format(buckets=list(self.lengths), side=side, width=3 * side * side)

    def table(self, number: int) -> pa.Table:
        """The rows of a file. Its images are some hundreds, over and over: to make them would take longer than to score."""
        rng, rows = np.random.default_rng([_SEED, number]), self.rows // FILES
        ids = np.arange(number * rows, (number + 1) * rows)
        if self.shape == "ids":
            lengths = rng.integers(_SHORTEST, self.lengths[-1] + 1, rows)
            ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            column = pa.ListArray.from_arrays(ends, rng.integers(0, self.words, ends[-1]))
            return pa.table({"id": ids, "ids": column})
        width = 3 * self.lengths[0] ** 2
        made = rng.integers(0, 256, (_IMAGES_MADE, width), dtype=np.uint8)
        pixels = pa.py_buffer(made[rng.integers(0, _IMAGES_MADE, rows)])
        column: Any = pa.Array.from_buffers(pa.binary(width), rows, [None, pixels])
        return pa.table({"id": ids, "image": column})

    def batches(self, table: pa.Table) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Bare's tensors, one row of numpy after another: which rows, and what feeds the model; one for each length."""
        if self.shape == "image":
            [column] = table.select(["image"]).combine_chunks().column("image").chunks
            pixels = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * column.type.byte_width :]
            side = self.lengths[0]
            yield np.arange(len(column)), {"X": pixels[: column.nbytes].reshape(-1, 3, side, side)}
            return
        rows = [np.asarray(row) for row in table.column("ids").to_pylist()]
        sizes = np.array([row.size for row in rows])
        for shorter, length in zip((0, *self.lengths), self.lengths, strict=False):
            chosen = np.flatnonzero((sizes > shorter) & (sizes <= length))
            if chosen.size:
                ids = np.stack([np.pad(rows[row], (0, length - sizes[row])) for row in chosen])
                mask = np.arange(length) < sizes[chosen, None]
                yield chosen, {"ids": ids, "mask": mask.astype(np.int64)}

    def write(self, folder: Path) -> list[Path]:
        """The input files, each written by a thread of its own where it is not there yet."""
        paths = [folder / f"part-{number}.parquet" for number in range(FILES)]
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._write, range(FILES), paths))
        return paths

    def _write(self, number: int, path: Path) -> None:
        """Images do not get smaller by being compressed."""
        if path.exists():
            return
        table = self.table(number)
        rows = max(1, (64 << 20) * table.num_rows // table.nbytes)
        codec = "none" if self.shape == "image" else "zstd"
        pq.write_table(table, path, compression=codec, use_dictionary=False, row_group_size=rows)

    def order(self, folder: Path, files: list[Path], device: DeviceChoice) -> tuple[Order, tuple[Split, ...]]:
        """What a worker is told: a bundle of the model under an output root, and a split a file."""
        audited = create_bundle(
            _STORE,
            str(folder / "bundle"),
            BundleParts(
                name=self.shape,
                version="1",
                model=self.make().onnx,
                spec=read_spec(self.spec, "spec.yaml"),
                columns=(OutputColumn(column="score", tensor="score"),),
                golden_rows=pq.read_table(files[0]).slice(0, 4).combine_chunks(),
                references={},
                facts={},
            ),
        )
        root = str(folder / "out")
        copy_bundle(audited, _STORE, model_folder(root, audited.sha256))
        order = Order(
            run_id="measured",
            root=root,
            models=(ModelOrder(bundle_sha256=audited.sha256, references={}, runtime=RuntimeOptions(device=device)),),
            carried=(),
            passthrough=("id",),
            stamps=(),
            scored_at=datetime.now(UTC).replace(microsecond=0),
            batch_rows="auto",
        )
        pinned = tuple(found for path in files if (found := _STORE.stat(str(path))) is not None)
        return order, cut_splits(pinned, max(path.stat().st_size for path in files) + 1)


def works(*, is_small: bool) -> list[GpuWork]:
    """All of them; small ones say whether it works, and nothing of speed."""
    if is_small:
        net = Net(width=16, heads=2, layers=1, hidden=32, words=50, longest=16)
        return [
            GpuWork("transformer, buckets", "ids", lambda: transformer(net), (8, 16), 2048, net.words),
            GpuWork("ResNet", "image", lambda: resnet(16, (4, 8)), (16,), 256),
        ]
    net = Net(width=384, heads=6, layers=6, hidden=1536, words=30_000, longest=128)
    return [
        GpuWork("transformer", "ids", lambda: transformer(net), (128,), 3 << 16, net.words),
        GpuWork("transformer, buckets", "ids", lambda: transformer(net), (32, 64, 96, 128), 3 << 16, net.words),
        GpuWork("ResNet-18", "image", lambda: resnet(224), (224,), 1 << 16),
    ]
