from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from etl.errors import SpecError
from etl.importing.sklearn_pipeline import import_sklearn
from etl.inspection.page import page_of
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, NAN, TEXTS, bits

FLOAT = np.array([NAN if value is None else value for value in FLOATS])
TEXT = [NAN if value is None else value for value in TEXTS]
ROWS = 96
WITHIN = {"a_min": -2, "a_max": 3}
ONE_SIGN = r"(?u)\b\w+\b"
WORDS = ["the", "The", "été", "red", "red", "car", "a1_b", "x", "No", "9", "日本", "don't", "ÀÉ", "naïve,", "2nd"]
RARE = set("İ\u03a3\u1fb3\U0010ffff\ufdd0")
FREQUENT = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d", "e", ""]


def training_frame():
    """Return rows to fit to: plain numbers and few texts, some missing."""
    generator = np.random.default_rng(11)
    gaps = generator.random((ROWS, 3)) < 0.15
    return pd.DataFrame(
        {
            "x": np.where(gaps[:, 0], NAN, generator.normal(10, 3, ROWS)),
            "y": generator.exponential(1e3, ROWS),
            "z": np.full(ROWS, 7.25),
            "f": generator.normal(-1, 0.3, ROWS).astype(np.float32),
            "g": np.where(gaps[:, 1], NAN, generator.gamma(2, 5, ROWS)).astype(np.float32),
            "i": generator.integers(-5, 20, ROWS),
            "n": generator.integers(0, 4, ROWS).astype(np.int32),
            "b": generator.random(ROWS) < 0.4,
            "c": np.where(gaps[:, 2], NAN, generator.choice(FREQUENT, ROWS).astype(object)),
            "d": generator.choice(["yes", "no"], ROWS).astype(object),
            "k": generator.choice([1.0, 2.5, -0.1, NAN, 3e20], ROWS),
            "s": [" ".join(generator.choice(WORDS, size)) for size in generator.integers(0, 9, ROWS)],
        }
    )


def nasty_frame():
    """Return rows with every nasty value in every column, each beside plain ones and beside others."""
    train = training_frame()
    columns: dict[str, Any] = {}
    for shift, name in enumerate(train):
        kind = train[name].dtype
        if name == "s":
            pool: list[Any] = [*(text for text in TEXT if not set(str(text)) & RARE), *train[name]]
        elif kind.kind == "O":
            pool = [*TEXT, *train[name].tolist()]
        elif kind.kind == "f":
            with np.errstate(over="ignore"):
                nasty = FLOAT.astype(kind)
            pool = [*nasty, *train[name], *np.sort(train[name])[:3], -1.0, -2.0]
        elif kind.kind == "i":
            edge = 2**31 - 1 if kind.itemsize == 4 else 2**53
            pool = [*(0, 1, -1, edge, -edge), *train[name]]
        else:
            pool = [True, False]
        start = 7 * shift
        values = [pool[(start + row) % len(pool)] for row in range(140)]
        columns[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(columns)


TRAIN, NASTY = training_frame(), nasty_frame()
NUMBERS = ["x", "y", "z"]
NARROW = ["f", "g"]
SPLIT = {"handle_unknown": "ignore", "sparse_output": False}


def numeric(*steps):
    """Return a pipeline on columns without missing values and ±inf, which those of `NUMBERS` are not."""
    return make_pipeline(SimpleImputer(strategy="median"), *steps)


def mixed(**keys):
    """Return a transformer of columns as they are used: numbers imputed and scaled, texts as vectors."""
    parts = [
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["x", "y"]),
        ("texts", OneHotEncoder(handle_unknown="ignore"), ["c", "d"]),
        ("whole", "passthrough", ["i"]),
        ("gone", "drop", ["z"]),
    ]
    return ColumnTransformer(parts, **keys)


EXACT: dict[str, tuple[Any, list[str]]] = {
    "impute mean": (SimpleImputer(), NUMBERS),
    "impute median": (SimpleImputer(strategy="median"), [*NUMBERS, "i"]),
    "impute most frequent number": (SimpleImputer(strategy="most_frequent"), ["k", "x"]),
    "impute constant": (SimpleImputer(strategy="constant", fill_value=-0.5), NUMBERS),
    "impute with flags": (SimpleImputer(add_indicator=True), [*NUMBERS, "k"]),
    "impute a number that stands for none": (SimpleImputer(missing_values=7.25, add_indicator=True), ["y", "z"]),
    "impute float32": (SimpleImputer(), NARROW),
    "impute text": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
        ["c", "d"],
    ),
    "impute constant text": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OrdinalEncoder()),
        ["c", "d"],
    ),
    "impute text and numbers": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
        ["c", "i", "n"],
    ),
    "missing": (MissingIndicator(), ["x", "y", "k", "c"]),
    "missing anywhere": (MissingIndicator(features="all"), ["x", "y"]),
    "missing with new ones": (MissingIndicator(error_on_new=False), ["x", "y"]),
    "standard": (StandardScaler(), NUMBERS),
    "standard without mean": (StandardScaler(with_mean=False), NUMBERS),
    "standard without std": (StandardScaler(with_std=False), NUMBERS),
    "standard without both": (StandardScaler(with_mean=False, with_std=False), NUMBERS),
    "standard of integers and bools": (StandardScaler(), ["i", "n", "b", "x"]),
    "standard of float32": (StandardScaler(), NARROW),
    "standard of float32 without mean": (StandardScaler(with_mean=False), [*NARROW, "b"]),
    "standard of float32 beside float64": (StandardScaler(), [*NARROW, "x"]),
    "min max": (MinMaxScaler(), NUMBERS),
    "min max in a range": (MinMaxScaler((-1.5, 7)), [*NUMBERS, "i"]),
    "min max clipped": (MinMaxScaler((0, 1), clip=True), NUMBERS),
    "min max of float32": (MinMaxScaler((-0.1, 0.1), clip=True), NARROW),
    "max abs": (MaxAbsScaler(), NUMBERS),
    "max abs of float32": (MaxAbsScaler(), NARROW),
    "robust": (RobustScaler(), NUMBERS),
    "robust by other quantiles": (RobustScaler(quantile_range=(10, 80), unit_variance=True), NUMBERS),
    "robust without centre": (RobustScaler(with_centering=False), NUMBERS),
    "robust without scale": (RobustScaler(with_scaling=False), NUMBERS),
    "robust of float32": (RobustScaler(), NARROW),
    "scalers in a row": (numeric(StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler()), NUMBERS),
    "scalers of float32 in a row": (make_pipeline(StandardScaler(), MinMaxScaler(), RobustScaler()), NARROW),
    "one hot": (OneHotEncoder(), ["c", "d"]),
    "one hot, unknown ignored": (OneHotEncoder(**SPLIT), ["c", "d"]),
    "one hot without the first": (OneHotEncoder(drop="first", **SPLIT), ["c", "d"]),
    "one hot without the first, strict": (OneHotEncoder(drop="first"), ["c", "d"]),
    "one hot of two as one": (OneHotEncoder(drop="if_binary", **SPLIT), ["c", "d"]),
    "one hot without named ones": (OneHotEncoder(drop=["b", "no"], **SPLIT), ["c", "d"]),
    "one hot of frequent ones": (OneHotEncoder(min_frequency=8, handle_unknown="infrequent_if_exist"), ["c", "d"]),
    "one hot of a frequent share": (OneHotEncoder(min_frequency=0.1, handle_unknown="ignore"), ["c", "d"]),
    "one hot of few": (OneHotEncoder(max_categories=3, handle_unknown="infrequent_if_exist"), ["c", "d", "n"]),
    "one hot of few, strict": (OneHotEncoder(max_categories=3), ["c", "d"]),
    "one hot of few without the first": (
        OneHotEncoder(max_categories=3, drop="first", handle_unknown="infrequent_if_exist"),
        ["c", "d"],
    ),
    "one hot of frequent ones that are there": (
        make_pipeline(
            SimpleImputer(strategy="constant", fill_value="b"),
            OneHotEncoder(min_frequency=8, handle_unknown="infrequent_if_exist"),
        ),
        ["c", "d"],
    ),
    "one hot of given categories": (
        OneHotEncoder(categories=[["b", "zz", "a"], ["yes", "no"]], handle_unknown="ignore"),
        ["c", "d"],
    ),
    "one hot of numbers": (OneHotEncoder(handle_unknown="ignore"), ["i", "n", "k", "b"]),
    "one hot of float32": (OneHotEncoder(handle_unknown="ignore"), ["g"]),
    "one hot, scaled": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), StandardScaler(with_mean=False)),
        ["c", "d"],
    ),
    "one hot, dense and scaled in float32": (
        make_pipeline(OneHotEncoder(**SPLIT, dtype=np.float32), StandardScaler()),
        ["c", "d"],
    ),
    "ordinal": (OrdinalEncoder(), ["c", "d"]),
    "ordinal with codes": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        ["c", "d", "n"],
    ),
    "ordinal with NaN": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=99),
        ["c", "d"],
    ),
    "ordinal of few": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=3, min_frequency=2),
        ["c", "d", "k"],
    ),
    "bins": (numeric(KBinsDiscretizer(4, encode="ordinal", strategy="uniform")), NUMBERS[:2]),
    "bins of many rows": (numeric(KBinsDiscretizer(5, encode="ordinal")), [*NUMBERS[:2], "i"]),
    "bins as vectors": (numeric(KBinsDiscretizer([3, 4])), NUMBERS[:2]),
    "bins as dense vectors, scaled": (
        numeric(KBinsDiscretizer(3, encode="onehot-dense"), StandardScaler()),
        NUMBERS[:2],
    ),
    "bins of float32": (make_pipeline(SimpleImputer(), KBinsDiscretizer(4, encode="ordinal")), NARROW),
    "bins in float32": (numeric(KBinsDiscretizer(4, encode="ordinal", dtype=np.float32)), NUMBERS[:2]),
    "bins of what may be missing": (
        Pipeline([("scale", StandardScaler().set_output(transform="pandas")), ("bins", KBinsDiscretizer(3))]),
        ["y", "i"],
    ),
    "binarized": (numeric(Binarizer(threshold=9.5)), NUMBERS),
    "binarized integers": (Binarizer(threshold=2), ["i", "n"]),
    "binarized float32": (Binarizer(threshold=-1.1), ["f"]),
    "normalized": (numeric(Normalizer("max")), NUMBERS),
    "normalized float32": (Normalizer("max"), ["f"]),
    "normalized by magnitudes": (numeric(Normalizer("l1")), [*NUMBERS, "i"]),
    "normalized by magnitudes of float32": (make_pipeline(SimpleImputer(), Normalizer("l1")), [*NARROW, "b"]),
    "polynomial": (numeric(PolynomialFeatures()), [*NUMBERS, "i"]),
    "polynomial of degree 4, scaled": (
        make_pipeline(MaxAbsScaler(), SimpleImputer(), PolynomialFeatures(4, include_bias=False), MinMaxScaler()),
        ["x", "y", "n"],
    ),
    "products alone": (numeric(PolynomialFeatures((2, 3), interaction_only=True)), [*NUMBERS, "n"]),
    "polynomial of float32": (
        make_pipeline(SimpleImputer(), FunctionTransformer(np.clip, kw_args=WITHIN), PolynomialFeatures(3)),
        NARROW,
    ),
    "terms": (ColumnTransformer([("s", CountVectorizer(), "s")], remainder=StandardScaler()), ["s", "y"]),
    "terms that are there": (ColumnTransformer([("s", CountVectorizer(binary=True, lowercase=False), "s")]), ["s"]),
    "terms of two": (ColumnTransformer([("s", CountVectorizer(ngram_range=(2, 2), min_df=2), "s")]), ["s"]),
    "terms of one sign": (ColumnTransformer([("s", CountVectorizer(token_pattern=ONE_SIGN), "s")]), ["s"]),
    "tfidf": (ColumnTransformer([("s", TfidfVectorizer(), "s"), ("n", "passthrough", ["y"])]), ["s", "y"]),
    "tfidf by magnitudes": (ColumnTransformer([("s", TfidfVectorizer(norm="l1", smooth_idf=False), "s")]), ["s"]),
    "tfidf without norm": (ColumnTransformer([("s", TfidfVectorizer(norm=None, binary=True), "s")]), ["s"]),
    "tfidf without idf": (ColumnTransformer([("s", TfidfVectorizer(use_idf=False, stop_words="english"), "s")]), ["s"]),
    "tfidf of counts": (
        ColumnTransformer([("s", make_pipeline(CountVectorizer(), TfidfTransformer()), "s")]),
        ["s"],
    ),
    "square root": (FunctionTransformer(np.sqrt), ["x", "y", "i", "f"]),
    "square": (FunctionTransformer(np.square), ["x", "y", "f"]),
    "magnitude": (FunctionTransformer(np.abs), ["x", "y", "i", "f"]),
    "floor of an array": (numeric(FunctionTransformer(np.floor)), ["x", "y"]),
    "clipped": (FunctionTransformer(np.clip, kw_args={"a_min": -2, "a_max": 12.5}), ["x", "y", "i"]),
    "clipped on one side": (FunctionTransformer(np.clip, kw_args={"a_min": 3, "a_max": None}), ["x", "f"]),
    "checked": (FunctionTransformer(validate=True), ["y", "i", "f"]),
    "as it is": (FunctionTransformer(), ["x", "y", "i", "b", "f"]),
    "as it is, then scaled": (make_pipeline("passthrough", FunctionTransformer(), StandardScaler()), ["f", "g"]),
    "columns by name": (mixed(), [*NUMBERS, "i", "c", "d", "k"]),
    "columns by name, others as they are": (mixed(remainder="passthrough"), [*NUMBERS, "f", "b", "i", "c", "d"]),
    "columns by name, others scaled": (mixed(remainder=MinMaxScaler()), [*NUMBERS, "f", "i", "c", "d", "n"]),
    "columns made sparse": (mixed(sparse_threshold=1, remainder="passthrough"), [*NUMBERS, "i", "c", "d", "f"]),
    "columns made sparse, scaled": (
        make_pipeline(mixed(sparse_threshold=1), StandardScaler(with_mean=False), MaxAbsScaler()),
        [*NUMBERS, "i", "c", "d"],
    ),
    "columns made sparse, then dense": (
        ColumnTransformer(
            [("a", mixed(sparse_threshold=1, remainder="passthrough"), [*NUMBERS, "i", "c", "d", "f"])],
            remainder="passthrough",
            sparse_threshold=0,
        ),
        [*NUMBERS, "i", "c", "d", "f", "n"],
    ),
    "columns of float32 made sparse, scaled": (
        make_pipeline(
            ColumnTransformer(
                [("a", "passthrough", NARROW), ("b", OneHotEncoder(handle_unknown="ignore", dtype=np.float32), ["c"])],
                sparse_threshold=1,
            ),
            MaxAbsScaler(),
        ),
        [*NARROW, "c"],
    ),
    "bools beside float32, scaled": (
        make_pipeline(ColumnTransformer([("a", "passthrough", ["b", "f"])]), StandardScaler()),
        ["b", "f"],
    ),
    "columns twice": (
        ColumnTransformer([("a", "passthrough", ["y"]), ("b", StandardScaler(), ["y"]), ("c", "passthrough", ["y"])]),
        ["y"],
    ),
    "texts and numbers in one array between": (
        make_pipeline(
            "passthrough",
            ColumnTransformer(
                [("a", SimpleImputer(strategy="most_frequent"), ["c", "d"]), ("b", SimpleImputer(), ["f", "i"])]
            ),
            ColumnTransformer([("c", OneHotEncoder(**SPLIT), [0, 3]), ("d", StandardScaler(), [2])]),
        ),
        ["c", "d", "f", "i"],
    ),
    "columns by place": (
        ColumnTransformer(
            [("a", StandardScaler(), [1, -1]), ("b", MinMaxScaler(), slice(0, 1))], remainder="passthrough"
        ),
        [*NUMBERS, "i"],
    ),
    "columns by mask": (
        ColumnTransformer([("a", StandardScaler(), [True, False, True]), ("b", "passthrough", [False, True, False])]),
        NUMBERS,
    ),
    "columns by a range of names": (
        ColumnTransformer([("a", RobustScaler(), slice("y", "f")), ("b", OneHotEncoder(**SPLIT), slice("c", None))]),
        [*NUMBERS, "f", "c", "d"],
    ),
    "columns by their types": (
        make_column_transformer(
            (numeric(StandardScaler()), make_column_selector(dtype_include=np.number)),
            (OneHotEncoder(**SPLIT), make_column_selector(dtype_include=object)),
            (OneHotEncoder(), []),
            remainder="passthrough",
        ),
        list(TRAIN),
    ),
    "columns within columns": (
        make_pipeline(
            ColumnTransformer(
                [("a", mixed(), [*NUMBERS, "i", "c", "d"]), ("b", StandardScaler(), ["f"])], remainder="passthrough"
            ),
            ColumnTransformer([("c", RobustScaler(), [0, 1, 4, -2])], remainder="passthrough"),
        ),
        [*NUMBERS, "f", "i", "c", "d", "n"],
    ),
    "union": (
        FeatureUnion(
            [("a", StandardScaler()), ("b", "passthrough"), ("c", "drop"), ("d", numeric(KBinsDiscretizer(3)))]
        ),
        ["x", "y"],
    ),
    "frames between": (
        make_pipeline(
            ColumnTransformer(
                [("a", StandardScaler(), ["f"]), ("b", SimpleImputer(), ["x"])],
                remainder="passthrough",
                verbose_feature_names_out=False,
            ),
            ColumnTransformer([("c", MinMaxScaler(), ["f"]), ("d", RobustScaler(), ["x", "i"])]),
        ).set_output(transform="pandas"),
        ["x", "f", "i"],
    ),
}
TRANSCENDENTAL: dict[str, tuple[Any, list[str]]] = {
    "powers": (PowerTransformer(), NUMBERS),
    "powers of integers, not standardised": (PowerTransformer(standardize=False), ["y", "i", "n", "b"]),
    "powers of positive numbers": (PowerTransformer("box-cox"), ["y"]),
    "powers of positive numbers, not standardised": (PowerTransformer("box-cox", standardize=False), ["y"]),
    "quantiles": (QuantileTransformer(n_quantiles=20), [*NUMBERS, "i", "k"]),
    "quantiles of float32": (QuantileTransformer(n_quantiles=7), NARROW),
    "quantiles, normal": (QuantileTransformer(n_quantiles=30, output_distribution="normal"), [*NUMBERS, "i", "k"]),
    "normalized by squares": (numeric(Normalizer()), [*NUMBERS, "i"]),
    "normalized by magnitudes of many": (numeric(Normalizer("l1")), ["x", "y", "z", "i", "n", "k", "b", "f", "g"]),
    "tfidf of logarithms": (ColumnTransformer([("s", TfidfVectorizer(sublinear_tf=True), "s")]), ["s"]),
    "log1p": (FunctionTransformer(np.log1p), ["x", "y", "i"]),
    "exp": (FunctionTransformer(np.exp), ["x", "y", "i"]),
    "log": (FunctionTransformer(np.log), ["x", "y", "i"]),
    "tanh of an array": (numeric(FunctionTransformer(np.tanh)), ["x", "y"]),
    "log1p, scaled": (make_pipeline(FunctionTransformer(np.log1p), StandardScaler()), ["y", "n"]),
}
CASES = EXACT | TRANSCENDENTAL


def fitted(estimator, columns, frame=TRAIN, y=None):
    """Return a copy that is fitted to columns of a frame."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return clone(estimator).fit(frame[columns], y)


def outcome(estimator, data):
    """Return what scikit-learn makes of data as float32, or None where it fails."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            made = estimator.transform(data)
            dense = made.toarray() if hasattr(made, "toarray") else np.asarray(made)
            return dense.astype(np.float64).astype(np.float32) if dense.dtype == object else dense.astype(np.float32)
    except (ValueError, AttributeError, TypeError):
        # A vectorizer does not look whether it is given texts.
        return None


def outcomes(estimator, data, rows):
    """Return what scikit-learn makes of each of some rows, by its position; of rows on which it fails, nothing."""
    made = outcome(estimator, data.iloc[rows] if hasattr(data, "iloc") else data[rows])
    if made is not None:
        return dict(zip(rows, made, strict=True))
    if len(rows) == 1:
        return {}
    half = len(rows) // 2
    return outcomes(estimator, data, rows[:half]) | outcomes(estimator, data, rows[half:])


def ours(document, frame):
    """Return what the spec makes of each row, by its position; of rows that it sets aside, nothing."""
    spec = read_spec(json.dumps(document), "spec.json")
    made = spec.transform(frame)
    return dict(zip(made.rows.tolist(), made.tensors["features"], strict=True))


def differing(found, wanted, *, is_exact=True):
    """Return positions of rows that are not equal to the bit, or not within one unit in the last place."""
    assert found, "no row is left"
    return [row for row in found.keys() | wanted.keys() if not _same(found.get(row), wanted.get(row), is_exact)]


def _same(one, other, is_exact):
    if one is None or other is None:
        return one is other
    if bits(one) == bits(other):
        return True
    steps = np.abs(one.view(np.int32).astype(np.int64) - other.view(np.int32).astype(np.int64))
    return not is_exact and bool(np.all((steps <= 1) | (np.isnan(one) & np.isnan(other))))


@pytest.mark.parametrize("name", CASES)
def test_rows_become_what_scikit_learn_makes_of_them(name):
    """Each nasty row becomes what transform makes of it, to the bit after float32, and is set aside where it fails."""
    estimator, columns = CASES[name]
    estimator = fitted(estimator, columns)
    document = import_sklearn(estimator, TRAIN[columns]).document
    wanted = outcomes(estimator, NASTY[columns], list(range(len(NASTY))))
    assert differing(ours(document, NASTY), wanted, is_exact=name in EXACT) == []


ARRAY = ["x", "y", "i"]


@pytest.mark.parametrize(
    "estimator",
    [StandardScaler(), ColumnTransformer([("a", MinMaxScaler(), [2, 0])], remainder="passthrough")],
)
def test_an_array_without_names_is_all_columns_in_their_order(estimator):
    """An estimator that was fitted to an array is given the columns of the schema as one array, in their order."""
    array = TRAIN[ARRAY].to_numpy()
    document = import_sklearn(clone(estimator).fit(array), TRAIN[ARRAY]).document
    nasty = NASTY[ARRAY].to_numpy()
    wanted = outcomes(clone(estimator).fit(array), nasty, list(range(len(nasty))))
    assert differing(ours(document, NASTY), wanted) == []


def test_schemas_in_any_form_give_one_document():
    """A frame, its Arrow table, that table's schema, a mapping of types, and one with more columns say the same."""
    columns = [*NUMBERS, "f", "i", "b", "c", "d"]
    estimator = fitted(mixed(remainder="passthrough"), columns)
    table = pa.Table.from_pandas(TRAIN[columns], preserve_index=False)
    kinds = dict(zip(columns, ["float64"] * 3 + ["float32", "int64", "bool", "string", "string"], strict=True))
    schemas = [TRAIN[columns], TRAIN.iloc[:1], table, table.schema, table.to_batches()[0], kinds]
    documents = [import_sklearn(estimator, schema).document for schema in schemas]
    assert documents.count(documents[0]) == len(schemas)


def test_categories_of_pandas_are_texts():
    """A column of pandas' type category is read as its texts."""
    frame = TRAIN[["d"]].astype("category")
    estimator = fitted(OneHotEncoder(), ["d"], frame)
    document = import_sklearn(estimator, frame).document
    wanted = outcomes(estimator, NASTY[["d"]], list(range(len(NASTY))))
    assert differing(ours(document, NASTY), wanted) == []


def test_the_spec_says_where_it_comes_from():
    """The spec is fitted, bears the id that is given, reads what is used alone, and names its values."""
    columns = [*NUMBERS, "i", "c", "d", "k"]
    spec = import_sklearn(fitted(mixed(), columns), TRAIN[columns], spec_id="orders").spec()
    assert spec.is_fitted
    assert spec.spec_id == "orders"
    assert str(spec.doc).startswith("Imported from scikit-learn 1.")
    assert [field.name for field in spec.input.fields] == ["x", "y", "i", "c", "d"]
    assert spec.feature_names()["features"][-5:] == (
        "c_one_hot[e]",
        "c_one_hot[(missing)]",
        "d_one_hot[no]",
        "d_one_hot[yes]",
        "i",
    )


def test_the_report_says_what_each_part_became():
    """The report has each column, each transformer by its place, and the tensor, with what differs."""
    columns = [*NUMBERS, "i", "c", "d", "k"]
    report = import_sklearn(fitted(mixed(), columns), TRAIN[columns]).report
    by_pointer = {mapped.pointer: mapped for mapped in report}
    places = ["/transformers/0/steps/0", "/transformers/0/steps/1", "/transformers/1", "/transformers/2", ""]
    assert [mapped.pointer for mapped in report if not mapped.pointer.startswith("/feature_names_in_")] == places
    assert by_pointer["/feature_names_in_/0"].became == "field x: float64"
    assert by_pointer["/feature_names_in_/2"].became.startswith("nothing")
    imputer = by_pointer["/transformers/0/steps/0"]
    assert imputer.source == "SimpleImputer of x, y"
    assert imputer.became == "step t0_1_impute, step t0_2_impute, step t0_3_missing_flag"
    assert "±inf" in str(imputer.note)
    assert by_pointer["/transformers/0/steps/1"].note is None
    assert "None and NaN" in str(by_pointer["/transformers/1"].note)
    assert by_pointer["/transformers/2"].became == "no step: columns and order only"
    assert "±2^53" in str(by_pointer[""].note)
    assert by_pointer[""].became == "tensor features of 13 values a row"


def test_what_cannot_be_mapped_is_told_all_at_once():
    """Everything without a counterpart is an error with its place, behind a refused step too, and in order."""
    parts = [
        ("good", StandardScaler(), ["x"]),
        ("powers", PowerTransformer(), ["f"]),
        ("own", FunctionTransformer(lambda frame: frame + 1), ["i"]),
        ("deep", Pipeline([("n", SplineTransformer()), ("m", KNNImputer()), ("p", PolynomialFeatures())]), ["i", "n"]),
        ("text", "passthrough", ["c"]),
        ("narrow", FunctionTransformer(np.exp), ["f"]),
        ("hashes", HashingVectorizer(n_features=4), "s"),
    ]
    estimator = Pipeline([("columns", ColumnTransformer(parts, sparse_threshold=0)), ("model", LogisticRegression())])
    estimator.steps[0][1].fit(TRAIN)
    with pytest.raises(SpecError) as raised:
        import_sklearn(estimator, TRAIN)
    lines = str(raised.value).splitlines()
    wanted = {
        "/steps/0/transformers/1": "of columns of float32 it computes in float32",
        "/steps/0/transformers/2": "function <lambda>",
        "/steps/0/transformers/3/steps/0": "SplineTransformer has no counterpart: no op computes splines",
        "/steps/0/transformers/3/steps/1": "KNNImputer",
        "/steps/0/transformers/5": "'f', which is of float32, numpy computes it in float32",
        "/steps/0/transformers/6": "MurmurHash3",
        "/steps/1": "it is a model; import the steps before it",
    }
    assert [line.partition(": ")[0] for line in lines] == list(wanted)
    assert all(said in line for said, line in zip(wanted.values(), lines, strict=True))
    assert all(line.endswith("[E-UNSUPPORTED-IMPORT]") for line in lines)


class Halved(StandardScaler):  # type: ignore[misc]  # scikit-learn carries no types
    """A scaler that does something else."""


def strange():
    """Return estimators that have no counterpart, each with columns, its place and what is said."""
    none = pd.DataFrame({"c": ["a", None, NAN, "b"]})
    return {
        "not fitted": (StandardScaler(), TRAIN[["x"]], "/: StandardScaler is not fitted"),
        "subclass": (fitted(Halved(), ["x"]), TRAIN[["x"]], "/: Halved has no counterpart"),
        "weighed union": (
            fitted(FeatureUnion([("a", StandardScaler())], transformer_weights={"a": 2}), ["x"]),
            TRAIN[["x"]],
            "/transformer_weights: ",
        ),
        "no column": (fitted(StandardScaler(), ["x"]), TRAIN[["y"]], "/: column 'x' is not in the schema"),
        "text for numbers": (fitted(StandardScaler(), ["x"]), {"x": "string"}, "/: takes numbers, and column 'x'"),
        "numbers for text": (fitted(OneHotEncoder(), ["c"]), {"c": "int64"}, "has a category of type str in column"),
        "dates": (fitted(StandardScaler(), ["x"]), {"x": "timestamp"}, "/: column 'x' is of type timestamp"),
        "two gaps": (OneHotEncoder().fit(none), none, "tells None and NaN of column 'c' apart"),
        "text at the end": (fitted(FunctionTransformer(), ["c"]), TRAIN[["c"]], "column 'c' is text"),
        "nothing": (
            fitted(ColumnTransformer([("a", "drop", ["x"])]), ["x", "y"]),
            TRAIN[["x", "y"]],
            "/: makes no column",
        ),
        "weights": (
            fitted(ColumnTransformer([("a", StandardScaler(), ["x"])], transformer_weights={"a": 2.0}), ["x"]),
            TRAIN[["x"]],
            "/transformer_weights: ",
        ),
        "filler": (
            fitted(make_pipeline(SimpleImputer(strategy="constant")), ["c", "k"]),
            TRAIN[["c", "k"]],
            "/steps/0: fills column 'k', which is float64, with a str",
        ),
        "bound": (
            fitted(FunctionTransformer(np.clip, kw_args={"a_min": [0.0, 1.0], "a_max": 3}), ["x", "y"]),
            TRAIN[["x", "y"]],
            "np.clip has a counterpart with numbers of Python as bounds, found a_min=",
        ),
        "dtype": (fitted(OrdinalEncoder(dtype=np.int8), ["d"]), TRAIN[["d"]], "dtype int8"),
        "wrapping": (fitted(FunctionTransformer(np.abs), ["n"]), TRAIN[["n"]], "column 'n' is of int32"),
        **{
            f"terms by {next(iter(keys))}": (
                ColumnTransformer([("s", CountVectorizer(**keys), "s")]).fit(TRAIN[["s"]]),
                TRAIN[["s"]],
                f"/transformers/0: {said}",
            )
            for keys, said in (
                ({"analyzer": "char"}, "analyzer 'char' has no counterpart; 'word' has."),
                ({"strip_accents": "unicode"}, "strip_accents 'unicode' has no counterpart"),
                ({"tokenizer": str.split, "token_pattern": None}, "tokenizer 'split' has no counterpart"),
                ({"token_pattern": "[a-z]+"}, "token_pattern '[a-z]+' has no counterpart; these have: "),
                ({"ngram_range": (1, 2)}, "ngram_range (1, 2) makes terms of several lengths"),
                ({"vocabulary": ["red", "car"]}, "a vocabulary in its own order"),
                ({"stop_words": ["the"], "vocabulary": ["car", "the"]}, "stop_words have no counterpart where"),
                ({"dtype": np.int8}, "dtype int8 may not hold every count"),
            )
        },
        "one term": (
            make_pipeline(CountVectorizer(), MaxAbsScaler()).fit(TRAIN["s"]),
            TRAIN[["s"]],
            "/steps/1: would read 's_",
        ),
        "two columns of text": (CountVectorizer().fit(TRAIN["s"]), TRAIN[["s", "c"]], "/: takes one column of texts."),
        "norm of float32": (
            fitted(make_pipeline(SimpleImputer(), Normalizer()), ["f"]),
            TRAIN[["f"]],
            "/steps/1: norm l2 of ",
        ),
        "normal of float32": (
            fitted(QuantileTransformer(n_quantiles=5, output_distribution="normal"), ["f"]),
            TRAIN[["f"]],
            "/: of columns of float32 it computes in float32",
        ),
        "many products": (
            fitted(numeric(PolynomialFeatures(9)), [*NUMBERS, "i", "n"]),
            TRAIN[[*NUMBERS, "i", "n"]],
            "/steps/1: makes 2002 columns, each by a step",
        ),
        "arguments": (
            fitted(FunctionTransformer(np.sqrt, kw_args={"where": True}), ["y"]),
            TRAIN[["y"]],
            "without kw_args alone",
        ),
    }


@pytest.mark.parametrize("name", strange())
def test_what_has_no_counterpart_is_refused(name):
    """What would mean something else here is refused, with its place and the reason."""
    estimator, schema, said = strange()[name]
    with pytest.raises(SpecError) as raised:
        import_sklearn(estimator, schema)
    assert said in str(raised.value)


def test_parameters_of_a_later_release_are_refused(monkeypatch):
    """A parameter that is not known may change the meaning, so the transformer is refused."""
    estimator = fitted(StandardScaler(), ["x"])
    monkeypatch.setattr(StandardScaler, "get_params", lambda *_, **__: {"copy": True, "with_kurtosis": True})
    with pytest.raises(SpecError, match="a release that is not known here: with_kurtosis"):
        import_sklearn(estimator, TRAIN[["x"]])


@pytest.mark.parametrize(
    ("schema", "error"),
    [(["x"], TypeError), (pd.DataFrame({1: [1.0]}), TypeError), ({"x": "float"}, ValueError)],
)
def test_a_schema_that_is_none_is_refused(schema, error):
    """A list, a frame whose columns have no names, and a type that is none of ours are refused."""
    with pytest.raises(error):
        import_sklearn(fitted(StandardScaler(), ["x"]), schema)


@pytest.mark.parametrize("column", [pd.array([1, 2], dtype="Int64"), [1, "a"], [np.float16(1), np.float16(2)]])
def test_columns_of_unclear_types_are_refused_where_they_are_used(column):
    """A column of pandas' own types, of mixed objects or of float16 may be there, and may not be used."""
    frame = pd.DataFrame({"x": [1.0, 2.0], "u": column})
    drops = ColumnTransformer([("a", StandardScaler(), ["x"])]).fit(frame)
    assert import_sklearn(drops, frame).document["input"]["fields"][0]["name"] == "x"
    keeps = ColumnTransformer([("a", StandardScaler(), ["x"])], remainder="passthrough").fit(frame)
    with pytest.raises(SpecError, match="column 'u' "):
        import_sklearn(keeps, frame)


def test_rows_that_cannot_be_equal_are_set_aside_and_said():
    """An overflow of float32 on the way, and an integer beyond 2^53, set the row aside, and the report says so."""
    frame = pd.DataFrame({"f": np.array([0.0, 0.5], dtype=np.float32), "i": [1, 2]})
    parts = ColumnTransformer([("a", MinMaxScaler(), ["f"]), ("b", StandardScaler(), ["i"])]).fit(frame)
    found = import_sklearn(parts, frame)
    rows = pd.DataFrame({"f": np.array([0.25, 3e38, 0.25], dtype=np.float32), "i": [1, 1, 2**53 + 1]})
    assert list(ours(found.document, rows)) == [0]
    notes = " ".join(mapped.note or "" for mapped in found.report)
    assert "overflows" in notes
    assert "beyond ±2^53" in notes


def test_a_row_that_fails_between_is_set_aside_and_said():
    """Where a transformer fails on what another made, an expectation sets the row aside, and the report says so."""
    frame = pd.DataFrame({"x": [1.0, 1.5, 2.0]})
    found = import_sklearn(make_pipeline(MinMaxScaler((0, 1e150)), StandardScaler()).fit(frame), frame)
    assert [rule["severity"] for rule in found.document["expectations"]] == ["quarantine"]
    assert list(ours(found.document, pd.DataFrame({"x": [1.0, 1e200, NAN]}))) == [0, 2]
    said = "scikit-learn fails where 'x' is ±inf here. Such a row is set aside here."
    assert found.report[2]._replace(became="") == ("/steps/1", "StandardScaler of x", "", said)


def test_none_and_nan_are_one_missing_value():
    """Where scikit-learn learned NaN, None is the same missing value here, as the report says."""
    frame = pd.DataFrame({"c": ["a", NAN, "b"]})
    estimator = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(frame)
    found = import_sklearn(estimator, frame)
    given = pd.DataFrame({"c": [None, NAN, "b"]}, dtype=object)
    assert outcome(estimator, given).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert [row.tolist() for row in ours(found.document, given).values()] == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert "None and NaN" in str(found.report[1].note)


@pytest.mark.parametrize("keys", [{}, {"keep_empty_features": True}, {"strategy": "constant", "fill_value": 2}])
def test_a_column_without_values_is_left_out_unless_it_is_kept(keys):
    """A column that had no value at fit is no column of the result, or is filled with 0, as the imputer says."""
    frame = pd.DataFrame({"x": [NAN, NAN], "i": [1, 4], "y": [1.0, NAN]})
    estimator = fitted(SimpleImputer(**keys), ["x", "i", "y"], frame)
    document = import_sklearn(estimator, frame).document
    wanted = outcomes(estimator, NASTY[["x", "i", "y"]], list(range(len(NASTY))))
    assert differing(ours(document, NASTY), wanted) == []


TARGETS = {
    "binary": TRAIN["b"],
    "continuous": TRAIN["y"],
    "multiclass": TRAIN["n"].map({0: "no", 1: "yes", 2: "maybe", 3: "no"}),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_encoder_gives_the_means_that_it_learned(kind):
    """Each category becomes the number that was learned of it, for each class, and an unknown one the target's mean."""
    columns = ["c", "d", "k", "n"]
    estimator = fitted(TargetEncoder(), columns, y=TARGETS[kind])
    assert estimator.target_type_ == kind
    document = import_sklearn(estimator, TRAIN[columns]).document
    wanted = outcomes(estimator, NASTY[columns], list(range(len(NASTY))))
    assert differing(ours(document, NASTY), wanted) == []


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OneHotEncoder(drop="first"), OrdinalEncoder()])
@pytest.mark.parametrize("handled", ["error", "other"])
def test_none_that_an_imputer_leaves_is_the_category_none(encoder, handled):
    """SimpleImputer fills NaN and leaves None, which the encoder behind it knows: so None is that category here."""
    frame = pd.DataFrame({"c": ["a", None, "b", "a"], "d": [None, "x", None, "y"]}, dtype=object)
    estimator = clone(encoder)
    if handled == "other":
        keys = {"handle_unknown": "use_encoded_value", "unknown_value": -1} if "Ordinal" in str(encoder) else {}
        estimator.set_params(**(keys or {"handle_unknown": "ignore"}))
    estimator = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), estimator).fit(frame)
    found = import_sklearn(estimator, frame)
    rows = pd.DataFrame({"c": [None, "a", "b", None, "?"], "d": ["x", None, "y", None, "x"]}, dtype=object)
    assert differing(ours(found.document, rows), outcomes(estimator, rows, list(range(5)))) == []
    assert "A missing value is None here" in str(found.report[-2].note)


def test_none_can_be_what_is_filled():
    """With missing_values None, None of texts is filled; of numbers, which have no None, it is refused."""
    frame = pd.DataFrame({"c": ["a", None, "b", "a"]}, dtype=object)
    imputer = SimpleImputer(missing_values=None, strategy="most_frequent")
    estimator = make_pipeline(imputer, OrdinalEncoder()).fit(frame)
    found = import_sklearn(estimator, frame)
    assert differing(ours(found.document, frame), outcomes(estimator, frame, list(range(4)))) == []
    assert "to scikit-learn only None is" in str(found.report[1].note)
    numbers = pd.DataFrame({"x": np.array([1.0, None], dtype=object)})
    with pytest.raises(SpecError, match="missing_values None has no counterpart"):
        import_sklearn(clone(imputer).fit(numbers), {"x": "float64"})


@pytest.mark.parametrize("is_lowered", [True, False])
def test_every_text_has_the_terms_that_it_has_in_scikit_learn(is_lowered):
    """Of every nasty text the terms are counted alike, or the row is set aside for a letter that is in no class."""
    texts = [text for text in TEXTS if text is not None] + [f"{text} Über {text}" for text in TEXT[2:]]
    estimator = CountVectorizer(lowercase=is_lowered).fit(texts)
    found = import_sklearn(estimator, {"s": "string"})
    made = ours(found.document, pa.table({"s": texts}))
    wanted = dict(enumerate(estimator.transform(texts).toarray().astype(np.float32)))
    assert all(set(texts[row]) & RARE for row in wanted.keys() - made.keys())
    assert differing(made, {row: wanted[row] for row in made}) == []
    assert len(made) > len(texts) * 0.9
    assert "are not read" in str(found.report[1].note)


def test_names_of_both_systems_stand_beside_each_other():
    """Each value has scikit-learn's own name beside ours, in the order of the array; none where it cannot tell."""
    found = import_sklearn(mixed().fit(TRAIN), TRAIN)
    pairs = found.feature_names()
    assert [theirs for theirs, _ in pairs] == list(mixed().fit(TRAIN).get_feature_names_out())
    assert [ours for _, ours in pairs] == list(found.spec().feature_names()["features"])
    assert dict(pairs)["texts__d_yes"].endswith("[yes]")
    assert dict(pairs)["whole__i"] == "i"
    assert import_sklearn(FunctionTransformer(np.sqrt).fit(TRAIN[["x"]]), TRAIN[["x"]]).feature_names() == ()


def test_a_document_says_that_a_field_is_finite():
    """The range that keeps ±inf out is called finite where a page tells of a field."""
    page = page_of(import_sklearn(StandardScaler().fit(TRAIN[["x", "f"]]), TRAIN[["x", "f"]]).spec())
    assert page.count("| finite |") == 2
    assert "e+308" not in page


def test_terms_are_the_names_of_values():
    """A term of a text is the name of its value, behind its weight too."""
    estimator = ColumnTransformer([("s", TfidfVectorizer(min_df=3), "s")]).fit(TRAIN)
    spec = read_spec(json.dumps(import_sklearn(estimator, TRAIN).document), "spec.json")
    terms = estimator.named_transformers_["s"].get_feature_names_out()
    assert spec.feature_names()["features"] == tuple(f"s_terms_tfidf[{term}]" for term in terms)


def test_a_filling_value_is_of_the_type_that_was_seen_at_fit():
    """The mean of integers fills as scikit-learn lets it, which cuts its fraction off where it was fitted to them."""
    frame = pd.DataFrame({"i": [1, 4]})
    estimator = fitted(SimpleImputer(strategy="most_frequent"), ["i"], frame)
    estimator.statistics_ = np.array([2.5])
    document = import_sklearn(estimator, frame).document
    gap = pd.DataFrame({"i": [NAN, 3.0]})
    table = pa.table({"i": pa.array([None, 3], pa.int64())})
    assert differing(ours(document, table), outcomes(estimator, gap, [0, 1])) == []
    assert ours(document, table)[0].tolist() == [2.0]


NUMBER = st.floats(width=64, allow_infinity=False)
SCALERS = st.lists(
    st.sampled_from(
        [
            StandardScaler(),
            StandardScaler(with_std=False),
            MinMaxScaler((-3, 5)),
            MinMaxScaler(clip=True),
            MaxAbsScaler(),
            RobustScaler(),
            SimpleImputer(add_indicator=True),
        ]
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(SCALERS, st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=20), st.sampled_from(["float64", "float32"]))
def test_any_numbers_through_any_scalers_come_out_equal(scalers, rows, kind):
    """Any chain of scalers and imputers gives scikit-learn's bits for any numbers, in float64 and in float32."""
    train = pd.DataFrame({"u": [1.0, 3.5, NAN, -2.25], "v": [0.1, 0.2, 0.7, 1e-3]}).astype(kind)
    with np.errstate(over="ignore"):
        data = pd.DataFrame(rows, columns=["u", "v"]).astype(kind)
    # Where float32 overflows on the way, the row is set aside.
    data = data.where(data.abs() < 1e30)
    estimator = make_pipeline(*map(clone, scalers)).fit(train)
    spec = read_spec(json.dumps(import_sklearn(estimator, train).document), "spec.json")
    made = spec.transform(data)
    found = dict(zip(made.rows.tolist(), made.tensors["features"], strict=True))
    wanted = outcomes(estimator, data, list(range(len(data))))
    assert [row for row in range(len(data)) if not _same(found.get(row), wanted.get(row), is_exact=True)] == []


def test_no_value_of_the_state_is_nan():
    """A column that had no value at fit, of which StandardScaler learned NaN, is refused by its name."""
    frame = pd.DataFrame({"x": [NAN, NAN], "y": [1.0, 2.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = StandardScaler().fit(frame)
    assert math.isnan(estimator.mean_[0])
    with pytest.raises(SpecError, match="has state nan for column 'x'"):
        import_sklearn(estimator, frame)
