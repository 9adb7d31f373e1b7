"""Models with several inputs of any rank, fed by fitted specs, through bundle and worker."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from etl.errors import SpecError
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.ragged import padded_feeds
from etl.spec import read_spec
from scoring.bundles.bundle import Bundle, audit
from scoring.bundles.create import BundleParts, create_bundle
from scoring.bundles.features import compare_features
from scoring.bundles.misfits import misfits
from scoring.errors import BundleError, GoldenError
from scoring.outputs.columns import OutputColumn
from scoring.scorer import load_scorer
from scoring.signature import Signature, TensorSpec
from tests.scoring.workshop import STORE, Work, model_of, predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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


def spec_text(fields: str, tensors: str) -> str:
    """A spec that hands columns to tensors."""
    return f"""
format: scorespec/1
spec_id: tensors
input:
  fields:
  - {{name: id, type: int64, nullable: false, role: id}}
{fields}
outputs:
  tensors:
{tensors}
"""


class Case(NamedTuple):
    """A model, how it is fed, and what plain onnxruntime is fed with for one row."""

    model: bytes
    spec: str
    columns: dict[str, pa.Array]
    feeds: Callable[[dict[str, Any]], dict[str, Any]]
    input_dtype: dict[str, str]
    """Of the arrays that the model is to be given."""


def image_case() -> Case:
    """A convolution over images of bytes."""
    rng = np.random.default_rng(6)
    kernel = rng.standard_normal((2, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "W"], ["c"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["c"], ["p"], axes=[1, 2, 3], keepdims=0),
    ]
    inputs = {"image": (TensorProto.UINT8, [None, 1, 28, 28])}
    images = rng.integers(0, 256, (ROWS, 784)).astype(np.uint8)
    return Case(
        model_of(nodes, inputs, {"p": (TensorProto.FLOAT, [None])}, W=kernel),
        spec_text(
            '  - {name: image, type: "uint8[784]", nullable: false}',
            "    - {tensor: image, dtype: uint8, from: [image], shape: [-1, 1, 28, 28]}",
        ),
        {"image": pa.array(images.tolist(), pa.list_(pa.uint8()))},
        lambda row: {"image": np.array(row["image"], np.uint8).reshape(1, 1, 28, 28)},
        {"image": "uint8"},
    )


def half_case() -> Case:
    """A product of two inputs of float16 and of int32 ids."""
    rng = np.random.default_rng(7)
    nodes = [
        helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "ids"], ["e"], axis=0),
        helper.make_node("Mul", ["xf", "e"], ["product"]),
        helper.make_node("ReduceSum", ["product", "axis"], ["p"], keepdims=0),
    ]
    inputs = {"x": (TensorProto.FLOAT16, [None, 4]), "ids": (TensorProto.INT32, [None, 4])}
    weights = rng.standard_normal(9).astype(np.float32)
    return Case(
        model_of(nodes, inputs, {"p": (TensorProto.FLOAT, [None])}, table=weights, axis=np.array([1])),
        spec_text(
            '  - {name: x, type: "float16[4]", nullable: false}\n  - {name: ids, type: "int32[4]", nullable: false}',
            "    - {tensor: x, dtype: float16, from: [x]}\n    - {tensor: ids, dtype: int32, from: [ids]}",
        ),
        {
            "x": pa.array(rng.standard_normal((ROWS, 4)).tolist(), pa.list_(pa.float64(), 4)),
            "ids": pa.array(rng.integers(0, 9, (ROWS, 2, 2)).tolist(), pa.list_(pa.list_(pa.int64()))),
        },
        lambda row: {
            "x": np.array([row["x"]], np.float64).astype(np.float16),
            "ids": np.array(row["ids"], np.int32).reshape(1, 4),
        },
        {"x": "float16", "ids": "int32"},
    )


def token_case(ragged: str, lengths: Sequence[int]) -> Case:
    """The mean of the embeddings of tokens, without those that a mask calls padding."""
    rng = np.random.default_rng(8)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], axis=0),
        helper.make_node("Mul", ["e", "mask"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["some"]),
        helper.make_node("Div", ["total", "some"], ["p"]),
    ]
    inputs = {"ids": (TensorProto.INT64, [None, None]), "mask": (TensorProto.FLOAT, [None, None])}
    constants = {
        "table": rng.standard_normal(100).astype(np.float32),
        "axis": np.array([1]),
        "one": np.ones(1, np.float32),
    }
    rows = [rng.integers(1, 100, lengths[row % len(lengths)]).tolist() for row in range(ROWS)]
    return Case(
        model_of(nodes, inputs, {"p": (TensorProto.FLOAT, [None])}, **constants),
        spec_text(
            "  - {name: ids, type: list<int64>, nullable: false}",
            f"    - {{tensor: ids, dtype: int64, from: [ids], ragged: {ragged}}}",
        ),
        {"ids": pa.array(rows, pa.large_list(pa.int32()))},
        lambda row: {
            "ids": np.array([row["ids"] or [0]], np.int64),
            "mask": np.array([[1] * len(row["ids"]) or [0]], np.float32),
        },
        {"ids": "int64", "mask": "float32"},
    )


def brain_case() -> Case:
    """A sum of bfloat16, each rounded from a float64."""
    rng = np.random.default_rng(11)
    nodes = [
        helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["xf", "axis"], ["p"], keepdims=0),
    ]
    inputs = {"x": (TensorProto.BFLOAT16, [None, 3])}

    def by_hand(row: dict[str, Any]) -> ort.OrtValue:
        bits = np.array([row["x"]]).astype(np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(rounded, TensorProto.BFLOAT16)

    return Case(
        model_of(nodes, inputs, {"p": (TensorProto.FLOAT, [None])}, axis=np.array([1])),
        spec_text(
            '  - {name: x, type: "float64[3]", nullable: false}', "    - {tensor: x, dtype: bfloat16, from: [x]}"
        ),
        {"x": pa.array(rng.standard_normal((ROWS, 3)).tolist(), pa.list_(pa.float64()))},
        lambda row: {"x": by_hand(row)},
        {"x": "uint16"},
    )


ROWS = 300
_MASK = "mask: {model_input: mask, dtype: float32}"
CASES: dict[str, Callable[[], Case]] = {
    "image": image_case,
    "half": half_case,
    "brain": brain_case,
    "buckets": lambda: token_case(f"{{on_ragged: pad, buckets: [4, 16], {_MASK}}}", [3, 16, 0, 1, 9]),
    "longest": lambda: token_case(f"{{on_ragged: pad, pad: 7, {_MASK}}}", [3, 12, 0, 1]),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_inputs_of_every_kind_score_as_plain_onnxruntime_does(tmp_path: Path, name: str) -> None:
    """Images of bytes, halves, ids and padded tokens reach the model through the worker as by hand, row by row."""
    case = CASES[name]()
    table = pa.table({"id": np.arange(ROWS), **case.columns})
    spec = read_spec(case.spec, "spec.yaml")
    columns = (OutputColumn(column="p", tensor="p", type="float32"),)

    def bundled(folder: Path) -> AuditedBundle:
        parts = BundleParts("any", "1", case.model, spec, columns, table.slice(0, 5), {}, {})
        return create_bundle(STORE, str(folder), parts)

    work = Work(tmp_path, table, bundled)
    pipeline = Pipeline(work.audited.spec, {})
    [batch] = table.combine_chunks().to_batches()
    feeds = padded_feeds(pipeline.transform(pipeline.contract(batch, "rows")).tensors)
    assert {key: str(value.dtype) for key, value in feeds.items()} == case.input_dtype
    session = ort.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    wanted = np.concatenate([session.run(None, case.feeds(row))[0] for row in table.to_pylist()])
    if name != "brain":  # numpy cannot say which of its uint16 are bfloat16
        np.testing.assert_allclose(session.run(None, feeds)[0], wanted, rtol=1e-5, atol=1e-6)
    found = predictions(work.score()).sort_by("id")
    assert found["id"].to_pylist() == list(range(ROWS))
    np.testing.assert_allclose(found["p"].to_numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_golden_features_of_ragged_rows_are_stored_as_they_are(tmp_path: Path) -> None:
    """A bundle keeps ragged features without padding, and one whose ETL makes other elements or lengths is refused."""
    case = token_case("{on_ragged: pad, buckets: [8, 16], mask: {model_input: mask, dtype: float32}}", [3, 0, 9])
    table = pa.table({"id": np.arange(5), "ids": case.columns["ids"].slice(0, 5)})
    columns = (OutputColumn(column="p", tensor="p", type="float32"),)
    spec = read_spec(case.spec, "spec.yaml")
    made = create_bundle(STORE, str(tmp_path / "b"), BundleParts("x", "1", case.model, spec, columns, table, {}, {}))
    stored = pa.ipc.open_file(made.files["golden/features.arrow"]).read_all()
    assert stored.column_names == ["ids"]
    assert stored["ids"].to_pylist() == table["ids"].to_pylist()
    ids = table["ids"].to_pylist()
    for other, said in (
        ([*ids[:2], [*ids[2][:-1], 0], *ids[3:]], r"golden row 2: feature 8 of tensor 'ids' is off by"),
        ([[1], [1, 1], *ids[2:]], r"golden row 0: features of tensor 'ids' have 1 values, here there are 3"),
        ([[], *ids[1:]], r"golden row 0: features of tensor 'ids' have 0 values, here there are 3"),
    ):
        features = pa.table({"ids": pa.array(other, pa.list_(pa.int64()))})
        tensors = spec.transform(table).tensors
        assert compare_features(tensors, stored, spec=spec) == 0
        with pytest.raises(GoldenError, match=said):
            compare_features(tensors, features, spec=spec)


@pytest.mark.parametrize(
    ("axes", "ragged", "said"),
    [
        ([None, None], "{on_ragged: pad}", "model input mask .* is fed by no tensor of the spec"),
        (
            [None, None],
            "{on_ragged: pad, mask: {model_input: mask}}",
            "model input mask .* is fed with int64 of rank 2",
        ),
        (
            [None, 16],
            f"{{on_ragged: pad, {_MASK}}}",
            r"ids int64\[rows, 16\] is fed with rows padded to whatever length",
        ),
        ([None, 16], f"{{on_ragged: pad, buckets: [8, 16], {_MASK}}}", r"takes `buckets: \[16\]` alone"),
        ([None, 16], f"{{on_ragged: pad, buckets: [8], {_MASK}}}", r"fed with rows padded to 8: a fixed axis takes"),
        ([None, 16], f"{{on_ragged: pad, buckets: [16], {_MASK}}}", None),
        ([None], f"{{on_ragged: pad, {_MASK}}}", "is fed with int64 of rank 2"),
    ],
)
def test_ragged_rows_fit_the_axes_of_their_model(axes: list[int | None], ragged: str, said: str | None) -> None:
    """A model with a fixed axis takes the one bucket of that length, and a mask has to have an input of its own."""
    spec = read_spec(token_case(ragged, [1]).spec, "spec.yaml")
    inputs = (
        TensorSpec(name="ids", dtype="int64", shape=tuple(axes)),
        TensorSpec(name="mask", dtype="float32", shape=tuple(axes)),
    )
    output = TensorSpec(name="p", dtype="float32", shape=(None,))
    bundle = Bundle(
        name="x",
        version="1",
        model="model.onnx",
        spec="etl.json",
        files={},
        signature=Signature(inputs=inputs, outputs=(output,)),
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
    )
    problems = "; ".join(misfits(bundle, spec))
    assert re.search(said, problems) if said else not problems
