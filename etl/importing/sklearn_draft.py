"""The spec that an import from scikit-learn writes, and columns in the form in which its steps take them."""

from __future__ import annotations

import functools
import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa

from etl.format.problems import nearest
from etl.importing.draft import Draft
from etl.importing.refusals import collecting, give_up, refuse
from etl.importing.sklearn_columns import FLOAT32, FLOAT64, MIXED, Block, InputColumn, Value, common_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Leaf", "SklearnDraft", "text_of"]

_FLOATS = ("float32", "float64")
_WHOLE = 2.0**53
_LARGEST = sys.float_info.max
_FINITE = "A row with ±inf, on which scikit-learn fails, is set aside here."
_PRESENT = "A row without a value, on which scikit-learn fails, is set aside here."
_OVERFLOW = "A row in which a float of 32 bits overflows, to ±inf in scikit-learn, is set aside here."
_MANY_BITS = "A row with an integer beyond ±2^53, which scikit-learn rounds to float64, is set aside here."
_INFINITE_CATEGORY = "A row with ±inf, to scikit-learn a category like others, is set aside here."
_ONE_GAP = "None and NaN are one missing value here; scikit-learn takes them for two."


class Leaf(NamedTuple):
    """A fitted transformer that holds no others, what it is given, and the draft that its steps go to."""

    estimator: Any
    """The transformer."""
    pointer: str
    """Its place."""
    given: Block | None
    """None where what stands before it has been refused."""
    draft: SklearnDraft
    """What has been written so far."""

    @property
    def block(self) -> Block:
        """What it is given: as many columns as it was fitted to."""
        if self.given is None:
            give_up()
        found = len(self.given.values)
        wanted = getattr(self.estimator, "n_features_in_", found)
        if found != wanted:
            self.refuse(f"was fitted to {wanted} columns, and would be given {found}.")
        return self.given

    @property
    def is_given_sparse(self) -> bool:
        """Whether it is given a sparse array."""
        return self.given is not None and self.given.is_sparse

    @property
    def float_type(self) -> np.dtype[Any]:
        """In which of float32 and float64 it computes."""
        return FLOAT32 if common_type(self.block.values) == FLOAT32 else FLOAT64

    def refuse(self, message: str) -> NoReturn:
        """Say that it cannot be imported, and why."""
        refuse(self.pointer, message)

    def checked(self, value: Value, *, allows_missing: bool) -> Value:
        """As the draft's `checked`."""
        return self.draft.checked(value, self.pointer, allows_missing=allows_missing)

    def number(self, value: Value) -> str:
        """As the draft's `number`."""
        return self.draft.number(value, self.pointer)

    def labels(self, value: Value) -> str:
        """As the draft's `labels`."""
        return self.draft.labels(value, self.pointer)

    def finite(self, number: Any, value: Value) -> float:
        """A number of the fitted state, which a spec can hold unless it is NaN or ±inf."""
        if not math.isfinite(number):
            self.refuse(f"has state {number} for column {value.name!r:.80}, and a spec holds no such number.")
        return float(number)

    def made(self, value: Value, op: str, *, params: Mapping[str, Any] | None = None, **keys: Any) -> Value:
        """What a step makes of a column of numbers: a float64, which scikit-learn has in the column's element type."""
        given = {"params": dict(params)} if params else {}
        ours = self.draft.step(op, [self.number(value)], f"{value.name}_{op}", **given, **keys)
        return Value(value.name, ours, "float64", value.dtype, is_rounded=value.dtype != FLOAT32)

    def computed(self, value: Value, operator: str, constant: Any) -> Value:
        """Arithmetic of a column and a constant, in the column's element type."""
        return self.made(value, "arith", params={"operator": operator, "right": self.finite(constant, value)})

    def each(self, make: Callable[[int, Value], list[Value]]) -> list[Value]:
        """What is made of each column; after all were tried, nothing further where one was refused."""
        made: list[Value] = []
        problems = self.draft.problems
        before = len(problems)
        for index, value in enumerate(self.block.values):
            with collecting(problems):
                made += make(index, value)
        if len(problems) > before:
            give_up()
        return made


class SklearnDraft(Draft):
    """What has been written so far. `pointer` is the place of the transformer that needs something, for refusals."""

    def __init__(self, inputs: Mapping[str, InputColumn]) -> None:
        """Start with the columns that there are to read."""
        super().__init__()
        self.inputs = inputs
        self.finite: set[str] = set()
        """Input fields on whose ±inf scikit-learn fails."""
        self._made: dict[tuple[str, ...], str] = {}
        self._names.update(inputs)

    def input(self, name: str) -> Value:
        """A column of the frame; that there is none of its name matters where something reads it."""
        hint = f"is not in the schema.{nearest(name, self.inputs)}"
        found = self.inputs.get(name, InputColumn("", MIXED, hint))
        return Value(name, name, found.kind, found.dtype)

    # --------------------------------------------------------------------------------------- a column as a step's input

    def number(self, value: Value, pointer: str) -> str:
        """Our column with the very numbers that scikit-learn has."""
        column = self.unrounded(value, pointer)
        if not value.is_rounded:
            self.note(_OVERFLOW)
            column = self._once(("cast", column), value.name, params={"to": "float32", "on_error": "reject"})
        if value.is_unsigned and value.part is None:
            column = self._once(("arith", column), value.name, params={"operator": "add", "right": 0.0})
        return column

    def unrounded(self, value: Value, pointer: str) -> str:
        """Our column with numbers that a float32 tensor makes those of scikit-learn of."""
        self._read(value, pointer)
        if value.kind == "int64":
            self.note(_MANY_BITS)
        if value.is_text:
            refuse(pointer, f"takes numbers, and column {value.name!r:.80} is text.")
        if value.part is not None and value.part.condition is None:
            refuse(pointer, f"would read {value.name!r:.80} alone, and the terms of a text are one vector here.")
        return value.ours if value.part is None else self._single(value)

    def labels(self, value: Value, pointer: str) -> str:
        """Our column with a text for each value: its own, or that of `text_of` for a number."""
        self._read(value, pointer)
        if value.is_text:
            self.note(_ONE_GAP)
            return value.ours
        column = value.ours if value.kind == "int64" else self.number(value, pointer)
        kind = "float64" if value.part or value.is_unsigned else value.kind if value.is_rounded else "float32"
        wanted = "float64" if value.dtype.kind == "f" or kind in _FLOATS else "int64"
        if kind not in {"int32", wanted}:
            column = self._once(("cast", column, wanted), value.name, params={"to": wanted, "on_error": "reject"})
        if value.dtype == MIXED and wanted == "float64" and not value.is_finite:
            self.note(_INFINITE_CATEGORY)
        return self._once(("cast", column, "string"), value.name, params={"to": "string", "on_error": "reject"})

    def checked(self, value: Value, pointer: str, *, allows_missing: bool) -> Value:
        """The column, rows set aside on which scikit-learn's check of an array of numbers fails."""
        self._read(value, pointer)
        lacks_finite = value.kind in _FLOATS and not value.is_finite
        lacks_present = not allows_missing and not value.is_present
        if value.part is not None or value.is_text or not (lacks_finite or lacks_present):
            return value
        if value.ours in self.inputs:
            for is_lacking, fields, note in (
                (lacks_finite, self.finite, _FINITE),
                (lacks_present, self.required, _PRESENT),
            ):
                if is_lacking:
                    fields.add(value.ours)
                    self.note(note)
        elif value.kind in _FLOATS:
            column = self.number(value, pointer)
            finite = {"between": [column, -_LARGEST, _LARGEST]}
            condition = {"any": [{"is_null": column}, finite]} if allows_missing else finite
            what = "±inf" if allows_missing else "±inf or no value"
            self.guard(condition, f"scikit-learn fails where {value.name!r:.80} is {what} here.")
        return value._replace(is_finite=True, is_present=value.is_present or not allows_missing)

    def need_value(self, value: Value, pointer: str, note: str) -> None:
        """Set rows aside in which a column has no value."""
        self._read(value, pointer)
        if value.part is not None or value.is_present:
            return
        self.note(note)
        if value.ours in self.inputs:
            self.required.add(value.ours)
        else:
            column = value.ours if value.is_text else self.number(value, pointer)
            self.guard({"not": {"is_null": column}}, f"scikit-learn fails where {value.name!r:.80} has no value.")

    def _read(self, value: Value, pointer: str) -> None:
        """Take note that a column is read, which is an error where it cannot be."""
        if not value.kind:
            refuse(pointer, f"column {value.name!r:.80} {self._problem(value.ours)}")
        if value.ours in self.inputs:
            self.used.add(value.ours)

    def _problem(self, name: str) -> str:
        found = self.inputs.get(name)
        return f"is not in the schema.{nearest(name, self.inputs)}" if found is None else f"{found.problem}."

    # ----------------------------------------------------------------------------------------------------- what is made

    def _single(self, value: Value) -> str:
        """0 or 1 by a position of a vector."""
        assert value.part is not None  # noqa: S101  the caller has looked
        key = ("part", value.part.vector, str(value.part.position))
        params = {"condition": value.part.condition, "then": {"as_value": 1.0}, "else": {"as_value": 0.0}}
        return self._known(key, functools.partial(self.step, "if", [], value.name, params=params))

    def _once(self, key: tuple[str, ...], base: str, **keys: Any) -> str:
        """A step of op `key[0]` on column `key[1]`, made where it has not been."""
        return self._known(key, functools.partial(self.step, key[0], [key[1]], f"{base}_{key[0]}", **keys))

    def _known(self, key: tuple[str, ...], make: Callable[[], str]) -> str:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def text_of(number: float) -> str:
    """A number as op `cast` writes it."""
    if float(number).is_integer() and abs(number) < _WHOLE:
        return str(int(number))
    if isinstance(number, int | np.integer):
        return str(int(number))
    return str(pa.array([float(number)]).cast(pa.string())[0].as_py())
