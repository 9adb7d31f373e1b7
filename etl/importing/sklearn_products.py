"""scikit-learn's `PolynomialFeatures`: products of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.sklearn_columns import FLOAT32, Block, Value

if TYPE_CHECKING:
    from etl.importing.sklearn_draft import Leaf

__all__ = ["polynomial_features"]

_MOST_TERMS = 2000
"""Each is a step."""


def polynomial_features(leaf: Leaf) -> Block:
    """`PolynomialFeatures`: the product of some columns is that of all but the first, times the first."""
    features, draft, dtype = leaf.estimator, leaf.draft, leaf.float_type
    if leaf.is_given_sparse:
        leaf.refuse("has no counterpart of a sparse array.")
    if features.n_output_features_ > _MOST_TERMS:
        leaf.refuse(f"makes {features.n_output_features_} columns, each by a step; {_MOST_TERMS} have a counterpart.")
    given = leaf.each(lambda _, value: [leaf.checked(value._replace(dtype=dtype), allows_missing=False)])
    known: dict[tuple[int, ...], Value] = {(index,): value for index, value in enumerate(given)}

    def product(term: tuple[int, ...]) -> Value:
        if term and term not in known:
            columns = [leaf.number(product(term[1:])), leaf.number(given[term[0]])]
            name = "_".join(given[index].name for index in term)
            ours = draft.step("arith", columns, name, params={"operator": "mul"})
            known[term] = Value(name, ours, "float64", dtype, is_rounded=dtype != FLOAT32)
        elif not term:
            ours = draft.step("constant", [], "one", params={"value": 1.0, "type": "float64"})
            return Value("one", ours, "float64", dtype, is_finite=True, is_present=True)
        return known[term]

    terms = [tuple(index for index, power in enumerate(powers) for _ in range(power)) for powers in features.powers_]
    return Block.array([product(term) for term in terms], dtype)
