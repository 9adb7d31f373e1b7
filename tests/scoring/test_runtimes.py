"""What every runtime promises, whatever library is behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scoring.errors import BundleError, DeviceError, InferenceError
from tests.scoring.runtime_models import BUILDERS, SIGNATURE, W, bundle_of, by_hand, feeds, numpy_model, table_of
from tests.scoring.workshop import Work, predictions, quarantined

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


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_the_worker_scores_a_bundle_of_it(made: RuntimeModel, tmp_path: Path, batch_rows: int) -> None:
    """Scores are those of the library row by row, golden rows too, and rows on which it fails are set aside."""
    given = feeds(130)
    wrong = [0, 63, 64, 129] if batch_rows > 1 else [5]
    fed = {**given, "index": given["index"].copy()}
    fed["index"][wrong] = 99
    work = Work(tmp_path, table_of(fed), bundle=lambda folder: bundle_of(made, folder))
    receipts = work.score(runtime=made.options, batch_rows=batch_rows)
    good = np.setdiff1d(np.arange(130), wrong)
    found = predictions(receipts)
    assert found.column("id").to_pylist() == good.tolist()
    one_by_one = [made.plain({name: values[row : row + 1] for name, values in given.items()}) for row in good]
    for name in ("p", "v"):
        expected = np.concatenate([row[name] for row in one_by_one])
        np.testing.assert_allclose(np.array(found.column(name).to_pylist()), expected, rtol=1e-6, atol=1e-7)
    bad = quarantined(receipts)
    assert bad.column("row").to_pylist() == wrong
    assert set(bad.column("code").to_pylist()) == {"MODEL_FAILED"}
    assert all("the model failed" in reason for reason in bad.column("message").to_pylist())


def test_a_job_that_trusts_no_code_loads_none(made: RuntimeModel, tmp_path: Path) -> None:
    """A bundle whose model may run code is refused by a worker whose job does not say that it may."""
    work = Work(tmp_path, table_of(feeds(3)), bundle=lambda folder: bundle_of(made, folder))
    if made.options.trust:
        with pytest.raises(BundleError, match=r"does not allow that.*set `scoring\.trust"):
            work.score()
    else:
        assert len(predictions(work.score())) == 3


def test_no_library_is_loaded_before_a_model_asks_for_it() -> None:
    """Importing the runtimes and running the reference loads neither torch, nor MLflow, nor pandas, nor onnxruntime."""
    program = """
import sys
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
load("model.json", {"model.json": sys.stdin.buffer.read()}, RuntimeOptions(), where="bundle", kind="numpy")
sys.exit(", ".join({"torch", "mlflow", "pandas", "onnxruntime"} & set(sys.modules)) or 0)
"""
    model = numpy_model(Path()).files["model.json"].decode()
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, input=model)
    assert (done.returncode, done.stderr) == (0, "")
