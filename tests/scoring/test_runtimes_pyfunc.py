"""MLflow models: loaded by consent only, fed as they were logged, and given back with every axis that they have."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from scoring.errors import BundleError, DeviceError, InferenceError
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
from tests.scoring.runtime_models import folder_files, save_pyfunc, unwarned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scoring.runtimes.base import Runtime

TRUSTING = RuntimeOptions(trust=("pyfunc",))


@pytest.fixture(autouse=True, scope="module")
def _mlflow() -> None:
    """MLflow, imported without the warnings of its own classes."""
    importlib.import_module("scoring.runtimes.pyfunc")


def logged(folder: Path, predict: Callable[[Any], Any], signature: Any) -> dict[str, bytes]:
    """Files of a bundle with an MLflow model that calls a function."""
    from mlflow.pyfunc.model import PythonModel

    with unwarned():

        class Model(PythonModel):
            def predict(self, context, model_input, params=None):  # noqa: ARG002  as MLflow calls it
                return predict(model_input)

    save_pyfunc(folder / "mlflow", python_model=Model(), signature=signature)
    return folder_files(folder / "mlflow", "model")


def opened(files: dict[str, bytes], options: RuntimeOptions = TRUSTING) -> Runtime:
    """The model as a worker loads it."""
    return load("model/MLmodel", files, options, where="bundle", kind="pyfunc")


def signed(inputs: list[Any], outputs: list[Any]) -> Any:
    """A signature of MLflow; a column is (type, name), a tensor (dtype, shape) or (dtype, shape, name)."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    def entry(facts: Any) -> Any:
        if isinstance(facts[1], tuple):
            return TensorSpec(np.dtype(facts[0]), *facts[1:])
        return ColSpec(*facts)

    return ModelSignature(Schema([entry(facts) for facts in inputs]), Schema([entry(facts) for facts in outputs]))


class _Payload:
    """Pickled, it writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled_without_the_jobs_consent(tmp_path: Path) -> None:
    """A bundle's MLflow model is not touched where the job trusts none; where it trusts them, its code runs."""
    ran = tmp_path / "ran"
    payload = _Payload(ran)
    files = logged(tmp_path, lambda _: payload, signed([("double", "a")], [("double", "p")]))
    for options in (RuntimeOptions(), RuntimeOptions(trust=("torch_program",))):
        with pytest.raises(BundleError, match=r"does not allow that.*scoring\.trust: \[pyfunc\]"):
            opened(files, options)
        assert not ran.exists()
    opened(files).close()
    assert ran.exists()


def test_a_matrix_stays_a_matrix(tmp_path: Path) -> None:
    """A scikit-learn model that MLflow logged gives the probabilities of all classes, those of scikit-learn itself."""
    import mlflow.sklearn

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    model = LogisticRegression().fit(x, np.arange(90) % 3)
    signature = signed([("float32", (-1, 4))], [("float64", (-1, 3))])
    with unwarned():
        mlflow.sklearn.save_model(
            model,
            str(tmp_path / "mlflow"),
            pyfunc_predict_fn="predict_proba",
            signature=signature,
            pip_requirements=[],
            serialization_format="cloudpickle",
        )
    runtime = opened(folder_files(tmp_path / "mlflow", "model"))
    assert [str(t) for t in (*runtime.signature.inputs, *runtime.signature.outputs)] == [
        "input float32[rows, 4]",
        "output float64[rows, 3]",
    ]
    np.testing.assert_array_equal(runtime.predict({"input": x})["output"], model.predict_proba(x))
    assert runtime.predict({"input": x[:1]})["output"].shape == (1, 3)
    runtime.close()


def test_columns_are_given_as_a_frame(tmp_path: Path) -> None:
    """A model that was logged for columns gets a frame of them, in their types and order, lists as lists."""

    def predict(frame: Any) -> Any:
        import numpy as np
        import pandas as pd

        assert isinstance(frame, pd.DataFrame)
        assert frame.columns.tolist() == ["a", "n", "f", "s", "l"]
        assert frame["a"].dtype == np.float64
        lengths = frame["s"].str.len() + frame["l"].map(len)
        return pd.DataFrame({"total": frame["a"] + frame["n"] + frame["f"] + lengths, "twice": frame["s"] * 2})

    from mlflow.types import DataType
    from mlflow.types.schema import Array

    columns = [("double", "a"), ("long", "n"), ("float", "f"), ("string", "s"), (Array(DataType.double), "l")]
    files = logged(tmp_path, predict, signed(columns, [("double", "total"), ("string", "twice")]))
    runtime = opened(files)
    assert [str(tensor) for tensor in runtime.signature.inputs] == [
        "a float64[rows]",
        "n int64[rows]",
        "f float32[rows]",
        "s string[rows]",
        "l float64[rows, any]",
    ]
    found = runtime.predict(
        {
            "a": np.array([0.5, np.nan]),
            "n": np.array([1, 2]),
            "f": np.array([0.25, 1], dtype=np.float32),
            "s": np.array(["ab", ""], dtype=object),
            "l": np.zeros((2, 3)),
        }
    )
    np.testing.assert_array_equal(found["total"], [6.75, np.nan])
    assert found["twice"].tolist() == ["abab", ""]
    runtime.close()


ONE = [("double", "a")]
GIVEN: dict[str, tuple[Callable[[Any], Any], list[Any], dict[str, np.ndarray]]] = {
    "series": (lambda frame: frame["a"] * 2, [("double", None)], {"output": np.array([2.0, 4.0])}),
    "list": (lambda frame: [len(frame), 7], [("long", None)], {"output": np.array([2, 7])}),
    "list of texts": (lambda frame: ["x"] * len(frame), [("string", None)], {"output": np.array(["x", "x"])}),
    "frame of one": (lambda frame: frame * 2, [("double", None)], {"output": np.array([2.0, 4.0])}),
    "frame as matrix": (
        lambda frame: frame.assign(b=1.0),
        [("float64", (-1, 2))],
        {"output": np.array([[1.0, 1.0], [2.0, 1.0]])},
    ),
    "dictionary": (
        lambda frame: {"p": list(frame["a"]), "m": np.ones((len(frame), 2))},
        [("float64", (-1,), "p"), ("float64", (-1, 2), "m")],
        {"p": np.array([1.0, 2.0]), "m": np.ones((2, 2))},
    ),
    "lists in a frame": (
        lambda frame: frame.assign(v=[[1.0, 2.0]] * len(frame)),
        [("float64", (-1, 2), "v")],
        {"v": np.array([[1.0, 2.0], [1.0, 2.0]])},
    ),
}


@pytest.mark.parametrize("case", GIVEN)
def test_whatever_a_model_gives_is_taken_by_name(tmp_path: Path, case: str) -> None:
    """Frames, series, lists, arrays and dictionaries come out as the arrays that the signature declares."""
    predict, outputs, expected = GIVEN[case]
    runtime = opened(logged(tmp_path, predict, signed(ONE, outputs)))
    found = runtime.predict({"a": np.array([1.0, 2.0])})
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    runtime.close()


@pytest.mark.parametrize(
    ("predict", "outputs", "message"),
    [
        (lambda frame: np.ones((len(frame), 2)), [("double", "p"), ("double", "q")], "declares p, q: return them by"),
        (
            lambda frame: np.ones((len(frame), 2)),
            [("float64", (-1,))],
            r"output float64\[rows\] came as float64 of shape",
        ),
        (lambda frame: {"q": frame["a"]}, [("double", "p"), ("double", "r")], "the model gave no 'p'.*it gave q"),
        (lambda frame: [[1.0], [1.0, 2.0]][: len(frame)], [("float64", (-1, 2))], "inhomogeneous"),
        (lambda frame: frame["a"].astype(str), [("double", None)], "came as string"),
    ],
)
def test_what_does_not_fit_the_signature_is_an_error(
    tmp_path: Path, predict: Callable[[Any], Any], outputs: list[Any], message: str
) -> None:
    """A model that gives other shapes, names or types than were logged fails; nothing is flattened or guessed."""
    runtime = opened(logged(tmp_path, predict, signed(ONE, outputs)))
    with pytest.raises(InferenceError, match=message):
        runtime.predict({"a": np.array([1.0, 2.0])})
    runtime.close()


def test_a_model_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private copy of a model's files is gone when it is closed, and none is left by one that cannot be loaded."""
    (tmp_path / "private").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "private"))
    monkeypatch.chdir(tmp_path / "here")
    files = logged(tmp_path, lambda frame: frame["a"], signed(ONE, [("double", None)]))
    runtime = opened(files)
    [copy] = (tmp_path / "private").iterdir()
    assert copy.stat().st_mode & 0o077 == 0
    runtime.predict({"a": np.array([1.0])})
    runtime.close()
    with pytest.raises(BundleError, match="cannot load this model"):
        opened({**files, "model/python_model.pkl": b"no pickle"})
    assert list((tmp_path / "private").iterdir()) == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_model_that_cannot_be_fed_is_refused(tmp_path: Path) -> None:
    """Without a signature, with a type that no tensor has, or named by another file, it is a BundleError."""
    files = logged(tmp_path / "1", lambda frame: frame, None)
    with pytest.raises(BundleError, match="no signature of its inputs and outputs"):
        opened(files)
    files = logged(tmp_path / "2", lambda frame: frame, signed([("datetime", "at")], [("double", "p")]))
    with pytest.raises(BundleError, match="column 'at' has MLflow's type"):
        opened(files)
    with pytest.raises(BundleError, match="named by the MLmodel in its folder"):
        load("model/python_model.pkl", files, TRUSTING, where="bundle", kind="pyfunc")
    with pytest.raises(DeviceError, match="MLflow's pyfunc runs on the CPU only"):
        opened(files, RuntimeOptions(trust=("pyfunc",), device="cuda"))


def test_the_frame_is_the_models_own(tmp_path: Path) -> None:
    """A model that writes into its frame changes nothing that the worker holds."""

    def predict(frame: Any) -> Any:
        frame.loc[:, "a"] = 0.0
        return frame["a"]

    runtime = opened(logged(tmp_path, predict, signed(ONE, [("double", None)])))
    fed = np.array([1.0, 2.0])
    runtime.predict({"a": fed})
    assert fed.tolist() == [1.0, 2.0]
    runtime.close()


def test_a_forked_child_leaves_its_parents_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child of a worker closes is still there for the worker."""
    (tmp_path / "private").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "private"))
    runtime = opened(logged(tmp_path, lambda frame: frame["a"], signed(ONE, [("double", None)])))
    child = os.fork()
    if child == 0:
        runtime.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list((tmp_path / "private").iterdir())) == 1
    runtime.close()
    assert list((tmp_path / "private").iterdir()) == []
