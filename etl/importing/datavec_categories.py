"""DataVec's categories: as codes, as one-hot columns, and from integers. A category that is unknown sets the row aside,
where DataVec fails.
"""  # noqa: D205  the two sentences belong together

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_draft import Column, Part
from etl.importing.datavec_schema import Meta, only
from etl.importing.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS"]

_MOST = 1000
"""Categories; a one-hot vector of more is no sensible input of a model."""


def _categories(body: Node, draft: Writer) -> Column:
    """The categorical column that an action names."""
    column = draft.read(body.text("columnName"), body.place("columnName"), types=("Categorical",))
    if len(set(column.meta.states)) < len(column.meta.states) or not column.meta.states:
        refuse(
            body.place("columnName"), f"the categories of {column.name!r:.80} are none, or one of them stands twice."
        )
    return column


def _to_integer(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    column = _categories(body, draft)
    ours = draft.codes(column.ours, column.meta.states, column.name)
    meta = Meta("Integer", 0, len(column.meta.states) - 1)
    draft.replace(column.name, ours, kind="float64", meta=meta)


def _to_one_hot(body: Node, draft: Writer) -> None:
    only(body, "columnName", "stateNames", "statesMap")
    column = _categories(body, draft)
    _spread(body, draft, column, text=column.ours, categories=column.meta.states)


def _integer_to_one_hot(body: Node, draft: Writer) -> None:
    only(body, "columnName", "minValue", "maxValue", "stateNames", "statesMap")
    low, high = body.integer("minValue"), body.integer("maxValue")
    if low > high:
        refuse(body.place("maxValue"), "is less than minValue.")
    if high - low >= _MOST:
        refuse(body.place("maxValue"), f"makes {high - low + 1} columns; here a one-hot vector has up to {_MOST}.")
    column = draft.read(body.text("columnName"), body.place("columnName"), types=("Integer",))
    text = draft.cast(column.ours, "string", column.name)
    _spread(body, draft, column, text=text, categories=tuple(range(low, high + 1)))


def _spread(body: Node, draft: Writer, column: Column, *, text: str, categories: tuple[str | int, ...]) -> None:
    """One vector, whose positions are columns of the source. `text`: our column with what is encoded."""
    pointer = body.place("columnName")
    if len(categories) > _MOST:
        refuse(pointer, f"makes {len(categories)} columns; here a one-hot vector has up to {_MOST}.")
    vector = draft.one_hot(text, [str(category) for category in categories], column.name)
    names = [f"{column.name}[{category}]" for category in categories]
    index = draft.names().index(column.name)
    del draft.columns[index]
    for position, name in enumerate(names):
        if name in draft.names():
            refuse(pointer, f"column {name!r:.80} is there already; of two with one name DataVec finds either.")
        part = Part(vector, column.ours, categories, position)
        draft.columns.insert(index + position, Column(name, Meta("Integer", 0, 1), vector, "vector", part=part))


def _of_integer(body: Node, draft: Writer) -> None:
    only(body, "columnName", "map")
    entries = body.member("map").members()
    numbers: list[int] = []
    for key, node in entries.items():
        if not key.lstrip("-").isdecimal() or not key.isascii() or str(int(key)) != key or abs(int(key)) > 2**31:
            refuse(node.pointer, "the key should be a whole number of 32 bits.")
        numbers.append(int(key))
    texts = [node.as_text() for node in entries.values()]
    if not texts:
        refuse(body.place("map"), "should not be empty.")
    if len(texts) > _MOST:
        refuse(body.place("map"), f"has {len(texts)} entries; up to {_MOST} are imported.")
    column = draft.read(body.text("columnName"), body.place("columnName"), types=("Integer",))
    ours = draft.texts_of(column.ours, dict(zip(map(str, numbers), texts, strict=True)), column.name)
    draft.replace(column.name, ours, kind="string", meta=Meta("Categorical", states=tuple(texts)))


def _of_string(body: Node, draft: Writer) -> None:
    only(body, "columnName", "stateNames")
    states = tuple(body.texts("stateNames"))
    if not states:
        refuse(body.place("stateNames"), "should not be empty.")
    name = body.text("columnName")
    column = draft.find(name, body.place("columnName"))
    if column.meta.type not in {"String", "Categorical"}:
        refuse(body.place("columnName"), f"takes text, {name!r:.80} is {column.meta.type}.")
    draft.columns[draft.names().index(name)] = column._replace(meta=Meta("Categorical", states=states))
    draft.note("Text that is none of the categories stays as it is, until an action reads the category.")


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "CategoricalToIntegerTransform": _to_integer,
    "CategoricalToOneHotTransform": _to_one_hot,
    "IntegerToCategoricalTransform": _of_integer,
    "IntegerToOneHotTransform": _integer_to_one_hot,
    "StringToCategoricalTransform": _of_string,
}
"""What writes the steps of each transform, by its class."""
