"""DataVec's `TransformProcess` JSON as a spec that makes the same of rows, to the bit after float32, or is refused.

Both of DataVec's forms are read, classes named by `@class` (1.0.0-beta and later) and as the only key of a mapping
(before), and what DataVec writes and cannot read back. A row on which DataVec's executor throws is set aside here, and
so is one on which Java's integers wrap around. The report says where else the two differ.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from etl.errors import SpecError, TextError
from etl.format.problems import Source, problem_lines
from etl.importing import (
    datavec_categories,
    datavec_columns,
    datavec_conversions,
    datavec_filters,
    datavec_numbers,
    datavec_replacements,
    datavec_texts,
    datavec_times,
)
from etl.importing.datavec_nodes import Node
from etl.importing.datavec_schema import identify, metadata, only
from etl.importing.datavec_steps import Writer
from etl.importing.refusals import collecting, refuse
from etl.importing.report import Imported, Mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_draft import Column

__all__ = ["import_datavec"]

_TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    **datavec_categories.TRANSFORMS,
    **datavec_columns.TRANSFORMS,
    **datavec_conversions.TRANSFORMS,
    **datavec_numbers.TRANSFORMS,
    **datavec_replacements.TRANSFORMS,
    **datavec_texts.TRANSFORMS,
    **datavec_times.TRANSFORMS,
}
_FILTERS = datavec_filters.FILTERS
_SEQUENCES = (
    "a sequence, one row of many steps, has no counterpart here. Where the steps are rows of a table, the relational "
    "steps window_lag and window_rolling look at those before."
)
_REDUCER = (
    "a reduction has no counterpart that is equal to the bit: DataVec adds up and rounds in the order in which it has "
    "the rows of a key, takefirst and takelast go by that order too, and stdev and variance divide by n - 1. Here sums "
    "and means are exact, and std divides by n. Where that will do, write the relational steps group_aggregate and "
    "dedupe, with the same keys, by hand."
)
_OTHERS = {
    "calculateSortedRank": "a rank, which needs all rows, has no counterpart here.",
    "convertFromSequence": _SEQUENCES,
    "convertToSequence": _SEQUENCES,
    "reducer": _REDUCER,
    "sequenceSplit": _SEQUENCES,
}
"""Other actions of DataVec's, and why they cannot be imported."""

_TOKENS = (
    "makes a sequence of as many steps as there are known tokens, and leaves unknown ones out. Op token_ids makes ids "
    "of one length, with an id for unknown tokens; where that will do, write tokenize and token_ids by hand."
)
_REASONS = {"TextToCharacterIndexTransform": _TOKENS, "TextToTermIndexSequenceTransform": _TOKENS}
"""Why some transforms cannot be imported."""

_FEATURES = ("Integer", "Long", "Double", "Float", "Boolean")
"""Types whose columns go into the tensor."""

_MANY = frozenset(
    {
        "CategoricalToOneHotTransform",
        "DeriveColumnsFromTimeTransform",
        "IntegerToOneHotTransform",
        "ParseDoubleTransform",
    }
)
"""Transforms that make or change other columns than the one that they name."""


def import_datavec(text: str, name: str) -> Imported:
    """The spec of a process, and what became of each of its actions; `name` is the file that an error names.

    The numeric columns that are left in the end are the float32 tensor `features`; others are handed through.

    Raises:
        SpecError: with everything that has no counterpart, one a line, by file, line, column and JSON pointer.
    """
    try:
        source = Source.read(text, name)
    except TextError as error:
        raise SpecError(error.coded) from error
    draft = Writer()
    report: list[Mapped] = []
    document: dict[str, Any] = {}
    with collecting(draft.problems):
        root = Node(source.value, "")
        root.allow({"actionList", "initialSchema"})
        with collecting(draft.problems):
            _read_schema(root.member("initialSchema"), draft)
        for index, action in enumerate(root.elements("actionList")):
            report.append(_read_action(action, index, draft))
        document = _document(draft, name, report)
    if draft.problems:
        raise SpecError("\n".join(problem_lines(draft.problems, source, with_code=True)))
    return Imported(document, (*_fields_report(root, draft), *report))


def _read_schema(node: Node, draft: Writer) -> None:
    kind, body = identify(node)
    if kind != "Schema":
        refuse(node.pointer, f"{kind} has no counterpart: a row here has no steps.")
    only(body, "columns")
    for element in body.elements("columns"):
        count = len(draft.columns)
        with collecting(draft.problems):
            name, meta = metadata(element)
            if name in draft.names():
                refuse(element.pointer, f"column {name!r:.80} is there twice.")
            draft.field(name, meta)
        if len(draft.columns) == count:
            draft.forget(str(element.pointer))
    if not draft.columns:
        refuse(body.place("columns"), "should not be empty.")


def _read_action(action: Node, index: int, draft: Writer) -> Mapped:
    """Write the steps of one action; if it is refused, nothing is known of what it changed."""
    counts = len(draft.steps), len(draft.guards)
    key, body, kind = "", action, "action"
    is_done = False
    with collecting(draft.problems):
        action.allow({"transform", "filter", *_OTHERS})
        keys = [key for key in action.mapping() if action.has(key)]
        if len(keys) != 1:
            refuse(action.pointer, f"should have one key that says what is done, found {len(keys)}.")
        (key,) = keys
        if key in _OTHERS:
            refuse(action.place(key), _OTHERS[key])
        kind, body = identify(action.member(key))
        draft.begin(f"a{index}", f"{kind} at {body.pointer}")
        known = _FILTERS if key == "filter" else _TRANSFORMS
        if kind not in known:
            refuse(body.pointer, f"{kind} {_REASONS.get(kind, 'has no counterpart here.')}")
        known[kind](body, draft)
        is_done = True
    if not is_done and key != "filter":
        draft.forget(*_changed(kind, body))
    made = [f"step {step['id']}" for step in draft.steps[counts[0] :]]
    made += [f"expectation {guard['id']}" for guard in draft.guards[counts[1] :]]
    became = ", ".join(made) or "no step: names and order only"
    return Mapped(body.pointer, kind, became, " ".join(draft.notes) or None)


def _changed(kind: str, body: Node) -> tuple[str, ...]:
    """Names of the columns that a transform makes or changes; none where all may be."""
    if kind not in _TRANSFORMS or kind in _MANY or not isinstance(body.value, dict):
        return ()
    for key in ("newColumnName", "columnToReplace", "columnName"):
        if isinstance(body.value.get(key), str):
            return (body.value[key],)
    return ()


def _document(draft: Writer, name: str, report: list[Mapped]) -> dict[str, Any]:
    draft.begin("out", "A category that is a feature of its own.")
    count = len(draft.steps)
    features, passthrough = _outputs(draft)
    if not features:
        refuse("", "no numeric column is left in the end, so there is no tensor for a model.")
    kept = [f"{column.name} as {column.ours}" for column in passthrough]
    made = [f"step {step['id']}" for step in draft.steps[count:]]
    became = f"tensor features of {', '.join(column.name for column in draft.columns if column.meta.type in _FEATURES)}"
    report.append(
        Mapped("", "final schema", ", ".join([became, *made]), f"handed through: {', '.join(kept)}" if kept else None)
    )
    fields = [_field(field, draft) for field in draft.fields if field.name in draft.used]
    document: dict[str, Any] = {
        "format": "scorespec/1",
        "spec_id": _identifier(name),
        "doc": "Imported from a DataVec TransformProcess.",
        "input": {"fields": fields},
        "steps": draft.steps,
        "outputs": {
            "tensors": [{"tensor": "features", "dtype": "float32", "from": features}],
            "passthrough": list(dict.fromkeys(column.ours for column in passthrough)),
        },
    }
    return document | ({"expectations": draft.guards} if draft.guards else {})


def _outputs(draft: Writer) -> tuple[list[str], list[Column]]:
    """Our columns of the tensor, and the columns that are handed through."""
    features: list[str] = []
    index = 0
    while index < len(draft.columns):
        column = draft.columns[index]
        part = column.part
        width = len(part.categories) if part else 0
        run = [other.part for other in draft.columns[index : index + width]]
        if part and run == [part._replace(position=position) for position in range(width)]:
            features.append(part.vector)
            index += width
            continue
        if column.meta.type in _FEATURES:
            features.append(draft.last(column))
        index += 1
    passthrough = [draft.take(column.name, "") for column in draft.columns if column.meta.type not in _FEATURES]
    return features, [column._replace(ours=draft.named(column)) for column in passthrough]


def _field(field: Column, draft: Writer) -> dict[str, Any]:
    """An input field; NaN is a value to DataVec, and a row that it fails on is set aside."""
    found: dict[str, Any] = {"name": field.name, "type": field.kind}
    if field.name in draft.required:
        found["nullable"] = False
    if field.kind in {"float64", "float32"}:
        found["nan_is_value"] = True
    return found


_FIELD_NOTES = {
    "Long": "A row with a number beyond ±2^53 is set aside where a feature or a step needs it as a float.",
    "Time": "DataVec's milliseconds since 1970 are a timestamp here.",
}
"""What differs by the type of a column."""


def _fields_report(root: Node, draft: Writer) -> list[Mapped]:
    _, schema = identify(root.member("initialSchema"))
    report: list[Mapped] = []
    for field, element in zip(draft.fields, schema.elements("columns"), strict=True):
        kind, body = identify(element)
        if field.name not in draft.used:
            report.append(Mapped(body.pointer, f"{kind} {field.name}", "nothing: no action and no output needs it"))
            continue
        notes = [_FIELD_NOTES[field.meta.type]] if field.meta.type in _FIELD_NOTES else []
        notes += ["A row without a value is set aside."] if field.name in draft.required else []
        became = f"field {field.name}: {field.kind}"
        report.append(Mapped(body.pointer, f"{kind} {field.name}", became, " ".join(notes) or None))
    return report


def _identifier(name: str) -> str:
    """A spec's id from a file's name."""
    stem = re.sub("[^a-z0-9]+", "_", PurePath(name).name.partition(".")[0].lower()).strip("_")
    return stem[:100] if re.match("[a-z]", stem) else f"datavec_{stem}"[:100].rstrip("_")
