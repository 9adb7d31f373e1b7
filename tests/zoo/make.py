"""Make the zoo: small real models in models/, and rows for each in rows/. Run it by `make zoo`; a second run changes
nothing.

One function a model, in recipes/. What a model is for, which columns feed it and what is published of it stands in
catalogue.yaml.
"""  # noqa: D205  the summary is one sentence

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pyarrow.parquet as pq
import torch

from tests.zoo.recipes import element_types, nets, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zoo.recipes.data import Made

HERE = Path(__file__).parent
IR = 9

MODELS: tuple[Callable[[], Made], ...] = (
    tables.zipmap_int,
    tables.zipmap_text,
    tables.pipeline_text,
    tables.multi_target,
    tables.multi_label,
    tables.double,
    tables.lightgbm_trees,
    tables.xgboost_nan,
    nets.mlp,
    nets.float16,
    nets.external,
    nets.convolution,
    nets.transformer,
    nets.two_towers,
    nets.cube,
    element_types.bfloat16,
    element_types.int8_weights,
    element_types.dynamic_int8,
    element_types.flags,
    element_types.integers,
)


def plain(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model without what an exporter notes down: stack traces with paths of files, and names made of the time."""
    del model.metadata_props[:]
    graph = model.graph
    graph.name = name
    graph.doc_string = model.doc_string = ""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for part in model.functions:
        del part.metadata_props[:]
    del graph.value_info[:]
    model.ir_version = IR
    return model


def save(name: str, made: Made) -> None:
    """Write a model and its rows."""
    model = plain(made.model, name)
    path = HERE / "models" / f"{name}.onnx"
    data = path.with_suffix(".onnx.data")
    data.unlink(missing_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=made.outside, location=data.name, size_threshold=0)
    if made.outside:
        data.chmod(0o644)
    onnx.checker.check_model(str(path))
    pq.write_table(made.rows, HERE / "rows" / f"{made.data or name}.parquet", compression="zstd", row_group_size=100)


def main() -> None:
    """Make all."""
    if sys.flags.hash_randomization:
        sys.exit("A converter writes sets in their order. Run it by `make zoo`, or with PYTHONHASHSEED=0.")
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    for folder in ("models", "rows"):
        (HERE / folder).mkdir(exist_ok=True)
    for make in MODELS:
        save(make.__name__, make())


if __name__ == "__main__":
    main()
