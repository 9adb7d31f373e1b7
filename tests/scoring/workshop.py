"""Small models, bundles and orders, so that the worker can be tried in this process and without Spark."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from etl.runs.layout import Layout, model_folder
from etl.runs.local import LocalStorage
from etl.runs.splits import Split, cut_splits
from etl.spec import Spec, read_spec
from scoring.bundles.bundle import AuditedBundle, copy_bundle
from scoring.bundles.create import BundleParts, create_bundle
from scoring.order import ModelOrder, Order
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import RuntimeOptions
from scoring.worker import score_split
from tests.numbers_job import FEATURES, WEIGHTS
from tests.spine.builders import NOON, pin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from etl.runs.receipt import Receipt, Written

STORE = LocalStorage()

LOGISTIC_SPEC = """
format: scorespec/1
spec_id: numbers
input:
  fields:
  - {name: f0, type: float32, nullable: false}
  - {name: f1, type: float32, nullable: false}
  - {name: f2, type: float32, nullable: false, range: {max: 100}}
  - {name: f3, type: float32, nullable: false}
  - {name: id, type: int64, role: id}
  - {name: name, type: string, pii: true}
outputs: {tensors: [{tensor: X, from: [f0, f1, f2, f3]}]}
"""

LOOKUP_SPEC = """
format: scorespec/1
spec_id: lookup
input:
  fields:
  - {name: index, type: int64, nullable: false}
  - {name: id, type: int64, role: id}
outputs: {tensors: [{tensor: index, dtype: int64, shape: [-1], from: [index]}]}
"""

VALUES = np.array([0.25, 0.5, 0.75, 1.0], dtype=np.float32)
"""What the look-up model knows: it fails on an index beyond them."""


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **constants: np.ndarray
) -> bytes:
    """An ONNX file from nodes, tensors as name → (type, shape), and constants by name."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, *facts) for name, facts in inputs.items()],
        [helper.make_tensor_value_info(name, *facts) for name, facts in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def logistic_model(weights: np.ndarray = WEIGHTS) -> bytes:
    """sigmoid(X · weights)."""
    return model_of(
        [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        {"X": (TensorProto.FLOAT, [None, len(weights)])},
        {"p": (TensorProto.FLOAT, [None, 1])},
        W=weights,
    )


def lookup_model() -> bytes:
    """VALUES[index]; fails on a whole batch when one index is beyond them."""
    return model_of(
        [helper.make_node("Gather", ["values", "index"], ["p"], axis=0)],
        {"index": (TensorProto.INT64, [None])},
        {"p": (TensorProto.FLOAT, [None])},
        values=VALUES,
    )


def logistic_scores(table: pa.Table) -> np.ndarray:
    """Scores of the logistic model by plain onnxruntime, all rows at once."""
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    session = ort.InferenceSession(logistic_model(), providers=["CPUExecutionProvider"])
    [scores] = session.run(None, {"X": matrix})
    return np.asarray(scores)[:, 0]


def numbers(rows: int, seed: int = 7) -> pa.Table:
    """Rows for the logistic spec, none of them bad."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in FEATURES}
    return pa.table({"id": np.arange(rows), "name": [f"person {row}" for row in range(rows)], **columns})


def with_values(table: pa.Table, name: str, values: Mapping[int, object]) -> pa.Table:
    """The same table with other values in some rows of a column."""
    column = table.column(name).to_pylist()
    for row, value in values.items():
        column[row] = value
    position = table.schema.get_field_index(name)
    return table.set_column(position, table.schema.field(name), pa.array(column, table.schema.field(name).type))


def parts_of(spec: str, model: bytes, golden: pa.Table, columns: Sequence[OutputColumn]) -> BundleParts:
    """What a bundle is made of."""
    return BundleParts(
        name="numbers",
        version="1.2",
        model=model,
        spec=read_spec(spec, "spec.yaml"),
        columns=tuple(columns),
        golden_rows=golden,
        references={},
        facts={},
    )


P = OutputColumn(column="p", tensor="p", type="float32")


def logistic_bundle(folder: Path) -> AuditedBundle:
    """A bundle of the logistic model with golden rows."""
    return create_bundle(STORE, str(folder), parts_of(LOGISTIC_SPEC, logistic_model(), numbers(5), [P]))


def lookup_bundle(folder: Path) -> AuditedBundle:
    """A bundle of the look-up model."""
    golden = pa.table({"index": [0, 1], "id": [0, 1]})
    return create_bundle(STORE, str(folder), parts_of(LOOKUP_SPEC, lookup_model(), golden, [P]))


@dataclass
class Work:
    """One input file, a bundle, and what the worker makes of them under an output root."""

    folder: Path
    table: pa.Table
    bundle: Callable[[Path], AuditedBundle] = logistic_bundle
    row_group: int = 100
    pieces: int = 1
    order: dict[str, Any] = field(default_factory=dict)
    """Of the order, what is not as most tests want it."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.input = self.folder / "in.parquet"
        pq.write_table(self.table, self.input, row_group_size=self.row_group)
        self.root = str(self.folder / "out")
        self.audited = self.bundle(self.folder / "bundle")
        copy_bundle(self.audited, STORE, model_folder(self.root, self.audited.sha256))
        self.layout = Layout(self.root, "run")
        self.splits = self.cut()

    def cut(self) -> tuple[Split, ...]:
        """Splits of the file as it is now."""
        file = pin(self.input)
        return cut_splits((file,), -(-file.bytes // self.pieces))

    def make_order(self, **changes: Any) -> Order:
        """The order for all splits."""
        facts: dict[str, Any] = {
            "run_id": "run",
            "root": self.root,
            "carried": (),
            "passthrough": ("id",),
            "stamps": (),
            "scored_at": NOON,
            "batch_rows": 64,
            "table_rows": 1,  # so that batches of the model cross those of the reader
        }
        told = {**facts, **self.order, **changes}
        model = {name: told.pop(name) for name in ModelOrder.model_fields if name in told}
        bundle = self.audited.bundle
        known = {"bundle_sha256": self.audited.sha256, "version": f"{bundle.name}:{bundle.version}"}
        model = {**known, "references": {}, "runtime": RuntimeOptions(), **model}
        return Order(**{"models": (ModelOrder(**model),), **told})

    def score(self, **changes: Any) -> list[Receipt]:
        """Score every split."""
        order = self.make_order(**changes)
        return [score_split(order, split) for split in self.splits]


def read_pending(written: Written | None) -> pa.Table:
    """Rows of a file that is pending or completed, Parquet or Arrow; no columns where there is no file."""
    if written is None:
        return pa.table({})
    places = [Path(written.pending.upload), Path(written.pending.path)]
    [path] = [place for place in places if place.exists()]
    if written.pending.path.endswith(".arrow"):
        return pa.ipc.open_file(str(path)).read_all()
    return pq.read_table(pa.OSFile(str(path)))


def predictions(receipts: Sequence[Receipt]) -> pa.Table:
    """Predictions of all splits, in order."""
    return _together([read_pending(written) for receipt in receipts for written in receipt.predictions])


def quarantined(receipts: Sequence[Receipt]) -> pa.Table:
    """Quarantined rows of all splits, in order."""
    return _together([read_pending(receipt.quarantine) for receipt in receipts])


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    found = [table for table in tables if table.num_columns]
    return pa.concat_tables(found) if found else pa.table({})


def spec_of(text: str) -> Spec:
    """A spec from YAML."""
    return read_spec(text, "spec.yaml")
