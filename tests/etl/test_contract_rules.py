"""The contract's rules against a reimplementation row by row in plain Python."""

from __future__ import annotations

import json
import math
import random
import re
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.contract import Contract, InputField
from etl.errors import ContractError, SpecError
from etl.spec import read_spec
from etl.types import ColumnType, is_readable
from tests.etl.nasty import INF, NAN, TEXTS, bits, document

BROKEN = b"\xff\xfe"
"""Bytes that are no UTF-8."""


class Judged(NamedTuple):
    """What becomes of one value."""

    value: Any
    reasons: list[tuple[str, str]]
    """Code and pointer of each rule that rejects the row."""
    flags: dict[str, bool]
    is_failed: bool


class Judge:
    """The rules of one field, for one value at a time."""

    def __init__(self, field: dict[str, Any], pointer: str) -> None:
        self.field = field
        self.pointer = pointer
        self.kind = field["type"]

    def judge(self, value: Any, *, is_gone: bool) -> Judged:
        """Every check in its order."""
        self.value, self.is_gone, self.is_failed = value, is_gone, False
        self.reasons: list[tuple[str, str]] = []
        self.flags = {
            treatment["flag"]: False
            for treatment in (self.field.get(f"on_{rule}") for rule in ("missing", "invalid", "outlier"))
            if isinstance(treatment, dict) and "flag" in treatment
        }
        on_invalid = self.field.get("on_invalid", "reject")
        is_broken = self.read(on_invalid)
        becomes_missing = on_invalid == "as_missing" or (isinstance(on_invalid, dict) and "flag" in on_invalid)
        if self.is_missing() and (becomes_missing or not is_broken or not self.kind.endswith("]")):
            self.treat_missing()
        invalid = list(self.invalid())
        for code, rule in invalid:
            self.treat(code, rule, on_invalid)
        if invalid and on_invalid == "as_missing":
            self.treat_missing()
        bounds = self.field.get("outlier", {})
        low, high = bounds.get("low", -INF), bounds.get("high", INF)
        found = self.value
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            for is_beyond, edge in ((found < low, low), (found > high, high)):
                if is_beyond:
                    on_outlier = self.field.get("on_outlier", "as_is")
                    self.treat("OUTLIER", "outlier", on_outlier, edge=edge)
                    if on_outlier == "as_missing":
                        self.treat_missing()
        return Judged(self.value, self.reasons, self.flags, self.is_failed)

    def read(self, on_invalid: Any) -> bool:
        """What the type cannot hold."""
        codes, self.value = unheld(self.value, self.kind)
        for code in codes:
            if on_invalid != "as_is" or code != "INEXACT":
                self.treat(code, "type", "reject" if on_invalid == "as_is" else on_invalid)
        return bool(codes)

    def treat_missing(self) -> None:
        """What happens to a value that is missing, or that another rule made so."""
        default = "as_is" if self.field.get("nullable", True) and self.kind != "int64[2]" else "reject"
        self.treat("MISSING", "on_missing", self.field.get("on_missing", default))

    def is_missing(self) -> bool:
        """Null, and NaN of a float."""
        is_nan = isinstance(self.value, float) and math.isnan(self.value)
        return self.value is None or (is_nan and not self.field.get("nan_is_value", False))

    def invalid(self) -> Any:
        """Code and key of each rule that the value breaks."""
        value, field = self.value, self.field
        if value is None:
            return
        if "range" in field and not math.isnan(value):
            bounds = field["range"]
            closure = bounds.get("closure", "closed")
            lower = closure in {"closed", "closed_open"}
            upper = closure in {"closed", "open_closed"}
            low, high = bounds.get("min", -INF), bounds.get("max", INF)
            if "min" in bounds and not (value >= low if lower else value > low):
                yield "OUT_OF_RANGE", "range"
            if "max" in bounds and not (value <= high if upper else value < high):
                yield "OUT_OF_RANGE", "range"
        if "allowed" in field and value not in field["allowed"]:
            yield "NOT_ALLOWED", "allowed"
        if "pattern" in field and not re.fullmatch(field["pattern"], value):
            yield "PATTERN", "pattern"
        if "min_length" in field and len(value) < field["min_length"]:
            yield "WRONG_LENGTH", "min_length"
        if "max_length" in field and len(value) > field["max_length"]:
            yield "TOO_LONG", "max_length"

    def treat(self, code: str, rule: str, treatment: Any, edge: float = NAN) -> None:
        """What happens to a value that breaks a rule."""
        if treatment == "as_missing":
            self.value = None
        elif treatment == "as_extreme":
            self.value = as_type(edge, self.kind)
        elif treatment == "reject":
            self.reasons.append((code, f"{self.pointer}/{rule}"))
            self.is_gone = True
        elif treatment == "fail":
            self.is_failed |= not self.is_gone
        elif isinstance(treatment, dict) and "flag" in treatment:
            self.flags[treatment["flag"]] = True
        elif isinstance(treatment, dict):
            self.value = as_type(treatment["as_value"], self.kind)


def as_type(value: Any, kind: str) -> Any:
    """A literal as a value of the type."""
    if kind == "float32":
        return float(np.float32(value))
    return int(value) if kind.startswith("int") else float(value) if kind == "float64" else value


def unheld(value: Any, kind: str) -> tuple[list[str], Any]:
    """Why the type cannot hold a value, and what stands for it."""
    if value is None or kind in {"bool", "int32", "float32"}:
        return [], value
    if kind == "string":
        return (["NOT_UTF8"], None) if isinstance(value, bytes) else ([], value)
    if kind == "float64":
        is_wide = isinstance(value, int) and abs(value) > 2**53
        return (["INEXACT"] if is_wide else []), float(value)
    if kind in {"int64", "uint64"}:
        low, high = (0, 2**64 - 1) if kind == "uint64" else (-(2**63), 2**63 - 1)
        fits = value == int(value) and low <= value <= high
        return ([], int(value)) if fits else (["OUT_OF_RANGE"], None)
    if kind.endswith("[2]"):
        is_whole = len(value) == 2 and None not in value
        fits = is_whole and not any(unheld(x, kind[:-3])[0] for x in value)
        return ([], value) if fits else (["OUT_OF_RANGE" if is_whole else "WRONG_LENGTH"], None)
    return unheld_parts(value, kind)


def unheld_parts(value: Any, kind: str) -> tuple[list[str], Any]:
    """The same of a list or a struct: each code once, and nothing is kept beside a part that cannot be held."""
    if isinstance(value, list):
        read = [unheld(part, kind[5:-1]) for part in value]
        whole: Any = [part for _, part in read]
    else:
        kinds = dict(part.split(": ") for part in kind[7:-1].split(", "))
        read = [unheld(value[name], kinds[name]) for name in kinds]
        whole = {name: part for name, (_, part) in zip(kinds, read, strict=True)}
    codes = list(dict.fromkeys(code for found, _ in read for code in found))
    return codes, None if set(codes) - {"INEXACT"} else whole


INTS = [None, 0, 1, -1, 5, 7, 100, 2**31 - 1, -(2**31)]
WIDE = [*INTS, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
UNSIGNED = [None, 0, 1, 5, 7, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
DECIMALS = [
    None,
    *map(Decimal, ("0", "1.5", "-0.1", "5", "7.0", "100", "9223372036854775807", "9223372036854775808.0")),
]
FLOATS = [None, NAN, INF, -INF, 0.0, -0.0, 0.1, 1.0, 5.0, 7.5, -1.5, 100.0, 3.4028234663852886e38, 1e-46, 16777217.0]
SINGLES = [None if value is None else float(np.float32(value)) for value in FLOATS]
WORDS = [None, "", "a", "A", "ab", "e\u0301", "漢字", "😀", "👩‍👩‍👧", "a\n", "abcdefgh", "\x00", BROKEN]
PHYSICAL: dict[str, list[tuple[pa.DataType, list[Any]]]] = {
    "bool": [(pa.bool_(), [None, True, False])],
    "int32": [(pa.int32(), INTS)],
    "int64": [(pa.int64(), WIDE), (pa.uint64(), UNSIGNED), (pa.decimal128(20, 1), DECIMALS)],
    "uint64": [(pa.uint64(), UNSIGNED), (pa.int64(), WIDE)],
    "float32": [(pa.float32(), SINGLES)],
    "float64": [
        (pa.float64(), FLOATS), (pa.int64(), WIDE), (pa.uint64(), UNSIGNED), (pa.decimal256(40, 1), DECIMALS),
    ],
    "string": [(pa.string(), WORDS), (pa.large_string(), WORDS)],
    "list<int64>": [
        (pa.list_(pa.int64()), [None, [], [1], [1, None, 2], [5] * 9]),
        (pa.large_list(pa.uint64()), [None, [], [2**63], [1, 2**64 - 1, None], [7, 7]]),
        (pa.list_(pa.decimal128(20, 1)), [None, [], [Decimal("1.5")], [Decimal(1), None], [Decimal(5)] * 3]),
    ],
    "list<string>": [(pa.list_(pa.string()), [None, [], ["a"], ["a", BROKEN], [None, "漢字"], ["", "b", "c", "d"]])],
    "list<float64>": [(pa.large_list(pa.int64()), [None, [], [1], [2**53 + 1, 2], [None]])],
    "struct<a: int64, b: string>": [
        (
            pa.struct([("b", pa.string()), ("c", pa.int8()), ("a", pa.uint64())]),
            [
                None, {"a": 1, "b": "x", "c": 1}, {"a": 2**63, "b": "x", "c": 1}, {"a": None, "b": None, "c": None},
                {"a": 1, "b": BROKEN, "c": 1}, {"a": 2**64 - 1, "b": BROKEN, "c": 1},
            ],
        )
    ],
    "float32[2]": [(pa.list_(pa.float32()), [None, [1.0, 2.0], [1.0], [], [1.0, None], [0.5, -INF]])],
    "int64[2]": [
        (pa.list_(pa.int64()), [None, [1, 2], [1], [], [1, None], [2**63 - 1, -(2**63)]]),
        (pa.large_list(pa.uint64()), [None, [1, 2], [1, 2**63], [3]]),
    ],
}  # fmt: skip
LITERALS: dict[str, list[Any]] = {
    "bool": [True],
    "string": ["?", "", "abc"],
    "float32": [0.1, 7],
    "float64": [0.1, -3],
    "int64": [6, -3],
}
LITERALS["int32"] = LITERALS["int64"]
IS_NUMBER = {"int32", "int64", "float32", "float64"}


def array(values: list[Any], kind: pa.DataType) -> Any:
    """A column of a physical type, in which texts may be no UTF-8."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        raw = pa.binary() if pa.types.is_string(kind) else pa.large_binary()
        return pa.array([v.encode() if isinstance(v, str) else v for v in values], raw).view(kind)
    if pa.types.is_list(kind):
        offsets = np.cumsum([0, *(len(v or []) for v in values)]).astype(np.int32)
        flat = array([x for v in values for x in v or []], kind.value_type)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array([v is None for v in values], pa.bool_()))
    if pa.types.is_struct(kind):
        parts = [array([None if v is None else v[field.name] for v in values], field.type) for field in kind]
        mask = pa.array([v is None for v in values], pa.bool_())
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=mask)
    return pa.array(values, kind)


def treatments(kind: str, flag: str, *more: str) -> Any:
    """Any treatment that a type may have."""
    known = [{"as_value": value} for value in LITERALS.get(kind, [])]
    words = ["as_is", "as_missing", "reject", "reject", "fail", *more, *more]
    return st.sampled_from(["reject", "fail"] if kind == "int64[2]" else [*words, {"flag": flag}, *known])


def pairs(kind: str) -> Any:
    """Two bounds in their order."""
    wide = [-(2**63) + 1, -(2**53) - 1, 2**53 + 1, 2**63 - 2] if kind == "int64" else []
    edges = st.sampled_from([-1, 0, 1, 5, 7, *wide] if kind.startswith("int") else [-1.5, 0.0, 0.1, 5.0, 100])
    return st.lists(edges, min_size=2, max_size=2).map(sorted)


@st.composite
def number_rules(draw: Any, name: str, kind: str) -> dict[str, Any]:
    """Rules of a numeric field."""
    rules: dict[str, Any] = {}
    if draw(st.booleans()):
        low, high = draw(pairs(kind))
        closure = draw(st.sampled_from(["closed", "open", "open_closed", "closed_open"] if low < high else ["closed"]))
        bounds = draw(st.sampled_from([{"min": low}, {"max": high}, {"min": low, "max": high}]))
        rules["range"] = {**bounds, "closure": closure}
    if draw(st.booleans()):
        low, high = draw(pairs(kind))
        rules["outlier"] = draw(st.sampled_from([{"low": low}, {"high": high}, {"low": low, "high": high}]))
        rules["on_outlier"] = draw(treatments(kind, f"{name}_outlier", "as_extreme"))
    if kind.startswith("float"):
        rules["nan_is_value"] = draw(st.booleans())
    elif draw(st.booleans()):
        rules["allowed"] = [1, 5, 6, 7]
    return rules


@st.composite
def length_rules(draw: Any, kind: str) -> dict[str, Any]:
    """Rules of texts and lists."""
    possible: dict[str, Any] = {"min_length": st.integers(1, 3), "max_length": st.integers(3, 5)}
    if kind == "string":
        possible["allowed"] = st.just(["a", "漢字", "?"])
        possible["pattern"] = st.sampled_from(["[a-zA-Z]*", "[^a]+", "[^\\n]", "(?:漢|A|a)[^b]*", "\\x00|[a-z]"])
    return {rule: draw(values) for rule, values in possible.items() if draw(st.booleans())}


@st.composite
def a_field(draw: Any, name: str) -> tuple[dict[str, Any], pa.DataType, list[Any]]:
    """A field with rules that go with its type, a physical type, and values to draw from."""
    kind = draw(st.sampled_from(sorted(PHYSICAL)))
    physical, values = draw(st.sampled_from(PHYSICAL[kind]))
    field: dict[str, Any] = {"name": name, "type": kind, "nullable": draw(st.booleans())}
    for rule in ("missing", "invalid"):
        if draw(st.booleans()):
            field[f"on_{rule}"] = draw(treatments(kind, f"{name}_{rule}"))
    if kind in IS_NUMBER:
        field |= draw(number_rules(name, kind))
    elif kind == "string" or kind.startswith("list"):
        field |= draw(length_rules(kind))
    return field, physical, values


@st.composite
def a_batch(draw: Any) -> tuple[list[dict[str, Any]], dict[str, pa.DataType], list[dict[str, Any]]]:
    """A contract of one to three fields, and rows for it."""
    drawn = [draw(a_field(f"x{number}")) for number in range(draw(st.integers(1, 3)))]
    row = st.fixed_dictionaries({field["name"]: st.sampled_from(values) for field, _, values in drawn})
    physical = {field["name"]: kind for field, kind, _ in drawn}
    return [field for field, *_ in drawn], physical, draw(st.lists(row, max_size=12))


def by_hand(fields: list[dict[str, Any]], rows: list[dict[str, Any]]) -> tuple[list[Any], bool]:
    """For each row: its values and flags where it is kept, and its reasons; and whether the run fails."""
    outcomes, is_failed = [], False
    for row in rows:
        values: dict[str, Any] = {}
        reasons: list[tuple[str, str]] = []
        for index, field in enumerate(fields):
            judged = Judge(field, f"/input/fields/{index}").judge(row[field["name"]], is_gone=bool(reasons))
            values[field["name"]] = judged.value
            values.update(judged.flags)
            reasons += judged.reasons
            is_failed |= judged.is_failed
        outcomes.append((None if reasons else {name: plain(value) for name, value in values.items()}, reasons))
    return outcomes, is_failed


def plain(value: Any) -> Any:
    """A value so that equal ones are the same: NaN by a word, floats by their bits."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def by_contract(
    fields: list[dict[str, Any]], physical: dict[str, pa.DataType], rows: list[dict[str, Any]]
) -> list[Any]:
    """The same as `by_hand` of a contract's own frame."""
    contract = Contract.model_validate_json(json.dumps({"fields": fields}), strict=True)
    table = pa.table({name: array([row[name] for row in rows], kind) for name, kind in physical.items()})
    contract.check_schema(table.schema, "f")
    frame = contract.apply(table, "f")
    columns = {name: frame.arrow(name) for name in contract.columns()}
    for name, kind in contract.columns().items():
        item = {"vector": pa.list_(pa.int64() if kind.item == "int64" else pa.float32())}.get(kind.kind, kind.arrow)
        assert columns[name].type == item, name
        columns[name].validate(full=True)
    reasons: list[list[tuple[str, str]]] = [[] for _ in rows]
    for rejection in frame.rejections:
        for row in rejection.rows:
            reasons[row].append((rejection.code, rejection.pointer))
    listed = {name: column.to_pylist() for name, column in columns.items()}
    return [
        (None if reasons[row] else {name: plain(values[row]) for name, values in listed.items()}, reasons[row])
        for row in range(len(rows))
    ]


@settings(max_examples=200, deadline=None)
@given(a_batch(), st.integers(0, 12))
def test_every_rule_means_what_it_says_row_by_row(batch: Any, cut: int) -> None:
    """Random contracts keep, change, flag and reject what a row-by-row reading does, however the batch is cut."""
    fields, physical, rows = batch
    wanted, is_failed = by_hand(fields, rows)
    if is_failed:
        with pytest.raises(ContractError, match=r"; the contract says fail at /input/fields/\d/"):
            by_contract(fields, physical, rows)
        return
    found = by_contract(fields, physical, rows)
    in_parts = by_contract(fields, physical, rows[:cut]) + by_contract(fields, physical, rows[cut:])
    assert in_parts == found
    for got, want, row in zip(found, wanted, rows, strict=True):
        assert normal(fields, got) == normal(fields, want), row


def normal(fields: list[dict[str, Any]], outcome: Any) -> Any:
    """NaN of a float is missing, unless its field says otherwise."""
    values, reasons = outcome
    floats = {f["name"] for f in fields if f["type"] in {"float32", "float64"} and not f.get("nan_is_value")}
    if values is not None:
        values = {name: None if value == "nan" and name in floats else value for name, value in values.items()}
    return values, reasons


CREDIT = """[
 {"name":"app_id","type":"int64","nullable":false,"role":"id"},
 {"name":"income","type":"float64","nullable":true,"range":{"min":0,"max":1e7,"closure":"closed"},"on_missing":"as_is","on_invalid":"as_missing","on_outlier":"as_is"},
 {"name":"debt","type":"float64","nullable":true,"range":{"min":0,"max":1e8,"closure":"closed"},"on_missing":"as_is","on_invalid":"reject"},
 {"name":"age","type":"int32","nullable":false,"range":{"min":18,"max":110,"closure":"closed"},"on_missing":"reject","on_invalid":"reject"},
 {"name":"grade","type":"string","nullable":true,"allowed":["A","B","C","D"],"on_missing":"as_is","on_invalid":"as_is"},
 {"name":"merchant","type":"string","nullable":true,"max_length":128,"on_missing":"as_is","on_invalid":"as_missing"},
 {"name":"opened_at","type":"timestamp","nullable":false,"role":"feature","on_missing":"reject","on_invalid":"reject"},
 {"name":"scored_at","type":"timestamp","nullable":false,"role":"event_time","on_missing":"fail","on_invalid":"fail"}]"""
TICKETS = """[
 {"name":"ticket_id","type":"int64","nullable":false,"role":"id"},
 {"name":"subject","type":"string","nullable":true,"max_length":4000,"on_missing":{"as_value":""},"on_invalid":"as_missing"},
 {"name":"body","type":"string","nullable":true,"max_length":100000,"on_missing":{"as_value":""},"on_invalid":"as_missing"}]"""


@pytest.mark.parametrize("fields", [CREDIT, TICKETS])
def test_the_worked_examples_are_contracts(fields: str) -> None:
    """Both worked examples of the format are read, written and read again as the same contract."""
    contract = Contract.model_validate_json(f'{{"extra_columns":"ignore","fields":{fields}}}', strict=True)
    assert Contract.model_validate_json(contract.model_dump_json(exclude_defaults=True), strict=True) == contract


def applied(kind: str, column: Any, **rules: Any) -> Any:
    """The frame of one column, x."""
    contract = Contract.model_validate({"fields": [{"name": "x", "type": kind, **rules}]})
    table = pa.table({"x": column})
    contract.check_schema(table.schema, "f")
    return contract.apply(table, "f")


@pytest.mark.parametrize(
    ("closure", "kept", "messages"),
    [
        ("closed", [1, 2, 3], ["x is below 1.0", "x is above 3.0"]),
        ("open", [2], ["x is not above 1.0", "x is not below 3.0"]),
        ("open_closed", [2, 3], ["x is not above 1.0", "x is above 3.0"]),
        ("closed_open", [1, 2], ["x is below 1.0", "x is not below 3.0"]),
    ],
)
@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64"])
def test_an_interval_has_the_ends_that_its_closure_says(
    kind: str, closure: str, kept: list[int], messages: Any
) -> None:
    """Of 0 to 4 in an interval from 1 to 3, PMML's four closures keep what their names say; a null breaks none."""
    column = pa.array([0, 1, 2, None, 3, 4], ColumnType.parse(kind).arrow)
    frame = applied(kind, column, range={"min": 1, "max": 3, "closure": closure})
    assert [column[row].as_py() for row in np.flatnonzero(~frame.rejected)] == [
        *kept[: kept.index(2) + 1],
        None,
        *kept[kept.index(2) + 1 :],
    ]
    assert [rejection.message for rejection in frame.rejections] == messages


def test_an_open_interval_is_exact_at_the_ends_of_integers() -> None:
    """Bounds with a fraction, and those of int64 itself, split integers exactly."""
    column = pa.array([-(2**63), -(2**63) + 1, 2, 3, 2**63 - 1, None])
    frame = applied("int64", column, range={"min": -(2**63), "max": 2.5, "closure": "open"})
    assert frame.rejected.tolist() == [True, False, False, True, True, False]
    frame = applied("int64", pa.array([0, None, 1]), range={"min": 0, "max": 1, "closure": "open"})
    assert frame.rejected.tolist() == [True, False, True]


def test_an_outlier_becomes_the_bound_of_its_side() -> None:
    """as_extreme moves a number beyond a bound to that bound, in the field's own type, and leaves NaN and null."""
    values = [-INF, -5.0, -1.5, 0.0, 7.0, 7.1, INF, NAN, None]
    bounds = {"low": -1.5, "high": 7}
    frame = applied("float64", pa.array(values), outlier=bounds, on_outlier="as_extreme")
    assert bits(frame.float64("x")) == bits(np.array([-1.5, -1.5, -1.5, 0.0, 7.0, 7.0, 7.0, NAN, NAN]))
    frame = applied("float32", pa.array([0.0, 9.0], pa.float32()), outlier={"high": 0.1}, on_outlier="as_extreme")
    assert frame["x"].to_pylist() == [0.0, float(np.float32(0.1))]
    whole = pa.array([-(2**31), 6, None], pa.int32())
    assert applied("int32", whole, outlier=bounds | {"low": -1}, on_outlier="as_extreme")["x"].to_pylist() == [
        -1,
        6,
        None,
    ]
    frame = applied("float64", pa.array(values), outlier=bounds, on_outlier="reject")
    found = [(r.rows.tolist(), r.code, r.pointer, r.message) for r in frame.rejections]
    assert found == [
        ([0, 1], "OUTLIER", "/input/fields/0/outlier", "x is an outlier: it is below -1.5"),
        ([5, 6], "OUTLIER", "/input/fields/0/outlier", "x is an outlier: it is above 7.0"),
    ]


def test_an_invalid_value_is_no_outlier_any_more_once_it_is_replaced() -> None:
    """The check for outliers sees what the treatment of invalid values left, as PMML orders them."""
    rules = {"range": {"max": 100}, "outlier": {"high": 50}, "on_outlier": {"flag": "high"}}
    column = pa.array([1.0, 60.0, 1000.0])
    frame = applied("float64", column, **rules, on_invalid="as_missing")
    assert (frame["x"].to_pylist(), frame["high"].to_pylist()) == ([1.0, 60.0, None], [False, True, False])
    frame = applied("float64", column, **rules, on_invalid={"as_value": 70})
    assert (frame["x"].to_pylist(), frame["high"].to_pylist()) == ([1.0, 60.0, 70.0], [False, True, True])


def test_a_text_must_match_its_pattern_as_a_whole() -> None:
    """A text that matches in part, before a line end too, is invalid; null is no text."""
    texts = ["AB12", "AB123", "xAB12", "AB12\n", "", None]
    frame = applied("string", pa.array(texts), pattern="[A-Z]{2}[0-9]{2}")
    ((rows, code, pointer, column, message),) = frame.rejections
    assert (rows.tolist(), code, pointer, column) == ([1, 2, 3, 4], "PATTERN", "/input/fields/0/pattern", "x")
    assert message == "x does not match the pattern"


def test_lengths_count_code_points_and_elements() -> None:
    """A text is as long as its code points, a list as its elements, nulls among them too."""
    texts = [text for text in TEXTS if text is not None]
    frame = applied("string", pa.array(texts), min_length=2, max_length=4)
    wanted = [(2 <= len(text) <= 4) for text in texts]
    assert (~frame.rejected).tolist() == wanted
    assert {(r.code, r.pointer.rpartition("/")[2], r.message) for r in frame.rejections} == {
        ("WRONG_LENGTH", "min_length", "x has fewer than 2 characters"),
        ("TOO_LONG", "max_length", "x has more than 4 characters"),
    }
    wide = applied("string", pa.array(["😀", "漢字", "abc"]), min_length=3)
    assert wide.rejected.tolist() == [True, True, False]
    frame = applied("list<int64>", pa.array([[], [1], [None, 2], None, [1, 2, 3]]), min_length=1, max_length=2)
    assert [(r.rows.tolist(), r.code, r.message) for r in frame.rejections] == [
        ([0], "WRONG_LENGTH", "x has fewer than 1 elements"),
        ([4], "TOO_LONG", "x has more than 2 elements"),
    ]


def test_flags_are_columns_that_steps_may_read() -> None:
    """A flag is a bool column behind the fields, which steps and tensors take as any other."""
    field = {"name": "x", "type": "float64", "range": {"min": 0}, "on_invalid": {"flag": "x_bad"}}
    step = {"id": "n", "op": "assemble", "in": ["x", "x_bad"], "out": ["y"]}
    spec = read_spec(json.dumps(document([field, {"name": "z", "type": "string"}], [step])), "spec")
    assert spec.input.columns() == {
        "x": ColumnType("float64"),
        "z": ColumnType("string"),
        "x_bad": ColumnType("bool"),
    }
    twice = document([{**field, "on_missing": {"flag": "x_bad"}}], [step])
    with pytest.raises(SpecError, match="columns declared twice: x_bad"):
        read_spec(json.dumps(twice), "spec")
    with pytest.raises(SpecError, match="columns declared twice: x_bad"):
        read_spec(json.dumps(document([field, {"name": "x_bad", "type": "bool"}], [step])), "spec")
    with pytest.raises(SpecError, match="column 'x_bad' is already written"):
        read_spec(json.dumps(document([field], [{**step, "out": ["x_bad"]}])), "spec")


def test_other_columns_are_refused_where_the_contract_says_so() -> None:
    """With extra_columns error a file with a column that nobody names is refused, and a job's own are let be."""
    schema = pa.schema([("x", pa.float64()), ("y", pa.int8()), ("id", pa.int64())])
    field = {"name": "x", "type": "float64"}
    Contract.model_validate({"fields": [field]}).check_schema(schema, "f")
    strict = Contract.model_validate({"fields": [field], "extra_columns": "error"})
    with pytest.raises(ContractError, match=r"^f: .*column 'y' is not in the contract.*; column 'id' is not in"):
        strict.check_schema(schema, "f")
    strict.check_schema(schema, "f", others=("id", "y"))


@pytest.mark.parametrize(
    ("kind", "physical"),
    [
        ("float64", pa.decimal128(5, 2)),
        ("float64", pa.decimal128(18, 6)),
        ("float64", pa.decimal128(18, 18)),
        ("float64", pa.decimal128(38, 0)),
        ("float64", pa.decimal128(38, 37)),
        ("float64", pa.decimal256(76, 40)),
        ("float64", pa.decimal64(17, 3)),
        ("int64", pa.decimal128(38, 0)),
        ("int64", pa.decimal256(50, 3)),
        ("int64", pa.decimal32(9, 2)),
    ],
)
def test_a_decimal_is_the_nearest_float_or_the_very_integer(kind: str, physical: Any) -> None:
    """Decimals of any precision become the float64 that Python rounds them to; as int64 only what is one is kept."""
    rng = random.Random(7)  # noqa: S311  no secret
    top = 10**physical.precision - 1
    unscaled = [0, 1, -1, top, -top, *(rng.randint(-top, top) for _ in range(300)), *range(0, 1000, 50)]
    unscaled += [value * 10**physical.scale for value in (5, -7) if 7 * 10**physical.scale <= top]
    values = [None, *(Decimal(f"{value}E-{physical.scale}") for value in unscaled), None]
    column = pa.array(values, physical)
    for start in (0, 3):
        frame = applied(kind, column[start:], on_invalid="as_missing")
        if kind == "float64":
            wanted = [value if value is None else float(value) for value in values]
        else:
            wanted = [
                None if value is None or value != int(value) or not -(2**63) <= value < 2**63 else int(value)
                for value in values
            ]
            assert sum(value is not None for value in wanted) > 3
        assert frame["x"].to_pylist() == wanted[start:]
    with pytest.raises(ContractError, match="has type decimal128"):
        applied("int32", pa.array([Decimal(1)], pa.decimal128(5, 0)))


def test_spark_s_form_of_uint64_is_read_as_uint64_is() -> None:
    """A decimal(20, 0) gives the values and rejections of the integers that it holds, in fields of every kind."""
    values = [None, 0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    unsigned = pa.array(values, pa.uint64())
    decimal = pa.array([value if value is None else Decimal(value) for value in values], pa.decimal128(20, 0))
    for kind in ("uint64", "int64", "float64"):
        frames = [applied(kind, column[start:]) for start in (0, 3) for column in (unsigned, decimal)]
        for one, other in (frames[:2], frames[2:]):
            assert other["x"].equals(one["x"])
            told = [[(r.code, r.rows.tolist()) for r in frame.rejections] for frame in (one, other)]
            assert told[0] == told[1]
            assert bool(told[0]) == (kind != "uint64")
    negative = applied("float64", pa.array([Decimal(-(2**53)), Decimal(-(2**53) - 1), None], pa.decimal128(20, 0)))
    assert [rejection.rows.tolist() for rejection in negative.rejections] == [[1]]
    assert applied("uint64", pa.array([Decimal(-1)], pa.decimal128(20, 0))).rejections[0].code == "OUT_OF_RANGE"


def test_lists_and_structs_are_read_by_name_and_not_copied() -> None:
    """A list or struct in its canonical type is the same memory; another is cast part by part, in slices too."""
    column = pa.array([[1, 2], None, [3]])
    assert applied("list<int64>", column)["x"].values.buffers()[1].address == column.values.buffers()[1].address
    for physical in (
        pa.large_list(pa.int8()),
        pa.list_(pa.uint64()),
        pa.list_(pa.field("element", pa.int16(), nullable=False)),
    ):
        for rows in (slice(0, 3), slice(1, 3)):
            frame = applied("list<int64>", column.cast(physical)[rows])
            assert frame["x"].equals(column[rows]), physical
    fixed = pa.array([[1.5, None], None, [2.0, 3.0]], pa.list_(pa.float16(), 2))
    assert applied("list<float32>", fixed[1:])["x"].to_pylist() == [None, [2.0, 3.0]]
    words = pa.array([["a", None], [], None]).cast(pa.list_(pa.large_string()))
    assert applied("list<string>", words)["x"].equals(pa.array([["a", None], [], None]))
    place = pa.array([{"zip": 7, "city": "Ä", "more": 1}, None, {"zip": None, "city": None, "more": None}])
    frame = applied("struct<city: string, zip: int64>", place)
    assert frame["x"].type == pa.struct([("city", pa.string()), ("zip", pa.int64())])
    assert frame["x"].to_pylist() == [{"city": "Ä", "zip": 7}, None, {"city": None, "zip": None}]
    assert applied("struct<city: string, zip: int64>", pa.nulls(2))["x"].to_pylist() == [None, None]


def test_a_struct_without_a_subfield_is_refused_by_its_schema() -> None:
    """A file whose structs lack a subfield, or have one of another type or twice, is refused with all of them."""
    found = pa.struct([("zip", pa.string()), ("twice", pa.int8()), ("twice", pa.int8())])
    wanted = ColumnType.parse("struct<zip: int64, city: string, twice: int64>")
    assert not is_readable(found, wanted)
    contract = Contract.model_validate({"fields": [{"name": "x", "type": wanted}]})
    with pytest.raises(ContractError) as caught:
        contract.check_schema(pa.schema([("x", found)]), "f")
    for part in ("subfield 'zip' has type string, not int64", "'city' is not there", "'twice' is there 2 times"):
        assert part in str(caught.value)


def test_the_reason_says_which_part_of_a_value_has_no_form() -> None:
    """A list or struct is rejected with the part and its fault named, and is missing in the frame."""
    frame = applied("list<int64>", pa.array([[1, 2**63], [1], None], pa.list_(pa.uint64())))
    assert [r.message for r in frame.rejections] == ["x has an element that is a value that int64 cannot hold"]
    assert frame["x"].to_pylist() == [None, [1], None]
    place = pa.StructArray.from_arrays([array(["a", BROKEN], pa.string())], names=["city"])
    frame = applied("struct<city: string>", place)
    assert [(r.code, r.message) for r in frame.rejections] == [("NOT_UTF8", "x has a subfield city that is not UTF-8")]


def test_vectors_of_integers_are_whole_or_rejected() -> None:
    """An int64 vector is a matrix over the same memory; a row that is none is rejected and zeros, a null one too."""
    whole = pa.array(np.arange(12).reshape(6, 2).tolist(), pa.list_(pa.int64()))
    frame = applied("int64[2]", whole)
    assert frame["x"].dtype == np.int64
    assert np.shares_memory(frame["x"], whole.flatten().to_numpy())
    rows = [[1, 2], [1], [1, None], None, [2**64 - 1, 0], [2**63 - 1, 0]]
    frame = applied("int64[2]", pa.array(rows, pa.list_(pa.uint64())))
    assert frame["x"].tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [0, 0], [2**63 - 1, 0]]
    assert [(r.rows.tolist(), r.code, r.message) for r in frame.rejections] == [
        ([1], "WRONG_LENGTH", "x does not have 2 values"),
        ([2], "WRONG_LENGTH", "x has a null among its 2 values"),
        ([4], "OUT_OF_RANGE", "x has a value that int64 cannot hold"),
        ([3], "MISSING", "x has no value"),
    ]
    assert frame.arrow("x")[3].as_py() is None


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"type": "float64", "range": {"min": 1, "max": 1, "closure": "open"}}, "no number lies in an interval"),
        ({"type": "float64", "range": {"min": 1, "closure": "openClosed"}}, "closed_open"),
        ({"type": "string", "outlier": {"low": 1}}, "outlier needs type int32, int64, float32 or float64"),
        ({"type": "uint64", "range": {"min": 1}}, "a range needs type int32, int64, float32 or float64"),
        ({"type": "int32", "outlier": {"low": 0.5}, "on_outlier": "as_extreme"}, "as_extreme needs bounds that are"),
        ({"type": "float32", "outlier": {"low": 1e39}, "on_outlier": "as_extreme"}, "as_extreme needs bounds that are"),
        ({"type": "float64", "outlier": {}}, "give low, high or both"),
        ({"type": "float64", "outlier": {"low": 2, "high": 1}}, "low 2.0 is above high 1.0"),
        ({"type": "float64", "on_outlier": "reject"}, "on_outlier needs outlier"),
        ({"type": "float64", "on_invalid": "as_extreme"}, "as_missing"),
        ({"type": "int32", "outlier": {"low": 1}, "on_outlier": {"as_value": 0.5}}, "is no value of the type"),
        ({"type": "int64", "pattern": "a"}, "pattern needs type string"),
        ({"type": "string", "pattern": r"\d+"}, "write an explicit class"),
        ({"type": "float64", "min_length": 1}, "min_length needs type string or list"),
        ({"type": "float32[2]", "max_length": 1}, "max_length needs type string or list"),
        ({"type": "string", "min_length": 3, "max_length": 2}, "min_length 3 is above max_length 2"),
        ({"type": "string", "min_length": 0}, "greater than or equal to 1"),
        ({"type": "list<int64>", "on_missing": {"as_value": 1}}, "is no value of the type"),
        ({"type": "list<int64>", "range": {"min": 1}}, "a range needs type int32, int64, float32 or float64"),
        ({"type": "struct<a: int64>", "allowed": [1]}, "allowed holds values of type"),
        ({"type": "int64[2]", "on_missing": "as_is"}, "an int64 vector is never missing, so on_missing is"),
        ({"type": "int64[2]", "on_missing": {"flag": "f"}}, "an int64 vector is never missing, so on_missing is"),
        ({"type": "int64[2]", "on_invalid": "as_missing"}, "an int64 vector is never missing, so on_invalid is"),
        ({"type": "int64[2]", "on_invalid": {"flag": "f"}}, "an int64 vector is never missing, so on_invalid is"),
        ({"type": "float64", "on_missing": {"flag": ""}}, "at least 1 character"),
        ({"type": "float64", "on_missing": {"flag": "f", "as_value": 1}}, "Extra inputs"),
        ({"type": "float64", "on_missing": {}}, "Field required"),
    ],
)
def test_rules_that_go_with_no_value_are_refused(field: dict[str, Any], message: str) -> None:
    """A rule that its field's type cannot have, or that says nothing, is refused when the contract is read."""
    with pytest.raises(ValidationError) as caught:
        InputField.model_validate({"name": "x", **field})
    assert message in str(caught.value)


NEAR_LIMITS = [limit + step for limit in (-(2**63), -(2**53), 0, 2**53, 2**63) for step in range(-3, 4)]
NEAR_LIMITS = [number for number in NEAR_LIMITS if -(2**63) <= number < 2**63]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(NEAR_LIMITS), min_size=2, max_size=2).map(sorted),
    st.sampled_from(["closed", "open", "open_closed", "closed_open"]),
    st.lists(st.sampled_from([None, *NEAR_LIMITS]), max_size=12),
)
def test_bounds_of_integers_are_the_integers_that_they_are(bounds: list[int], closure: str, values: Any) -> None:
    """Near 2^53 and 2^63 ranges and outliers split integers as Python does, after JSON too, and as_extreme is exact."""
    low, high = bounds
    closure = closure if low < high else "closed"
    field = {"name": "x", "type": "int64", "range": {"min": low, "max": high, "closure": closure}}
    contract = read_again([field])
    kept = [
        value is None
        or (
            (value >= low if closure.startswith("closed") else value > low)
            and (value <= high if closure.endswith("closed") else value < high)
        )
        for value in values
    ]
    table = pa.table({"x": pa.array(values, pa.int64())})
    assert (~contract.apply(table, "f").rejected).tolist() == kept
    outlier = {"name": "x", "type": "int64", "outlier": {"low": low, "high": high}, "on_outlier": "as_extreme"}
    wanted = [value if value is None else min(max(value, low), high) for value in values]
    assert read_again([outlier]).apply(table, "f").arrow("x").to_pylist() == wanted


def read_again(fields: list[dict[str, Any]]) -> Contract:
    """A contract that was read, written as a spec is, and read again."""
    contract = Contract.model_validate_json(json.dumps({"fields": fields}), strict=True)
    text = json.dumps(contract.model_dump(mode="json", exclude_defaults=True))
    return Contract.model_validate_json(text, strict=True)


@pytest.mark.parametrize(
    ("written", "dumped"),
    [
        ("0", "0.0"),
        ("-0.0", "-0.0"),
        ("1e7", "10000000.0"),
        ("9007199254740992", "9007199254740992.0"),
        ("9007199254740993", "9007199254740993"),
        ("-9223372036854775808", "-9.223372036854776e+18"),
        ("9223372036854775807", "9223372036854775807"),
    ],
)
def test_a_bound_is_written_as_a_float_where_that_is_the_number(written: str, dumped: str) -> None:
    """Bounds are written as floats, 0 as 0.0, so that digests stay; as an integer only where no float is equal."""
    text = f'{{"name": "x", "type": "int64", "range": {{"min": {written}}}, "outlier": {{"low": {written}}}}}'
    plain = InputField.model_validate_json(text, strict=True).model_dump(mode="json", exclude_defaults=True)
    assert json.dumps([plain["range"], plain["outlier"]]) == f'[{{"min": {dumped}}}, {{"low": {dumped}}}]'


@pytest.mark.parametrize(
    ("kind", "rules", "faults"),
    [
        ("int32", {"range": {"min": -(2**31), "max": 2**31}}, {"range/max": "should be within int32, which is from"}),
        (
            "int64",
            {"range": {"max": 2**63}},
            {"range/max": "from -9223372036854775808 to 9223372036854775807, found 9"},
        ),
        (
            "int64",
            {"outlier": {"low": -(2**63) - 1, "high": 2**64}},
            {"outlier/low": "should be within int64", "outlier/high": "should be within int64"},
        ),
        (
            "float64",
            {"range": {"min": 2**53 + 1, "max": 2**53 + 2}},
            {"range/min": "should be a number that float64 holds, such as 9007199254740992.0, since the field is"},
        ),
        ("float32", {"outlier": {"high": 10**23}}, {"outlier/high": "such as 1e+23, since the field is float32"}),
    ],
)
def test_a_bound_that_the_type_cannot_hold_is_refused_at_its_place(kind: str, rules: Any, faults: Any) -> None:
    """A bound beyond an integer field, or one that a float field could only round, has its own pointer and cure."""
    field = {"name": "x", "type": kind, **rules}
    with pytest.raises(SpecError) as caught:
        read_spec(json.dumps(document([field], columns=["x"])), "spec")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(faults)
    for line, (place, message) in zip(lines, faults.items(), strict=True):
        assert f": /input/fields/0/{place}: " in line
        assert message in line


@pytest.mark.parametrize("rules", [{"range": {"min": 0, "max": 10}}, {"outlier": {"low": 0, "high": 10}}])
def test_what_is_made_missing_is_treated_as_missing(rules: dict[str, Any]) -> None:
    """An invalid value, or an outlier, that as_missing makes missing is replaced, flagged, rejected or fails as a null
    does, once; what replaces it is not checked by that rule again.
    """  # noqa: D205  one sentence
    key = "on_invalid" if "range" in rules else "on_outlier"
    rules = {**rules, key: "as_missing"}
    column = pa.array([1.0, 99.0, None])
    for value in (5, -1):
        replaced = applied("float64", column, **rules, on_missing={"as_value": value})
        assert replaced["x"].to_pylist() == [1.0, value, value]
    frame = applied("float64", column, **rules, on_missing={"flag": "gone"})
    assert (frame["x"].to_pylist(), frame["gone"].to_pylist()) == ([1.0, None, None], [False, True, True])
    frame = applied("float64", column, **rules, nullable=False)
    pointer = "/input/fields/0/on_missing"
    assert [(r.rows.tolist(), r.code, r.pointer, r.message) for r in frame.rejections] == [
        ([2], "MISSING", pointer, "x has no value"),
        ([1], "MISSING", pointer, f"x has no value, since {key} makes it missing"),
    ]
    with pytest.raises(ContractError, match=f"since {key} makes it missing in 1 row .* the first at 1; .*{pointer}"):
        applied("float64", column.slice(0, 2), **rules, on_missing="fail")


def test_a_large_whole_number_may_stand_for_a_float():
    """An as_value beyond 2^53 that is a number of the field's type replaces a missing value, as that float."""
    field = {"name": "x", "type": "float64", "on_missing": {"as_value": 2**70}}
    frame = Contract.model_validate({"fields": [field]}).apply(pa.table({"x": [None, 1.0]}), "test")
    assert frame.float64("x").tolist() == [2.0**70, 1.0]
