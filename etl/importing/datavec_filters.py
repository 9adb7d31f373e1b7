"""DataVec's filters. Each says which rows are removed; ours say which stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_conditions import NEVER, condition, invalid, negated, takes_no_missing
from etl.importing.datavec_schema import only
from etl.importing.refusals import collecting, give_up, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["FILTERS"]


def _by_condition(body: Node, draft: Writer) -> None:
    only(body, "condition")
    draft.filter(negated(condition(body.member("condition"), draft)))


def _invalid_values(body: Node, draft: Writer) -> None:
    only(body, "filterAnyInvalid", "columnsToFilterIfInvalid", "columnIdxs")
    places = dict.fromkeys(draft.names(), body.pointer)
    if not body.flag("filterAnyInvalid"):
        places = {node.as_text(): node.pointer for node in body.elements("columnsToFilterIfInvalid")}
        if not places:
            refuse(body.place("columnsToFilterIfInvalid"), "should not be empty.")
    columns = []
    for name, pointer in places.items():
        with collecting(draft.problems):
            columns.append(draft.peek(name, pointer))
    if len(columns) < len(places):
        give_up()
    parts = {column.name: found for column in columns if (found := invalid(column, draft)) != NEVER}
    if not parts:
        draft.note("No row is invalid by the schema.")
        return
    draft.filter(negated({"any": list(parts.values())} if len(parts) > 1 else parts.popitem()[1]))
    draft.has_values(*(column.name for column in columns if takes_no_missing(column.meta)))


def _number_of_columns(_body: Node, draft: Writer) -> None:
    draft.note("Every row of a table has the table's columns.")


FILTERS: dict[str, Callable[[Node, Writer], None]] = {
    "ConditionFilter": _by_condition,
    "FilterInvalidValues": _invalid_values,
    "InvalidNumColumns": _number_of_columns,
}
"""What writes the steps of each filter, by its class."""
