"""Models of tables: scikit-learn, LightGBM and XGBoost."""

from __future__ import annotations

import lightgbm  # type: ignore[import-not-found]
import numpy as np
import onnxmltools  # type: ignore[import-not-found]
import pandas as pd
import pyarrow as pa
import xgboost  # type: ignore[import-not-found]
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloats  # type: ignore[import-not-found]
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.zoo.recipes.data import (
    OPSET,
    SEED,
    Made,
    customers,
    floats,
    generator,
    matrix_table,
    snake,
    tumours,
    with_nulls,
)


def zipmap_int() -> Made:
    """Species of irises by logistic regression; probabilities leave as one map a row, keyed by integers."""
    data, rng = load_iris(), generator()
    chosen = rng.integers(0, 150, 240)
    features = np.round(data.data[chosen] + rng.normal(0, 0.05, (240, 4)), 1).astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(features, data.target[chosen])
    exported = to_onnx(model, initial_types=[("X", FloatTensorType([None, 4]))], target_opset=OPSET)
    rows = with_nulls(matrix_table(features, snake(data.feature_names)), "petal_width", [3, 77, 239])
    return Made(exported, rows)


def zipmap_text() -> Made:
    """Cultivars of wine by logistic regression; the label is text, and so are the keys of each map."""
    data, rng = load_wine(), generator()
    chosen = rng.integers(0, 178, 240)
    features = data.data[chosen].astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(features, np.array(["barolo", "grignolino", "barbera"])[data.target[chosen]])
    exported = to_onnx(model, initial_types=[("X", FloatTensorType([None, 13]))], target_opset=OPSET)
    return Made(exported, matrix_table(features, snake(data.feature_names)))


def pipeline_text() -> Made:
    """Who cancels, by a pipeline that takes texts and numbers, an input for each column; unknown texts are no error."""
    table, left = customers()
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in ("city", "plan", "age", "spend")})
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encode = ColumnTransformer([("texts", texts, ["city", "plan"]), ("numbers", StandardScaler(), ["age", "spend"])])
    model = make_pipeline(encode, LogisticRegression(max_iter=500)).fit(frame, left)
    types = [(name, StringTensorType([None, 1])) for name in ("city", "plan")]
    types += [(name, FloatTensorType([None, 1])) for name in ("age", "spend")]
    exported = to_onnx(model, initial_types=types, target_opset=OPSET, options={"zipmap": False})
    rows = table.set_column(
        table.schema.get_field_index("city"), "city", pa.array(["Chur", "", *table.column("city").to_pylist()[2:]])
    )
    return Made(exported, with_nulls(rows, "plan", [10, 200]))


def multi_target() -> Made:
    """Three targets at once by a forest."""
    data = load_diabetes()
    features = data.data[:300].astype(np.float32)
    targets = np.stack([data.target[:300], features[:, 2] * 100, features[:, 8] - features[:, 3]], axis=1)
    model = RandomForestRegressor(n_estimators=6, max_depth=4, random_state=SEED).fit(features, targets)
    exported = to_onnx(model, initial_types=[("X", FloatTensorType([None, 10]))], target_opset=OPSET)
    # The converter declares one target, whatever the forest has.
    exported.graph.output[0].type.tensor_type.shape.dim[1].dim_value = targets.shape[1]
    return Made(exported, matrix_table(features, snake(data.feature_names)))


def multi_label() -> Made:
    """Two classifications at once; the probabilities are a sequence of one matrix a target."""
    table, left = customers()
    features = floats(table, "age", "spend", "calls")
    roaming = table.column("roaming").to_numpy(zero_copy_only=False).astype(np.int64)
    model = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(features, np.stack([left, roaming], axis=1))
    types = [("X", FloatTensorType([None, 3]))]
    exported = to_onnx(model, initial_types=types, target_opset=OPSET, options={"zipmap": False})
    return Made(exported, table, "customers")


def double() -> Made:
    """Progress of diabetes by linear regression in float64."""
    data = load_diabetes()
    features = data.data[:250]
    model = LinearRegression().fit(features, data.target[:250])
    exported = to_onnx(model, initial_types=[("X", DoubleTensorType([None, 10]))], target_opset=OPSET)
    return Made(exported, matrix_table(features, snake(data.feature_names)))


def holed(features: np.ndarray) -> np.ndarray:
    """The same with NaN in a tenth of the places."""
    return np.where(generator().random(features.shape) < 0.1, np.float32("nan"), features)


def lightgbm_trees() -> Made:
    """Whether a tumour is benign, by LightGBM."""
    data = tumours()
    model = lightgbm.LGBMClassifier(
        n_estimators=20, num_leaves=8, random_state=SEED, n_jobs=1, deterministic=True, verbose=-1
    )
    model.fit(data.features, data.target)
    types = [("X", ToolsFloats([None, 30]))]
    return Made(
        onnxmltools.convert_lightgbm(model, initial_types=types, target_opset=15, zipmap=False), data.table, "tumours"
    )


def xgboost_nan() -> Made:
    """Whether a tumour is benign, by XGBoost, where a tenth of the values is missing."""
    data = tumours()
    features = holed(data.features)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3, random_state=SEED, n_jobs=1, base_score=0.5)
    model.fit(features, data.target)
    types = [("X", ToolsFloats([None, 30]))]
    exported = onnxmltools.convert_xgboost(model, initial_types=types, target_opset=15)
    return Made(exported, matrix_table(features, data.names))
