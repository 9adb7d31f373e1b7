"""scikit-learn's encoders of categories: texts, or numbers that stand for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from etl.importing.sklearn_columns import FLOAT64, Block, Part, Value
from etl.importing.sklearn_draft import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.importing.sklearn_draft import Leaf

__all__ = ["one_hot_encoder", "ordinal_encoder", "target_encoder"]

_LEFT = "A missing value is None here, which SimpleImputer leaves and the encoder knows, and not the NaN that it fills."
_FAILS = "A row with an unknown category, on which scikit-learn fails, is set aside here."


class Categories(NamedTuple):
    """What an encoder learned of one column."""

    texts: tuple[str, ...]
    """Of all categories, as `labels` has them; that of a missing one is empty, and means nothing."""
    group: tuple[int, ...]
    """The position that each has among those that are told apart; infrequent ones have one position, and a missing
    value that is no category has -1."""
    missing: int | None
    """Which of them stands for a missing value."""
    infrequent: int | None
    """The position that infrequent ones share, where there are any."""

    @property
    def width(self) -> int:
        """How many are told apart."""
        return len(set(self.group))

    @property
    def known(self) -> dict[str, int]:
        """Position by text, of those that are no missing value."""
        pairs = zip(self.texts, self.group, strict=True)
        return {text: group for index, (text, group) in enumerate(pairs) if index != self.missing}


def one_hot_encoder(leaf: Leaf) -> Block:
    """`OneHotEncoder`: 1 at the position of the category."""
    encoder = leaf.estimator
    handled = encoder.handle_unknown

    def encoded(index: int, value: Value) -> list[Value]:
        value = _unfilled(leaf, value, index)
        labels = _labels(leaf, value)
        categories = _categories(leaf, value, index)
        dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[index]
        kept = [group for group in range(categories.width) if dropped is None or group != categories.group[dropped]]
        unknown: _Unknown = "reject"
        if handled != "error":
            shared = None if handled == "ignore" else categories.infrequent
            unknown = "none" if shared is None else shared
        hot = _OneHot(leaf, value, labels, categories, tuple(kept), unknown)
        if not kept:
            return hot.nothing()
        return hot.direct() if hot.is_direct else hot.by_codes()

    dtype = np.dtype(encoder.dtype)
    return Block.array(leaf.each(encoded), dtype)._replace(is_sparse=bool(encoder.sparse_output))


def ordinal_encoder(leaf: Leaf) -> Block:
    """`OrdinalEncoder`: the position of the category."""
    encoder, dtype = leaf.estimator, np.dtype(leaf.estimator.dtype)
    if dtype.name not in {"float64", "float32", "int64", "int32"}:
        leaf.refuse(f"dtype {dtype} may not hold every code; float64, float32, int64 and int32 have a counterpart.")

    def encoded(index: int, value: Value) -> list[Value]:
        value = _unfilled(leaf, value, index)
        labels = _labels(leaf, value)
        categories = _categories(leaf, value, index)
        unknown: Any = "reject" if encoder.handle_unknown == "error" else _instead(encoder.unknown_value)
        missing = unknown
        if categories.missing is not None:
            is_nan = categories.group[categories.missing] < 0
            missing = _instead(encoder.encoded_missing_value if is_nan else categories.group[categories.missing])
        ours = _mapped(leaf, labels, categories.known, name=value.name, instead=(unknown, missing))
        is_present = "as_missing" not in (unknown, missing)
        return [Value(value.name, ours, "float64", dtype, is_finite=True, is_present=is_present)]

    return Block.array(leaf.each(encoded), dtype)


def target_encoder(leaf: Leaf) -> Block:
    """`TargetEncoder`: the mean of the target by category, for each class of the target where there are several."""
    encoder = leaf.estimator
    means = np.atleast_1d(encoder.target_mean_)

    def encoded(index: int, value: Value) -> list[Value]:
        value = _unfilled(leaf, value, index)
        labels = _labels(leaf, value)
        categories = _categories(leaf, value, index)
        made = []
        for place, mean in enumerate(means):
            found = encoder.encodings_[index * len(means) + place]
            numbers = dict(enumerate(leaf.finite(number, value) for number in found))
            unknown = _instead(leaf.finite(mean, value))
            missing = unknown if categories.missing is None else _instead(numbers.pop(categories.missing))
            known = {categories.texts[at]: number for at, number in numbers.items()}
            made.append(_mapped(leaf, labels, known, name=value.name, instead=(unknown, missing)))
        return [Value(value.name, ours, "float64", FLOAT64, is_finite=True, is_present=True) for ours in made]

    return Block.array(leaf.each(encoded), FLOAT64)


_Unknown = int | Literal["none", "reject"]
"""What an unknown category is: one at a position, none at all, or a fault."""


class _OneHot(NamedTuple):
    """How one column becomes a vector."""

    leaf: Leaf
    value: Value
    labels: str
    """Our column with the texts of categories."""
    categories: Categories
    kept: tuple[int, ...]
    """Positions that are elements of the vector, in its order."""
    unknown: _Unknown

    @property
    def missing(self) -> _Unknown:
        """What a missing value is."""
        if self.value.is_present:
            return "none"
        index = self.categories.missing
        return self.unknown if index is None else self.categories.group[index]

    @property
    def is_direct(self) -> bool:
        """Whether op one_hot does it alone: no element is left out, and the last one alone may stand for more than one
        category, either for unknown and infrequent ones or for a missing one.
        """  # noqa: D205  one sentence
        width, infrequent = self.categories.width, self.categories.infrequent
        is_whole = self.kept == tuple(range(width)) and self.categories.missing in {None, width - 1}
        if not is_whole or not self.vocab:
            return False
        if infrequent is None:
            return self.categories.missing is None or not self.value.is_present
        return self.unknown == infrequent and self.missing == "none" and self.categories.missing is None

    @property
    def vocab(self) -> list[str]:
        """Categories that are not infrequent."""
        return [text for text, group in self.categories.known.items() if group != self.categories.infrequent]

    def nothing(self) -> list[Value]:
        """A vector of no elements; rows are set aside all the same."""
        if "reject" in (self.unknown, self.missing):
            self.codes()
        return []

    def direct(self) -> list[Value]:
        """Categories by their texts."""
        vocab = self.vocab
        params = {
            "unknown": {"none": "zeros", "reject": "reject"}.get(str(self.unknown), "bucket"),
            "missing": {"none": "zeros", "reject": "reject"}.get(str(self.missing), "bucket"),
        }
        params = {key: value for key, value in params.items() if value != "zeros"}
        conditions: list[dict[str, Any]] = [{"cmp": [self.labels, "==", text]} for text in vocab]
        if self.categories.infrequent is not None:
            conditions.append({"not": {"in": [self.labels, vocab]}})
        elif self.categories.missing is not None:
            conditions.append({"is_null": self.labels})
        return self._vector(self.labels, vocab, conditions, params=params)

    def by_codes(self) -> list[Value]:
        """Categories by their positions, which tell apart what texts do not."""
        codes = self.codes()
        texts = self.leaf.draft.step("cast", [codes], f"{self.value.name}_code_text", params={"to": "string"})
        conditions = [{"cmp": [codes, "==", float(group)]} for group in self.kept]
        return self._vector(texts, [str(group) for group in self.kept], conditions, params={})

    def codes(self) -> str:
        """Our column with the position of each category, missing where it has none."""
        unknown, missing = (
            {"none": "as_missing", "reject": "reject"}.get(str(found), {"as_value": found})
            for found in (self.unknown, self.missing)
        )
        known = self.categories.known
        return _mapped(self.leaf, self.labels, known, name=self.value.name, instead=(unknown, missing))

    def _vector(
        self, texts: str, vocab: list[str], conditions: list[dict[str, Any]], *, params: dict[str, Any]
    ) -> list[Value]:
        if "reject" in params.values():
            self.leaf.draft.note(_FAILS)
        keys = {"params": params} if params else {}
        state = {"vocab": vocab, "counts": [0] * len(vocab)}
        vector = self.leaf.draft.step("one_hot", [texts], f"{self.value.name}_one_hot", state=state, **keys)
        parts = [Part(vector, at, len(conditions), condition) for at, condition in enumerate(conditions)]
        dtype = np.dtype(self.leaf.estimator.dtype)
        return [Value(f"{self.value.name}_{part.position}", vector, "vector", dtype, part=part) for part in parts]


def _mapped(leaf: Leaf, labels: str, known: Mapping[str, float], *, name: str, instead: tuple[Any, Any]) -> str:
    """Our column with the number of each text; `instead` is what unknown and missing ones get."""
    if not known:
        leaf.refuse(f"was fitted to no value of column {name!r:.80}, so that there is no category.")
    if "reject" in instead:
        leaf.draft.note(_FAILS)
    params = {"mapping": dict(known), "unknown": instead[0], "missing": instead[1]}
    params = {key: value for key, value in params.items() if value != "as_missing"}
    return leaf.draft.step("ordinal_map", [labels], f"{name}_code", params=params)


def _instead(number: float | None) -> Any:
    """What a value gets that is no category, as op ordinal_map has it."""
    return "as_missing" if number is None or math.isnan(number) else {"as_value": float(number)}


def _unfilled(leaf: Leaf, value: Value, index: int) -> Value:
    """The column as it is before NaN was filled, where the encoder has a category None, which that left."""
    if not value.unfilled or not any(category is None for category in leaf.estimator.categories_[index]):
        return value
    leaf.draft.note(_LEFT)
    return value._replace(ours=value.unfilled, unfilled="", is_present=False)


def _labels(leaf: Leaf, value: Value) -> str:
    """Our column with a text for each value, rows with ±inf set aside."""
    return leaf.labels(leaf.checked(value, allows_missing=True) if value.dtype.kind == "f" else value)


def _categories(leaf: Leaf, value: Value, index: int) -> Categories:
    """What the encoder learned of a column."""
    found = list(leaf.estimator.categories_[index])
    gaps = [at for at, category in enumerate(found) if category is None or _is_nan(category)]
    if len(gaps) > 1:
        leaf.refuse(f"tells None and NaN of column {value.name!r:.80} apart, which are one missing value here.")
    for at, category in enumerate(found):
        is_text, is_number = isinstance(category, str), isinstance(category, int | float | np.number | np.bool_)
        if at not in gaps and (is_text != value.is_text or not (is_text or is_number)):
            kind = type(category).__name__
            leaf.refuse(f"has a category of type {kind} in column {value.name!r:.80}, which is {value.kind}.")
    texts = tuple("" if at in gaps else _text(category) for at, category in enumerate(found))
    rare = _rare(leaf, index, found)
    # To an OrdinalEncoder NaN is no category, and None is one.
    apart = {at for at in gaps if _is_nan(found[at]) and not hasattr(leaf.estimator, "drop_idx_")}
    position = {at: group for group, at in enumerate(at for at in range(len(found)) if at not in rare | apart)}
    group = tuple(-1 if at in apart else position.get(at, len(position)) for at in range(len(found)))
    return Categories(texts, group, gaps[0] if gaps else None, len(position) if rare else None)


def _rare(leaf: Leaf, index: int, found: list[Any]) -> set[int]:
    """Which categories are infrequent."""
    all_rare = getattr(leaf.estimator, "infrequent_categories_", None)
    if all_rare is None or all_rare[index] is None:
        return set()
    rare = list(all_rare[index])
    return {
        at
        for at, category in enumerate(found)
        if any(category == other or (_is_nan(category) and _is_nan(other)) for other in rare)
    }


def _is_nan(category: Any) -> bool:
    return isinstance(category, float | np.floating) and math.isnan(category)


def _text(category: Any) -> str:
    return str(category) if isinstance(category, str) else text_of(category)
