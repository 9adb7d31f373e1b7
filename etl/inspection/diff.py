"""What changed from one spec to another, and whether a model trained behind the first can be fed by the second.

- `compatible`: every tensor is made of the same inputs by the same steps with the same state, so a model gets the same
  numbers. Names of columns and steps, documentation, expectations and provenance may differ.
- `refit-model`: the tensors have the same names, types and shapes, but mean something else.
- `incompatible`: a tensor has another name, type or shape, or is missing: the model cannot be fed.

The verdict is about meaning, not text: the digest of a column's whole derivation decides (op, parameters, state, and
the same of all that it reads). To a step on the table, that is a field as it is stored; to one in the worker, as the
contract treats it. A step that tells rows apart which are equal in all that orders them does so by every field, in the
contract's order, and by what steps made before: those, too, are part of its meaning. Which rows are filtered,
deduplicated or rejected is told, and decides nothing but what steps behind that see other rows come to. Columns of the
data that no contract names are not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from etl.documents import canonical_json, sha256_hex
from etl.ops.relations import on_table
from etl.ops.tables import TableStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.contract import InputField
    from etl.ops.base import Step
    from etl.outputs import TensorOutput
    from etl.spec import Spec

__all__ = ["Change", "Difference", "Verdict", "diff"]

Verdict: TypeAlias = Literal["compatible", "refit-model", "incompatible"]

_NOT_MEANING = {"id", "doc", "in", "out"}
"""Keys of a step that do not change what it makes."""

_TOLD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("one_hot", "multi_hot", "string_index", "token_ids", "rare_to_other"), ("counts", "n")),
    **dict.fromkeys(("impute", "standardize", "minmax", "maxabs", "robust_scale", "clip"), ("n", "ddof")),
    **dict.fromkeys(("bucketize", "quantile_map"), ("n",)),
}
"""Keys of a state that only tell how much it was learned from, by op; other ops compute with theirs."""

_RULES = ("range", "allowed", "pattern", "min_length", "max_length")
"""Keys of a field that say what is invalid."""


class Change(NamedTuple):
    """One difference."""

    where: str
    """JSON pointer in the second spec, or in the first for what is gone."""
    what: str
    """One sentence part for a person, e.g. `mean moved by 0.31 std`."""


class Difference(NamedTuple):
    """All differences of two specs."""

    verdict: Verdict
    contract: tuple[Change, ...]
    """Fields that came, went or have other rules."""
    steps: tuple[Change, ...]
    """Steps that came, went or have other parameters."""
    state: tuple[Change, ...]
    """What steps learned anew, and by how much it drifted."""
    tensors: tuple[Change, ...]
    """Tensors that came, went, have another layout, or mean something else."""
    rest: tuple[Change, ...]
    """Expectations and columns handed through, which change no number."""


def diff(old: Spec, new: Spec) -> Difference:
    """Compare two specs.

    Raises:
        SpecError: one is inconsistent.
    """
    tensors = tuple(_tensor_changes(old, new))
    is_fed = not any(change.where.endswith(_LAYOUT) for change in tensors)
    verdict: Verdict = "compatible" if not tensors else ("refit-model" if is_fed else "incompatible")
    shown = tuple(change._replace(where=change.where.removesuffix(_LAYOUT)) for change in tensors)
    rest = tuple(_rest_changes(old, new))
    return Difference(verdict, tuple(_contract_changes(old, new)), *_step_changes(old, new), shown, rest)


_LAYOUT = " (layout)"
"""Behind the place of a change that keeps a model from being fed."""


def _contract_changes(old: Spec, new: Spec) -> Iterator[Change]:
    before = {field.name: field for field in old.input.fields}
    after = {field.name: (index, field) for index, field in enumerate(new.input.fields)}
    orders = [name for name in before if name in after], [name for name in after if name in before]
    if orders[0] != orders[1]:
        one, other = next(pair for pair in zip(*orders, strict=True) if pair[0] != pair[1])
        said = f"fields are in another order: {other!r} stands where {one!r} was; the order breaks ties between rows"
        yield Change("/input/fields", said)
    for index, field in enumerate(old.input.fields):
        if field.name not in after:
            yield Change(f"/input/fields/{index}", f"field {field.name!r} is gone")
    for name, (index, field) in after.items():
        place = f"/input/fields/{index}"
        if name not in before:
            yield Change(place, f"field {name!r} ({field.type}) is new")
            continue
        rules = [_plain(before[name]), _plain(field)]
        for key in sorted(rules[0].keys() | rules[1].keys()):
            was, now = (rule.get(key) for rule in rules)
            if was != now and key != "doc":
                yield Change(f"{place}/{key}", f"field {name!r}: {key} was {_told(was)}, is {_told(now)}")


def _rest_changes(old: Spec, new: Spec) -> Iterator[Change]:
    if old.outputs.passthrough != new.outputs.passthrough:
        said = f"was {_told(list(old.outputs.passthrough))}, is {_told(list(new.outputs.passthrough))}"
        yield Change("/outputs/passthrough", f"passthrough {said}")
    before = {expectation.id: expectation for expectation in old.expectations}
    after = {expectation.id: (index, expectation) for index, expectation in enumerate(new.expectations)}
    for index, expectation in enumerate(old.expectations):
        if expectation.id not in after:
            yield Change(f"/expectations/{index}", f"expectation {expectation.id!r} is gone")
    for key, (index, expectation) in after.items():
        if key not in before or _plain(before[key]) != _plain(expectation):
            said = "is new" if key not in before else "says something else"
            yield Change(f"/expectations/{index}", f"expectation {key!r} {said}")


def _step_changes(old: Spec, new: Spec) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    before, after = _places(old), _places(new)
    steps = [
        Change(place, f"step {key!r} ({step.op}) is gone") for key, (place, step) in before.items() if key not in after
    ]
    states: list[Change] = []
    for key, (place, step) in after.items():
        if key not in before:
            steps.append(Change(place, f"step {key!r} ({step.op}) is new"))
            continue
        was, now = _plain(before[key][1]), _plain(step)
        for part in ("op", "in", "out", "params"):
            if was.get(part) != now.get(part):
                said = f"step {key!r}: {part} was {_told(was.get(part))}, is {_told(now.get(part))}"
                steps.append(Change(f"{place}/{part}", said))
        if was.get("state") != now.get("state"):
            said = _drift(was.get("state") or {}, now.get("state") or {})
            states.append(Change(f"{place}/state", f"step {key!r}: {said}"))
    return tuple(steps), tuple(states)


def _drift(was: dict[str, Any], now: dict[str, Any]) -> str:
    """What a state's values did, most telling first."""
    if not was or not now:
        return "was not fitted" if now else "is not fitted"
    told = [_vocabulary_drift(was["vocab"], now["vocab"])] if "vocab" in was and "vocab" in now else []
    spread = was.get("std")
    for key in sorted((was.keys() | now.keys()) - {"vocab", "counts"}):
        one, other = was.get(key), now.get(key)
        if one == other:
            continue
        if key == "mean" and spread and one is not None and other is not None:
            told.append(f"mean moved by {abs(other - one) / spread:.3g} std, from {one:.6g} to {other:.6g}")
        else:
            told.append(f"{key} was {_told(one)}, is {_told(other)}")
    return "; ".join(told) or "the counts of its categories changed, its order did not"


def _vocabulary_drift(was: list[str], now: list[str]) -> str:
    positions = {entry: position for position, entry in enumerate(was)}
    added = sum(entry not in positions for entry in now)
    kept = {entry for entry in now if entry in positions}
    moved = sum(positions.get(entry, place) != place for place, entry in enumerate(now))
    parts = [
        f"{added} entries added" if added else "",
        f"{len(was) - len(kept)} removed" if len(kept) < len(was) else "",
    ]
    parts.append(f"{moved} have another id, which breaks an embedding" if moved else "")
    return ", ".join(part for part in parts if part) or "same entries in the same order, other counts"


def _tensor_changes(old: Spec, new: Spec) -> Iterator[Change]:
    before = {tensor.model_input: tensor for tensor in old.outputs.tensors}
    after = {tensor.model_input: (index, tensor) for index, tensor in enumerate(new.outputs.tensors)}
    old_widths, new_widths = old.widths(), new.widths()
    old_meaning, new_meaning = _meanings(old), _meanings(new)
    for index, tensor in enumerate(old.outputs.tensors):
        if tensor.model_input not in after:
            yield Change(f"/outputs/tensors/{index}{_LAYOUT}", f"tensor {tensor.model_input!r} is gone")
    for name, (index, tensor) in after.items():
        place = f"/outputs/tensors/{index}"
        if name not in before:
            yield Change(f"{place}{_LAYOUT}", f"tensor {name!r} is new")
            continue
        was = before[name]
        widths = old_widths[was.tensor], new_widths[tensor.tensor]
        is_other = was.axes(widths[0]) != tensor.axes(widths[1])
        # A width that a fit has yet to tell is no other layout; what the tensor means is another thing behind the fit.
        if was.dtype != tensor.dtype or (is_other and (all(widths) or len(was.axes(1)) != len(tensor.axes(1)))):
            said = f"tensor {name!r} was {was.form(widths[0])}, is {tensor.form(widths[1])}"
            yield Change(f"{place}{_LAYOUT}", said)
            continue
        if was.ragged != tensor.ragged:
            yield _ragged_change(was, tensor, place)
        pairs = zip(was.columns, tensor.columns, strict=False)
        other = [(one, two) for one, two in pairs if old_meaning[one] != new_meaning[two]]
        if other or len(was.columns) != len(tensor.columns):
            said = ", ".join(two if one == two else f"{one} → {two}" for one, two in other[:10]) or "its columns"
            more = f" and {len(other) - 10} more" if len(other) > 10 else ""  # noqa: PLR2004  as many as are shown
            yield Change(f"{place}/from", f"tensor {name!r} means something else: {said}{more}")


def _ragged_change(was: TensorOutput, now: TensorOutput, place: str) -> Change:
    """Rows that are cut or filled up in another way mean something else; one mask more or less feeds another model."""
    rules = [_told(None if tensor.ragged is None else _plain(tensor.ragged)) for tensor in (was, now)]
    masks = [tensor.ragged.mask if tensor.ragged else None for tensor in (was, now)]
    is_other = was.is_padded != now.is_padded or masks[0] != masks[1]
    said = f"tensor {now.model_input!r}: ragged was {rules[0]}, is {rules[1]}"
    return Change(f"{place}/ragged{_LAYOUT if is_other else ''}", said)


def _meanings(spec: Spec) -> dict[str, str]:
    """Digest of the whole derivation of every column."""
    fields, part = spec.input.fields, on_table(spec.relational)
    treated = {
        name: _digest([field.name, _rules(field), place])
        for field in fields
        for place, name in enumerate((field.name, *field.flags))
    }
    # What runs on the table comes before the contract; to a step that sees other rows, NaN is never a value.
    stored = {field.name: _digest([field.name, _stored(field), 0]) for field in fields}
    seen = {field.name: _digest([field.name, {"type": str(field.type)}, 0]) for field in fields}
    made: dict[str, str] = {}
    all_made = left_out = ""
    for index, step in enumerate((*spec.relational, *spec.steps)):
        given = treated if index >= part else (seen if isinstance(step, TableStep) else stored)
        parts = [_own(step), [given.get(name) or made[name] for name in step.reads]]
        if isinstance(step, TableStep):
            # What other rows come to depends on which of them are there, and on which comes first.
            parts.append(left_out)
            if step.breaks_ties:
                # Keys tell no rows of a group apart.
                parts.append([all_made, *(digest for name, digest in seen.items() if name not in step.keys)])
        if not step.outputs:
            left_out = _digest([left_out, parts])
        for place, name in enumerate(step.outputs):
            made[name] = _digest([*parts, place])
            all_made = _digest([all_made, made[name]])
    return {**treated, **made}


def _own(step: Step) -> dict[str, Any]:
    """What a step is without what it reads."""
    # Columns are named in parameters too: what counts is which they are, not how they are called.
    reads = {name: place for place, name in enumerate(step.reads)}
    own = {key: part for key, part in _plain(step, reads).items() if key not in _NOT_MEANING}
    if "state" in own:
        told = _TOLD.get(step.op, ())
        own["state"] = {key: part for key, part in own["state"].items() if key not in told}
    return own


def _stored(field: InputField) -> dict[str, Any]:
    """What there is to say of a field before the contract treats it."""
    return {key: part for key, part in _plain(field).items() if key in {"type", "nan_is_value"}}


def _rules(field: InputField) -> dict[str, Any]:
    """What a field's rules make of the values that they let through: a row that is set aside has none."""
    plain, lets, kept = _plain(field), {"as_is", "reject", "fail"}, _stored(field)
    for key, treatment, rules in (
        ("on_missing", field.missing_treatment, ()),
        ("on_invalid", field.on_invalid, _RULES),
        ("on_outlier", field.on_outlier, ("outlier",)),
    ):
        if treatment not in lets:
            kept[key] = plain.get(key)
            kept.update({rule: plain[rule] for rule in rules if rule in plain})
    return kept


def _places(spec: Spec) -> dict[str, tuple[str, Step]]:
    sections: tuple[tuple[str, tuple[Step, ...]], ...] = (("relational", spec.relational), ("steps", spec.steps))
    return {step.id: (f"/{name}/{index}", step) for name, steps in sections for index, step in enumerate(steps)}


def _plain(value: Any, places: dict[str, int] | None = None) -> dict[str, Any]:
    """As JSON; columns in parameters by their places, where these are given."""
    plain: dict[str, Any] = value.model_dump(mode="json", by_alias=True, exclude_defaults=True, context=places)
    return plain


def _digest(value: Any) -> str:
    return sha256_hex(canonical_json(value))


def _told(value: Any) -> str:
    """A value in a sentence."""
    if value is None:
        return "absent"
    text = canonical_json(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}…"  # noqa: PLR2004  a line of a terminal
