"""scikit-learn's transformers of missing values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.importing.sklearn_columns import FLOAT32, FLOAT64, MIXED, Block, Value, common_type

if TYPE_CHECKING:
    from etl.importing.sklearn_draft import Leaf

__all__ = ["missing_indicator", "simple_imputer"]

_FLAG = np.dtype(bool)
_NONE = "None is missing here; to scikit-learn only NaN is, and None stays."
_NAN = "NaN is missing here; to scikit-learn only None is, and NaN stays."
_NEW_GAP = (
    "A row without a value where there was one throughout at fit, on which scikit-learn fails, is set aside here."
)


def simple_imputer(leaf: Leaf) -> Block:
    """`SimpleImputer`: a missing value becomes what was learned; columns that had no value at fit are left out."""
    imputer = leaf.estimator
    sentinel = _sentinel(leaf)
    if callable(imputer.strategy):
        leaf.refuse("strategy is a function; mean, median, most_frequent and constant have a counterpart.")
    dtype = leaf.float_type if imputer.strategy in {"mean", "median"} else common_type(leaf.block.values)
    dtype = MIXED if imputer._fit_dtype == MIXED else dtype  # noqa: SLF001  transform goes by it too
    gaps: list[Value] = []

    def filled(index: int, value: Value) -> list[Value]:
        gaps.append(_with_gaps(leaf, value._replace(dtype=dtype), sentinel))
        filler = imputer.statistics_[index]
        if not imputer.keep_empty_features and _is_nan(filler):
            return []
        return [_imputed(leaf, gaps[-1], filler)]

    values = leaf.each(filled)
    if imputer.add_indicator:
        values += [_flag(leaf, gaps[index]) for index in imputer.indicator_.features_]
        dtype = MIXED if dtype == MIXED else np.result_type(dtype, _FLAG)
    return Block.array(values, dtype)._replace(is_sparse=leaf.is_given_sparse)


def missing_indicator(leaf: Leaf) -> Block:
    """`MissingIndicator`: 1 where there is no value, for the columns in which one was missing at fit, or all."""
    indicator = leaf.estimator
    sentinel, told = _sentinel(leaf), set(indicator.features_)
    is_strict = indicator.features == "missing-only" and indicator.error_on_new
    dtype = common_type(leaf.block.values)

    def flagged(index: int, value: Value) -> list[Value]:
        gaps = _with_gaps(leaf, value._replace(dtype=dtype), sentinel)
        if index in told:
            return [_flag(leaf, gaps)]
        if is_strict:
            leaf.draft.need_value(gaps, leaf.pointer, _NEW_GAP)
        return []

    is_sparse = leaf.is_given_sparse if indicator.sparse == "auto" else bool(indicator.sparse)
    return Block.array(leaf.each(flagged), _FLAG)._replace(is_sparse=is_sparse)


def _sentinel(leaf: Leaf) -> float | None:
    """The number that stands for a missing value; None where that is NaN."""
    found = leaf.estimator.missing_values
    if found is None and all(value.is_text for value in leaf.block.values):
        return None
    if isinstance(found, float | np.floating) and math.isnan(found):
        return None
    if isinstance(found, bool) or not isinstance(found, int | float | np.number) or not math.isfinite(found):
        leaf.refuse(f"missing_values {found!r:.60} has no counterpart; NaN, numbers, and None of texts have.")
    return float(found)


def _with_gaps(leaf: Leaf, value: Value, sentinel: float | None) -> Value:
    """The column with missing values for those that scikit-learn takes for missing."""
    is_number = value.dtype != MIXED
    if value.is_text and sentinel is not None:
        leaf.refuse(f"missing_values is a number, and column {value.name!r:.80} is text.")
    if sentinel is None:
        if value.is_text:
            leaf.draft.note(_NONE if leaf.estimator.missing_values is not None else _NAN)
        return leaf.checked(value, allows_missing=True) if is_number else value
    value = leaf.checked(value, allows_missing=False)
    number = float(np.float32(sentinel)) if value.dtype == FLOAT32 else sentinel
    column = leaf.number(value)
    ours = leaf.draft.step("nullif", [column], f"{value.name}_known", params={"values": [number]})
    return value._replace(ours=ours, kind="float64" if value.part else value.kind, is_present=False, part=None)


def _imputed(leaf: Leaf, value: Value, filler: Any) -> Value:
    """The column with what was learned in place of missing values."""
    if isinstance(filler, np.generic):
        filler = filler.item()
    is_text = isinstance(filler, str)
    if is_text != value.is_text or not (is_text or isinstance(filler, int | float)):
        leaf.refuse(f"fills column {value.name!r:.80}, which is {value.kind}, with a {type(filler).__name__}.")
    if is_text:
        params = {"strategy": "constant", "value": filler}
        ours = leaf.draft.step("impute", [leaf.labels(value)], f"{value.name}_impute", params=params)
        return value._replace(ours=ours, is_present=True, unfilled=value.ours)
    if value.dtype != MIXED:
        # As transform does, which makes 2 of 2.5 where it was fitted to integers.
        fit_dtype = getattr(leaf.estimator, "_fill_dtype", leaf.estimator._fit_dtype)  # noqa: SLF001  as above
        filler = fit_dtype.type(filler).item()
    filler = leaf.finite(filler, value)
    found = leaf.made(value, "impute", params={"strategy": "constant", "value": filler})
    return found._replace(is_rounded=True, is_finite=value.is_finite, is_present=True)


def _flag(leaf: Leaf, value: Value) -> Value:
    """1 where the column has no value."""
    column = leaf.labels(value) if value.is_text else leaf.number(value)
    ours = leaf.draft.step("missing_flag", [column], f"{value.name}_missing")
    return Value(f"{value.name}_missing", ours, "float64", FLOAT64, is_finite=True, is_present=True)


def _is_nan(filler: Any) -> bool:
    return isinstance(filler, float | np.floating) and math.isnan(filler)
