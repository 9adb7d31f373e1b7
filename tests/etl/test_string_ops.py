from __future__ import annotations

import math
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.errors import TransformError
from etl.ops import FAMILIES, OPS
from etl.types import ColumnType
from tests.etl.nasty import TEXTS, applied, bits, frame_of, plain, step_of

ASCII_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ASCII_LOWER = "abcdefghijklmnopqrstuvwxyz"
TO_LOWER, TO_UPPER = str.maketrans(ASCII_UPPER, ASCII_LOWER), str.maketrans(ASCII_LOWER, ASCII_UPPER)

ASSIGNED = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in {"Cn", "Cs"}]
"""Every character that the Unicode of Python 3.11, version 14, has."""

WORDS = st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=12))


def each(texts, function):
    """Return what a function makes of each text, None for None."""
    return [None if text is None else function(text) for text in texts]


def of_texts(texts, op, **keys):
    """Return what an op makes of a column of texts, as Python values."""
    return plain(applied(frame_of(x=("string", texts)), op, "x", **keys)[0])


def simple_lower(sign):
    """Map one character as UnicodeData.txt does; Python's full mapping makes two of one letter alone."""
    return "i" if sign == "İ" else sign.lower()


def simple_upper(sign):
    """Map one character as UnicodeData.txt does where the full mapping makes several; the kernel has its own ß."""
    if sign == "ß":
        return "\u1e9e"
    return next((full for full in (sign.upper(), sign.title()) if len(full) == 1), sign)


def test_ascii_case_is_that_of_26_letters():
    """In mode ascii, the default, only A to Z and a to z change, whatever else is in the text."""
    for op, table in (("lower", TO_LOWER), ("upper", TO_UPPER)):
        wanted = each(TEXTS, lambda text, table=table: text.translate(table))
        assert of_texts(TEXTS, op) == of_texts(TEXTS, op, params={"mode": "ascii"}) == wanted
        assert of_texts(ASSIGNED, op) == [sign.translate(table) for sign in ASSIGNED]


@pytest.mark.parametrize(("op", "simple"), [("lower", simple_lower), ("upper", simple_upper)])
def test_simple_case_maps_each_character_by_itself(op, simple):
    """In mode unicode_simple each character of Unicode 14 has its simple mapping, wherever it stands."""
    found = of_texts(ASSIGNED, op, params={"mode": "unicode_simple"})
    later = {sign for sign, made in zip(ASSIGNED, found, strict=True) if made != simple(sign)}
    # Old letters that got the other case in Unicode 15 to 17.
    assert all(unicodedata.category(made) == "Cn" for sign, made in zip(ASSIGNED, found, strict=True) if sign in later)
    assert len(later) < 20
    texts = each(TEXTS, lambda text: "".join(simple(sign) for sign in text))
    assert of_texts(TEXTS, op, params={"mode": "unicode_simple"}) == texts
    both = of_texts(["aΣ", "ΣΣ", "İI", "ßẞ", "K"], op, params={"mode": "unicode_simple"})
    assert both == (["a\u03c3", "\u03c3\u03c3", "ii", "ßß", "k"] if op == "lower" else ["AΣ", "ΣΣ", "İI", "ẞẞ", "K"])


CHARS = [("space", " "), ("whitespace_ascii", " \t\n\v\f\r"), ({"set": "a\u00a0\x00é-"}, "a\u00a0\x00é-")]


@pytest.mark.parametrize(("side", "strip"), [("both", str.strip), ("left", str.lstrip), ("right", str.rstrip)])
@pytest.mark.parametrize(("chars", "signs"), CHARS)
def test_trim_takes_declared_characters_alone(chars, signs, side, strip):
    """The declared characters go at the declared ends, and no-break spaces or others stay unless they are declared."""
    texts = [*TEXTS, *(f"{end}x y{end}" for end in TEXTS if end)]
    found = of_texts(texts, "trim", params={"chars": chars, "side": side})
    assert found == each(texts, lambda text: strip(text, signs))


def test_trim_by_default_takes_spaces_at_both_ends():
    """Without parameters U+0020 is taken away at both ends, and a tab stays."""
    assert of_texts(["  a b \t ", "   ", None, ""], "trim") == ["a b \t", "", None, ""]


@pytest.mark.parametrize("separator", ["", " ", "\x00", "é😀"])
def test_concat_joins_all_texts_or_none(separator):
    """Texts are joined in their order with the separator between each two; a missing one makes the result missing."""
    frame = frame_of(x=("string", TEXTS), y=("string", TEXTS[::-1]), z=("string", TEXTS))
    (found,) = applied(frame, "concat", "x", "y", "z", params={"separator": separator})
    rows = list(zip(TEXTS, TEXTS[::-1], TEXTS, strict=True))
    assert plain(found) == [None if None in row else separator.join(row) for row in rows]


@pytest.mark.parametrize("text", ["", "∅"])
def test_concat_may_put_a_text_for_a_missing_one(text):
    """With as_value no row is missing: the text stands for each missing one, also where all are missing."""
    frame = frame_of(x=("string", TEXTS), y=("string", [None] * len(TEXTS)))
    params = {"separator": "|", "missing": {"as_value": text}}
    (found,) = applied(frame, "concat", "x", "y", params=params)
    assert plain(found) == [f"{text if x is None else x}|{text}" for x in TEXTS]
    (alone,) = applied(frame, "concat", "x", params=params)
    assert plain(alone) == [text if x is None else x for x in TEXTS]


def window(text, start, length):
    """Return the code points whose position lies in a window, by asking each."""
    begin = start if start >= 0 else len(text) + start
    inside = [begin <= place and (length is None or place < begin + length) for place in range(len(text))]
    return "".join(sign for sign, is_inside in zip(text, inside, strict=True) if is_inside)


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, max_size=4), st.integers(-15, 15), st.one_of(st.none(), st.integers(0, 15)))
def test_substring_is_a_window_over_code_points(texts, start, length):
    """The result has the code points whose position is in the window, and a window outside of the text is empty."""
    params = {"start": start} if length is None else {"start": start, "length": length}
    found = of_texts(texts, "substring", params=params)
    assert found == each(texts, lambda text: window(text, start, length))


def test_substring_far_outside_is_empty_or_whole():
    """The largest and least start and length are no special cases."""
    big = 2**31 - 1
    for start, length, wanted in [
        (big, big, ""),
        (-big, None, "abc"),
        (-big, big, "abc"),
        (0, big, "abc"),
        (-big, 0, ""),
    ]:
        params = {"start": start} if length is None else {"start": start, "length": length}
        assert of_texts(["abc"], "substring", params=params) == [wanted]


def test_length_counts_code_points():
    """The length of a text is that of Python's str, as float64, and NaN where it is missing."""
    (found,) = applied(frame_of(x=("string", TEXTS)), "length", "x")
    assert found.dtype == np.float64
    assert bits(found) == bits(np.array([math.nan if text is None else len(text) for text in TEXTS]))


NUMBERS: list[str | None] = [
    *("0", "-0", "+1", "1.", ".5", "-.5e-3", "1e400", "-1e400", "1e-400", "5e-324", "2.4703282292062328e-324", "007"),
    *("179769313486231580793e289", "0.1", "123456789012345678901234567890", "9007199254740993", "1e5", "1E+5", " 1 "),
    *("1,234", "1,234,567.5", "12,34", "1,2345", ",123", "1,", "1,234,", "1234,567", "1.234,5", "1.234.567", "1,5"),
    *("1 234", "1'234", "1_000", "1\u00a0234,5", "1\u202f234", "", " ", "+", ".", "e5", "1e", "NaN", "nan", "inf"),
    *("Infinity", "0x10", "1d", "1f", "\u0661\u0662", "\uff11", "\u22121", "1\n", "\t1", "\u00a01", "- 1", "1-", "$1"),
    None,
]
STYLES = [(".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", "\u00a0"), (".", "'"), (".", "_")]


def number(text, decimal, grouping):
    """Read a number by hand: strip spaces, check groups of three, then let Python find the nearest double."""
    text = text.strip(" ")
    parts = re.fullmatch(r"([+-]?)([^eE]*)([eE][+-]?[0-9]+)?", text, re.DOTALL)
    if not parts:
        return None
    sign, digits, exponent = parts[1], parts[2], parts[3] or ""
    whole, point, fraction = digits.partition(decimal)
    groups = whole.split(grouping) if grouping else [whole]
    if len(groups) > 1 and not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
        return None
    digits = "".join(groups) + fraction
    if not digits or set(digits) - set("0123456789") or (len(groups) > 1 and not whole):
        return None
    value = float(
        f"{sign}{''.join(groups) or '0'}{point and '.'}{fraction or '0'}{exponent}"
        if point
        else f"{sign}{''.join(groups)}{exponent}"
    )
    return None if math.isinf(value) else value


@pytest.mark.parametrize(("decimal", "grouping"), STYLES)
def test_numbers_are_read_as_they_are_written(decimal, grouping):
    """A text that writes a number with the declared signs is the nearest double, and any other is missing."""
    params = {"decimal": decimal, "on_error": "as_missing", **({"grouping": grouping} if grouping else {})}
    texts = [*NUMBERS, *TEXTS]
    (found,) = applied(frame_of(x=("string", texts)), "parse_number", "x", params=params)
    wanted = each(texts, lambda text: number(text, decimal, grouping))
    assert bits(found) == bits(np.array([math.nan if value is None else value for value in wanted]))
    assert found.dtype == np.float64


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_double_is_read_back(values):
    """The shortest text of a double, and the one with its digits in groups, is read as the same bits."""
    texts = [repr(value) for value in values]
    assert bits(np.array(of_texts(texts, "parse_number"), dtype=float)) == bits(np.array(values, dtype=float))
    grouped = [f"{value:,.6f}".replace(",", "\u202f").replace(".", ",") for value in values]
    params = {"decimal": ",", "grouping": "\u202f"}
    rounded = np.array([float(f"{value:.6f}") for value in values], dtype=float)
    assert bits(np.array(of_texts(grouped, "parse_number", params=params), dtype=float)) == bits(rounded)


def test_parse_number_rejects_or_fails():
    """By default a row whose text is no number is rejected, a missing one is not; with fail the run ends."""
    frame = frame_of(x=("string", ["1", "one", None, "", "1e999"]))
    (found,) = applied(frame, "parse_number", "x")
    assert plain(found) == [1.0, None, None, None, None]
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([1, 3, 4], "NOT_PARSABLE", "/steps/0/params/on_error", "x")
    ]
    assert all("one" not in rejection.message for rejection in frame.rejections)
    with pytest.raises(TransformError, match=r"/steps/0/params/on_error: step 's': column x has a text that is no num"):
        applied(frame_of(x=("string", ["1", "one"])), "parse_number", "x", params={"on_error": "fail"})


@pytest.mark.parametrize(
    "params",
    [
        {"grouping": "."},
        {"decimal": ",", "grouping": ","},
        {"grouping": "1"},
        {"grouping": "e"},
        {"grouping": "-"},
        {"grouping": ""},
        {"grouping": ", "},
        {"decimal": ";"},
        {"on_error": "ignore"},
    ],
)
def test_signs_of_numbers_are_told_apart(params):
    """Signs that are the same, are part of numbers themselves, or are no single sign, are refused."""
    with pytest.raises(ValidationError):
        step_of("parse_number", ["x"], params=params)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_normal_forms_are_those_of_unicode(form):
    """Each text, and each character of Unicode 14, has the normal form that Python's unicodedata gives it."""
    texts = [*TEXTS, *ASSIGNED, "e\u0301\u0323", "\u1e9b\u0323", "\u0344", "\U0001d15e", "\uac01", "a\u0301" * 1000]
    found = of_texts(texts, "normalize_unicode", params={"form": form})
    assert found == each(texts, lambda text: unicodedata.normalize(form, text))
    assert of_texts(["a", None, ""], "normalize_unicode", params={"form": form}) == ["a", None, ""]
    assert of_texts([None], "normalize_unicode", params={"form": form}) == [None]


@pytest.mark.parametrize(
    ("default", "other"),
    [("keep", lambda text: text), ("as_missing", lambda _: None), ({"as_value": ""}, lambda _: "")],
)
def test_replace_maps_whole_texts(default, other):
    """A text in the mapping becomes its value, also empty text or NUL; another goes by default; missing stays so."""
    mapping = {
        "": "empty",
        "\x00": "",
        "A": "a",
        "e\u0301": "\u00e9",
        "x" * 20_000: "long",
        "NaN": "null",
        "null": "NaN",
    }
    found = of_texts(TEXTS, "replace", params={"mapping": mapping, "default": default})
    assert found == each(TEXTS, lambda text: mapping[text] if text in mapping else other(text))


def test_replace_keeps_by_default():
    """Without default other texts stay."""
    assert of_texts(["a", "b", None], "replace", params={"mapping": {"a": "c"}}) == ["c", "b", None]


PARAMS = {
    "substring": {"start": -3, "length": 2},
    "normalize_unicode": {"form": "NFKC"},
    "parse_number": {"on_error": "as_missing"},
    "replace": {"mapping": {"A": "b"}, "default": "as_missing"},
}


@pytest.mark.parametrize("op", FAMILIES["strings"])
@pytest.mark.parametrize("kind", ["int64", "float64", "bool", "date", "float32[2]", "list<string>"])
def test_texts_alone_have_letters(op, kind):
    """Numbers, dates, vectors and lists are no texts until they are cast."""
    step = step_of(op, ["x"], **({"params": PARAMS[op]} if op in PARAMS else {}))
    with pytest.raises(ValueError, match=r"takes string, found .*; cast it first"):
        step.infer((ColumnType.parse(kind),))
    makes_number = op in {"length", "parse_number"}
    assert step.infer((ColumnType("string"),)) == (ColumnType("float64" if makes_number else "string"),)


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, max_size=8), st.integers(0, 8))
@pytest.mark.parametrize("op", FAMILIES["strings"])
def test_a_batch_may_be_cut_anywhere(op, texts, cut):
    """Rows give the same whichever batch they are in, also in an empty one."""
    keys = {"params": PARAMS[op]} if op in PARAMS else {}
    whole = of_texts(texts, op, **keys)
    assert of_texts(texts[:cut], op, **keys) + of_texts(texts[cut:], op, **keys) == whole
    assert of_texts([], op, **keys) == []


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("lower", {"mode": "unicode"}),
        ("upper", {"locale": "tr"}),
        ("trim", {"chars": "tab"}),
        ("trim", {"chars": {"set": ""}}),
        ("trim", {"side": "start"}),
        ("concat", {"missing": ""}),
        ("substring", {}),
        ("substring", {"start": 0, "length": -1}),
        ("normalize_unicode", {}),
        ("normalize_unicode", {"form": "nfc"}),
        ("replace", {"mapping": {}}),
        ("replace", {"mapping": {"a": 1}}),
    ],
)
def test_strings_refuse_other_words(op, params):
    """A parameter that is absent, unknown or of no meaning is refused."""
    with pytest.raises(ValidationError):
        step_of(op, ["x"], params=params)


def test_texts_of_a_slice_are_its_own():
    """An op on a column that begins within its buffers makes of each text what it is."""
    column = pa.array(["zz", "\u00c4b", None, "c "])[1:]
    frame = frame_of(x=("string", ["a"]))
    frame["y"] = column
    for op in FAMILIES["strings"]:
        keys = {"params": PARAMS[op]} if op in PARAMS else {}
        assert plain(
            OPS[op].model_validate({"op": op, "id": "s", "in": ["y"], "out": ["o"], **keys}).apply(frame, "")[0]
        ) == of_texts(column.to_pylist(), op, **keys)
