"""The models of the benchmarks, made of numpy weights, and what each computes, written in numpy: always the same bytes.

Which weights they have does not matter to their speed. The trees are the exception: how deep a row goes does matter, so
they are trained.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from tests.bench.graphs import Graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Made", "Net", "mlp", "resnet", "transformer", "trees"]

Array: TypeAlias = "np.ndarray[Any, Any]"
_SEED = 20_261_121


class Made(NamedTuple):
    """A model."""

    onnx: bytes
    """The file; its first input is `X` or `ids`, its output `score`."""
    reference: Callable[[Mapping[str, Array]], Array]
    """What it gives for some inputs, computed in float64."""


def mlp(widths: tuple[int, ...], *, is_probability: bool = True) -> Made:
    """Dense layers with ReLU between them: X float32[rows, first] to score float32[rows, last]."""
    rng = np.random.default_rng(_SEED)
    graph = Graph("mlp")
    value = graph.input("X", "float32", ["rows", widths[0]])
    layers = []
    for fan_in, fan_out in itertools.pairwise(widths):
        weight = rng.standard_normal((fan_in, fan_out), dtype=np.float32) * np.float32(1 / np.sqrt(fan_in))
        layers.append((weight, rng.standard_normal(fan_out, dtype=np.float32)))
    for at, (weight, bias) in enumerate(layers):
        is_last = at == len(layers) - 1
        is_bare = is_last and not is_probability
        value = graph.node("Gemm", value, graph.weight(weight), graph.weight(bias), out="score" if is_bare else None)
        if not is_bare:
            value = graph.node("Sigmoid" if is_last else "Relu", value, out="score" if is_last else None)
    graph.output("score", "float32", ["rows", widths[-1]])

    def reference(feeds: Mapping[str, Array]) -> Array:
        value = feeds["X"].astype(np.float64)
        for at, (weight, bias) in enumerate(layers):
            value = value @ weight.astype(np.float64) + bias
            if at < len(layers) - 1:
                value = np.maximum(value, 0)
        return 1 / (1 + np.exp(-value)) if is_probability else value

    return Made(graph.to_bytes(), reference)


def trees(features: int, count: int, *, depth: int, rows: int = 8_000) -> Made:
    """Boosted trees that scikit-learn trains on made-up rows, written down node by node."""
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(_SEED)
    matrix = rng.standard_normal((rows, features), dtype=np.float32)
    target = (np.sin(2 * matrix[:, 0]) + matrix[:, 1] * matrix[:, 2] + np.abs(matrix[:, 3:8]).sum(axis=1)) / 8
    learner = GradientBoostingRegressor(
        n_estimators=count, max_depth=depth, subsample=0.5, max_features="sqrt", random_state=0
    )
    learner.fit(matrix, target)
    grown = [tree.tree_ for tree in learner.estimators_[:, 0]]
    base = float(learner.init_.constant_.ravel()[0])
    nodes, leaves = _tree_attributes(grown, learner.learning_rate)
    graph = Graph("trees")
    graph.input("X", "float32", ["rows", features])
    graph.output("score", "float32", ["rows", 1])
    graph.node(
        "TreeEnsembleRegressor",
        "X",
        out="score",
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[base],
        **nodes,
        **leaves,
    )

    def reference(feeds: Mapping[str, Array]) -> Array:
        found = np.full(len(feeds["X"]), base)
        for tree in grown:
            found += learner.learning_rate * _walked(tree, feeds["X"])
        return found[:, None]

    return Made(graph.to_bytes({"": 17, "ai.onnx.ml": 3}), reference)


def _tree_attributes(grown: list[Any], rate: float) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Nodes and leaves of all trees, one tree behind another."""
    nodes: dict[str, list[Any]] = {}
    leaves: dict[str, list[Any]] = {}
    for number, tree in enumerate(grown):
        is_leaf = tree.children_left < 0
        of_nodes = {
            "nodes_treeids": np.full(tree.node_count, number),
            "nodes_nodeids": np.arange(tree.node_count),
            "nodes_featureids": np.where(is_leaf, 0, tree.feature),
            "nodes_values": np.where(is_leaf, 0, _threshold(tree)).astype(float),
            "nodes_modes": np.where(is_leaf, "LEAF", "BRANCH_LEQ"),
            "nodes_truenodeids": np.where(is_leaf, 0, tree.children_left),
            "nodes_falsenodeids": np.where(is_leaf, 0, tree.children_right),
        }
        ends = np.flatnonzero(is_leaf)
        of_leaves = {
            "target_treeids": np.full(ends.size, number),
            "target_nodeids": ends,
            "target_ids": np.zeros(ends.size, int),
            "target_weights": tree.value[ends, 0, 0] * rate,
        }
        for made, found in ((nodes, of_nodes), (leaves, of_leaves)):
            for name, values in found.items():
                made.setdefault(name, []).extend(values.tolist())
    return nodes, leaves


def _threshold(tree: Any) -> Array:
    """The largest float32 that is not above a threshold: x ≤ t holds for the same float32 x."""
    rounded = tree.threshold.astype(np.float32)
    return np.asarray(np.where(rounded > tree.threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded))


def _walked(tree: Any, rows: Array) -> Array:
    """The leaves' values that a tree has for rows."""
    at = np.zeros(len(rows), int)
    while (tree.children_left[at] >= 0).any():
        is_leaf = tree.children_left[at] < 0
        goes_left = rows[np.arange(len(rows)), np.where(is_leaf, 0, tree.feature[at])] <= tree.threshold[at]
        below = np.where(goes_left, tree.children_left[at], tree.children_right[at])
        at = np.where(is_leaf, at, below)
    return np.asarray(tree.value[at, 0, 0])


class Net(NamedTuple):
    """Sizes of a transformer."""

    width: int = 64
    heads: int = 4
    layers: int = 2
    hidden: int = 256
    words: int = 1000
    longest: int = 64


class _Weights:
    """Weights of a transformer by name, made when they are first asked for."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(_SEED)
        self.made: dict[str, Array] = {}

    def __call__(self, name: str, *shape: int) -> Array:
        if name not in self.made:
            scale = np.float32(1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.1)
            self.made[name] = self._rng.standard_normal(shape, dtype=np.float32) * scale
        return self.made[name]


def transformer(net: Net = Net()) -> Made:  # noqa: B008  it is frozen
    """An encoder: ids and mask int64[rows, length] to score float32[rows, 1], the mean of what the mask lets through."""
    weights, graph = _Weights(), Graph("transformer")
    ids, mask = (graph.input(name, "int64", ["rows", "length"]) for name in ("ids", "mask"))
    shown = graph.node("Cast", mask, to=1)
    hidden = graph.node("Sub", graph.weight(np.float32(1)), shown)
    hidden = graph.node("Mul", hidden, graph.weight(np.float32(-1e9)))
    hidden = graph.node("Unsqueeze", hidden, graph.weight([1, 2]))
    length = graph.node("Slice", graph.node("Shape", ids), *(graph.weight([at]) for at in (1, 2)))
    places = graph.weight(weights("places", net.longest, net.width) * 10)
    places = graph.node("Slice", places, graph.weight([0]), length, graph.weight([0]))
    value = graph.node("Gather", graph.weight(weights("words", net.words, net.width) * 30), ids)
    value = graph.node("Add", value, places)
    for layer in range(net.layers):
        value = _encoder(graph, weights, net, at=(layer, value, hidden))
    shown = graph.node("Unsqueeze", shown, graph.weight([2]))
    total = graph.node("ReduceSum", graph.node("Mul", value, shown), graph.weight([1]), keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", shown, graph.weight([1]), keepdims=0))
    last = graph.node("Gemm", mean, graph.weight(weights("last", net.width, 1)), graph.weight(weights("end", 1)))
    graph.node("Sigmoid", last, out="score")
    graph.output("score", "float32", ["rows", 1])
    return Made(graph.to_bytes(), lambda feeds: _encoded(net, weights, feeds))


def _dense(graph: Graph, weights: _Weights, value: str, *, name: str, shape: tuple[int, int]) -> str:
    product = graph.node("MatMul", value, graph.weight(weights(f"{name} w", *shape)))
    return graph.node("Add", product, graph.weight(weights(f"{name} b", shape[1])))


def _encoder(graph: Graph, weights: _Weights, net: Net, *, at: tuple[int, str, str]) -> str:
    """A layer: attention and two dense layers, each added to what came in and normalised."""
    layer, value, hidden = at
    size, wide, inner = net.width // net.heads, (net.width, net.width), (net.width, net.hidden)
    split, joined = graph.weight([0, 0, net.heads, size]), graph.weight([0, 0, net.width])
    heads = {}
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        found = _dense(graph, weights, value, name=f"{layer} {name}", shape=wide)
        heads[name] = graph.node("Transpose", graph.node("Reshape", found, split), perm=order)
    scores = graph.node("Mul", graph.node("MatMul", heads["q"], heads["k"]), graph.weight(np.float32(size**-0.5)))
    shares = graph.node("Softmax", graph.node("Add", scores, hidden), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", shares, heads["v"]), perm=[0, 2, 1, 3])
    mixed = _dense(graph, weights, graph.node("Reshape", mixed, joined), name=f"{layer} o", shape=wide)
    value = _normal(graph, graph.node("Add", value, mixed), net.width)
    inside = graph.node("Relu", _dense(graph, weights, value, name=f"{layer} in", shape=inner))
    outside = _dense(graph, weights, inside, name=f"{layer} out", shape=inner[::-1])
    return _normal(graph, graph.node("Add", value, outside), net.width)


def _normal(graph: Graph, value: str, width: int) -> str:
    scale, bias = graph.weight(np.ones(width, np.float32)), graph.weight(np.zeros(width, np.float32))
    return graph.node("LayerNormalization", value, scale, bias, axis=-1, epsilon=1e-5)


def _encoded(net: Net, weights: _Weights, feeds: Mapping[str, Array]) -> Array:
    """The transformer in numpy."""
    w = {name: values.astype(np.float64) for name, values in weights.made.items()}
    ids, mask = feeds["ids"], feeds["mask"].astype(np.float64)
    rows, length = ids.shape

    def dense(value: Array, name: str) -> Array:
        return value @ w[f"{name} w"] + w[f"{name} b"]

    def normal(value: Array) -> Array:
        centred = value - value.mean(axis=-1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5))

    def heads(value: Array) -> Array:
        return value.reshape(rows, length, net.heads, -1).transpose(0, 2, 1, 3)

    value = w["words"][ids] * 30 + w["places"][:length] * 10
    for layer in range(net.layers):
        q, k, v = (heads(dense(value, f"{layer} {name}")) for name in "qkv")
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(net.width // net.heads) + (1 - mask)[:, None, None] * -1e9
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ v).transpose(0, 2, 1, 3).reshape(rows, length, net.width)
        value = normal(value + dense(mixed, f"{layer} o"))
        value = normal(value + dense(np.maximum(dense(value, f"{layer} in"), 0), f"{layer} out"))
    mean = (value * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return np.asarray(1 / (1 + np.exp(-(mean @ w["last"] + w["end"]))))


def resnet(side: int, widths: tuple[int, ...] = (64, 128, 256, 512), classes: int = 10) -> Made:
    """Two residual blocks a width, as ResNet-18: X uint8[rows, 3, side, side] to score float32[rows, classes]."""
    rng, graph = np.random.default_rng(_SEED), Graph("resnet")

    def convolved(value: str, shape: tuple[int, int, int], stride: int) -> str:
        out, into, kernel = shape
        scale = np.float32(np.sqrt(1 / (into * kernel * kernel)))
        weight = graph.weight(rng.standard_normal((out, into, kernel, kernel), dtype=np.float32) * scale)
        bias, pad = graph.weight(rng.standard_normal(out, dtype=np.float32) * np.float32(0.1)), kernel // 2
        return graph.node("Conv", value, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    image = graph.node("Cast", graph.input("X", "uint8", ["rows", 3, side, side]), to=1)
    value = graph.node("Mul", image, graph.weight(np.float32(1 / 255)))
    value = graph.node("Relu", convolved(value, (widths[0], 3, 7), 2))
    value = graph.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    into = widths[0]
    for out in widths:
        for block in range(2):
            stride = 2 if block == 0 and out != widths[0] else 1
            inside = graph.node("Relu", convolved(value, (out, into, 3), stride))
            kept = value if into == out and stride == 1 else convolved(value, (out, into, 1), stride)
            value = graph.node("Relu", graph.node("Add", convolved(inside, (out, out, 3), 1), kept))
            into = out
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", value))
    weight = graph.weight(rng.standard_normal((into, classes), dtype=np.float32) * np.float32(1 / np.sqrt(into)))
    graph.node("Gemm", pooled, weight, graph.weight(np.zeros(classes, np.float32)), out="score")
    graph.output("score", "float32", ["rows", classes])

    def reference(feeds: Mapping[str, Array]) -> Array:
        raise NotImplementedError

    return Made(graph.to_bytes(), reference)
