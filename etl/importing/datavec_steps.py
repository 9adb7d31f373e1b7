"""The ops that DataVec's actions become, each as a method that appends its step and gives the name of what it makes."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from etl.importing.datavec_draft import DatavecDraft
from etl.importing.refusals import refuse
from etl.ops.parsing import Format

__all__ = ["FUNCTIONS", "Lit", "Writer"]

FUNCTIONS = frozenset(
    {
        *("ABS", "ACOS", "ASIN", "ATAN", "CEIL", "COS", "COSH", "EXP", "FLOOR", "LOG", "LOG10", "SIGNUM", "SIN"),
        *("SINH", "SQRT", "TAN", "TANH"),
    }
)
"""DataVec's functions, which are ours in lower case."""

_UNKNOWN = "DataVec fails on a category that it does not know. Such a row is set aside here."


class Lit(NamedTuple):
    """A value that is written into the spec, where a column's name could stand too."""

    value: bool | int | float | str
    """The value."""


class Writer(DatavecDraft):
    """A draft that knows the ops. `base` is what the name of the column that is made begins with."""

    def calculated(self, operator: str, operands: tuple[str | float, ...], base: str, **params: str) -> str:
        """Arithmetic of columns, or of a column and a number."""
        columns = [operand for operand in operands if isinstance(operand, str)]
        sides = dict(zip(("left", "right"), operands, strict=False))
        numbers = {side: operand for side, operand in sides.items() if not isinstance(operand, str)}
        return self.step("arith", columns, base, params={"operator": operator, **numbers, **params})

    def function(self, name: str, column: str, base: str) -> str:
        """A function of one number."""
        return self.step("math", [column], base, params={"function": name})

    def cast(self, column: str, to: str, base: str) -> str:
        """The same value in another type; a row with a value that has none is set aside."""
        return self.step("cast", [column], base, params={"to": to, "on_error": "reject"})

    def milliseconds(self, column: str, base: str) -> str:
        """A time as milliseconds since 1970, in float64."""
        day = self.cast(column, "date", base)
        params = {"unit": "day", "start": "1970-01-01"}
        days = self.step("time_since", [day], base, params=params)
        seconds = self.date_part(column, "second_of_day", base)
        whole = self.calculated("add", (self.calculated("mul", (days, 86_400.0), base), seconds), base)
        fraction = self.date_part(column, "millisecond", base)
        return self.calculated("add", (self.calculated("mul", (whole, 1000.0), base), fraction), base)

    def parsed_time(self, column: str, formats: list[str], base: str, *, place: str) -> str:
        """The time that a text names in the first format that it has; a row whose text has none is set aside."""
        try:
            TypeAdapter(tuple[Format, ...]).validate_python(tuple(formats))
        except ValidationError as error:
            refuse(place, f"the format {error.errors()[0]['msg'].removeprefix('Value error, ')}.")
        return self.step("parse_timestamp", [column], base, params={"formats": formats, "on_error": "reject"})

    def moved_time(self, column: str, amount: int, unit: str, *, base: str) -> str:
        """So much later."""
        return self.step("time_add", [column], base, params={"amount": amount, "unit": unit})

    def choose(self, condition: dict[str, Any], values: tuple[Lit | str, Lit | str], base: str) -> str:
        """The first where the condition holds, else the second; each is a column or a literal."""
        then, otherwise = ({"as_value": side.value} if isinstance(side, Lit) else {"column": side} for side in values)
        return self.step("if", [], base, params={"condition": condition, "then": then, "else": otherwise})

    def constant(self, value: Lit, kind: str, base: str) -> str:
        """The same value in every row."""
        return self.step("constant", [], base, params={"value": value.value, "type": kind})

    def date_part(self, column: str, part: str, base: str) -> str:
        """A part of a time, in float64."""
        return self.step("date_part", [column], base, params={"part": part})

    def one_hot(self, column: str, categories: list[str], base: str) -> str:
        """A vector of 0 and 1; a row whose category is unknown is set aside."""
        self.note(_UNKNOWN)
        state = {"vocab": categories, "counts": [0] * len(categories)}
        return self.step("one_hot", [column], base, params={"unknown": "reject", "missing": "reject"}, state=state)

    def codes(self, column: str, categories: tuple[str, ...], base: str) -> str:
        """The position of each category; a row whose category is unknown is set aside."""
        self.note(_UNKNOWN)
        mapping = {category: position for position, category in enumerate(categories)}
        params = {"mapping": mapping, "unknown": "reject", "missing": "reject"}
        return self.step("ordinal_map", [column], base, params=params)

    def replaced(self, column: str, pair: tuple[str, str], base: str) -> str:
        """Text with each match of a pattern replaced."""
        return self.step("regex_replace", [column], base, params={"pattern": pair[0], "replacement": pair[1]})

    def joined(self, columns: list[str], separator: str, base: str) -> str:
        """Texts one behind the other."""
        return self.step("concat", columns, base, params={"separator": separator})

    def cased(self, column: str, to: str, base: str) -> str:
        """Text in lower or upper case, each character by itself."""
        return self.step(to, [column], base, params={"mode": "unicode_simple"})

    def length(self, column: str, base: str) -> str:
        """Code points of a text."""
        return self.step("length", [column], base)

    def renamed_texts(self, column: str, texts: dict[str, str], base: str) -> str:
        """Texts replaced by others; those that are not named stay."""
        if not texts:
            return column
        return self.step("replace", [column], base, params={"mapping": texts})

    def texts_of(self, column: str, texts: dict[str, str], base: str) -> str:
        """Texts by whole numbers in digits; a row whose number has none is set aside."""
        digits = self.cast(column, "string", base)
        self.codes(digits, tuple(texts), f"{base}_code")
        return self.renamed_texts(digits, texts, base)
