"""The spec that an import from DataVec writes, and the columns of the process as they stand.

A foreign process changes columns in place; ours are written once. So the draft knows, for each column of the source as
it stands, which of our columns has its values, and gives each new one a name of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from etl.format.problems import nearest
from etl.importing.datavec_schema import KINDS, UNKNOWN, Meta
from etl.importing.draft import Draft
from etl.importing.refusals import give_up, refuse

__all__ = ["Column", "DatavecDraft", "Part"]


class Part(NamedTuple):
    """A column that is one position of a one-hot vector, as long as nothing reads it alone."""

    vector: str
    """Our column with the vector."""
    source: str
    """Our column with the category."""
    categories: tuple[str | int, ...]
    """All categories, in the vector's order."""
    position: int
    """Which of them."""


class Column(NamedTuple):
    """One column of the source's schema, as it stands behind the actions so far."""

    name: str
    """Its name in the source."""
    meta: Meta
    """Its type there, and what is valid in it."""
    ours: str
    """Our column with its values."""
    kind: str
    """Kind of our column; whole numbers may be in one of float64."""
    may_be_null: bool = False
    """Whether a row may have no value, on which the source fails when it reads it."""
    part: Part | None = None
    """Where it is a position of a vector."""


class DatavecDraft(Draft):
    """What has been written so far, and the source's columns."""

    set_aside = "Such a row is set aside here, unless a later filter leaves it out."

    def __init__(self) -> None:
        """Start with no column."""
        super().__init__()
        self.columns: list[Column] = []
        """Of the source's schema behind the actions so far, in their order."""
        self.fields: list[Column] = []
        """Of its initial schema."""
        self._examined: set[str] = set()
        """Input fields whose missing values an action has looked at, so that the contract must let them pass."""
        self._guarded: set[str] = set()

    def field(self, name: str, meta: Meta) -> None:
        """Add a column of the initial schema."""
        self._names.add(name)
        self.fields.append(Column(name, meta, name, KINDS[meta.type], may_be_null=True))
        self.columns.append(self.fields[-1])

    @property
    def _field_names(self) -> set[str]:
        return {field.name for field in self.fields}

    # ------------------------------------------------------------------------------------------ columns of the source

    def names(self) -> list[str]:
        """Names of the source's columns, in their order."""
        return [column.name for column in self.columns]

    def find(self, name: str, pointer: str) -> Column:
        """A column of the source by name."""
        found = next((column for column in self.columns if column.name == name), None)
        if found is None and not any(column.meta.type == UNKNOWN for column in self.columns):
            refuse(pointer, f"column {name!r:.80} is not there at this action.{nearest(name, self.names())}")
        if found is None or found.meta.type == UNKNOWN:
            give_up()
        return found

    def read(self, name: str, pointer: str, *, types: tuple[str, ...] = ()) -> Column:
        """A column whose values are computed with: the source fails where one is missing, so here the row is set aside.

        `types`: those of the source that the action takes; any where none is given.
        """
        column = self._own(self.find(name, pointer))
        if types and column.meta.type not in types:
            refuse(pointer, f"takes a column of type {' or '.join(types)}, {name!r:.80} is {column.meta.type}.")
        self.need_values(column)
        return column

    def peek(self, name: str, pointer: str) -> Column:
        """A column whose missing values the action treats."""
        column = self._own(self.find(name, pointer))
        if column.ours in self._field_names:
            self._examined.add(column.ours)
            self.used.add(column.ours)
        return column

    def take(self, name: str, pointer: str) -> Column:
        """A column whose values are handed on as they are, missing ones too."""
        column = self._own(self.find(name, pointer))
        self.used.update({column.ours} & self._field_names)
        return column

    def last(self, column: Column) -> str:
        """Our column with the numbers of a column that goes into a tensor, which rounds them."""
        self.used.update({column.ours} & self._field_names)
        return column.ours if column.part is None else self._own(column).ours

    def need_values(self, column: Column, why: str = "DataVec fails there.") -> None:
        """Set rows aside where the column has no value."""
        if column.ours in self._field_names:
            self.used.add(column.ours)
        if not column.may_be_null or column.ours in self._guarded:
            return
        is_filtered = any(step["op"] == "filter" for step in self.steps)
        if column.ours in self._field_names and column.ours not in self._examined and not is_filtered:
            self.required.add(column.ours)
        elif column.ours not in self.required:
            self._guarded.add(column.ours)
            self.guard({"not": {"is_null": column.ours}}, f"{column.name!r:.80} should have a value: {why}")

    def has_values(self, *names: str) -> None:
        """Of these columns no row is left that has no value."""
        self.columns = [
            column._replace(may_be_null=column.may_be_null and column.name not in names) for column in self.columns
        ]

    def may_be_missing(self, name: str) -> None:
        """Rows may be left in which this column has no value."""
        index = self.names().index(name)
        self.columns[index] = self.columns[index]._replace(may_be_null=True)

    def replace(self, name: str, ours: str, *, kind: str, meta: Meta | None = None) -> Column:
        """Let another column of ours have the values of a column of the source; they are not missing any more."""
        index = self.names().index(name)
        self.columns[index] = Column(name, meta or self.columns[index].meta, ours, kind)
        return self.columns[index]

    def add(self, column: Column, pointer: str, *, after: str | None = None) -> None:
        """Add a column to the source's schema, at its end or behind another."""
        if column.name in self.names():
            refuse(pointer, f"column {column.name!r:.80} is there already; of two with one name DataVec finds either.")
        index = len(self.columns) if after is None else self.names().index(after) + 1
        self.columns.insert(index, column)

    def forget(self, *names: str) -> None:
        """What has been refused changed these columns, or all where none is named: nothing is known of them."""
        unknown = Meta(UNKNOWN)
        self.columns = [
            column._replace(meta=unknown, part=None) if not names or column.name in names else column
            for column in self.columns
        ] + [Column(name, unknown, "", "") for name in names if name not in self.names()]

    # ------------------------------------------------------------------------------------------------ what is written

    def filter(self, keep: dict[str, Any]) -> None:
        """Append a step that leaves rows out."""
        self._append("filter", ([], []), {"params": {"keep": keep}})

    def named(self, column: Column) -> str:
        """Our column under the name that it has in the source, where no other of ours has had that."""
        if column.ours == column.name or column.name in self._names:
            return column.ours
        return self.step("copy", [column.ours], column.name)

    def _own(self, column: Column) -> Column:
        """The column with values of its own, where it was a position of a vector, as the source has them."""
        if column.part is not None:
            ours = self.single_category(column.part, column.name)
            return self.replace(column.name, ours, kind="float64")
        if column.meta.type == "Float" and column.kind == "float64":
            self.note("A row in which a float of 32 bits overflows, to ±inf in Java, is set aside here.")
            ours = self.step("cast", [column.ours], column.name, params={"to": "float32", "on_error": "reject"})
            return self.replace(column.name, ours, kind="float32")
        return column

    def single_category(self, part: Part, base: str) -> str:
        """0 or 1 by whether a row has the category."""
        condition = {"cmp": [part.source, "==", part.categories[part.position]]}
        return self.step(
            "if", [], base, params={"condition": condition, "then": {"as_value": 1.0}, "else": {"as_value": 0.0}}
        )
