"""scikit-learn's transformers that bring a column of numbers to another distribution."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.importing.sklearn_columns import FLOAT32, FLOAT64, Block, Value
from etl.importing.sklearn_numbers import standard_scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.importing.sklearn_draft import Leaf

__all__ = ["power_transformer", "quantile_transformer"]

_POWERS = {"box-cox": "box_cox", "yeo-johnson": "yeo_johnson"}
_LAST_PLACE = "It may differ in the last place where scikit-learn runs on another processor."
_POSITIVE = "A row with a number that is not above 0, on which scikit-learn fails, is set aside here."
_INTERPOLATED = "It is interpolated in other operations than numpy's, and may differ in the last place."
_NEXT_TO_ZERO = "Next to 0, where float32 has more places than float64 has of the share, it differs by less than 1e-14."

_MOST_QUANTILES = 10_000
_EDGE = 1e-7
"""So near to the least or largest quantile, a number is at it, where the result is normal."""
_LEAST = statistics.NormalDist().inv_cdf(_EDGE - float(np.spacing(1)))
"""What becomes of the least number."""


def power_transformer(leaf: Leaf) -> Block:
    """`PowerTransformer`: a power by Yeo and Johnson or by Box and Cox, then `StandardScaler` where it standardises."""
    transformer = leaf.estimator
    op = _POWERS[transformer.method]
    _need_float64(leaf)

    def raised(index: int, value: Value) -> list[Value]:
        value = leaf.checked(value._replace(dtype=FLOAT64), allows_missing=True)
        params: dict[str, Any] = {"lambda": leaf.finite(transformer.lambdas_[index], value)}
        if op == "box_cox":
            params["on_domain"] = "reject"
            leaf.draft.note(_POSITIVE)
        return [leaf.made(value, op, params=params)]

    made = Block.array(leaf.each(raised), FLOAT64)
    leaf.draft.note(_LAST_PLACE)
    if not transformer.standardize:
        return made
    return standard_scaler(leaf._replace(estimator=transformer._scaler, given=made))  # noqa: SLF001  it has no other name


def quantile_transformer(leaf: Leaf) -> Block:
    """`QuantileTransformer`: where a number lies among the quantiles, or the normal quantile of that."""
    transformer, dtype = leaf.estimator, leaf.float_type
    is_normal = transformer.output_distribution == "normal"
    if leaf.is_given_sparse:
        leaf.refuse("has no counterpart of a sparse array.")
    if is_normal:
        _need_float64(leaf)

    def mapped(index: int, value: Value) -> list[Value]:
        value = leaf.checked(value._replace(dtype=dtype), allows_missing=True)
        quantiles = [leaf.finite(found, value) for found in transformer.quantiles_[:, index]]
        count = len(quantiles)
        if not 1 < count <= _MOST_QUANTILES or not np.isfinite(quantiles[-1] - quantiles[0]):
            leaf.refuse(
                f"has {count} quantiles of column {value.name!r:.80}; 2 to {_MOST_QUANTILES} within 1.8e308 have "
                "a counterpart."
            )
        params = {"k": count, "to": transformer.output_distribution}
        found = leaf.made(value, "quantile_map", params=params, state={"quantiles": quantiles})
        if is_normal:
            found = found._replace(ours=_with_edges(leaf, value, found.ours, quantiles=quantiles))
        return [found._replace(is_finite=True)]

    leaf.draft.note(_INTERPOLATED)
    leaf.draft.note(_NEXT_TO_ZERO)
    return Block.array(leaf.each(mapped), dtype)


def _with_edges(leaf: Leaf, value: Value, normal: str, *, quantiles: list[float]) -> str:
    """The end of the normal distribution where a number is next to the least or the largest quantile, or beyond."""
    column = leaf.number(value)
    # The least last, since it is the one that counts where both are as near.
    for operator, sign, edge, end in (("add", ">", quantiles[-1], -_LEAST), ("sub", "<", quantiles[0], _LEAST)):
        moved = leaf.computed(value, operator, _EDGE).ours
        cases = [({"cmp": [moved, sign, edge]}, end)]
        if edge in {edge - _EDGE, edge + _EDGE}:
            # Too large to be moved, so that it is a quantile like others.
            cases.append(({"cmp": [column, "==", edge]}, _at(edge, np.array(quantiles))))
        for condition, number in cases:
            params = {"condition": condition, "then": {"as_value": number}, "else": {"column": normal}}
            normal = leaf.draft.step("if", [], f"{value.name}_normal", params=params)
    return normal


def _at(edge: float, quantiles: npt.NDArray[np.float64]) -> float:
    """What becomes of a quantile: the mean of the first and the last share that it has, as a normal quantile."""
    places = np.flatnonzero(quantiles == edge)
    share = (places[0] + places[-1]) / 2 / (len(quantiles) - 1)
    return (
        max(_LEAST, min(-_LEAST, statistics.NormalDist().inv_cdf(share)))
        if 0 < share < 1
        else math.copysign(_LEAST, share - 1 / 2)
    )


def _need_float64(leaf: Leaf) -> None:
    if leaf.float_type == FLOAT32:
        leaf.refuse("of columns of float32 it computes in float32, and not to the last place; give them as float64.")
