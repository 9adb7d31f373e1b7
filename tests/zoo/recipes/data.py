"""Rows that the models of the zoo are trained on and score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

OPSET = 17
SEED = 11


class Made(NamedTuple):
    """A model and rows that it can score."""

    model: onnx.ModelProto
    rows: pa.Table
    data: str | None = None
    """Name of the rows' file, where models share it; else that of the model."""
    outside: bool = False
    """Whether the weights lie in a file beside the model."""


def generator() -> np.random.Generator:
    """A new stream of random numbers, the same for every model: none depends on which were made before."""
    return np.random.default_rng(SEED)


def table_of(columns: Mapping[str, Any]) -> pa.Table:
    """Columns behind an id."""
    made = pa.table(dict(columns))
    return made.add_column(0, "id", pa.array(np.arange(1000, 1000 + made.num_rows)))


def matrix_table(matrix: np.ndarray, names: list[str]) -> pa.Table:
    """A column for each of a matrix, NaN as null."""
    return table_of({name: pa.array(matrix[:, at], from_pandas=True) for at, name in enumerate(names)})


def with_nulls(table: pa.Table, name: str, rows: list[int]) -> pa.Table:
    """The same table with nulls in some rows of a column."""
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[rows] = True
    at = table.schema.get_field_index(name)
    column = table.column(name).combine_chunks()
    return table.set_column(at, name, pa.compute.if_else(pa.array(mask), pa.scalar(None, column.type), column))


def snake(names: Any) -> list[str]:
    """Names of a data set as column names."""
    return ["_".join(str(name).replace("(cm)", "").replace("/", " ").split()) for name in names]


class Numbers(NamedTuple):
    """A data set of numbers: features as float32, targets, and names."""

    features: np.ndarray
    target: np.ndarray
    names: list[str]

    @property
    def table(self) -> pa.Table:
        """The features as rows."""
        return matrix_table(self.features, self.names)


def tumours(rows: int = 300) -> Numbers:
    """Features of cell nuclei, and whether the tumour was benign."""
    data = load_breast_cancer()
    return Numbers(data.data[:rows].astype(np.float32), data.target[:rows], snake(data.feature_names))


class Customers(NamedTuple):
    """Made-up customers."""

    table: pa.Table
    left: np.ndarray
    """Whether each has cancelled."""


def customers(rows: int = 400) -> Customers:
    """Customers of a telephone company, each of whom cancels or stays."""
    rng = generator()
    plan = rng.choice(["basic", "family", "premium"], rows, p=[0.5, 0.3, 0.2])
    city = rng.choice(["Basel", "Bern", "Genève", "Zürich"], rows)
    age = rng.integers(18, 90, rows).astype(np.float32)
    spend = np.round(rng.lognormal(3.5, 0.6, rows), 2).astype(np.float32)
    calls = rng.poisson(1.5, rows)
    roaming = rng.random(rows) < 0.3
    z = 0.8 * calls - 0.03 * age + (plan == "basic") * 1.2 - 0.01 * spend + roaming * 0.5
    left = (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(np.int64)
    table = table_of({"age": age, "city": city, "plan": plan, "spend": spend, "calls": calls, "roaming": roaming})
    return Customers(table, left)


def floats(table: pa.Table, *names: str) -> np.ndarray:
    """Columns side by side as float32."""
    return np.stack([table.column(name).to_numpy(zero_copy_only=False) for name in names], axis=1).astype(np.float32)
