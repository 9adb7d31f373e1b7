"""Where the columns of a spec come from: which columns of the input and of its reference tables each one depends on.

What is said may be more than a certain row needs: a step that reads several columns is taken to use all of them for
each column that it makes, unless its op says which. Which of several rows comes first where their order leaves them
equal is not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from etl.ops.aggregate import GroupAggregate
from etl.ops.choosing import AsColumn, If
from etl.ops.columns import Copy, Rename
from etl.ops.dedupe import Dedupe
from etl.ops.filtering import Filter
from etl.ops.lookup import LookupJoin
from etl.ops.tables import TableStep
from etl.ops.windows import WindowRolling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.ops.base import Step
    from etl.spec import Spec

__all__ = ["Bearing", "Origin", "SpecOrigins", "borne", "origins_of"]

Bearing = Literal["identity", "transformation", "aggregation", "conditional", "join", "group_by", "window", "filter"]
"""How a column bears on another one. The first three say that its values go into it, `aggregation` those of several
rows; the others that it decides which values do: as a condition, a key of a join or of groups, an order or window of
rows, or whether the row is there at all."""

_DIRECT: tuple[Bearing, ...] = ("identity", "transformation", "aggregation")
"""Each is stronger than those before it: a mean of a log is an aggregation."""


class Origin(NamedTuple):
    """A column that another one depends on."""

    table: str
    """Name of the reference table; empty of the input."""
    column: str
    how: Bearing


class SpecOrigins(NamedTuple):
    """Where everything that a spec makes comes from."""

    columns: dict[str, tuple[Origin, ...]]
    """Of each column, the input's own too, in the order in which they are met."""
    rows: tuple[Origin, ...]
    """What decides which rows there are: conditions of filters, keys and order of dedupes. What the contract, or a
    step, sets aside is not among them."""

    def of(self, names: Iterable[str]) -> tuple[Origin, ...]:
        """Where columns come from, each origin once."""
        return _once(origin for name in names for origin in self.columns[name])


def origins_of(spec: Spec) -> SpecOrigins:
    """Follow the columns of a spec through its steps."""
    columns: dict[str, tuple[Origin, ...]] = {}
    for field in spec.input.fields:
        columns[field.name] = (Origin("", field.name, "identity"),)
        columns |= {flag: (Origin("", field.name, "conditional"),) for flag in field.flags}
    rows: list[Origin] = []
    for step in (*spec.relational, *spec.steps):
        if isinstance(step, Filter | Dedupe):
            rows += [one for name in step.reads for one in borne(columns[name], "filter")]
            continue
        columns |= {name: _once(_made(step, place, columns)) for place, name in enumerate(step.outputs)}
    return SpecOrigins(columns, _once(rows))


def borne(origins: Iterable[Origin], how: Bearing) -> list[Origin]:
    """The origins of a column, for another one on which it bears so. What only decides before, only decides after."""
    return [origin._replace(how=_after(origin.how, how)) for origin in origins]


def _after(before: Bearing, how: Bearing) -> Bearing:
    if before not in _DIRECT:
        return before
    return max(before, how, key=_DIRECT.index) if how in _DIRECT else how


def _made(step: Step, place: int, columns: dict[str, tuple[Origin, ...]]) -> list[Origin]:
    """The origins of one output of a step."""
    found = []
    if isinstance(step, LookupJoin):
        found.append(Origin(step.params.reference, step.params.columns[place].name, "identity"))
    for name, how in _bearings(step, place):
        found += borne(columns[name], how)
    return found


def _bearings(step: Step, place: int) -> list[tuple[str, Bearing]]:
    """The columns that an output of a step is made with, and how."""
    if isinstance(step, LookupJoin):
        return [(name, "join") for name in step.inputs]
    if isinstance(step, Copy | Rename):
        return [(step.inputs[place], "identity")]
    if isinstance(step, TableStep):
        sums: Bearing = "aggregation" if isinstance(step, GroupAggregate | WindowRolling) else "transformation"
        keys: Bearing = "group_by" if isinstance(step, GroupAggregate) else "window"
        order: list[tuple[str, Bearing]] = [(name, "window") for name in step.params.order if name not in step.keys]
        return [(step.inputs[place], sums), *((name, keys) for name in step.keys), *order]
    if isinstance(step, If):
        found: list[tuple[str, Bearing]] = [(name, "conditional") for name in step.params.condition.columns]
        chosen = (one.column for one in (step.params.then, step.params.otherwise) if isinstance(one, AsColumn))
        return [*((name, "transformation") for name in chosen), *found]
    return [(name, "transformation") for name in step.reads]


def _once(origins: Iterable[Origin]) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys(origins))
