"""DataVec's actions on columns as such. But for a constant they need no step: only names and their order change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_draft import Column
from etl.importing.datavec_replacements import writable
from etl.importing.datavec_schema import KINDS, Meta, only
from etl.importing.refusals import collecting, give_up, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS"]


def _found(body: Node, key: str, draft: Writer) -> list[str]:
    """The columns that a list names; all are there, and none twice."""
    nodes = body.elements(key)
    names = [node.value for node in nodes]
    for index, node in enumerate(nodes):
        with collecting(draft.problems):
            draft.find(node.as_text(), node.pointer)
            if names[index] in names[:index]:
                refuse(node.pointer, f"column {names[index]!r:.80} is named twice.")
            continue
        names[index] = None
    if None in names:
        give_up()
    return names


def _remove(body: Node, draft: Writer) -> None:
    only(body, "columnsToRemove", "leftOverColumns", "columnsToRemoveIdx", "indicesToRemove")
    names = _found(body, "columnsToRemove", draft)
    if len(names) == len(draft.columns):
        refuse(body.place("columnsToRemove"), "removes every column.")
    draft.columns = [column for column in draft.columns if column.name not in names]


def _keep(body: Node, draft: Writer) -> None:
    only(body, "columnsToKeep", "columnsToKeepIdx", "indicesToKeep")
    names = _found(body, "columnsToKeep", draft)
    if not names:
        refuse(body.place("columnsToKeep"), "removes every column.")
    draft.columns = [column for column in draft.columns if column.name in names]


def _rename(body: Node, draft: Writer) -> None:
    only(body, "oldNames", "newNames")
    old, new = _found(body, "oldNames", draft), body.texts("newNames")
    if len(old) != len(new):
        refuse(body.place("newNames"), f"has {len(new)} names for {len(old)} columns.")
    names = dict(zip(old, new, strict=True))
    columns = [column._replace(name=names.get(column.name, column.name)) for column in draft.columns]
    found = [column.name for column in columns]
    for index, name in enumerate(found):
        if name in found[:index]:
            refuse(body.place("newNames"), f"makes two columns {name!r:.80}, of which DataVec finds either.")
    draft.columns = columns


def _reorder(body: Node, draft: Writer) -> None:
    only(body, "newOrder", "outputOrder")
    names = _found(body, "newOrder", draft)
    first = [next(column for column in draft.columns if column.name == name) for name in names]
    draft.columns = first + [column for column in draft.columns if column.name not in names]


def _duplicate(body: Node, draft: Writer) -> None:
    only(body, "columnsToDuplicate", "newColumnNames", "columnsToDuplicateSet", "columnIndexesToDuplicateSet")
    names, new = _found(body, "columnsToDuplicate", draft), body.texts("newColumnNames")
    if len(names) != len(new):
        refuse(body.place("newColumnNames"), f"has {len(new)} names for {len(names)} columns.")
    # DataVec hands out the new names in the order of the schema, whatever the order of the list is.
    there = [column for column in draft.columns if column.name in names]
    if [column.name for column in there] != names:
        draft.note("DataVec gives the new names in the order of the schema, not of the list; so does the spec.")
    for column, name in zip(there, new, strict=True):
        draft.add(column._replace(name=name), body.place("newColumnNames"), after=column.name)


def _add_constant(body: Node, draft: Writer) -> None:
    only(body, "newColumnName", "newColumnType", "fixedValue")
    name, kind = body.text("newColumnName"), body.text("newColumnType")
    if kind not in KINDS or kind in {"Categorical", "Boolean"}:
        refuse(body.place("newColumnType"), f"a constant of type {kind:.60} has no counterpart.")
    value = writable(body.member("fixedValue"), kind)
    ours = draft.constant(value, KINDS[kind], name)
    draft.add(Column(name, Meta(kind), ours, KINDS[kind]), body.place("newColumnName"))


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "AddConstantColumnTransform": _add_constant,
    "DuplicateColumnsTransform": _duplicate,
    "RemoveAllColumnsExceptForTransform": _keep,
    "RemoveColumnsTransform": _remove,
    "RenameColumnsTransform": _rename,
    "ReorderColumnsTransform": _reorder,
}
"""What writes the steps of each transform, by its class."""
