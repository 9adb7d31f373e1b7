from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from etl.errors import ContractError, SpecError, TransformError
from etl.estimator import SpecTransformer
from etl.relational import prepare
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INF, NAN, bits

FRAME = pd.DataFrame({"x": [1.0, 2.0, NAN, 4.0], "c": ["b", "a", "b", None], "other": [0, 1, 2, 3]})
STEPS: list[dict[str, Any]] = [
    {"id": "fill", "op": "impute", "in": ["x"], "out": ["x_filled"], "params": {"strategy": "mean"}},
    {"id": "scale", "op": "standardize", "in": ["x_filled"], "out": ["x_scaled"]},
    {"id": "hot", "op": "one_hot", "in": ["c"], "out": ["c_hot"], "params": {"missing": "bucket"}},
]


def recipe_of(steps=STEPS, columns=("x_scaled", "c_hot"), **keys):
    """Return a recipe over a number x and a text c."""
    document = {
        "format": "scorespec/1",
        "spec_id": "test",
        "input": {"fields": [{"name": "x", "type": "float64"}, {"name": "c", "type": "string"}]},
        "steps": steps,
        "outputs": {"tensors": [{"tensor": "features", "from": list(columns)}]},
        **keys,
    }
    return read_spec(json.dumps(document), "spec.json", fitted=False)


def positive():
    """Return a recipe that rejects rows whose x is not above 0, and is otherwise x."""
    fields = [{"name": "x", "type": "float64", "range": {"min": 0.5}}, {"name": "c", "type": "string"}]
    return recipe_of((), ("x",), input={"fields": fields})


def by_hand(x, c):
    """Return what the recipe makes of FRAME's columns, learned from x, with numpy alone."""
    filled = np.where(np.isnan(x), np.nanmean(x), x)
    scaled = (filled - filled.mean()) / filled.std()
    hot = [[text == "b", text == "a", text is None] for text in c]
    return np.column_stack([scaled, np.array(hot, dtype=float)]).astype(np.float32)


def test_it_is_shown_in_a_line():
    """An estimator is shown with its spec's name, steps and digest, not its whole content; a clone is as it was."""
    recipe = recipe_of()
    estimator = SpecTransformer(recipe, on_rejected="nan")
    shown = f"Spec('test', steps=3, digest='{recipe.digest[:12]}')"
    assert repr(estimator) == f"SpecTransformer(on_rejected='nan',\n                recipe={shown})"
    assert str(recipe) == shown
    assert clone(estimator).get_params() == estimator.get_params()
    assert len(repr(make_pipeline(estimator, LinearRegression()))) < 400


def test_it_gives_the_tensor_row_for_row():
    """Fit and transform give what numpy gives by hand, as one float32 array with a row for each row."""
    found = SpecTransformer(recipe_of()).fit(FRAME).transform(FRAME)
    assert found.dtype == np.float32
    assert bits(found) == bits(by_hand(FRAME["x"].to_numpy(), FRAME["c"]))
    assert bits(SpecTransformer(recipe_of()).fit_transform(FRAME)) == bits(found)


@pytest.mark.parametrize("convert", [lambda t: t, lambda t: t.to_batches()[0], lambda t: t.select(["other", "c", "x"])])
def test_arrow_gives_what_pandas_gives(convert):
    """An Arrow table, a batch, and a table with its columns in another order give the same as the frame does."""
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    transformer = SpecTransformer(recipe_of()).fit(convert(table))
    assert bits(transformer.transform(convert(table))) == bits(by_hand(FRAME["x"].to_numpy(), FRAME["c"]))


def test_state_is_learned_from_what_fit_was_given():
    """Transform uses what fit learned, not what it is given, and a second fit starts anew."""
    transformer = SpecTransformer(recipe_of()).fit(FRAME)
    one = FRAME.iloc[[1]]
    assert bits(transformer.transform(one)) == bits(by_hand(FRAME["x"].to_numpy(), FRAME["c"])[[1]])
    constant = pd.DataFrame({"x": [5.0, 5.0], "c": ["z", "z"]})
    assert transformer.fit(constant).transform(constant).tolist() == [[0.0, 1.0, 0.0]] * 2


def test_fitted_attributes_tell_what_was_seen():
    """After a fit there is the spec with its state, how many columns X had, and which."""
    transformer = SpecTransformer(recipe_of()).fit(FRAME)
    assert transformer.spec_.is_fitted
    assert transformer.recipe == recipe_of()
    assert not transformer.recipe.is_fitted
    assert transformer.n_features_in_ == 3
    assert transformer.feature_names_in_.tolist() == ["x", "c", "other"]


def test_before_a_fit_it_says_so():
    """Transform and get_feature_names_out of one that is not fitted raise scikit-learn's own error."""
    for call in (lambda it: it.transform(FRAME), lambda it: it.get_feature_names_out()):
        with pytest.raises(NotFittedError, match="SpecTransformer"):
            call(SpecTransformer(recipe_of()))


def test_parameters_are_kept_as_they_are_given():
    """get_params gives the very objects, set_params changes them, and a clone has equal ones and no state."""
    recipe = recipe_of()
    transformer = SpecTransformer(recipe, on_rejected="nan")
    params = transformer.get_params()
    assert params == {"recipe": recipe, "references": None, "tensor": None, "on_rejected": "nan"}
    assert params["recipe"] is recipe
    copy = clone(transformer.fit(FRAME))
    assert copy.get_params() == params
    assert not hasattr(copy, "spec_")
    assert transformer.set_params(on_rejected="raise").on_rejected == "raise"
    with pytest.raises(ValueError, match="Invalid parameter 'drop_rows'"):
        transformer.set_params(drop_rows=True)


def test_it_has_a_short_repr():
    """Its repr names the class and stays short, whatever the recipe."""
    text = repr(SpecTransformer(recipe_of()))
    assert text.startswith("SpecTransformer(")
    assert len(text) < 1000


def test_it_can_be_pickled():
    """A fitted one that was pickled gives the same, before and after it has transformed."""
    transformer = SpecTransformer(recipe_of()).fit(FRAME)
    before = pickle.loads(pickle.dumps(transformer))
    wanted = bits(transformer.transform(FRAME))
    assert bits(before.transform(FRAME)) == wanted
    assert bits(pickle.loads(pickle.dumps(transformer)).transform(FRAME)) == wanted


def test_values_have_names():
    """A scalar is called as its column, an element of a one_hot by its category, and of assemble what they were."""
    steps = [*STEPS, {"id": "side", "op": "assemble", "in": ["x", "x_filled"], "out": ["pair"]}]
    transformer = SpecTransformer(recipe_of(steps, ("c_hot", "x_scaled", "pair"))).fit(FRAME)
    names = transformer.get_feature_names_out()
    assert names.dtype == object
    assert names.tolist() == ["c_hot[b]", "c_hot[a]", "c_hot[(missing)]", "x_scaled", "x", "x_filled"]
    assert transformer.get_feature_names_out(["x", "c", "other"]).tolist() == names.tolist()
    with pytest.raises(ValueError, match="feature_names_in_"):
        transformer.get_feature_names_out(["c", "x"])


def test_what_is_assembled_keeps_its_names():
    """Behind assemble, and a copy and rename of it, values have the names of before, in the tensor's order; elements of
    a vector of the input are called by their places."""  # noqa: D205, D209  one sentence
    steps = [
        *STEPS,
        {"id": "side", "op": "assemble", "in": ["c_hot", "x_scaled", "v"], "out": ["inner"]},
        {"id": "twin", "op": "copy", "in": ["inner"], "out": ["twin"]},
        {"id": "again", "op": "rename", "in": ["twin"], "out": ["last"]},
        {"id": "outer", "op": "assemble", "in": ["x_filled", "last"], "out": ["all"]},
        {"id": "gone", "op": "drop", "in": ["c_hot", "last", "x_scaled"]},
    ]
    fields = [{"name": "x", "type": "float64"}, {"name": "c", "type": "string"}, {"name": "v", "type": "float32[2]"}]
    frame = FRAME.assign(v=pd.Series([[1.0, 2.0]] * 4))
    transformer = SpecTransformer(recipe_of(steps, ("all",), input={"fields": fields})).fit(frame)
    inner = ["c_hot[b]", "c_hot[a]", "c_hot[(missing)]", "x_scaled", "v[0]", "v[1]"]
    assert transformer.get_feature_names_out().tolist() == ["x_filled", *inner]
    found = transformer.set_output(transform="pandas").transform(frame)
    assert found["c_hot[a]"].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_vector_of_another_name_keeps_those_of_its_elements():
    """Behind copy and rename the elements of a one_hot are called by their categories still."""
    steps = [
        STEPS[2],
        {"id": "again", "op": "copy", "in": ["c_hot"], "out": ["twin"]},
        {"id": "name", "op": "rename", "in": ["c_hot"], "out": ["city"]},
    ]
    names = SpecTransformer(recipe_of(steps, ("twin", "city"))).fit(FRAME).get_feature_names_out()
    assert names.tolist() == [f"{name}[{label}]" for name in ("twin", "city") for label in ("b", "a", "(missing)")]


def test_terms_of_tfidf_are_names():
    """An element of a tfidf is called by its term; a recipe does not know it."""
    fields = [{"name": "words", "type": "list<string>"}]
    steps = [{"id": "weigh", "op": "tfidf", "in": ["words"], "out": ["terms"]}]
    recipe = recipe_of(steps, ("terms",), input={"fields": fields})
    assert recipe.feature_names() == {"features": ("terms[?]",)}
    table = pa.table({"words": [["red", "car"], ["red"]]})
    assert SpecTransformer(recipe).fit(table).get_feature_names_out().tolist() == ["terms[red]", "terms[car]"]


def test_elements_of_multi_hot_have_names():
    """An element of a multi_hot is called by its category; a recipe does not know it."""
    fields = [{"name": "tags", "type": "list<string>"}]
    steps = [{"id": "hot", "op": "multi_hot", "in": ["tags"], "out": ["hot"], "params": {"unknown": "bucket"}}]
    recipe = recipe_of(steps, ("hot",), input={"fields": fields})
    assert recipe.feature_names() == {"features": ("hot[?]",)}
    table = pa.table({"tags": [["a"], ["b", "a"], None]})
    assert SpecTransformer(recipe).fit(table).get_feature_names_out().tolist() == ["hot[a]", "hot[b]", "hot[(unknown)]"]


def test_no_value_has_the_name_of_another():
    """A category that is called as a bucket is keeps its name, and the bucket's has a number, one that no name has."""
    params = {"unknown": "bucket", "missing": "bucket"}
    hot = {"id": "hot", "op": "one_hot", "in": ["c"], "out": ["hot"], "params": params}
    table = pa.table({"x": [1.0] * 3, "c": ["(missing)", "(missing)", "(unknown)"]})
    names = SpecTransformer(recipe_of([hot], ("hot", "x", "x"))).fit(table).get_feature_names_out().tolist()
    assert names[:2] == ["hot[(missing)]", "hot[(unknown)]"]
    assert names[2:] == ["hot[(unknown)]#2", "hot[(missing)]#2", "x", "x#2"]
    fields = [{"name": name, "type": "float64"} for name in ("x", "x#2")]
    twice = recipe_of((), ("x", "x", "x", "x#2"), input={"fields": fields})
    assert twice.feature_names() == {"features": ("x", "x#3", "x#4", "x#2")}


def test_output_can_be_pandas():
    """set_output gives a frame with those names and the index of X, and takes it back."""
    frame = FRAME.set_index(pd.Index([10, 20, 30, 40]))
    transformer = SpecTransformer(recipe_of()).set_output(transform="pandas").fit(frame)
    found = transformer.transform(frame)
    assert found.columns.tolist() == ["x_scaled", "c_hot[b]", "c_hot[a]", "c_hot[(missing)]"]
    assert found.index.tolist() == [10, 20, 30, 40]
    assert bits(found.to_numpy()) == bits(by_hand(FRAME["x"].to_numpy(), FRAME["c"]))
    assert isinstance(transformer.set_output(transform="default").transform(frame), np.ndarray)


def test_it_works_in_a_pipeline():
    """In front of a model it is fitted, searched and applied with it."""
    y = np.array([1.0, 2.0, 3.0, 4.0])
    model = make_pipeline(SpecTransformer(recipe_of()), LinearRegression()).fit(FRAME, y)
    wanted = LinearRegression().fit(by_hand(FRAME["x"].to_numpy(), FRAME["c"]), y)
    np.testing.assert_allclose(model.predict(FRAME), wanted.predict(by_hand(FRAME["x"].to_numpy(), FRAME["c"])))
    search = GridSearchCV(model, {"spectransformer__on_rejected": ["raise", "nan"]}, cv=2, error_score="raise")
    assert search.fit(FRAME, y).best_params_ == {"spectransformer__on_rejected": "raise"}


def test_it_works_in_a_column_transformer():
    """Beside others it reads the columns that it is given, by name."""
    parts = [("spec", SpecTransformer(recipe_of()), ["c", "x"]), ("scaler", StandardScaler(), ["other"])]
    both = ColumnTransformer(parts, sparse_threshold=0).fit(FRAME)
    scaled = StandardScaler().fit_transform(FRAME[["other"]])
    wanted = np.column_stack([by_hand(FRAME["x"].to_numpy(), FRAME["c"]), scaled])
    assert bits(both.transform(FRAME)) == bits(wanted)
    assert both.get_feature_names_out().tolist()[:2] == ["spec__x_scaled", "spec__c_hot[b]"]


def test_a_rejected_row_is_an_error_that_names_the_rule():
    """Transform of rows that a rule rejects says how many there are, which is the first, and by which rule."""
    transformer = SpecTransformer(positive()).fit(FRAME)
    bad = pd.DataFrame({"x": [1.0, -7.25, NAN, -9.5], "c": ["a"] * 4})
    with pytest.raises(TransformError) as raised:
        transformer.transform(bad)
    message = str(raised.value)
    assert "2 of 4 rows" in message
    assert "row 1, breaks /input/fields/0/range: x is below 0.5 [OUT_OF_RANGE]" in message
    assert "7.25" not in message


def test_a_rejected_row_can_be_nan():
    """With on_rejected nan a rejected row is NaN throughout, and every other row is where it was."""
    transformer = SpecTransformer(positive(), on_rejected="nan").fit(FRAME)
    found = transformer.transform(pd.DataFrame({"x": [1.0, -7.25, 3.0, -9.5], "c": ["a"] * 4}))
    assert bits(found) == bits(np.array([[1.0], [NAN], [3.0], [NAN]], dtype=np.float32))


def test_a_filtered_row_has_no_place_either():
    """Rows that a filter leaves out are an error, or NaN, as rejected ones are."""
    steps = [{"id": "keep", "op": "filter", "params": {"keep": {"cmp": ["x", ">", 1.5]}}}]
    recipe = recipe_of(steps, ("x",))
    with pytest.raises(TransformError, match=r"2 of 4 rows .*0 rejected, 2 filtered.* row 0, is left out by a filter"):
        SpecTransformer(recipe).fit(FRAME).transform(FRAME)
    found = SpecTransformer(recipe, on_rejected="nan").fit(FRAME).transform(FRAME)
    assert bits(found[:, 0]) == bits(np.array([NAN, 2.0, NAN, 4.0], dtype=np.float32))


def test_a_tensor_of_integers_has_no_nan():
    """on_rejected nan with a tensor of integers is refused, where a row is rejected."""
    fields = [{"name": "n", "type": "int64", "range": {"min": 0}}]
    outputs = {"tensors": [{"tensor": "ids", "dtype": "int64", "from": ["n"]}]}
    recipe = recipe_of((), (), input={"fields": fields}, outputs=outputs)
    transformer = SpecTransformer(recipe, on_rejected="nan").fit(pd.DataFrame({"n": [1, 2]}))
    assert transformer.transform(pd.DataFrame({"n": [2**60, 2]})).tolist() == [[2**60], [2]]
    with pytest.raises(SpecError, match="of int64, which has no NaN"):
        transformer.transform(pd.DataFrame({"n": [-1, 2]}))


def test_one_of_several_tensors_is_named():
    """Of several tensors the named one is given, axes behind the second laid out; without a name it is refused."""
    outputs = {
        "tensors": [
            {"tensor": "grid", "from": ["x", "x_filled", "x_scaled", "x"], "shape": [-1, 2, 2]},
            {"tensor": "flat", "from": ["x"], "shape": [-1], "bind": {"model_input": "input:0"}},
        ]
    }
    recipe = recipe_of(outputs=outputs)
    assert SpecTransformer(recipe, tensor="grid").fit(FRAME).transform(FRAME).shape == (4, 4)
    flat, own = (SpecTransformer(recipe, tensor=name).fit(FRAME) for name in ("input:0", "flat"))
    assert bits(flat.transform(FRAME)) == bits(own.transform(FRAME))
    assert flat.transform(FRAME).shape == (4, 1)
    assert flat.get_feature_names_out().tolist() == own.get_feature_names_out().tolist() == ["x"]
    assert recipe.feature_names().keys() == flat.spec_.transform(FRAME).tensors.keys() == {"grid", "input:0"}
    with pytest.raises(SpecError, match=r"makes 2 tensors; say which, as tensor=\. There is: grid, input:0"):
        SpecTransformer(recipe).fit(FRAME)
    with pytest.raises(SpecError, match="no tensor 'flt'"):
        SpecTransformer(recipe, tensor="flt").fit(FRAME)


def test_references_are_joined():
    """A recipe that joins a table is given it by name."""
    join = {
        "op": "lookup_join",
        "id": "join",
        "in": ["c"],
        "out": ["weight"],
        "params": {
            "reference": "weights",
            "keys": [{"name": "key", "type": "string"}],
            "columns": [{"name": "value", "type": "float64"}],
        },
    }
    recipe = recipe_of((), ("weight",), relational=[join])
    weights = pa.table({"key": ["a", "b"], "value": [1.5, 2.5]})
    transformer = clone(SpecTransformer(recipe, {"weights": weights})).fit(FRAME)
    assert bits(transformer.transform(FRAME)[:, 0]) == bits(np.array([2.5, 1.5, 2.5, NAN], dtype=np.float32))


def test_y_is_the_label_that_the_contract_declares():
    """A step that learns from a label reads y where X lacks it, and X's own where it has it; transform needs none."""
    steps = [
        {
            "id": "target",
            "op": "target_encode",
            "in": ["c"],
            "out": ["c_mean"],
            "params": {"target": "sold", "smoothing": 0.0, "leak": "acknowledged"},
        }
    ]
    fields = [{"name": "x", "type": "float64"}, {"name": "c", "type": "string"}]
    labels = [{"name": "sold", "type": "float64"}]
    recipe = recipe_of(steps, ("c_mean",), input={"fields": fields, "labels": labels})
    frame, sold = FRAME.iloc[:3], np.array([1.0, 4.0, 3.0])
    found = SpecTransformer(recipe).fit(frame, sold).transform(frame)
    assert bits(found[:, 0]) == bits(np.array([2.0, 4.0, 2.0], dtype=np.float32))
    own = SpecTransformer(recipe).fit(frame.assign(sold=sold), np.zeros(3)).transform(frame)
    assert bits(own) == bits(found)
    with pytest.raises(ContractError, match=r"^X has 3 rows, y 2; give one label \(sold\) for each row of X\.$"):
        SpecTransformer(recipe).fit(frame, sold[:2])
    with pytest.raises(ContractError, match="sold"):
        SpecTransformer(recipe).fit(frame)


def test_a_recipe_with_state_keeps_it():
    """What has state already is not learned again, so a fitted spec is applied as it is."""
    spec = SpecTransformer(recipe_of()).fit(FRAME).spec_
    other = pd.DataFrame({"x": [100.0, 300.0], "c": ["z", "a"]})
    again = SpecTransformer(spec).fit(other)
    assert again.spec_ is spec
    assert bits(again.transform(FRAME)) == bits(by_hand(FRAME["x"].to_numpy(), FRAME["c"]))


def test_a_fitted_spec_needs_no_fit():
    """A spec with all its state transforms at once, alone, cloned, as pandas, behind set_params and in pipelines; and
    scikit-learn takes it for fitted."""  # noqa: D205, D209  one sentence
    recipe = recipe_of()
    spec = SpecTransformer(recipe).fit(FRAME).spec_
    transformer = SpecTransformer(spec)
    check_is_fitted(transformer)
    wanted = by_hand(FRAME["x"].to_numpy(), FRAME["c"])
    names = ["x_scaled", "c_hot[b]", "c_hot[a]", "c_hot[(missing)]"]
    for one in (transformer, clone(transformer), make_pipeline(transformer), make_pipeline("passthrough", transformer)):
        assert bits(one.transform(FRAME)) == bits(wanted)
    assert bits(pickle.loads(pickle.dumps(transformer)).transform(FRAME)) == bits(wanted)
    assert transformer.get_feature_names_out().tolist() == names
    assert clone(transformer).set_output(transform="pandas").transform(FRAME).columns.tolist() == names
    assert bits(SpecTransformer(recipe).set_params(recipe=spec).transform(FRAME)) == bits(wanted)
    with pytest.raises(NotFittedError):
        check_is_fitted(transformer.set_params(recipe=recipe))


LAGGED: dict[str, Any] = {
    "input": {
        "fields": [
            {"name": "c", "type": "string"},
            {"name": "at", "type": "timestamp", "role": "event_time"},
            {"name": "n", "type": "int64"},
        ]
    },
    "relational": [
        {
            "id": "before",
            "op": "window_lag",
            "in": ["n"],
            "out": ["n_before"],
            "params": {"partition_by": ["c"], "point_in_time": {"event_time": "at"}},
        }
    ],
}


def test_steps_on_the_whole_table_come_before_the_split():
    """Fit and transform take a table that was prepared and then cut, each part with what the whole table gave it; one
    that was not prepared is refused with the call that does it."""  # noqa: D205, D209  one sentence
    recipe = recipe_of((STEPS[2] | {"params": {}},), ("n_before",), **LAGGED)
    at = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"], utc=True)
    frame = pd.DataFrame({"c": ["a", "b", "a", "b"], "at": at, "n": [1, 2, 3, 4]})
    with pytest.raises(ContractError, match=r"X = etl\.relational\.prepare\(X, recipe\)\.table\.to_pandas\(types"):
        SpecTransformer(recipe).fit(frame)
    whole = prepare(frame, recipe).table.to_pandas(types_mapper=pd.ArrowDtype)
    transformer = SpecTransformer(recipe).fit(whole.iloc[:2])
    assert bits(transformer.transform(whole.iloc[2:])[:, 0]) == bits(np.array([1.0, 2.0], dtype=np.float32))
    with pytest.raises(ContractError, match="'n_before' is not there"):
        transformer.transform(frame)
    table = prepare(frame, recipe).table
    assert bits(transformer.transform(table.slice(2))[:, 0]) == bits(np.array([1.0, 2.0], dtype=np.float32))
    with pytest.raises(ContractError, match="X: does not bear the mark of what was prepared"):
        transformer.transform(table.replace_schema_metadata())
    model = make_pipeline(SpecTransformer(recipe), SimpleImputer(keep_empty_features=True), LinearRegression())
    search = GridSearchCV(model, {"spectransformer__on_rejected": ["raise", "nan"]}, cv=2, error_score="raise")
    assert search.fit(whole, [1.0, 2.0, 3.0, 4.0]).predict(whole).shape == (4,)


def test_what_pandas_rounded_is_refused():
    """A lag of large integers that pandas made floats of is refused with the type that keeps them, and so is a text in
    its place; where steps only leave rows out, an Arrow table without the mark is refused, and a frame is trusted."""  # noqa: D205, D209  one sentence
    recipe = recipe_of((STEPS[2] | {"params": {}},), ("n_before",), **LAGGED)
    at = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"], utc=True)
    frame = pd.DataFrame({"c": ["a"] * 3, "at": at, "n": [2**53 + 1, 2**53 + 3, 5]})
    made = prepare(frame, recipe).table
    with pytest.raises(ContractError, match=r"^X: column 'n_before' has type double.*types_mapper=pandas\.ArrowDtype"):
        SpecTransformer(recipe).fit(made.to_pandas())
    texts = made.to_pandas().assign(n_before=["secret"] * 3)
    with pytest.raises(ContractError, match=r"has type (large_)?string, the spec's steps make int64") as caught:
        SpecTransformer(recipe).fit(texts)
    assert "secret" not in str(caught.value)
    params = {"keys": ["c"], "order_by": ["x"], "leak": "acknowledged"}
    recipe = recipe_of(relational=[{"id": "once", "op": "dedupe", "in": [], "out": [], "params": params}])
    table = prepare(FRAME, recipe).table
    with pytest.raises(ContractError, match="X: does not bear the mark"):
        SpecTransformer(recipe).fit(pa.Table.from_pandas(FRAME))
    wanted = SpecTransformer(recipe).fit_transform(table.to_pandas())
    assert bits(SpecTransformer(recipe).fit(table).transform(table)) == bits(wanted)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: SpecTransformer(recipe_of().plain()).fit(FRAME), TypeError, "etl.read_spec"),
        (lambda: SpecTransformer(recipe_of()).fit([[1.0]]), TypeError, "pandas frame"),
        (lambda: SpecTransformer(recipe_of()).set_params(on_rejected="drop").fit(FRAME), ValueError, "on_rejected"),
        (lambda: SpecTransformer(recipe_of()).fit(FRAME[["x"]]), ContractError, "'c'"),
        (lambda: SpecTransformer(recipe_of()).fit(FRAME).transform(FRAME[["c"]]), ContractError, "'x'"),
    ],
)
def test_what_cannot_be_used_is_refused(make, error, said):
    """A recipe that is none, data of an unknown kind, an unknown treatment and missing columns are refused."""
    with pytest.raises(error, match=said):
        make()


def test_nasty_numbers_pass_as_they_are():
    """Without steps every number is its float32, NaN where it is missing, and no row is lost."""
    x = np.array([NAN if value is None else value for value in FLOATS])
    frame = pd.DataFrame({"x": x, "c": ["a"] * len(x)})
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float32)
    assert INF in wanted
    assert bits(SpecTransformer(recipe_of((), ("x",))).fit_transform(frame)[:, 0]) == bits(wanted)


def test_it_agrees_with_scikit_learns_own():
    """Scaling and one-hot coding give what scikit-learn's StandardScaler and OneHotEncoder give, after float32."""
    generator = np.random.default_rng(7)
    frame = pd.DataFrame({"x": generator.normal(3, 5, 200), "c": generator.choice(["p", "q", "r"], 200)})
    steps = [{"id": "scale", "op": "standardize", "in": ["x"], "out": ["z"]}, {**STEPS[2], "params": {}}]
    ours = SpecTransformer(recipe_of(steps, ("z", "c_hot"))).set_output(transform="pandas").fit_transform(frame)
    theirs = Pipeline([("hot", OneHotEncoder(sparse_output=False).set_output(transform="pandas"))])
    hot = theirs.fit_transform(frame[["c"]])
    for category in "pqr":
        assert ours[f"c_hot[{category}]"].tolist() == hot[f"c_{category}"].tolist()
    np.testing.assert_allclose(ours["z"], StandardScaler().fit_transform(frame[["x"]])[:, 0], rtol=2e-7, atol=1e-7)
