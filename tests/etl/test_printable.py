from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.printable import code_span, counted, distinct, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u00e9", "\u00e9"),
        ("e\u0301", r"e\u0301"),
        ("a\u00a0b", r"a\xa0b"),
        ("a b", "a b"),
        ("a\u3000b\u200b\ufeff", r"a\u3000b\u200b\ufeff"),
        ("\u212b", r"\u212b"),
        ("\u00c5", "\u00c5"),
        ("\u1112\u1161\u11ab", "\u1112" + r"\u1161\u11ab"),
        ("\ud55c", "\ud55c"),
        ("x\u0307\u0323", r"x\u0307\u0323"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("\x1b[0m\n", r"\x1b[0m\x0a"),
    ],
)
def test_texts_that_look_alike_are_shown_apart(text, shown):
    """What is not composed, and spaces of other kinds, are written out; all else stays, scripts with marks too."""
    assert distinct(text) == shown
    assert code_span(text) == f"`{shown}`"


@given(st.text(st.sampled_from("ae\u0301\u00e9\u0323\u00a0 \u3000\u212b\u00c5\u030a\u1161\u1100\uac00"), max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_shown_text_is_its_own_normal_form(text):
    """No mark is left that would be put together with what stands before it, and an ASCII space is the only space."""
    shown = distinct(text)
    assert unicodedata.normalize("NFC", shown) == shown
    assert all(sign == " " or unicodedata.category(sign) != "Zs" for sign in shown)


def test_a_command_keeps_what_it_is_made_of():
    """What may be run, such as a path that macOS decomposed, is shown as it is but for what turns it around."""
    assert printable("run e\u0301\u00a0\u202e") == "run e\u0301\u00a0\\u202e"


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 passes are"), (1, "1 pass is"), (2, "2 passes are"), (1200, "1,200 passes are")]
)
def test_one_is_counted_as_one(number, told):
    """One alone has the singular, with its verb; without a plural of its own a noun gets an s."""
    assert counted(number, "pass is", "passes are") == told
    assert counted(number, "row") == f"{number:,} row{'' if number == 1 else 's'}"
