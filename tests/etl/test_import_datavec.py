"""DataVec's own processes and rows, written by tests/etl/datavec/MakeFixtures.java, are the oracle."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.importing import import_datavec
from etl.pipeline import Pipeline
from etl.spec import read_spec
from tests.etl.nasty import bits

FOLDER = Path(__file__).parent / "datavec"
PROCESSES = {path.stem: path for path in sorted(FOLDER.glob("*/*.json")) if not path.name.endswith(".rows.json")}
ARROW = {
    "String": pa.string(),
    "Categorical": pa.string(),
    "Integer": pa.int32(),
    "Long": pa.int64(),
    "Double": pa.float64(),
    "Float": pa.float32(),
    "Time": pa.timestamp("ms", "UTC"),
    "Boolean": pa.bool_(),
}
FEATURES = ("Integer", "Long", "Double", "Float", "Boolean")

REFUSED = {
    "arrays": [
        *("/initialSchema/columns/0", "/initialSchema/columns/1"),
        *("/actionList/0/transform", "/actionList/1/transform"),
    ],
    "character_index": ["/actionList/0/convertToSequence", "/actionList/1/transform", "/actionList/2/transform"],
    "character_index_strict": ["/actionList/0/convertToSequence", "/actionList/1/transform", "/actionList/2/transform"],
    "concatenate_double": ["/actionList/0/transform/columnsToConcatenate/0"],
    "condition_regex_lookahead": ["/actionList/1/transform/condition/regex"],
    "conditional_copy_other_kind": ["/actionList/0/transform/sourceColumn"],
    "constant_not_finite": ["/actionList/0/transform/fixedValue/value", "/actionList/1/transform/fixedValue/value"],
    "derive_other_parts": [f"/actionList/0/transform/derivedColumns/{n}/fieldType/fieldType" for n in range(10)],
    "derive_text": ["/actionList/0/transform/derivedColumns/0/columnType"],
    "derive_zone": ["/actionList/0/transform/columnName"],
    "first_digit": ["/actionList/0/transform"],
    "float_of_double": ["/actionList/0/transform/columnName"],
    "float_of_string": ["/actionList/0/transform/columnName"],
    "integer_by_zero": ["/actionList/1/transform/scalar", "/actionList/3/transform/scalar"],
    "minmax_constant": ["/actionList/0/transform/max"],
    "pivot": ["/actionList/0/transform"],
    "rank": ["/actionList/0/calculateSortedRank"],
    "replace_string_lookahead": ["/actionList/0/transform/map/a(?= )"],
    "string_of_double": ["/actionList/0/transform/columnName"],
    "string_of_float": ["/actionList/0/transform/columnName"],
    "string_to_time_zone": ["/actionList/0/transform/timeZone"],
    "term_index": ["/actionList/0/convertToSequence", "/actionList/1/transform", "/actionList/2/transform"],
    "term_index_strict": ["/actionList/0/convertToSequence", "/actionList/1/transform", "/actionList/2/transform"],
    "term_index_without_length": ["/actionList/0/convertToSequence", "/actionList/1/transform"],
    "unsupported": [
        *("/actionList/1/transform/columnName", "/actionList/2/transform", "/actionList/3/transform"),
        *("/actionList/4/convertToSequence", "/actionList/5/transform", "/actionList/6/transform"),
        "/actionList/7/convertFromSequence",
    ],
    **{name: ["/actionList/0/reducer"] for name in PROCESSES if name.startswith("reduce_")},
}
"""Every place of a process that has no counterpart here."""

IMPORTED = [name for name in PROCESSES if name not in REFUSED]


def wraps(bits_, *results):
    """Tell whether one of some exact results is none of Java's int, or is beyond what float64 has of its long."""
    limit = 2**31 if bits_ == 32 else 2**53
    return any(not -limit <= result < limit or (bits_ == 64 and result == -limit) for result in results)


def is_beyond(*longs):
    """Tell whether float64 lacks one of some integers."""
    return any(value is not None and abs(value) > 2**53 for value in longs)


def overflows(result):
    """Tell whether a float64 becomes ±inf only as a float32."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(result) and np.isinf(np.float32(result)))


def has_other_letters(text):
    """Tell whether a text has a letter whose case Java changes with others or by its release."""
    listed = set("ß\u0130ŉΐΰ\u03a3ǆ\u212a")
    return bool(set(text) & listed) or any(0x528 <= ord(sign) <= 0x530 for sign in text)


def of_longs(*positions):
    """Tell of a row that one of its longs is beyond float64."""
    return lambda row: is_beyond(*(row[position] for position in positions))


UNTIDY = {
    *("2024-1-5 1:2:3", "02024-02-29 01:02:03", "-0001-02-03 01:02:03", "2024-02-29T23:59:58.123-05:30"),
    *("2024-02-29T23:59:58.1+0000", "2024-2-9", "9/2/2024 1:5", "1 January 1999", "2024022", "2024-02-29'T'01:02:03"),
}
"""Texts that Joda reads although they have not the digits or the form of the format."""

SET_ASIDE = {
    # Java wraps around.
    "filter_invalid_later": lambda row: wraps(32, row[0] + 50),
    "integer_chain": lambda row: wraps(32, row[0] * 3),
    "integer_columns_add": lambda row: wraps(32, row[0] + row[1] + row[0]),
    "integer_columns_divide": lambda row: row == [-(2**31), -1],
    "integer_columns_multiply": lambda row: wraps(32, row[0] * row[1] * row[0]),
    "integer_columns_subtract": lambda row: wraps(32, row[0] - row[1]),
    "integer_of_long": lambda row: row[0] is not None and wraps(32, row[0]),
    "integer_of_time": lambda row: row[0] is not None and wraps(32, row[0]),
    "integer_products": lambda row: wraps(32, row[0] * 7),
    "integer_products_negative": lambda row: wraps(32, row[0] * -3),
    "integer_sums": lambda row: wraps(32, row[0] + 7, row[0] - 7, 7 - row[0]),
    "integer_sums_negative": lambda row: wraps(32, row[0] - 3, row[0] + 3, -3 - row[0]),
    # Longs beyond ±2^53 are not exact in float64.
    "condition_invalid": of_longs(5),
    "condition_double_of_long": of_longs(0),
    "condition_long": of_longs(0),
    "constant_columns": of_longs(3),
    "constant_of_other_kind": of_longs(3),
    "double_of_long": of_longs(0),
    "duplicate_columns": of_longs(3),
    "float_of_long": of_longs(0),
    "long_columns_add": lambda row: is_beyond(*row) or wraps(64, row[0] + row[1], row[0] + row[1] + row[0]),
    "long_columns_divide": lambda row: row[1] != 0 and (is_beyond(*row) or wraps(64, abs(row[0]) // abs(row[1]))),
    "long_columns_modulus": lambda row: row[1] != 0 and is_beyond(*row),
    "long_columns_multiply": lambda row: is_beyond(*row) or wraps(64, row[0] * row[1], row[0] * row[1] * row[0]),
    "long_columns_subtract": lambda row: is_beyond(*row) or wraps(64, row[0] - row[1]),
    "long_products": lambda row: is_beyond(*row) or wraps(64, row[0] * 7),
    "long_products_negative": lambda row: is_beyond(*row) or wraps(64, row[0] * -3),
    "long_quotients": of_longs(0),
    "long_quotients_negative": of_longs(0),
    "long_sums": lambda row: is_beyond(*row) or wraps(64, row[0] + 7, row[0] - 7, min(row[0], 7), max(row[0], 7)),
    "long_sums_negative": lambda row: is_beyond(*row) or wraps(64, row[0] + 3, row[0] - 3, min(row[0], -3), row[0]),
    "rename_columns": of_longs(3),
    "reorder_columns": of_longs(3),
    "schema_types": of_longs(2),
    # A float of 32 bits overflows before the last action.
    "float_columns_add": lambda row: overflows(row[0] + row[1]),
    "float_columns_multiply": lambda row: overflows(row[0] * row[1]),
    # Texts that Java reads in more ways.
    "derive_several": lambda row: row[0] in UNTIDY,
    "double_of_string": lambda row: row[0] in {"NaN", "Infinity", "-Infinity", "0x1F", "1f", "1d", "1e999"},
    "integer_of_string": lambda row: row[0] in {"0x1F", "\u0661"},
    "parse_double": lambda row: row[0] in {"NaN", "Infinity", "-Infinity", "0x1F", "1f", "1d", "1e999"},
    **{f"string_to_time_{name}": lambda row: row[0] in UNTIDY for name in (*range(7), "guessed")},
    # Letters, and a line end before which $ stands.
    **{
        f"{case}_case{of}": lambda row: has_other_letters(row[0])
        for case in ("lower", "upper")
        for of in ("", "_letters")
    },
    "texts_to_categories": lambda row: has_other_letters(row[5]),
    "condition_regex_patterns": lambda row: row[0].endswith("\u0085"),
    # Java makes empty text of a number that is not there.
    **{f"string_of_{kind}": lambda row: row[0] is None for kind in ("boolean", "categorical", "integer", "long")},
    **{f"string_of_{kind}": lambda row: row[0] is None for kind in ("string", "time")},
}
"""Which rows of a process are set aside here, although DataVec makes something of them; the report says so."""


def value_of(value, kind):
    """Return a value of a file of rows as Python has it."""
    return float(value) if kind in {"Double", "Float"} and value is not None else value


class Example:
    """A process, and what DataVec made of rows."""

    def __init__(self, name):
        path = PROCESSES[name]
        self.name = path.name
        self.text = path.read_text(encoding="utf-8")
        rows = json.loads(path.with_suffix(".rows.json").read_text(encoding="utf-8"))
        self.reads_back = rows["datavec_reads_it_back"]
        self.schema = rows["schema"]
        self.kinds = [kind for _, kind in rows["final_schema"]]
        self.rows = [[value_of(value, kind) for value, (_, kind) in zip(row, self.schema)] for row in rows["input"]]  # noqa: B905  of no rows
        self.outcomes = rows["output"]

    @property
    def table(self):
        """The rows as a table."""
        columns = zip(*self.rows, strict=True)
        pairs = zip(self.schema, columns, strict=True)
        return pa.table({name: pa.array(values, ARROW[kind], from_pandas=False) for (name, kind), values in pairs})

    def imported(self):
        """Return the spec, read, and the report."""
        found = import_datavec(self.text, self.name)
        return read_spec(json.dumps(found.document), "spec.json"), found.report


def plain_values(column):
    """Return a column as Python values, times as milliseconds since 1970."""
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    return [None if micros is None else micros / 1000 for micros in column.view(pa.int64()).to_pylist()]


def scored(spec, table):
    """Return the features and the handed through values of each row, or why it has none."""
    pipeline = Pipeline(spec, {})
    frame = pipeline.contract(table, "rows")
    features = pipeline.transform(frame)
    kept = range(table.num_rows) if features.kept is None else features.kept.tolist()
    columns = [plain_values(frame.arrow(name)) for name in spec.outputs.passthrough]
    outcomes: dict[int, Any] = dict.fromkeys(features.filtered.tolist(), "removed")
    for rejection in features.rejections:
        outcomes |= dict.fromkeys(rejection.rows.tolist(), "error")
    for position, row in enumerate(kept):
        outcomes[row] = (features.tensors["features"][position], [values[row] for values in columns])
    return [outcomes[row] for row in range(table.num_rows)]


def wanted(row, kinds):
    """Return the float32 numbers and the other values of a row of DataVec's."""
    if isinstance(row, str):
        return row.partition(":")[0]
    # A number that is not there, and that no action reads, is empty text still.
    numbers = [
        math.nan if value in {"", None} else float(value)
        for value, kind in zip(row, kinds, strict=True)
        if kind in FEATURES
    ]
    others = [value for value, kind in zip(row, kinds, strict=True) if kind not in FEATURES]
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float64).astype(np.float32), others


def same(found, expected):
    """Tell whether two outcomes are equal, floats to the bit."""
    if isinstance(found, str) or isinstance(expected, str):
        return isinstance(found, str) and found == expected
    return bits(found[0]) == bits(expected[0]) and found[1] == expected[1]


@pytest.mark.parametrize("name", IMPORTED)
def test_rows_become_what_datavec_makes_of_them(name):
    """Each row is what DataVec makes of it to the bit after float32, filtered where it removes it, or set aside."""
    example = Example(name)
    spec, _ = example.imported()
    is_set_aside = SET_ASIDE.get(name, lambda _: False)
    expected = [
        "error" if is_set_aside(row) else wanted(outcome, example.kinds)
        for row, outcome in zip(example.rows, example.outcomes, strict=True)
    ]
    found = scored(spec, example.table)
    assert [example.rows[row] for row in range(len(found)) if not same(found[row], expected[row])] == []


def test_the_list_of_rows_that_are_set_aside_has_nothing_more():
    """Each listed case is one of a process that is imported, and is true for a row that DataVec does not throw on."""
    assert set(SET_ASIDE) <= set(IMPORTED)
    for name, is_set_aside in SET_ASIDE.items():
        example = Example(name)
        pairs = zip(example.rows, example.outcomes, strict=True)
        assert any(is_set_aside(row) and not str(outcome).startswith("error") for row, outcome in pairs), name


def test_most_of_datavec_is_imported():
    """The processes cover every family, and nine of ten that are refused are of those that need other rows or types."""
    assert len(IMPORTED) > 120
    assert {path.parent.name for name, path in PROCESSES.items() if name in IMPORTED} == {
        *("arithmetic", "categories", "columns", "conditions", "conversions", "filters", "functions", "normalizers"),
        *("chains", "replacements", "texts", "times", "whole"),
    }


def place_of(text, pointer):
    """Return the line and column of a value's key, or of the value where it is in a list, by walking the text."""
    start = 0
    for part in pointer.split("/")[1:]:
        start = start_of(text, text.index("[" if part.isdecimal() else "{", start), part)
    before = text[:start]
    return before.count("\n") + 1, start - before.rfind("\n")


def start_of(text, opening, part):
    """Return where the member or element of a container begins, whose bracket is at `opening`."""
    decoder, at = json.JSONDecoder(), opening + 1
    for index in range(1000):
        at = len(text) - len(text[at:].lstrip(" \n,"))
        start, key = at, str(index)
        if text[opening] == "{":
            key, at = decoder.raw_decode(text, at)
            at = len(text) - len(text[at:].lstrip(" \n:"))
        if key == part:
            return start
        at = decoder.raw_decode(text, at)[1]
    raise AssertionError(part)


@pytest.mark.parametrize("name", REFUSED)
def test_everything_without_counterpart_is_told_at_once(name):
    """An error has one line for each place that has no counterpart, with file, line, column and JSON pointer."""
    example = Example(name)
    with pytest.raises(SpecError) as error:
        import_datavec(example.text, example.name)
    lines = str(error.value).splitlines()
    places = [
        f"{example.name}:{line}:{column}: {pointer}: "
        for pointer in REFUSED[name]
        for line, column in [place_of(example.text, pointer)]
    ]
    assert [line[: len(place)] for line, place in zip(lines, places, strict=True)] == places
    assert all(line.endswith(" [E-UNSUPPORTED-IMPORT]") for line in lines)


@pytest.mark.parametrize("name", IMPORTED)
def test_the_report_names_everything(name):
    """Each field, action, step and expectation is in the report, and each part of the source has a line of it."""
    example = Example(name)
    document, report, _ = import_datavec(example.text, example.name)
    source = json.loads(example.text)
    said = " ".join(mapped.became for mapped in report)
    made = [step["id"] for step in document["steps"]] + [guard["id"] for guard in document.get("expectations", [])]
    assert [identifier for identifier in made if not re.search(rf"\b{identifier}\b", said)] == []
    pointers = [mapped.pointer for mapped in report]
    for index, action in enumerate(source["actionList"]):
        (key,) = action
        assert sum(pointer.startswith(f"/actionList/{index}/{key}") for pointer in pointers) == 1
    assert len(pointers) == len(source["actionList"]) + len(example.schema) + 1


def test_a_note_stands_where_rows_are_set_aside():
    """For each process of which rows are set aside that DataVec makes something of, the report says so."""
    for name in SET_ASIDE:
        _, report = Example(name).imported()
        assert any("set aside" in (mapped.note or "") for mapped in report), name


def test_both_forms_of_json_give_one_spec():
    """A process in the form of 1.0.0-alpha, which DataVec still reads, gives the steps that its other form gives."""
    old, new = Example("credit_legacy"), Example("credit")
    assert '"Boloean"' in old.text
    assert '"@class"' not in old.text
    assert old.reads_back is True
    parts = [import_datavec(example.text, "credit.json").document for example in (old, new)]
    for document in parts:
        for written in (*document["steps"], *document.get("expectations", [])):
            del written["doc"]
    assert parts[0] == parts[1]


def test_what_datavec_cannot_read_back_is_imported():
    """Processes that DataVec writes and cannot read, or reads otherwise, are read here as they were meant."""
    unreadable = {name for name in IMPORTED if Example(name).reads_back is not True}
    assert unreadable == {
        *(
            "condition_infinite",
            "condition_invalid",
            "condition_nan",
            "condition_nan_float",
            "filter_number_of_columns",
        ),
        *("missing_double_replaced", "missing_examined_then_read", "missing_not_reached", "missing_reached"),
        *("missing_replaced_by_condition", "derive_parts", "parts_of_time_one_hot", "condition_double_of_integer"),
    }


def changed(value, path, new):
    """Return a JSON value with one part replaced, or taken out."""
    if not path:
        return new
    copy = value.copy()
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


def paths_of(value):
    """Yield the path of every part of a JSON value."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield (key,)
        if isinstance(child, dict | list):
            yield from ((key, *path) for path in paths_of(child))


def survives(text):
    """Import a text: it is refused with places, or its spec can be read."""
    try:
        found = import_datavec(text, "damaged.json")
    except SpecError as error:
        lines = str(error).splitlines()
    else:
        read_spec(json.dumps(found.document), "spec.json")
        lines = []
    assert [line for line in lines if not line.startswith("damaged.json:")] == []


JUNK: list[Any] = [
    None,
    ...,
    {},
    [],
    "",
    "x",
    0,
    -1,
    2**70,
    1.5,
    True,
    ["x"],
    {"x": 1},
    [[]],
    "NaN",
    "A" * 300,
    {"@class": "java.util.Map"},
]


@given(st.sampled_from(sorted(PROCESSES)), st.integers(0, 10**6), st.sampled_from(JUNK))
@settings(max_examples=400, deadline=None)
def test_a_damaged_document_is_refused_or_read(name, where, junk):
    """A process with any part replaced or taken out gives errors with places, or a spec that can be read."""
    document = json.loads(PROCESSES[name].read_text(encoding="utf-8"))
    paths = list(paths_of(document))
    survives(json.dumps(changed(document, paths[where % len(paths)], junk)))


@given(st.sampled_from(sorted(PROCESSES)), st.integers(0, 10**6), st.text(max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_damaged_text_is_refused_or_read(name, where, junk):
    """A process with a piece of its text replaced gives errors with places, or a spec that can be read."""
    text = PROCESSES[name].read_text(encoding="utf-8")
    at = where % len(text)
    survives(text[:at] + junk + text[at + len(junk) :])


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"actionList": []}', '{"actionList": 3, "initialSchema": {}}']
)
def test_other_documents_are_refused(text):
    """What is no process of DataVec's is refused with the place of what it lacks."""
    with pytest.raises(SpecError, match=r"x\.json:1:"):
        import_datavec(text, "x.json")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("reduce_several", "write the relational steps group_aggregate and dedupe"),
        ("term_index", "write tokenize and token_ids by hand"),
        ("unsupported", "window_lag and window_rolling"),
    ],
)
def test_what_needs_other_rows_is_refused_with_what_comes_near(name, said):
    """A reduction, a text as ids and a sequence are refused with the reason and the steps to write by hand."""
    example = Example(name)
    with pytest.raises(SpecError, match=said):
        import_datavec(example.text, example.name)


def test_a_misspelt_key_is_an_error():
    """A key that DataVec would read past, taking 0 for what it means, is refused with the right one."""
    text = Example("standardize").text.replace('"stdev"', '"stdevv"')
    with pytest.raises(
        SpecError, match=r'/actionList/0/transform/stdevv: unknown key "stdevv".*Did you mean "stdev"\?'
    ):
        import_datavec(text, "x.json")


def test_a_field_that_nothing_needs_is_not_read():
    """A column that is removed before anything reads it is no field of the spec, and the report says so."""
    document, report, _ = import_datavec(Example("remove_columns").text, "x.json")
    assert [field["name"] for field in document["input"]["fields"]] == ["a", "c", "e"]
    assert [mapped.became for mapped in report if mapped.source.endswith(("MetaData b", "MetaData d"))] == [
        "nothing: no action and no output needs it"
    ] * 2


@pytest.mark.parametrize(
    ("regex", "by"),
    [
        *((regex, "_") for regex in (r"a(?=b)", r"(?<!a)b", r"(a)\1", "a++", "a*+", "(?i)a", "(?<n>a)", r"\bword\b")),
        *(
            (regex, "_")
            for regex in (r"\p{L}+", "[a[b]]", "[a&&b]", "a{1001}", "(a|b*)+", "(a", "a)", "[a", "a\\", "*a")
        ),
        *((regex, "_") for regex in ("a**", r"\Qa.b\E", r"\x{110000}", r"\uD800", "a*", "x?", "|a", "^", "$", "a|")),
        *(("(a)b", by) for by in ("$2", "$", "${n}", "\\", "$x")),
    ],
)
def test_a_regex_that_re2_may_read_otherwise_is_refused(regex, by):
    """What RE2 lacks, or reads or replaces in another way than Java, is refused at the regex's place."""
    document = json.loads(Example("replace_string_lookahead").text)
    document["actionList"][0]["transform"]["map"] = {regex: by}
    with pytest.raises(SpecError, match=r"x\.json:1:[0-9]+: /actionList/0/transform/map/.*E-UNSUPPORTED-IMPORT"):
        import_datavec(json.dumps(document), "x.json")


@pytest.mark.parametrize(
    "form", ["yy-MM-dd", "EEE yyyy", "yyyy-MM-dd 'at", "HH:mm", "yyyy yyyy", "dd yyyy", "yyyy h", "QQQ yyyy"]
)
def test_a_format_of_times_without_counterpart_is_refused(form):
    """A format with letters or parts that have no counterpart is refused at its place."""
    text = Example("string_to_time_0").text.replace("YYYY-MM-dd HH:mm:ss", form)
    with pytest.raises(SpecError, match=r"/actionList/0/transform/timeFormat: the format .*E-UNSUPPORTED-IMPORT"):
        import_datavec(text, "x.json")
