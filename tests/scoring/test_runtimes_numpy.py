"""The reference: layers by numpy alone, against other libraries' numbers, and what it refuses."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.neural_network import MLPClassifier

from scoring.errors import BundleError, InferenceError
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
from tests.numbers_job import WEIGHTS
from tests.scoring.workshop import logistic_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.runtimes.base import Kind, Runtime


def tensor(name: str, dtype: str, *shape: int | None) -> dict[str, Any]:
    """A tensor of a signature."""
    return {"name": name, "dtype": dtype, "shape": [None, *shape]}


def document(layers: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]], width: int = 4) -> bytes:
    """A model file that takes X."""
    signature = {"inputs": [tensor("X", "float32", width)], "outputs": list(outputs)}
    return json.dumps({"format": "batchscore.numpy/1", "signature": signature, "layers": list(layers)}).encode()


def reference(layers: Sequence[dict[str, Any]], *outputs: dict[str, Any], width: int = 4) -> Runtime:
    """A loaded model that takes X."""
    data = document(layers, outputs, width)
    return load("model.json", {"model.json": data}, RuntimeOptions(), where="bundle", kind="numpy")


def rows(count: int, width: int = 4, seed: int = 1) -> np.ndarray:
    """Rows of X."""
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


LOGISTIC = [{"op": "dense", "input": "X", "output": "p", "weights": WEIGHTS.tolist(), "activation": "sigmoid"}]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_a_logistic_model_is_onnxruntimes(seed: int, count: int) -> None:
    """Scores of a logistic model are those of onnxruntime, whatever the rows."""
    x = rows(count, seed=seed) * np.float32(30)
    session = ort.InferenceSession(logistic_model(), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"X": x})
    found = reference(LOGISTIC, tensor("p", "float32", 1)).predict({"X": x})["p"]
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-7)


def test_a_network_is_scikit_learns() -> None:
    """Two layers, softmax and argmax give the probabilities and the class of scikit-learn's network."""
    x = rows(200).astype(np.float64)
    y = np.digitize(x @ np.array([1.0, -1.0, 0.5, 0.2]), [-0.7, 0.7])
    network = MLPClassifier((8,), max_iter=20, random_state=0)
    with np.errstate(all="ignore"):
        network.partial_fit(x, y, classes=[0, 1, 2])
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    layers = [
        {"op": "dense", "input": "X", "output": "h", "weights": w1.tolist(), "bias": b1.tolist(), "activation": "relu"},
        {"op": "dense", "input": "h", "output": "z", "weights": w2.tolist(), "bias": b2.tolist()},
        {"op": "function", "input": "z", "output": "p", "function": "softmax"},
        {"op": "function", "input": "p", "output": "best", "function": "argmax"},
        {"op": "gather", "input": "best", "output": "label", "table": ["low", "middle", "high"]},
        {"op": "function", "input": "p", "output": "last", "function": "column", "column": 2},
    ]
    outputs = [tensor("p", "float64", 3), tensor("best", "int64"), tensor("label", "string"), tensor("last", "float32")]
    found = reference(layers, *outputs).predict({"X": rows(200)})
    np.testing.assert_allclose(found["p"], network.predict_proba(x), rtol=1e-12)
    assert found["best"].tolist() == network.predict(x).tolist()
    assert found["label"].tolist() == [["low", "middle", "high"][best] for best in network.predict(x)]
    np.testing.assert_array_equal(found["last"], network.predict_proba(x)[:, 2].astype(np.float32))


def nodes_of(tree: Any, scale: float = 1.0) -> dict[str, Any]:
    """A tree of scikit-learn as this file format has it."""
    value = tree.value[:, 0, :]
    return {
        "feature": np.maximum(tree.feature, -1).tolist(),
        "threshold": tree.threshold.tolist(),
        "left": tree.children_left.tolist(),
        "right": tree.children_right.tolist(),
        "value": (value * scale).tolist(),
    }


def test_trees_are_scikit_learns() -> None:
    """A boosted ensemble and a forest give scikit-learn's numbers, on borders of the splits too."""
    x = np.round(rows(300), 1)
    boosted = GradientBoostingRegressor(n_estimators=7, max_depth=3, random_state=0).fit(x, x[:, 0] * x[:, 1])
    layer = {
        "op": "trees",
        "input": "X",
        "output": "y",
        "trees": [nodes_of(tree.tree_, boosted.learning_rate) for [tree] in boosted.estimators_],
        "base": [float(boosted.init_.constant_.item())],
    }
    found = reference([layer], tensor("y", "float64", 1)).predict({"X": x})["y"]
    np.testing.assert_allclose(found[:, 0], boosted.predict(x), rtol=1e-12, atol=1e-12)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, x[:, 0] > x[:, 1])
    layer = {**layer, "trees": [nodes_of(tree.tree_, 1 / 5) for tree in forest.estimators_], "base": [0.0, 0.0]}
    found = reference([layer], tensor("y", "float64", 2)).predict({"X": x})["y"]
    np.testing.assert_allclose(found, forest.predict_proba(x), rtol=1e-12, atol=1e-12)


def test_special_numbers_come_out_as_arithmetic_has_them() -> None:
    """A NaN stays one, an infinity goes to the end of the sigmoid, and neither warns."""
    layer = {"op": "dense", "input": "X", "output": "p", "weights": [[1.0]], "activation": "sigmoid"}
    x = np.array([[np.nan], [np.inf], [-np.inf], [-0.0], [1e30], [-1e30]], dtype=np.float32)
    found = reference([layer], tensor("p", "float32", 1), width=1).predict({"X": x})["p"]
    np.testing.assert_array_equal(found[:, 0], np.array([np.nan, 1, 0, 0.5, 1, 0], dtype=np.float32))


def test_inputs_side_by_side() -> None:
    """Concat puts columns in the order that it names, and mean takes the last axis away."""
    layers: list[dict[str, Any]] = [
        {"op": "function", "input": "X", "output": "t", "function": "tanh"},
        {"op": "concat", "inputs": ["t", "X"], "output": "both"},
        {"op": "function", "input": "both", "output": "mean", "function": "mean"},
    ]
    x = rows(6)
    found = reference(layers, tensor("both", "float64", 8), tensor("mean", "float64")).predict({"X": x})
    both = np.hstack([np.tanh(x.astype(np.float64)), x])
    np.testing.assert_array_equal(found["both"], both)
    np.testing.assert_allclose(found["mean"], both.sum(axis=1) / 8, rtol=1e-14)


DENSE = {"op": "dense", "input": "X", "output": "p", "weights": [[1.0]] * 4}
TREE = {"feature": [0, -1, -1], "threshold": [0.0] * 3, "left": [1, -1, -1], "right": [2, -1, -1], "value": [[0.0]] * 3}
TREES = {"op": "trees", "input": "X", "output": "p"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{**DENSE, "input": "Y"}], "takes 'Y', which is neither an input nor made before it"),
        ([DENSE, DENSE], "'p' is made twice"),
        ([{**DENSE, "output": "q"}], "no layer makes output 'p'"),
        ([{**DENSE, "weights": [[1.0], [1.0, 2.0]]}], "rows of a matrix are of one length"),
        ([{**DENSE, "op": "python"}], "tag 'python'"),
        ([{**DENSE, "activation": "eval"}], "'identity'"),
        ([{**TREES, "trees": [{**TREE, "left": [0, -1, -1]}]}], "a child of node 0 is not one of the later nodes"),
        ([{**TREES, "trees": [{**TREE, "threshold": [0.0]}]}], "one entry a node"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(layers: list[dict[str, Any]], message: str) -> None:
    """A model whose layers do not fit together is a BundleError that names the file and the fault."""
    with pytest.raises(BundleError, match=rf"bundle/model.json: .*{message}"):
        reference(layers, tensor("p", "float32", 1))


def test_a_model_that_does_not_give_what_it_declares_fails() -> None:
    """An output of another width or kind than declared is an error, not another column."""
    for declared, told in (
        (tensor("p", "float32", 2), r"float64 of shape \[3, 1\]|float32 of shape \[3, 1\]"),
        (tensor("p", "int64", 1), "float64"),
    ):
        with pytest.raises(InferenceError, match=rf"model output p .* came as ({told})"):
            reference([DENSE], declared).predict({"X": rows(3)})


@pytest.mark.parametrize(
    ("kind", "library", "extra"),
    [
        ("torch", "torch", r"batchscore\[torch\]"),
        ("pyfunc", "mlflow", r"batchscore\[mlflow\]"),
        ("onnx", "onnxruntime", r"batchscore\[cpu\].*batchscore\[gpu\]"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, library: str, extra: str
) -> None:
    """Where a runtime's library is missing, the error names it and the extra that brings it."""
    for name in [name for name in sys.modules if name.startswith(f"scoring.runtimes.{kind}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BundleError, match=rf"this {kind} model needs {library}, which is not installed here.*{extra}"):
        load("model", {"model": b""}, RuntimeOptions(), where="bundle", kind=kind)
