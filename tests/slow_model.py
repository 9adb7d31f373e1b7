"""The logistic model of most tests, which takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.numbers_job import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_slow_model"]


def write_slow_model(path: Path, turns: int) -> Path:
    """Each call takes a loop of so many turns, which adds nothing to its scores; 180,000 are tenths of a second."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "zero"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    # What the loop begins with comes of the rows, or it would be done once, when the model is loaded.
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["largest"], keepdims=0),
        helper.make_node("Reshape", ["largest", "one"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Loop", ["turns", "true", "nothing"], ["sum_of_all"], body=body),
        helper.make_node("Add", ["z", "sum_of_all"], ["same"]),
        helper.make_node("Sigmoid", ["same"], ["p"]),
    ]
    constants: dict[str, np.ndarray] = {
        "W": WEIGHTS,
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.float32),
        "turns": np.array(turns, np.int64),
        "true": np.array(True),  # noqa: FBT003  numpy's way
    }
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path
