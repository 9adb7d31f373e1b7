"""Models for the sake of the types of their weights, inputs and outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.zoo.recipes.data import OPSET, Made, customers, generator, table_of, tumours, with_nulls
from tests.zoo.recipes.nets import tumour_graph, tumour_net


def graph_of(nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any) -> Any:
    """A model from nodes, tensors as name → (type, shape), and weights by name."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *facts) for name, facts in inputs.items()],
        [helper.make_tensor_value_info(name, *facts) for name, facts in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def bfloat16() -> Made:
    """Whether a tumour is benign, by logistic regression whose input and output are bfloat16."""
    data = tumours()
    scale = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.features[:, :8], data.target)
    weights = (scale[1].coef_ / scale[0].scale_).astype(np.float32).reshape(8, 1)
    bias = np.float32(scale[1].intercept_[0] - (scale[1].coef_[0] * scale[0].mean_ / scale[0].scale_).sum())
    nodes = [
        helper.make_node("Cast", ["X"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["s"]),
        helper.make_node("Cast", ["s"], ["p"], to=TensorProto.BFLOAT16),
    ]
    model = graph_of(
        nodes,
        {"X": (TensorProto.BFLOAT16, ["rows", 8])},
        {"p": (TensorProto.BFLOAT16, ["rows", 1])},
        weights=weights,
        bias=bias.reshape(1),
    )
    return Made(model, data.table, "tumours")


def int8_weights() -> Made:
    """The net for tumours with weights of 8 bits: a row's score depends on that row alone."""
    net, data = tumour_net()
    model = tumour_graph(net, data)
    kept = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.ndim != 2:
            kept.append(tensor)
            continue
        scale = np.float32(np.abs(values).max() / 127)
        name = tensor.name
        kept.append(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}.int8"))
        kept.append(numpy_helper.from_array(np.array(scale), f"{name}.scale"))
        node = helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name])
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return Made(model, data.table, "tumours")


def dynamic_int8() -> Made:
    """The net for tumours by dynamic quantisation: the range is taken over a whole call, so scores depend on it."""
    net, data = tumour_net()
    with tempfile.TemporaryDirectory() as folder:
        whole, quantised = Path(folder) / "whole.onnx", Path(folder) / "quantised.onnx"
        onnx.save_model(tumour_graph(net, data), str(whole))
        quantize_dynamic(whole, quantised, weight_type=QuantType.QUInt8)
        return Made(onnx.load(str(quantised)), data.table, "tumours")


def flags() -> Made:
    """A rule: who roams and calls is called back. A bool goes in and a bool comes out."""
    table, _ = customers()
    nodes = [
        helper.make_node("Greater", ["calls", "most"], ["many"]),
        helper.make_node("And", ["roaming", "many"], ["call_back"]),
        helper.make_node("Where", ["roaming", "dear", "cheap"], ["price"]),
    ]
    model = graph_of(
        nodes,
        {"roaming": (TensorProto.BOOL, ["rows"]), "calls": (TensorProto.INT64, ["rows"])},
        {"call_back": (TensorProto.BOOL, ["rows"]), "price": (TensorProto.FLOAT, ["rows"])},
        most=np.array([1]),
        dear=np.array([9.5], dtype=np.float32),
        cheap=np.array([1.25], dtype=np.float32),
    )
    return Made(model, with_nulls(table, "roaming", [0, 399]))


def integers() -> Made:
    """Every integer type that an input or output is likely to have, at its limits."""
    rng = generator()
    kinds: dict[str, Any] = {"tiny": np.int8, "byte": np.uint8, "short": np.int16, "word": np.int32, "long": np.int64}
    columns = {}
    for name, kind in kinds.items():
        bounds = np.iinfo(kind)
        values = rng.integers(bounds.min, bounds.max, 200, dtype=kind, endpoint=True)
        values[:2] = bounds.min, bounds.max
        columns[name] = values
    nodes = [
        *(helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("tiny", "byte", "short", "long")),
        helper.make_node("BitShift", ["byte", "one"], ["half_byte"], direction="RIGHT"),
        helper.make_node("Div", ["word", "three"], ["third"]),
    ]
    types = {kind: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in kinds.values()}
    outputs = {f"{name}_out": (types[kinds[name]], ["rows"]) for name in ("tiny", "byte", "short", "long")}
    outputs |= {"half_byte": (TensorProto.UINT8, ["rows"]), "third": (TensorProto.INT32, ["rows"])}
    inputs = {name: (types[kind], ["rows"]) for name, kind in kinds.items()}
    model = graph_of(nodes, inputs, outputs, one=np.array([1], np.uint8), three=np.array([3], np.int32))
    return Made(model, table_of(columns))
