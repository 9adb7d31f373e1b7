"""What every runtime promises, whatever library is behind it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scoring.errors import DeviceError, InferenceError
from tests.scoring.runtime_models import BUILDERS, SIGNATURE, W, by_hand, feeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scoring.runtimes.base import Runtime
    from tests.scoring.runtime_models import RuntimeModel


@pytest.fixture(scope="module", params=BUILDERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RuntimeModel:
    """The model, in each form."""
    return BUILDERS[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runtime(made: RuntimeModel) -> Iterator[Runtime]:
    """The model, loaded."""
    loaded = made.load()
    yield loaded
    loaded.close()


def test_a_runtime_knows_what_the_model_takes_and_gives(runtime: Runtime) -> None:
    """The signature has each tensor's name, type and shape, and the provider says what runs the model, on the CPU."""
    assert runtime.signature == SIGNATURE
    assert (runtime.device, runtime.fell_back) == ("cpu", None)
    assert runtime.provider.split()[0] in {"numpy", "mlflow", "torch"}


@pytest.mark.parametrize("rows", [0, 1, 2, 257])
def test_outputs_are_those_of_the_library_itself(made: RuntimeModel, runtime: Runtime, rows: int) -> None:
    """Each output has a row for each that was fed, its type and width, and the library's own numbers."""
    given = feeds(rows)
    found, plain, exact = runtime.predict(given), made.plain(given), by_hand(given)
    assert list(found) == ["p", "v"]
    for tensor in SIGNATURE.outputs:
        values = found[tensor.name]
        assert (values.dtype, values.shape) == (np.dtype(tensor.dtype), (rows, *tensor.shape[1:]))
        np.testing.assert_array_equal(values, plain[tensor.name])
        np.testing.assert_allclose(values, exact[tensor.name], rtol=2e-6, atol=1e-7)


def test_outputs_can_be_chosen(runtime: Runtime) -> None:
    """Asked for one output, a runtime gives that one alone; one that is not there is an error that lists what is."""
    given = feeds(5)
    assert list(runtime.predict(given, ["v"])) == ["v"]
    assert list(runtime.predict(given, ("v", "p"))) == ["v", "p"]
    with pytest.raises(InferenceError, match="no output 'q'; it gives p, v"):
        runtime.predict(given, ["q"])


def test_a_failure_is_told_in_the_librarys_words(runtime: Runtime) -> None:
    """An index that the model does not know is an InferenceError, and the next call works."""
    given = feeds(5)
    with pytest.raises(InferenceError, match=r"the model failed: .*(index|axis)"):
        runtime.predict({**given, "index": np.array([0, 1, 2, 3, 9])})
    assert runtime.predict(given)["v"].shape == (5,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": feeds(5)["X"].astype(np.float64)}, r"X float32\[rows, 4\] was fed with float64 of shape \[5, 4\]"),
        ({"X": feeds(3)["X"]}, "inputs of several numbers of rows: X 3, index 5"),
        ({"X": feeds(5)["X"][:, :3]}, r"of shape \[5, 3\]"),
        ({"index": np.zeros((5, 1), dtype=np.int64)}, r"index int64\[rows\] was fed with int64 of shape \[5, 1\]"),
        ({"Y": feeds(5)["X"]}, "the model takes X, index; it was fed with X, Y, index"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(runtime: Runtime, changes: dict[str, np.ndarray], message: str) -> None:
    """A feed of another type, shape or name never reaches the library, which might take it without a word."""
    with pytest.raises(InferenceError, match=message):
        runtime.predict({**feeds(5), **changes})


def test_a_feed_may_be_read_only_and_stays_as_it_was(runtime: Runtime) -> None:
    """Arrow's memory cannot be written to, and what a worker feeds is published beside the scores."""
    given = feeds(9)
    before = {name: values.copy() for name, values in given.items()}
    reversed_view = {name: values[::-1] for name, values in given.items()}
    for values in given.values():
        values.flags.writeable = False
    found = runtime.predict(given)
    np.testing.assert_array_equal(runtime.predict(reversed_view)["p"][::-1], found["p"])
    for name, values in given.items():
        np.testing.assert_array_equal(values, before[name])


def test_a_closed_model_is_of_no_more_use(made: RuntimeModel) -> None:
    """After it was closed, twice even, a model gives an InferenceError; another of the same file is not touched."""
    one, other = made.load(), made.load()
    one.warm_up()
    one.close()
    one.close()
    with pytest.raises(InferenceError, match="it was closed"):
        one.predict(feeds(2))
    assert other.predict(feeds(2))["p"].shape == (2, W.shape[1])
    other.close()


def test_a_gpu_that_cannot_be_had_is_no_slow_success(made: RuntimeModel) -> None:
    """Asked for TensorRT, which no runtime here has, it fails, or runs on the CPU and says so where the job allows."""
    with pytest.raises(DeviceError, match="device tensorrt was asked for"):
        made.load(device="tensorrt")
    loaded = made.load(device="tensorrt", on_missing_gpu="cpu")
    assert loaded.device == "cpu"
    assert "device tensorrt was asked for" in (loaded.fell_back or "")
    loaded.close()


def test_no_library_is_loaded_before_a_model_asks_for_it() -> None:
    """Importing the runtimes and running the reference loads neither torch, nor MLflow, nor pandas, nor onnxruntime."""
    program = """
import sys
from pathlib import Path
from tests.scoring.runtime_models import feeds, numpy_model
numpy_model(Path()).load().predict(feeds(3))
sys.exit(", ".join({"torch", "mlflow", "pandas", "onnxruntime"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
