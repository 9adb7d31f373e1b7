"""DataVec's actions on text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_conditions import check_pattern, negated
from etl.importing.datavec_conversions import as_text
from etl.importing.datavec_draft import Column
from etl.importing.datavec_schema import Meta, only
from etl.importing.datavec_steps import Lit
from etl.importing.java_regex import LINE_END, WHITE_SPACE, replacement, translated
from etl.importing.refusals import collecting, give_up, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS"]


_PLAIN_LETTERS = (
    r"\x{0}-\x{DE}\x{E0}-\x{12F}\x{131}-\x{148}\x{14A}-\x{17F}\x{300}-\x{36F}"  # Latin, without ß, İ and ŉ
    r"\x{384}-\x{38F}\x{391}-\x{3A2}\x{3A4}-\x{3AF}\x{3B1}-\x{3CE}"  # Greek, without Σ, ΐ and ΰ
    r"\x{400}-\x{527}\x{590}-\x{109F}\x{2000}-\x{206F}\x{20A0}-\x{20CF}"
    r"\x{3000}-\x{A4CF}\x{AC00}-\x{D7A3}\x{FF00}-\x{FFEF}\x{1F000}-\x{1FAFF}\x{20000}-\x{3FFFF}"
)
"""Characters that have a case of one character or none, the same since Unicode 6.2, which Java 8 has."""


def _text_of(body: Node, draft: Writer) -> tuple[str, str]:
    """The name of the column that an action changes, and ours with its text."""
    name, pointer = body.text("columnName"), body.place("columnName")
    column = draft.read(name, pointer)
    return name, as_text(draft, column, pointer)


def _put(draft: Writer, name: str, ours: str) -> None:
    draft.replace(name, ours, kind="string", meta=Meta("String"))


def _append(body: Node, draft: Writer) -> None:
    only(body, "columnName", "toAppend")
    suffix = body.text("toAppend")
    name, text = _text_of(body, draft)
    _put(draft, name, draft.joined([text, draft.constant(Lit(suffix), "string", f"{name}_end")], "", name))


def _concatenate(body: Node, draft: Writer) -> None:
    only(body, "newColumnName", "delimiter", "columnsToConcatenate")
    base, delimiter = body.text("newColumnName"), body.text("delimiter")
    nodes = body.elements("columnsToConcatenate")
    texts: list[str] = []
    for node in nodes:
        with collecting(draft.problems):
            texts.append(as_text(draft, draft.read(node.as_text(), node.pointer), node.pointer))
    if len(texts) < len(nodes):
        give_up()
    if not texts:
        refuse(body.place("columnsToConcatenate"), "should not be empty.")
    ours = draft.joined(texts, delimiter, base)
    draft.add(Column(base, Meta("String"), ours, "string"), body.place("newColumnName"))


def _change_case(body: Node, draft: Writer) -> None:
    only(body, "column", "columnName", "caseType")
    to = body.word("caseType", ("LOWER", "UPPER"))
    name, text = _text_of(body, draft)
    why = "Letters whose case Java changes into several, by the letters beside them, or by its release, are not read."
    draft.guard({"regex_full_match": [text, f"[{_PLAIN_LETTERS}]*"]}, why)
    draft.note(
        "Java changes i and I by the locale that it runs in; here they are i and I, as in any but tr, az and lt."
    )
    _put(draft, name, draft.cased(text, to.lower(), name))


def _remove_white_space(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    name, text = _text_of(body, draft)
    _put(draft, name, draft.replaced(text, (WHITE_SPACE, ""), name))


def _replace(body: Node, draft: Writer) -> None:
    only(body, "columnName", "map")
    entries = body.member("map").members()
    pairs: list[tuple[str, str, bool]] = []
    for regex, node in entries.items():
        with collecting(draft.problems):
            pairs.append(_replacement(regex, node))
    if len(pairs) < len(entries):
        give_up()
    name, text = _text_of(body, draft)
    for pattern, by, has_end in pairs:
        if has_end:
            why = "A $ of Java also stands before a line end that ends the text, and here does not."
            draft.guard(negated({"regex_full_match": [text, rf"(?s).*{LINE_END}"]}), why)
        text = draft.replaced(text, (pattern, by), name)
    _put(draft, name, text)


def _replacement(regex: str, node: Node) -> tuple[str, str, bool]:
    try:
        found = translated(regex)
        by = replacement(node.as_text(), found.groups)
    except ValueError as error:
        refuse(node.pointer, f"the regex or its replacement {error}.")
    check_pattern(found.pattern, node.pointer)
    if len(by) > 1000:  # noqa: PLR2004  the most that regex_replace takes
        refuse(node.pointer, "the replacement has more than 1000 characters.")
    if found.can_be_empty:
        refuse(node.pointer, "the regex can match nothing, which engines replace in different ways.")
    return found.pattern, by, found.has_end


def _replace_empty(body: Node, draft: Writer) -> None:
    only(body, "columnName", "value")
    value = body.text("value")
    name, text = _text_of(body, draft)
    _put(draft, name, draft.choose({"cmp": [text, "==", ""]}, (Lit(value), text), name))


def _map(body: Node, draft: Writer) -> None:
    only(body, "columnName", "map")
    entries = {key: node.as_text() for key, node in body.member("map").members().items()}
    name, text = _text_of(body, draft)
    _put(draft, name, draft.renamed_texts(text, entries, name))


def _map_others(body: Node, draft: Writer) -> None:
    only(body, "columnName", "newValue", "exceptions")
    value, kept = body.text("newValue"), body.texts("exceptions")
    name, text = _text_of(body, draft)
    _put(draft, name, draft.choose({"in": [text, kept]}, (text, Lit(value)), name))


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "AppendStringColumnTransform": _append,
    "ChangeCaseStringTransform": _change_case,
    "ConcatenateStringColumns": _concatenate,
    "MapAllStringsExceptListTransform": _map_others,
    "RemoveWhiteSpaceTransform": _remove_white_space,
    "ReplaceEmptyStringTransform": _replace_empty,
    "ReplaceStringTransform": _replace,
    "StringMapTransform": _map,
}
"""What writes the steps of each transform, by its class."""
