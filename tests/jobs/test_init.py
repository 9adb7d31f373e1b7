"""`batchscore init`: from a model and data to a job that runs, its guesses told; the rest is left to people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from onnx import TensorProto, helper
from typer.testing import CliRunner

from jobs import cli
from jobs.authoring.binding import bind, guess_key
from jobs.authoring.starting import start
from jobs.errors import Refused
from scoring.signature import Signature, TensorSpec
from tests.scoring.workshop import logistic_model, logistic_scores, model_of, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from typer.testing import Result

ROWS = 120


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def begin(folder: Path, model: bytes, table: pa.Table) -> Result:
    """Write model and data, and init a job of them."""
    (folder / "model.onnx").write_bytes(model)
    pq.write_table(table, folder / "rows.parquet", row_group_size=50)
    return batchscore("init", folder / "model.onnx", folder / "rows.parquet", "--out", folder / "job")


def last_command(done: Result) -> list[str]:
    """The command that init ends with, without the program."""
    [*_, last] = (line for line in done.stdout.splitlines() if line.startswith("next: "))
    return shlex.split(last.removeprefix("next: ").partition("  #")[0])[1:]


def published(folder: Path) -> pa.Table:
    """What the run published, in the order of `id`."""
    [run] = (folder / "job" / "predictions").glob("run_id=*")
    return ds.dataset(run, format="parquet").to_table().sort_by("id")


def plain(model: bytes, output: str = "p", **feeds: np.ndarray) -> np.ndarray:
    """What plain onnxruntime gives all rows at once."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feeds)[0])


def test_numbers_side_by_side_run_as_init_left_them(spark: SparkSession, tmp_path: Path) -> None:
    """Four numeric columns beside a key and a name feed a model of four, and its scores are those of onnxruntime."""
    table = numbers(ROWS)
    done = begin(tmp_path, logistic_model(), table)
    assert done.exit_code == 0, done.output
    assert "guessed: id is taken for the key of a row: it is called so, and is unique in 120 rows" in done.stdout
    assert batchscore("plan", tmp_path / "job" / "job.yaml").exit_code == 0
    assert batchscore(*last_command(done)).exit_code == 0
    found = published(tmp_path)
    assert found.column("id").to_pylist() == list(range(ROWS))
    np.testing.assert_allclose(found.column("p").to_numpy(), logistic_scores(table), rtol=1e-6)


def text_model() -> bytes:
    """1 for `yes`, 2 for `no`, and 0 for any other text."""
    codes: dict[str, Any] = {"keys_strings": ["yes", "no"], "values_floats": [1.0, 2.0], "default_float": 0.0}
    graph = helper.make_graph(
        [helper.make_node("LabelEncoder", ["word"], ["p"], domain="ai.onnx.ml", **codes)],
        "words",
        [helper.make_tensor_value_info("word", TensorProto.STRING, [None, 1])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString())


def test_a_text_runs_as_init_left_it(spark: SparkSession, tmp_path: Path) -> None:
    """A model of one text takes the only text column that is not the key, whatever that is called."""
    words = [["yes", "no", "yes, no"][row % 3] for row in range(ROWS)]
    done = begin(tmp_path, text_model(), pa.table({"id": [f"r{row:03}" for row in range(ROWS)], "answer": words}))
    assert "word is fed by answer, which is the only column of its type that is left" in done.stdout
    ran = batchscore(*last_command(done))
    assert ran.exit_code == 0, ran.output
    assert published(tmp_path).column("p").to_pylist() == [{"yes": 1.0, "no": 2.0}.get(word, 0.0) for word in words]


def image_model() -> bytes:
    """The mean of three rows of four bytes."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["p"], axes=[1, 2], keepdims=0),
    ]
    return model_of(nodes, {"image": (TensorProto.UINT8, [None, 3, 4])}, {"p": (TensorProto.FLOAT, [None])})


@pytest.mark.parametrize("type_", [pa.list_(pa.uint8()), pa.list_(pa.uint8(), 12), pa.binary(), pa.binary(12)])
def test_an_image_in_a_list_column_runs_as_init_left_it(
    spark: SparkSession, tmp_path: Path, type_: pa.DataType
) -> None:
    """A model of three axes takes the column of lists, of whatever kind, or of bytes, that has as many values a row."""
    pixels = np.random.default_rng(3).integers(0, 256, (ROWS, 12), dtype=np.uint8)
    other = pa.array([[1.5, 2.5]] * ROWS, pa.list_(pa.float32()))
    is_list = pa.types.is_nested(type_)
    rows = pa.array(pixels.tolist() if is_list else [row.tobytes() for row in pixels], type_)
    table = pa.table({"id": range(ROWS), "pixels": rows, "other": other})
    done = begin(tmp_path, image_model(), table)
    assert 'type: "uint8[12]"' in (tmp_path / "job" / "recipe.yaml").read_text()
    ran = batchscore(*last_command(done))
    assert ran.exit_code == 0, ran.output
    expected = plain(image_model(), image=pixels.reshape(-1, 3, 4))
    np.testing.assert_allclose(published(tmp_path).column("p").to_numpy(), expected, rtol=1e-6)


def test_the_recipe_of_init_becomes_a_bundle_that_runs(spark: SparkSession, tmp_path: Path) -> None:
    """The recipe is learned, a bundle is made of it, a job of that, and its scores are the same."""
    table = numbers(ROWS)
    begin(tmp_path, logistic_model(), table)
    job, rows = tmp_path / "job", tmp_path / "rows.parquet"
    assert batchscore("fit", job / "recipe.yaml", "--data", rows, "--out", job / "etl.json").exit_code == 0
    words = ["--model", tmp_path / "model.onnx", "--spec", job / "etl.json", "--rows", rows, "--name", "m"]
    made = batchscore("bundle", "create", *words, "--version", "1", "--out", tmp_path / "bundle")
    assert made.exit_code == 0, made.output
    done = batchscore("init", tmp_path / "bundle", rows, "--out", tmp_path / "second" / "job")
    assert "guessed: id is the key of a row, as the spec of the bundle says" in done.stdout
    ran = batchscore(*last_command(done))
    assert ran.exit_code == 0, ran.output
    found = published(tmp_path / "second").column("p").to_numpy()
    np.testing.assert_allclose(found, logistic_scores(table), rtol=1e-6)


def test_rows_with_nulls_are_allowed_for_and_told(tmp_path: Path) -> None:
    """Nulls in an input are counted, and the job's budget lets twice their share be set aside."""
    table = numbers(ROWS)
    holes = pa.array([None if row < 6 else value for row, value in enumerate(table.column("f1").to_pylist())])
    table = table.set_column(table.schema.get_field_index("f1"), "f1", holes.cast(pa.float32()))
    done = begin(tmp_path, logistic_model(), table)
    assert "6 of 120 rows have a null in an input" in done.stdout
    job = yaml.safe_load((tmp_path / "job" / "job.yaml").read_text())
    assert job["budgets"]["contract"]["max_ratio"] == 2 * 6 / ROWS


def test_rows_of_several_files_are_looked_at(tmp_path: Path) -> None:
    """A first file of one row makes no column unique: rows of the next ones count, and it is told how many."""
    whole = numbers(ROWS).append_column("visit_id", pa.array([7] * ROWS))
    table = whole.append_column("word", pa.array([f"w{row}" for row in range(ROWS)]).dictionary_encode()).drop(["id"])
    (tmp_path / "rows").mkdir()
    for at, part in enumerate([table.slice(0, 1), table.slice(0, 0), table.slice(1, 50), table.slice(51)]):
        pq.write_table(part, tmp_path / "rows" / f"{at}.parquet")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "rows" / "9.parquet")
    (tmp_path / "model.onnx").write_bytes(logistic_model())
    started = start(str(tmp_path / "model.onnx"), [str(tmp_path / "rows")], str(tmp_path / "job"))
    assert started.notes[0] == "what follows is by the first 120 rows, which are of 3 of 5 files"
    assert not any("visit_id is taken for the key" in note for note in started.notes)
    assert any("no column looks like the key of a row" in note for note in started.notes)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A second init into the same folder is refused, exit 2, and what was edited there stays."""
    begin(tmp_path, logistic_model(), numbers(10))
    edited = tmp_path / "job" / "recipe.yaml"
    edited.write_text("mine")
    (tmp_path / "job" / "job.yaml").unlink()
    done = batchscore("init", tmp_path / "model.onnx", tmp_path / "rows.parquet", "--out", tmp_path / "job")
    assert done.exit_code == 2
    assert "is not overwritten" in done.stderr
    assert edited.read_text() == "mine"
    assert not (tmp_path / "job" / "job.yaml").exists()


def test_a_model_that_needs_steps_gets_a_recipe_to_fill_in(tmp_path: Path) -> None:
    """Three columns, one of them a text, do not feed four values: that is told, with the recipe that is to say how."""
    table = numbers(ROWS).select(["id", "name", "f0", "f1"])
    done = begin(tmp_path, logistic_model(), table)
    assert done.exit_code == 0, done.output
    assert "left to you: model input X float32[rows, 4]: takes 4 values, and 2 columns (f0, f1) could feed it" in (
        done.stdout
    )
    assert f"{tmp_path}/job/recipe.yaml" in done.stdout
    assert batchscore("etl", "validate", tmp_path / "job" / "recipe.yaml").exit_code == 0
    steps = [line.split("  #")[0].split()[2:] for line in done.stdout.splitlines() if line.startswith("next: ")]
    assert [words[0] for words in steps] == ["fit", "bundle", "run", "run"]
    job = yaml.safe_load((tmp_path / "job" / "job.yaml").read_text())
    assert job["model"] == {"bundle": f"{tmp_path}/job/bundle"}


def test_the_recipe_to_fill_in_leads_to_a_run_when_it_is_filled_in(spark: SparkSession, tmp_path: Path) -> None:
    """With two steps for the text, the commands that init printed are run as they are, and the job is published."""
    table = numbers(ROWS).select(["id", "name", "f0", "f1"])
    kinds = pa.array([["a", "b"][row % 2] for row in range(ROWS)])
    done = begin(tmp_path, logistic_model(), table.set_column(1, "name", kinds))
    recipe = tmp_path / "job" / "recipe.yaml"
    document = yaml.safe_load(recipe.read_text())
    document["steps"] = [{"id": "kind", "op": "string_index", "in": ["name"], "out": ["kind"]}]
    document["steps"] += [{"id": "twice", "op": "copy", "in": ["f0"], "out": ["again"]}]
    document["outputs"]["tensors"][0]["from"] = ["f0", "f1", "kind", "again"]
    recipe.write_text(yaml.safe_dump(document))
    lines = [line.removeprefix("next: ").partition("  #")[0] for line in done.stdout.splitlines() if "next: " in line]
    for line in (*lines[:2], lines[-1]):
        ran = batchscore(*shlex.split(line)[1:])
        assert ran.exit_code == 0, ran.output
    assert published(tmp_path).num_rows == ROWS


def tensor(name: str, dtype: str, *axes: int | None) -> TensorSpec:
    """An input."""
    return TensorSpec(name=name, dtype=dtype, shape=(None, *axes))


def bound(table: dict[str, Any], *inputs: TensorSpec, key: str | None = None) -> Any:
    """What was bound."""
    return bind(Signature(inputs=inputs, outputs=()), pa.table(table), key=key)


def test_numbered_columns_are_bound_in_the_order_of_their_numbers() -> None:
    """Of more columns than the model takes, the group that is numbered and as many is taken, 10 behind 9."""
    names = [f"f{number}" for number in (10, 9, 2, 1)]
    found = bound({name: [1.0, 2.0] for name in ["a", "b", *names]}, tensor("X", "float32", 4))
    assert found.inputs == {"X": ["f1", "f2", "f9", "f10"]}


def test_a_label_is_not_fed_to_the_model() -> None:
    """A column that is called like a label is left out where the others suffice, and none else is."""
    found = bound({"a": [1.0], "label": [0], "b": [2.0]}, tensor("X", "float32", 2))
    assert found.inputs == {"X": ["a", "b"]}
    assert bound({"a": [1.0], "label": [0], "b": [2.0]}, tensor("X", "float32", 3)).inputs == {"X": ["a", "label", "b"]}


def test_names_come_before_types() -> None:
    """An input takes the column of its name, or nearly its name, and the rest is guessed of what is left."""
    table = {"Age ": [1.0], "income": [2.0], "other": [3.0]}
    found = bound(table, tensor("x", "float32", 1), tensor("income", "float32", 1), tensor("age", "float32", 1))
    assert found.inputs == {"income": "income", "age": "Age ", "x": "other"}


def test_lists_of_several_lengths_are_padded_with_a_mask() -> None:
    """Token ids of any length are padded, and an input that is called a mask tells the model where."""
    table = {"tokens": pa.array([[1, 2], [3]])}
    inputs = (tensor("attention_mask", "int64", None), tensor("input_ids", "int64", None))
    found = bound(table, *inputs)
    assert found.inputs == {"input_ids": "tokens"}
    mask = {"model_input": "attention_mask", "dtype": "int64"}
    assert found.ragged == {"input_ids": {"on_ragged": "pad", "mask": mask}}
    assert not found.problems


def test_two_columns_that_fit_alike_are_not_guessed() -> None:
    """Where two columns could feed an input, neither is taken, and both are named."""
    found = bound({"a": ["x"], "b": ["y"]}, tensor("word", "string", 1))
    assert found.inputs == {}
    assert found.problems == ["model input word string[rows, 1]: several could feed it: a, b"]


def test_a_fraction_is_not_fed_to_an_integer() -> None:
    """A model of integers takes no float column, though it is the only one."""
    assert not bound({"a": [0.5]}, tensor("n", "int64")).inputs


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"x": [1, 2], "id": [7, 8]}, "id"),
        ({"x": [1, 2], "customer_id": ["a", "b"]}, "customer_id"),
        ({"rowId": [1, 2]}, "rowId"),
        ({"id": [1, 1], "user_key": [3, 4]}, "user_key"),
        ({"id": [1, None]}, None),
        ({"id": [1.5, 2.5]}, None),
        ({"paid": [1, 2], "grid": [3, 4]}, None),
    ],
)
def test_the_key_is_unique_whole_and_called_so(table: dict[str, Any], expected: str | None) -> None:
    """A key is never missing, unique, an integer or a text, and called like one; else there is none."""
    found = guess_key(pa.table(table))
    assert (found and found.column) == expected


def test_data_without_rows_is_refused(tmp_path: Path) -> None:
    """A first run needs rows to look at."""
    (tmp_path / "model.onnx").write_bytes(logistic_model())
    pq.write_table(numbers(0), tmp_path / "rows.parquet")
    with pytest.raises(Refused, match="has no row to look at"):
        start(str(tmp_path / "model.onnx"), [str(tmp_path / "rows.parquet")], str(tmp_path / "job"))
    assert not (tmp_path / "job").exists()
