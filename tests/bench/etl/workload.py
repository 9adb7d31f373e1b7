"""What every contender is given: 14 raw columns, 10 numbers and 4 texts, which become 54 features."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.learning.fitting import fit
from etl.spec import Spec, read_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BINNED", "NUMBERS", "TEXTS", "categories", "fitted_spec", "rows"]

NUMBERS = tuple(f"n{number}" for number in range(10))
BINNED = NUMBERS[:2]
"""Numbers that also become one of five quantile bins."""
TEXTS = {"s0": 6, "s1": 8, "s2": 8, "s3": 10}
"""Text columns, and how many categories each has: 32 one-hot features. With 10 scaled numbers, 10 flags of missing
ones and 2 bins these are 54."""
_SEED = 20_261_125
_MISSING = 0.05


def categories(column: str) -> list[str]:
    """The categories of a text column."""
    return [f"{column} category {number}" for number in range(TEXTS[column])]


def rows(count: int, seed: int = _SEED) -> pa.Table:
    """Rows with holes; the same each time."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name in NUMBERS:
        columns[name] = pa.array(rng.standard_normal(count) * 10 + 3, mask=rng.random(count) < _MISSING)
    for name, size in TEXTS.items():
        codes = rng.integers(0, size, count)
        texts = pa.array(categories(name)).take(pa.array(codes))
        missing = pa.array(rng.random(count) < _MISSING)
        columns[name] = pa.compute.if_else(missing, pa.scalar(None, pa.string()), texts)
    return pa.table(columns)


def _steps() -> Sequence[dict[str, Any]]:
    for name in NUMBERS:
        yield {"id": f"{name}_na", "op": "missing_flag", "in": [name], "out": [f"{name}_na"]}
        yield {"id": f"{name}_i", "op": "impute", "in": [name], "out": [f"{name}_i"], "params": {"strategy": "mean"}}
        yield {"id": f"{name}_z", "op": "standardize", "in": [f"{name}_i"], "out": [f"{name}_z"]}
        params: dict[str, Any] = {"lower": -3.0, "upper": 3.0}
        yield {"id": f"{name}_c", "op": "clip", "in": [f"{name}_z"], "out": [f"{name}_c"], "params": params}
    for name in BINNED:
        params = {"method": "quantile", "k": 5, "closed": "left"}
        yield {"id": f"{name}_b", "op": "bucketize", "in": [f"{name}_i"], "out": [f"{name}_b"], "params": params}
    for name in TEXTS:
        yield {"id": f"{name}_h", "op": "one_hot", "in": [name], "out": [f"{name}_h"]}


def fitted_spec(table: pa.Table) -> Spec:
    """The spec, learned from rows."""
    made = [[f"{name}_c" for name in NUMBERS], [f"{name}_na" for name in NUMBERS]]
    made += [[f"{name}_b" for name in BINNED], [f"{name}_h" for name in TEXTS]]
    fields = [{"name": name, "type": "float64"} for name in NUMBERS]
    document = {
        "format": "scorespec/1",
        "spec_id": "bench",
        "input": {"fields": [*fields, *({"name": name, "type": "string"} for name in TEXTS)]},
        "steps": list(_steps()),
        "outputs": {"tensors": [{"tensor": "features", "from": [name for part in made for name in part]}]},
    }
    return fit(read_spec(json.dumps(document), "bench.json", fitted=False), table)
