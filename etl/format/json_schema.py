"""The JSON Schema of a spec, for editors and programs: made of the models, with what a file of a spec may say instead.

The models are of a spec in memory, where a state is always whole. In a file a large one may lie beside the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.format.artifacts import MOST_ROWS, OWN_KEYS
from etl.ops.base import State
from etl.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["spec_schema"]

_ARTIFACT: dict[str, Any] = {
    "$artifact": {
        "type": "string",
        "pattern": r"^[a-z][a-z0-9_]{0,99}-[0-9a-f]{12}\.pq$",
        "description": "Name of the file beside the spec that has the lists of the state.",
    },
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the file."},
    "rows": {"type": "integer", "minimum": 0, "maximum": MOST_ROWS, "description": "Entries of each list."},
}
"""What a state says in place of its lists, as `etl.format.artifacts` writes it."""


def spec_schema() -> dict[str, Any]:
    """JSON Schema of a spec as a file: a state that has lists stands whole, or names the file that has them."""
    schema = Spec.model_json_schema(by_alias=True)
    states = {kind.__name__ for kind in _kinds_of(State)}
    schema["$defs"] = {name: _in_a_file(found) if name in states else found for name, found in schema["$defs"].items()}
    return schema


def _kinds_of(model: type[State]) -> Iterator[type[State]]:
    for kind in model.__subclasses__():
        yield kind
        yield from _kinds_of(kind)


def _in_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The schema of a state, or of the same with a file for its lists; one without lists is as it was."""
    lists = {name for name, found in state["properties"].items() if _may_be_list(found)}
    if not lists:
        return state
    written = {key: name for name, key in OWN_KEYS.items()}
    kept = {written.get(name, name): found for name, found in state["properties"].items() if name not in lists}
    required = [written.get(name, name) for name in state.get("required", ()) if name not in lists]
    form = {"properties": {**kept, **_ARTIFACT}, "required": [*required, *_ARTIFACT]}
    return {"anyOf": [state, {**state, "title": f"{state['title']} in a file", **form}]}


def _may_be_list(found: dict[str, Any]) -> bool:
    return any(branch.get("type") == "array" for branch in (found, *found.get("anyOf", ())))
