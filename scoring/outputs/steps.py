"""Steps from a tensor's values to a column's: softmax, sigmoid, argmax, top_k, threshold, labels, element.

Each works along the last axis of the tensor, which is never that of the rows; sigmoid, threshold and labels work value
by value. A step says before any batch what it makes of values of a form, so that what does not fit is known then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from pydantic import Discriminator, Field, FiniteFloat, Tag

from etl.documents import Strict
from etl.errors import Misfit
from scoring.errors import TooFewValues

__all__ = [
    "AnyStep",
    "Form",
    "MappingStep",
    "ScalarType",
    "Values",
    "all_finite",
    "kind_of",
    "step_of",
]

ScalarType = Literal["float32", "float64", "int8", "int16", "int32", "int64", "bool", "string"]
"""What a published value may be: the types that Spark has, in Parquet and through Arrow."""

_KINDS: dict[str, str] = {type_: type_.rstrip("0123456789") for type_ in get_args(ScalarType)}


def kind_of(type_: ScalarType) -> str:
    """The kind of numbers a type is of, or the type: `float`, `int`, `bool` or `string`."""
    return _KINDS[type_]


class Form(NamedTuple):
    """What is known of values before any batch."""

    type: ScalarType
    """What they are published as where the column says nothing else; of pairs, that of the score."""
    shape: tuple[int | None, ...]
    """None where any size goes; the first axis is the rows."""
    keys: tuple[int | str, ...] | None
    """The model's own labels of the last axis of its tensor."""
    classes: int | None = None
    """How many indexes there may be, where the values are such."""
    is_choice: bool = False
    """Whether they tell a place on that last axis: what `argmax` and `top_k` make."""
    pair: ScalarType | None = None
    """Where each is a pair of an index, or its label, and a score: the type of the first."""
    is_labelled: bool = False
    """Whether indexes stand for labels."""

    @property
    def width(self) -> int | None:
        """Size of the last axis.

        Raises:
            Misfit: there is none but the rows.
        """
        if len(self.shape) < 2:  # noqa: PLR2004  rows and one more
            message = "takes an axis beside the rows, and there is none"
            raise Misfit(message)
        return self.shape[-1]

    def need(self, *kinds: str) -> None:
        """See that the values are plain numbers of some kinds.

        Raises:
            Misfit: they are not.
        """
        found = "pairs" if self.pair else "labels" if self.is_labelled else kind_of(self.type)
        if found not in kinds:
            message = f"takes {' or '.join(kinds)}, and is given {found}"
            raise Misfit(message)


class Values(NamedTuple):
    """What a batch has in place of a column, on the way from tensor to column."""

    data: np.ndarray
    """Numbers, indexes of labels, or texts; of pairs, the scores. The first axis is the rows."""
    places: np.ndarray | None = None
    """Of pairs, where on its axis each score stood; of the shape of `data`."""
    labels: pa.Array | None = None
    """What indexes stand for."""
    lost: np.ndarray | None = None
    """Where a NaN became an index or a truth, which cannot show it; of the shape of `data`."""
    unlabelled: np.ndarray | None = None
    """Where an index has no label, and is 0 instead; of the shape of `data`."""


_FEW = 1 << 14
"""Values of which a mask costs less than what it takes to do without one."""


def all_finite(data: np.ndarray) -> bool:
    """Whether no value is NaN or ±inf: one pass and no copy where the sum is finite, for then each value is."""
    if data.dtype.kind != "f":
        return True
    if data.size > _FEW:
        with np.errstate(over="ignore", invalid="ignore"):
            total = data.sum(dtype=np.float32 if data.dtype == np.float16 else None)
        if np.isfinite(total):
            return True
    return bool(np.isfinite(data).all())


class MappingStep(Strict, ABC):
    """One step of a column."""

    name: ClassVar[str]
    """What it is called in a document."""

    @abstractmethod
    def after(self, form: Form) -> Form:
        """The form of what the step makes of values of a form.

        Raises:
            Misfit: the step does not go with them.
        """

    @abstractmethod
    def apply(self, values: Values, form: Form) -> Values:
        """What the step makes of values; `form` is theirs.

        Raises:
            TooFewValues: an axis of unknown size has fewer values than the step takes.
        """


class Softmax(MappingStep):
    """exp(x − max) / Σ exp(x − max) over the last axis, in float64, rounded once to the column's type.

    −inf becomes 0 beside a finite number. A NaN, a +inf, or nothing but −inf makes all values of its row NaN.
    """

    name = "softmax"

    def after(self, form: Form) -> Form:
        """Floats of the same shape."""
        form.need("float")
        if form.width == 1:
            message = "is 1 for every row, for there is one value a row; sigmoid is for that"
            raise Misfit(message)
        return form

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """In place, on a float64 copy of which each row lies together: so no row depends on the others."""
        found = values.data.astype(np.float64, order="C")
        if found.size:
            with np.errstate(invalid="ignore"):
                found -= found.max(axis=-1, keepdims=True)
                np.exp(found, out=found)
                found /= found.sum(axis=-1, keepdims=True)
        return values._replace(data=found)


class Sigmoid(MappingStep):
    """1 / (1 + exp(−x)) of each value, in float64, rounded once to the column's type; NaN of NaN, 0 of −inf, 1 of inf."""  # noqa: E501  one line a summary

    name = "sigmoid"

    def after(self, form: Form) -> Form:
        """Floats of the same shape."""
        form.need("float")
        return form

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """By exp(−|x|), which cannot overflow and keeps what is near 0 exact."""
        given = values.data.astype(np.float64, order="C")
        small = np.exp(-np.abs(given))
        return values._replace(data=np.where(given >= 0, 1.0, small) / (1.0 + small))


class Argmax(MappingStep):
    """The place of the largest value of the last axis, the lowest of equal ones; as numpy, NaN is above all numbers."""

    name = "argmax"

    def after(self, form: Form) -> Form:
        """Indexes, without the last axis."""
        form.need("float", "int")
        if form.width == 1:
            message = "is 0 for every row, for there is one value a row; threshold is for that"
            raise Misfit(message)
        return form._replace(type="int64", shape=form.shape[:-1], classes=form.width, is_choice=True)

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """Tell where there was a NaN."""
        _need_width(values.data, 1, self.name)
        lost = None if values.lost is None else np.asarray(values.lost.any(axis=-1))
        if not all_finite(values.data):
            lost = np.asarray(np.isnan(values.data).any(axis=-1))
        return values._replace(data=values.data.argmax(axis=-1).astype(np.int64, copy=False), lost=lost)


class TopK(MappingStep):
    """The k largest values of the last axis as pairs `{index, score}`, largest first, the lower index of equal ones
    first; NaN ranks as +inf.
    """  # noqa: D205  one sentence

    name = "top_k"

    top_k: int = Field(ge=1, description="How many of the largest values, with their places.")

    def after(self, form: Form) -> Form:
        """Pairs, of which the last axis has k."""
        form.need("float", "int")
        if form.width is not None and form.width < self.top_k:
            message = f"asks for {self.top_k} values of {form.width}"
            raise Misfit(message)
        shape = (*form.shape[:-1], self.top_k)
        return form._replace(shape=shape, classes=form.width, is_choice=True, pair="int64")

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """By the k-th largest value: all above it, then as many of its equals as there is room for."""
        data, count = values.data, self.top_k
        _need_width(data, count, self.name)
        ranks = data if all_finite(data) else np.where(np.isnan(data), np.inf, data)
        place = data.shape[-1] - count
        least = np.partition(ranks, place, axis=-1)[..., place : place + 1]
        chosen = ranks >= least
        if np.count_nonzero(chosen) > count * (data.size // data.shape[-1]):
            above, equal = ranks > least, ranks == least
            room = count - above.sum(axis=-1, keepdims=True)
            chosen = above | (equal & (np.cumsum(equal, axis=-1) <= room))
        index = np.nonzero(chosen)[-1].reshape(*data.shape[:-1], count).astype(np.int64, copy=False)
        # Ascending and stable over the reversed row, then reversed: descending, and equal ones in their order.
        backwards = np.take_along_axis(ranks, index, axis=-1)[..., ::-1].argsort(axis=-1, kind="stable")[..., ::-1]
        index = np.take_along_axis(index, count - 1 - backwards, axis=-1)
        lost = None if values.lost is None else np.take_along_axis(values.lost, index, axis=-1)
        return values._replace(data=np.take_along_axis(data, index, axis=-1), places=index, lost=lost)


class Threshold(MappingStep):
    """Whether a value is at least the threshold, compared as float64; a NaN is not."""

    name = "threshold"

    threshold: FiniteFloat = Field(description="True from this value on.")

    def after(self, form: Form) -> Form:
        """Truths of the same shape."""
        form.need("float", "int")
        return form._replace(type="bool", classes=2, is_choice=False)

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """Tell where there was a NaN."""
        lost = values.lost if all_finite(values.data) else np.isnan(values.data)
        return values._replace(data=values.data >= np.float64(self.threshold), lost=lost)


class Labels(MappingStep):
    """The label of each index, or of false and true; an index without a label refuses its row."""

    name = "labels"

    labels: Literal["from_model"] | tuple[str, ...] = Field(
        description="In the order of the indexes, or of false and true; `from_model`: the model's own."
    )

    def after(self, form: Form) -> Form:
        """Labels in place of the indexes."""
        if form.pair is None:
            form.need("int", "bool")
        elif form.is_labelled:
            message = "comes twice"
            raise Misfit(message)
        classes = 2 if form.type == "bool" and form.pair is None else form.classes
        labels = self._labels(form)
        if classes is not None and len(labels) != classes:
            message = f"has {len(labels)} labels for {classes} indexes"
            raise Misfit(message)
        type_: ScalarType = "int64" if isinstance(labels[0], int) else "string"
        if form.pair:
            return form._replace(pair=type_, is_labelled=True)
        return form._replace(type=type_, is_labelled=True)

    def apply(self, values: Values, form: Form) -> Values:
        """Nothing is looked up yet: see that each index has a label."""
        labels = self._labels(form)
        index = values.data if values.places is None else values.places
        bad = None
        if index.dtype.kind != "b" and index.size and (index.min() < 0 or index.max() >= len(labels)):
            bad = (index < 0) | (index >= len(labels))
            index = np.where(bad, 0, index)
        found = values._replace(labels=pa.array(labels), unlabelled=bad)
        return found._replace(data=index) if values.places is None else found._replace(places=index)

    def _labels(self, form: Form) -> tuple[int, ...] | tuple[str, ...]:
        if self.labels != "from_model":
            if not self.labels:
                message = "has none"
                raise Misfit(message)
            return self.labels
        if not form.keys or not form.is_choice:
            needed = "the tensor has none" if form.is_choice else "they belong behind argmax or top_k"
            message = f"asks for the model's own labels, and {needed}"
            raise Misfit(message)
        numbers = tuple(key for key in form.keys if isinstance(key, int))
        return numbers if len(numbers) == len(form.keys) else tuple(str(key) for key in form.keys)


class Element(MappingStep):
    """One element of the last axis."""

    name = "element"

    element: int = Field(ge=0, description="Take this element of the last axis, from 0.")

    def after(self, form: Form) -> Form:
        """The same without the last axis."""
        if form.width is not None and form.width <= self.element:
            message = f"there is no element {self.element} among {form.width}"
            raise Misfit(message)
        return form._replace(shape=form.shape[:-1], keys=form.keys if form.is_choice else None)

    def apply(self, values: Values, form: Form) -> Values:  # noqa: ARG002  the same of all forms
        """A view."""
        _need_width(values.data, self.element + 1, self.name)
        arrays = {name: array for name, array in values._asdict().items() if isinstance(array, np.ndarray)}
        return values._replace(**{name: array[..., self.element] for name, array in arrays.items()})


def _need_width(data: np.ndarray, width: int, name: str) -> None:
    if data.shape[-1] < width:
        message = f"step {name} takes {width} or more values on the last axis, and there are {data.shape[-1]}"
        raise TooFewValues(message)


_WORDS: dict[str, MappingStep] = {step.name: step for step in (Softmax(), Sigmoid(), Argmax())}
_KEYS: dict[str, type[MappingStep]] = {kind.name: kind for kind in (TopK, Threshold, Labels, Element)}
_TAG = " "
"""Behind each key: pydantic puts the tag into the place of an error, where it must not be taken for a key."""
_A_WORD = "or the word softmax, sigmoid or argmax"
"""Stands last where pydantic lists the keys."""


def _tag(value: Any) -> str:
    """Which step a value is meant to be: a word, or a mapping by its one key; else what stands there, for the error."""
    if isinstance(value, dict):
        keys = " and ".join(value)
        return f"{keys}{_TAG}" if keys in _KEYS else keys
    return next((f"{key}{_TAG}" for key, kind in _KEYS.items() if isinstance(value, kind)), _A_WORD)


AnyStep = Annotated[
    Annotated[TopK, Tag(f"top_k{_TAG}")]
    | Annotated[Threshold, Tag(f"threshold{_TAG}")]
    | Annotated[Labels, Tag(f"labels{_TAG}")]
    | Annotated[Element, Tag(f"element{_TAG}")]
    | Annotated[Literal["softmax", "sigmoid", "argmax"], Tag(_A_WORD)],
    Discriminator(_tag),
]
"""A step as a document has it."""


def step_of(written: AnyStep) -> MappingStep:
    """The step that a document means."""
    return _WORDS[written] if isinstance(written, str) else written
