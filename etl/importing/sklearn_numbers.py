"""scikit-learn's transformers of numbers, in the operations and the order in which it computes them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.importing.sklearn_columns import FLOAT32, FLOAT64, Block, Part, Value, common_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.sklearn_draft import Leaf

__all__ = [
    "binarizer",
    "k_bins_discretizer",
    "max_abs_scaler",
    "min_max_scaler",
    "normalizer",
    "robust_scaler",
    "standard_scaler",
]


_UNROLLED = 8
"""Numbers from which on numpy sums them in an order that goes by how the array lies in memory."""

_SUMMED = "A row is summed in another order than numpy's, and may differ in the last place."


def standard_scaler(leaf: Leaf) -> Block:
    """`StandardScaler`: (x - mean) / scale."""
    scaler, dtype = leaf.estimator, leaf.float_type

    def scaled(index: int, value: Value) -> list[Value]:
        mean = dtype.type(scaler.mean_[index]) if scaler.with_mean else None
        scale = scaler.scale_[index] if scaler.with_std else None
        if dtype == FLOAT64 and mean is not None and scale is not None:
            state = {"mean": leaf.finite(mean, value), "std": leaf.finite(scale, value)}
            return [leaf.made(value, "standardize", state=state)]
        if scale is not None and not leaf.is_given_sparse:
            scale = dtype.type(scale)
        return [_centred_and_scaled(value, leaf, centre=mean, scale=scale)]

    return _each_number(leaf, scaled)


def robust_scaler(leaf: Leaf) -> Block:
    """`RobustScaler`: (x - centre) / scale."""
    scaler = leaf.estimator

    def scaled(index: int, value: Value) -> list[Value]:
        centre = scaler.center_[index] if scaler.with_centering else None
        scale = scaler.scale_[index] if scaler.with_scaling else None
        return [_centred_and_scaled(value, leaf, centre=centre, scale=scale)]

    return _each_number(leaf, scaled)


def max_abs_scaler(leaf: Leaf) -> Block:
    """`MaxAbsScaler`: x / scale."""
    scaler = leaf.estimator

    def scaled(index: int, value: Value) -> list[Value]:
        scale = scaler.scale_[index]
        if leaf.is_given_sparse or value.dtype == FLOAT32:
            found = _centred_and_scaled(value, leaf, centre=None, scale=scale)
        else:
            found = leaf.made(value, "maxabs", state={"max_abs": leaf.finite(scale, value)})
        return [_clipped(found, leaf, (-1.0, 1.0))] if getattr(scaler, "clip", False) else [found]

    return _each_number(leaf, scaled)


def min_max_scaler(leaf: Leaf) -> Block:
    """`MinMaxScaler`: x * scale + min, which op minmax computes in another order."""
    scaler = leaf.estimator

    def scaled(index: int, value: Value) -> list[Value]:
        product = leaf.computed(value, "mul", scaler.scale_[index])
        found = leaf.computed(product, "add", scaler.min_[index])
        return [_clipped(found, leaf, scaler.feature_range)] if scaler.clip else [found]

    return _each_number(leaf, scaled)


def normalizer(leaf: Leaf) -> Block:
    """`Normalizer`: a row by its largest magnitude, or by the sum of magnitudes or the root of that of squares."""
    norm, dtype, draft = leaf.estimator.norm, leaf.float_type, leaf.draft
    if leaf.is_given_sparse:
        leaf.refuse("has no counterpart of a sparse array.")
    # numpy adds fewer than 8 numbers from the first to the last; squares by its own vector code.
    is_exact = norm == "max" or (norm == "l1" and len(leaf.block.values) < _UNROLLED)
    if not is_exact and dtype == FLOAT32:
        leaf.refuse(
            f"norm {norm} of so many columns of float32 is summed in an order of numpy's own; give them as float64."
        )
    values = leaf.each(lambda _, value: [leaf.checked(value._replace(dtype=dtype), allows_missing=False)])
    columns = [leaf.number(value) for value in values]
    divisor = _norm(leaf, columns, dtype)
    if not is_exact:
        draft.note(_SUMMED)
    is_zero = {"cmp": [divisor, "<", float(10 * np.finfo(dtype).eps)]}
    choice = {"condition": is_zero, "then": {"as_value": 1.0}, "else": {"column": divisor}}
    divisor = draft.step("if", [], "norm", params=choice)
    made = [
        draft.step("arith", [column, divisor], f"{column}_scaled", params={"operator": "div"}) for column in columns
    ]
    is_rounded = dtype != FLOAT32
    pairs = zip(values, made, strict=True)
    return Block.array([Value(value.name, ours, "float64", dtype, is_rounded) for value, ours in pairs], dtype)


def _norm(leaf: Leaf, columns: list[str], dtype: np.dtype[Any]) -> str:
    """Our column with the norm of each row."""
    norm, draft = leaf.estimator.norm, leaf.draft
    if norm == "l2":
        terms = [
            draft.step("arith", [column] * 2, f"{column}_squared", params={"operator": "mul"}) for column in columns
        ]
    else:
        terms = [draft.step("abs", [column], f"{column}_abs") for column in columns]
    first, *others = terms
    if others and (norm == "max" or dtype == FLOAT64):
        first = draft.step("arith", terms, norm, params={"operator": "max" if norm == "max" else "add"})
    elif others:
        for term in others:
            total = draft.step("arith", [first, term], norm, params={"operator": "add"})
            first = leaf.number(Value(norm, total, "float64", dtype, is_rounded=False))
    return draft.step("sqrt", [first], "root") if norm == "l2" else first


def binarizer(leaf: Leaf) -> Block:
    """`Binarizer`: 1 above the threshold, else 0."""
    threshold, dtype = leaf.estimator.threshold, common_type(leaf.block.values)
    if dtype.kind == "O":
        dtype = FLOAT64
    if dtype == FLOAT32 and not isinstance(threshold, np.float64):
        threshold = np.float32(threshold)

    def above(_: int, value: Value) -> list[Value]:
        value = leaf.checked(value, allows_missing=False)
        found = leaf.made(value, "binarize", params={"threshold": leaf.finite(threshold, value)})
        return [found._replace(is_rounded=True, is_finite=True, is_present=True)]

    return Block.array(leaf.each(above), dtype)._replace(is_sparse=leaf.is_given_sparse)


def k_bins_discretizer(leaf: Leaf) -> Block:
    """`KBinsDiscretizer`: how many inner edges are at or below x; as a number, or as a vector of 0 and 1."""
    binner, found_in = leaf.estimator, leaf.float_type
    dtype = np.dtype(binner.dtype) if binner.dtype is not None else found_in
    is_narrowed = dtype == FLOAT32 != found_in

    def binned(index: int, value: Value) -> list[Value]:
        value = value._replace(dtype=dtype, is_rounded=value.is_rounded and not is_narrowed)
        value = leaf.checked(value, allows_missing=False)
        splits = [leaf.finite(edge, value) for edge in binner.bin_edges_[index][1:-1]]
        if any(edge >= later for edge, later in itertools.pairwise(splits)):
            leaf.refuse(f"has two equal edges for column {value.name!r:.80}; op bucketize has no empty bins.")
        bins = _bins(value, leaf, splits)
        return [bins] if binner.encode == "ordinal" else _bins_as_vector(bins, leaf, len(splits) + 1)

    found = Block.array(leaf.each(binned), dtype)
    return found._replace(is_sparse=binner.encode == "onehot")


def _bins(value: Value, leaf: Leaf, splits: list[float]) -> Value:
    if splits:
        found = leaf.made(value, "bucketize", params={"method": "fixed", "splits": splits})
    else:
        leaf.number(value)
        zero = leaf.draft.step("constant", [], f"{value.name}_bin", params={"value": 0.0, "type": "float64"})
        found = Value(value.name, zero, "float64", value.dtype)
    return found._replace(is_rounded=True, is_finite=True, is_present=True)


def _bins_as_vector(bins: Value, leaf: Leaf, count: int) -> list[Value]:
    texts = leaf.labels(bins)
    state = {"vocab": [str(number) for number in range(count)], "counts": [0] * count}
    vector = leaf.draft.step("one_hot", [texts], f"{bins.name}_bins", state=state)
    parts = [Part(vector, number, count, {"cmp": [bins.ours, "==", float(number)]}) for number in range(count)]
    return [bins._replace(name=f"{bins.name}_{part.position}", ours=vector, kind="vector", part=part) for part in parts]


def _each_number(leaf: Leaf, make: Callable[[int, Value], list[Value]]) -> Block:
    """What is made of each column of numbers, which may be missing, in one float type."""
    dtype = leaf.float_type

    def checked(index: int, value: Value) -> list[Value]:
        return make(index, leaf.checked(value._replace(dtype=dtype), allows_missing=True))

    return Block.array(leaf.each(checked), dtype)._replace(is_sparse=leaf.is_given_sparse)


def _centred_and_scaled(value: Value, leaf: Leaf, *, centre: Any, scale: Any) -> Value:
    """(x - centre) / scale; of a sparse array scikit-learn takes x * (1 / scale)."""
    if centre is not None:
        value = leaf.computed(value, "sub", centre)
    if scale is not None and leaf.is_given_sparse:
        return leaf.computed(value, "mul", 1 / scale)
    return value if scale is None else leaf.computed(value, "div", scale)


def _clipped(value: Value, leaf: Leaf, bounds: tuple[float, float]) -> Value:
    low, high = (leaf.finite(value.dtype.type(bound), value) for bound in bounds)
    found = leaf.made(value, "clip", params={"lower": low, "upper": high})
    return found._replace(is_rounded=True, is_finite=True)
