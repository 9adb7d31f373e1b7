"""Models with several inputs of any rank, fed by fitted specs, through bundle and worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from etl.errors import SpecError
from etl.learning.fitting import fit
from etl.spec import read_spec
from scoring.bundles.bundle import audit
from scoring.bundles.create import BundleParts, create_bundle
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.scorer import load_scorer
from tests.scoring.workshop import STORE, Work, model_of, predictions

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

RECIPE = """
format: scorespec/1
spec_id: picture_and_words
input:
  fields:
  - {name: id, type: int64, nullable: false, role: id}
  - {name: pixels, type: "float32[8]", nullable: false}
  - {name: words, type: "list<string>"}
  - {name: city, type: string}
steps:
  - {id: some, op: filter, params: {keep: {cmp: [id, "!=", 3]}}}
  - {id: ids, op: token_ids, in: [words], out: [ids], params: {max_len: 3}}
  - {id: city, op: string_index, in: [city], out: [city_id]}
outputs:
  tensors:
    - {tensor: picture, from: [pixels], shape: [-1, 2, 2, 2], bind: {model_input: image}}
    - {tensor: ids, dtype: int64, from: [ids], shape: [-1, 3]}
    - {tensor: city, dtype: int32, from: [city_id], shape: [-1]}
"""
CITIES = 1500


def model() -> bytes:
    """Mean of the image + sum of the ids + the city's id."""
    return model_of(
        [
            helper.make_node("ReduceMean", ["image"], ["m"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("ReduceSum", ["ids", "axis"], ["s"], keepdims=0),
            helper.make_node("Cast", ["s"], ["sf"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["city"], ["cf"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["m", "sf"], ["ms"]),
            helper.make_node("Add", ["ms", "cf"], ["p"]),
        ],
        {
            "image": (TensorProto.FLOAT, [None, 2, 2, 2]),
            "ids": (TensorProto.INT64, [None, 3]),
            "city": (TensorProto.INT32, [None]),
        },
        {"p": (TensorProto.FLOAT, [None])},
        axis=np.array([1]),
    )


def rows(count: int = 400) -> pa.Table:
    """Pictures, words and more cities than a spec holds itself."""
    rng = np.random.default_rng(5)
    pixels = rng.standard_normal((count, 8)).astype(np.float32)
    words = [[f"w{n}" for n in rng.integers(0, 9, rng.integers(0, 6))] for _ in range(count)]
    return pa.table(
        {
            "id": np.arange(count),
            "pixels": pa.array(pixels.tolist(), pa.list_(pa.float32())),
            "words": pa.array(words, pa.list_(pa.string())),
            "city": [f"city {n}" for n in rng.integers(0, CITIES, count)],
        }
    )


def training() -> pa.Table:
    """Rows with every city."""
    table = rows(CITIES)
    return table.set_column(3, "city", pa.array([f"city {n}" for n in range(CITIES)]))


def bundle(folder: Path) -> AuditedBundle:
    """A bundle of the model, with a spec whose vocabulary is a file of its own."""
    spec = fit(read_spec(RECIPE, "recipe.yaml", fitted=False), training())
    columns = (OutputColumn(column="p", tensor="p", type="float32"),)
    parts = BundleParts("pictures", "1", model(), spec, columns, rows(3), {}, {})
    return create_bundle(STORE, str(folder), parts)


def test_several_inputs_of_any_rank_are_fed(tmp_path: Path) -> None:
    """An image of rank 4, ids of rank 2 and a category of rank 1 reach the model as plain onnxruntime gets them."""
    table = rows()
    work = Work(tmp_path, table, bundle)
    receipts = work.score()
    found = predictions(receipts).sort_by("id")
    assert found["id"].to_pylist() == [row for row in range(400) if row != 3]
    assert sum(receipt.account.filtered.rows for receipt in receipts) == 1
    assert all(receipt.account.adds_up for receipt in receipts)
    steps: dict[str, Any] = {step.id: step for step in work.audited.spec.steps}
    vocabulary = {word: 2 + n for n, word in enumerate(steps["ids"].state.vocab)}
    cities = {city: 3 + n for n, city in enumerate(steps["city"].state.vocab)}
    kept = [row for row in table.to_pylist() if row["id"] != 3]
    ids = [([vocabulary[word] for word in row["words"]] + [0] * 3)[:3] for row in kept]
    feeds = {
        "image": np.array([row["pixels"] for row in kept], np.float32).reshape(-1, 2, 2, 2),
        "ids": np.array(ids, np.int64),
        "city": np.array([cities.get(row["city"], 2) for row in kept], np.int32),
    }
    [wanted] = ort.InferenceSession(model(), providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose(found["p"].to_numpy(), wanted, rtol=1e-6)


def test_a_large_vocabulary_travels_with_its_bundle(tmp_path: Path) -> None:
    """The vocabulary is a file of the bundle with a digest of its own, and nothing in the bundle ends in .parquet."""
    made = bundle(tmp_path / "bundle")
    [name] = [name for name in made.bundle.files if name.startswith("city-")]
    assert not [name for name in made.files if name.endswith(".parquet")]
    assert audit(STORE, str(tmp_path / "bundle")).spec == made.spec
    (tmp_path / "bundle" / name).unlink()
    with pytest.raises(BundleError, match=r"file city-[0-9a-f]{12}\.pq is missing"):
        audit(STORE, str(tmp_path / "bundle"))


def test_a_spec_that_means_something_else_here_scores_nothing(tmp_path: Path) -> None:
    """A worker refuses a bundle whose spec makes something else of its golden rows, and names the step."""
    work = Work(tmp_path, rows(10), bundle)
    order = work.make_order()
    audited = work.audited
    spec = read_spec(json.dumps({**audited.spec.plain(), "integrity": None}), "etl.json")
    golden = spec.golden[0].model_copy(update={"made": {**spec.golden[0].made, "city_id": 7}})
    other = spec.model_copy(update={"golden": (golden, *spec.golden[1:])})
    scorer = load_scorer(STORE, order, order.models[0])
    with pytest.raises(SpecError, match=r"^/steps/2: step 'city' \(string_index\) makes another 'city_id'"):
        type(scorer.pipeline)(other, {})


def test_a_model_that_takes_another_shape_is_refused(tmp_path: Path) -> None:
    """A tensor of another shape than the model declares is refused when the bundle is made."""
    spec = fit(read_spec(RECIPE.replace("[-1, 2, 2, 2]", "[-1, 1, 2, 4]"), "recipe.yaml", fitted=False), training())
    columns = (OutputColumn(column="p", tensor="p", type="float32"),)
    with pytest.raises(BundleError, match=r"model input image .* is fed with rows of shape \[1, 2, 4\]"):
        create_bundle(STORE, str(tmp_path / "b"), BundleParts("x", "1", model(), spec, columns, rows(3), {}, {}))
