"""Faults as data: models whose score is the row's own number, until a row or a batch that they cannot bear.

All but the stand-ins are ONNX files, so that they go wherever a bundle goes: into a Spark worker, or a child of one.
"""

from __future__ import annotations

import ctypes
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np
from onnx import TensorProto, helper

from scoring.errors import InferenceError, OutOfMemory
from scoring.runtimes import loading
from scoring.runtimes.declared import DeclaredModel
from scoring.signature import Signature, TensorSpec
from tests.scoring.workshop import model_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

SPEC = """
format: scorespec/1
spec_id: faults
input:
  fields:
  - {name: id, type: int64, role: id}
  - {name: row, type: int64, nullable: false}
outputs: {tensors: [{tensor: row, dtype: int64, shape: [-1], from: [row]}]}
"""
"""Feeds any of these models from a column `row`; what they give is `p`, the same as float32."""

_SMALLEST = -(2**63)


def _model(nodes: Sequence[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    """A model from `row` to `p`."""
    rows = {"row": (TensorProto.INT64, ["rows"])}
    return model_of(nodes, rows, {"p": (TensorProto.FLOAT, ["rows"])}, **constants)


def _scored(extra: str) -> list[onnx.NodeProto]:
    """The score is row + extra, where extra is a zero that has to be computed first."""
    return [
        helper.make_node("Cast", ["row"], ["score"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["score", extra], ["p"]),
    ]


def fails_on(row: int) -> bytes:
    """A batch with this row is refused by onnxruntime: an index is out of range."""
    nodes = [
        helper.make_node("Equal", ["row", "bad"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["only_zero", "index"], ["zero"]),
        *_scored("zero"),
    ]
    return _model(nodes, bad=np.array([row]), only_zero=np.zeros(1, np.float32))


def loses(row: int) -> bytes:
    """There is no score for this row, and nothing says so: a batch with it has one score too few."""
    nodes = [
        helper.make_node("Equal", ["row", "bad"], ["is_bad"]),
        helper.make_node("Not", ["is_bad"], ["is_good"]),
        helper.make_node("Cast", ["row"], ["score"], to=TensorProto.FLOAT),
        helper.make_node("Compress", ["score", "is_good"], ["p"], axis=0),
    ]
    return _model(nodes, bad=np.array([row]))


def runs_out_of_memory_above(rows: int) -> bytes:
    """For each row beyond these 2^47 bytes are asked for, more than there are addresses; up to them, none."""
    nodes = [
        helper.make_node("Shape", ["row"], ["rows"]),
        helper.make_node("Sub", ["rows", "most"], ["difference"]),
        helper.make_node("Max", ["difference", "none"], ["beyond"]),
        helper.make_node("Mul", ["beyond", "huge"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        *_scored("zero"),
    ]
    return _model(nodes, most=np.array([rows]), none=np.array([0]), huge=np.array([1 << 45]))


def hangs_on(row: int) -> bytes:
    """A loop in onnxruntime never ends where a batch has this row. No signal of Python's ends it, only a kill does."""
    values = {"again": TensorProto.BOOL, "value": TensorProto.FLOAT}
    given = [helper.make_tensor_value_info("turn", TensorProto.INT64, [])]
    given += [helper.make_tensor_value_info(name, kind, []) for name, kind in values.items()]
    made = [helper.make_tensor_value_info(f"{name}_out", kind, []) for name, kind in values.items()]
    body = helper.make_graph([helper.make_node("Identity", [n], [f"{n}_out"]) for n in values], "body", given, made)
    nodes = [
        helper.make_node("Equal", ["row", "bad"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["count"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["count"], ["any"], keepdims=0),
        helper.make_node("Cast", ["any"], ["forever"], to=TensorProto.BOOL),
        helper.make_node("Loop", ["", "forever", "start"], ["zero"], body=body),
        *_scored("zero"),
    ]
    return _model(nodes, bad=np.array([row]), start=np.array(0, np.float32))


def dies_on(row: int) -> bytes:
    """The process dies of SIGFPE where a batch has this row: −2^63 ÷ −1 has no int64, and x86-64 traps on it."""
    nodes = [
        helper.make_node("Equal", ["row", "bad"], ["is_bad"]),
        helper.make_node("Where", ["is_bad", "minus_one", "one"], ["divisor"]),
        helper.make_node("Div", ["smallest", "divisor"], ["quotient"]),
        helper.make_node("Sub", ["quotient", "quotient"], ["difference"]),
        helper.make_node("Cast", ["difference"], ["zero"], to=TensorProto.FLOAT),
        *_scored("zero"),
    ]
    numbers = {"bad": row, "minus_one": -1, "one": 1, "smallest": _SMALLEST}
    return _model(nodes, **{name: np.array([number]) for name, number in numbers.items()})


class Fault(NamedTuple):
    """What a stand-in does, by the rows of a batch. It goes to another process as text: `repr` and `Fault(**…)`."""

    fails_on: int | None = None
    most_rows: int | None = None
    """More of them in a call are out of memory."""
    hangs_on: int | None = None
    seconds: float = 3600.0
    """How long a hang lasts."""
    segfaults_on: int | None = None


class StandIn(DeclaredModel):
    """A runtime in the place of onnxruntime: what no file can do on each kind of processor."""

    def __init__(self, fault: Fault) -> None:
        rows = TensorSpec(name="row", dtype="int64", shape=(None,))
        scores = TensorSpec(name="p", dtype="float32", shape=(None,))
        super().__init__(Signature(inputs=(rows,), outputs=(scores,)), "stand-in")
        self._fault = fault
        self.calls: list[int] = []
        """Rows of each call."""

    def _run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        rows, fault = feeds["row"], self._fault
        self.calls.append(len(rows))
        if fault.segfaults_on in rows:
            ctypes.string_at(0)
        if fault.hangs_on in rows:
            time.sleep(fault.seconds)
        if fault.most_rows is not None and len(rows) > fault.most_rows:
            message = "the model failed: no memory is left"
            raise OutOfMemory(message)
        if fault.fails_on in rows:
            message = "the model failed: a row is not to its liking"
            raise InferenceError(message)
        return {"p": rows.astype(np.float32)}

    def _release(self) -> None:
        pass

    def warm_up(self) -> None:
        """Nothing is to be made ready."""


@contextmanager
def installed(fault: Fault) -> Iterator[StandIn]:
    """In this process every ONNX model is a stand-in with this fault."""
    runtime = StandIn(fault)
    with patch("scoring.runtimes.onnx.load_onnx", lambda *_, **__: runtime):
        assert loading.load("", {}, None, where="") is runtime  # type: ignore[arg-type]
        yield runtime
