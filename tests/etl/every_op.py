"""One step of every op, over one table with nasty values: what holds of all ops is tested on these."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from etl.spec import Spec, read_spec
from tests.etl.nasty import DATES, FLOATS, INF, INSTANTS, INT64S, TEXTS

FIELDS: list[dict[str, Any]] = [
    {"name": "f", "type": "float64"},
    {"name": "g", "type": "float64"},
    {"name": "i", "type": "int64", "range": {"min": -(2**53), "max": 2**53}, "on_invalid": "as_missing"},
    {"name": "b", "type": "bool"},
    {"name": "s", "type": "string"},
    {"name": "c", "type": "string"},
    {"name": "t", "type": "timestamp"},
    {"name": "d", "type": "date"},
    {"name": "w", "type": "list<string>"},
    {"name": "n", "type": "list<float64>"},
    {"name": "v", "type": "float32[3]"},
    {"name": "r", "type": "struct<city: string, zip: int64>"},
]
LABELS: list[dict[str, Any]] = [{"name": "y", "type": "float64"}]

STEPS: dict[str, tuple[list[str], int, dict[str, Any]]] = {
    "abs": (["v"], 1, {}),
    "arith": (["f", "g"], 1, {"operator": "add"}),
    "assemble": (["f", "v", "b"], 1, {}),
    "binarize": (["f"], 1, {"threshold": 0.5}),
    "box_cox": (["g"], 1, {"lambda": -0.5}),
    "bucketize": (["g"], 1, {"method": "quantile", "k": 5, "missing": -1}),
    "cast": (["i"], 1, {"to": "string"}),
    "clip": (["f"], 1, {"lower_quantile": 0.1, "upper": 3.0}),
    "coalesce": (["f", "g"], 1, {}),
    "concat": (["s", "c"], 1, {"separator": "-"}),
    "constant": ([], 1, {"value": 7, "type": "int64"}),
    "copy": (["s"], 1, {}),
    "cyclical": (["i"], 2, {"period": 24.0}),
    "date_part": (["t"], 1, {"part": "hour"}),
    "drop": (["d"], 0, {}),
    "exp": (["f"], 1, {}),
    "filter": ([], 0, {"keep": {"not": {"cmp": ["c", "==", "c3"]}}}),
    "frequency_encode": (["c"], 1, {}),
    "hash_bucket": (["s"], 1, {"buckets": 16}),
    "hash_id": (["s", "i"], 1, {}),
    "hashed_cross": (["s", "c"], 1, {"buckets": 32}),
    "if": ([], 1, {"condition": {"is_null": "s"}, "then": {"as_value": 1.5}, "else": {"column": "f"}}),
    "impute": (["f"], 1, {"strategy": "median"}),
    "length": (["s"], 1, {}),
    "list_pad": (["n"], 1, {"length": 4, "on_missing": "as_missing", "on_missing_element": "as_is"}),
    "list_slice": (["w"], 1, {"start": 1}),
    "list_stat": (["n"], 1, {"stat": "mean", "missing_elements": "skip"}),
    "log": (["f"], 1, {"on_domain": "as_missing"}),
    "log1p": (["f"], 1, {"on_domain": "as_missing"}),
    "lower": (["s"], 1, {}),
    "math": (["v"], 1, {"function": "tanh"}),
    "maxabs": (["g"], 1, {}),
    "minmax": (["g"], 1, {}),
    "missing_flag": (["s"], 1, {}),
    "multi_hot": (["w"], 1, {}),
    "neg": (["f"], 1, {}),
    "ngrams": (["w"], 1, {"n": 2}),
    "normalize_unicode": (["s"], 1, {"form": "NFKC"}),
    "nullif": (["c"], 1, {"values": ["c1"]}),
    "one_hot": (["c"], 1, {"unknown": "bucket"}),
    "ordinal_map": (["c"], 1, {"mapping": {"c1": 1.0, "c2": 2.0}}),
    "parse_number": (["s"], 1, {"on_error": "as_missing"}),
    "parse_timestamp": (["s"], 1, {"formats": ["yyyy-MM-dd"], "on_error": "as_missing"}),
    "poly": (["f"], 1, {"coefficients": [1.0, 2.0]}),
    "power": (["g"], 1, {"exponent": 3.0}),
    "quantile_map": (["g"], 1, {"k": 9}),
    "rare_to_other": (["c"], 1, {"min_count": 2}),
    "ratio": (["f", "g"], 1, {}),
    "regex_extract": (["s"], 1, {"pattern": "([a-z]+)", "group": 1}),
    "regex_replace": (["s"], 1, {"pattern": "[a-z]", "replacement": "_"}),
    "rename": (["b"], 1, {}),
    "replace": (["c"], 1, {"mapping": {"c1": "one"}}),
    "replace_values": (["c"], 1, {"values": [["c1", "one"]]}),
    "robust_scale": (["g"], 1, {}),
    "round": (["v"], 1, {"mode": "half_even", "digits": 2}),
    "sign": (["f"], 1, {}),
    "signed_log1p": (["f"], 1, {}),
    "sqrt": (["f"], 1, {"on_domain": "as_missing"}),
    "standardize": (["g"], 1, {}),
    "string_index": (["c"], 1, {"layout": {"oov_buckets": 3}}),
    "struct_get": (["r"], 1, {"field": "zip"}),
    "substring": (["s"], 1, {"start": 1, "length": 3}),
    "target_encode": (["c"], 1, {"target": "y", "leak": "acknowledged", "smoothing": 2.0}),
    "tfidf": (["w"], 1, {}),
    "time_add": (["t"], 1, {"amount": 3, "unit": "day"}),
    "time_since": (["t"], 1, {"unit": "day30", "start": "2000-01-01"}),
    "token_ids": (["w"], 3, {"max_len": 4, "mask": True}),
    "tokenize": (["s"], 1, {"split": "[^a-z]+", "drop_empty": True}),
    "trim": (["s"], 1, {}),
    "upper": (["s"], 1, {}),
    "weigh": (["v"], 1, {"weights": [0.5, -2.0, 1e30], "norm": "l2"}),
    "wordpiece": (["w"], 1, {"max_len": 6}),
    "yeo_johnson": (["f"], 1, {"lambda": 1.5}),
}
"""Inputs, number of outputs, and parameters of a step of each op. The last ones drop what the others read."""

WORDS = ("a", "b", "ab", "ba", "é", "漢", "")
PIECES = ("[UNK]", "a", "b", "##a", "##b", "漢")


def step_document(op: str) -> dict[str, Any]:
    """Return the JSON value of the step of an op."""
    inputs, outputs, params = STEPS[op]
    step: dict[str, Any] = {"id": f"s_{op}", "op": op}
    if inputs:
        step["in"] = inputs
    if outputs:
        step["out"] = [f"{op}_{number}" for number in range(outputs)]
    if params:
        step["params"] = params
    if op == "wordpiece":
        step["state"] = {"vocab": list(PIECES)}
    return step


def document(*ops: str) -> dict[str, Any]:
    """Return the JSON value of a spec with a step of each of these ops, or of every op."""
    last = ("rename", "drop", "filter")
    names = [*(op for op in ops or STEPS if op not in last), *(op for op in last if op in (ops or STEPS))]
    steps = [step_document(op) for op in names]
    read = json.dumps(steps)
    fields = [field for field in FIELDS if field["name"] == "g" or json.dumps(field["name"]) in read]
    return {
        "format": "scorespec/1",
        "spec_id": "every_op",
        "input": {"fields": fields, **({"labels": LABELS} if "target_encode" in names else {})},
        "steps": steps,
        "outputs": {"tensors": [{"tensor": "x", "from": ["g"]}]},
    }


def recipe(*ops: str) -> Spec:
    """Return the recipe of such a document."""
    return read_spec(json.dumps(document(*ops)), "every_op.json", fitted=False)


def rows(count: int = 400, seed: int = 0) -> pa.Table:
    """Return rows of nasty values; `g` and `y` are tame, since not every column can be learned from."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([values[place] for place in rng.integers(0, len(values), count)], kind)

    def lists(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
        made: list[list[Any] | None] = [
            [values[place] for place in rng.integers(0, len(values), rng.integers(0, 7))] for _ in range(count)
        ]
        for place in range(0, count, 17):
            made[place] = None
        return pa.array(made, pa.list_(kind))

    magnitudes = np.exp(rng.uniform(-690, 690, count)) * rng.choice([-1, 1], count)
    texts = [text for text in TEXTS if text is None or len(text) < 100]
    return pa.table(
        {
            "f": some([value for value in FLOATS if value is None or abs(value) != INF], pa.float64()),
            "g": pa.array(np.where(rng.random(count) < 0.9, magnitudes, 0.0), mask=rng.random(count) < 0.05),
            "i": some(INT64S, pa.int64()),
            "b": some([None, True, False], pa.bool_()),
            "s": some([*texts, "2024-02-29", "12.5", "abc def"], pa.string()),
            "c": some([None, "c1", "c2", "c2", "c3", "c4", ""], pa.string()),
            "t": some(INSTANTS, pa.timestamp("us", "UTC")),
            "d": some(DATES, pa.date32()),
            "w": lists(WORDS, pa.string()),
            "n": lists((0.5, -0.0, 1e300, None), pa.float64()),
            "v": pa.array([[1.0, 2.0, 3.0], None] * (count // 2) + [None] * (count % 2), pa.list_(pa.float32())),
            "r": some(
                [None, {"city": "Rome", "zip": None}, {"city": None, "zip": 7}],
                pa.struct([("city", pa.string()), ("zip", pa.int64())]),
            ),
            "y": pa.array(rng.standard_normal(count), mask=rng.random(count) < 0.1),
        }
    )
