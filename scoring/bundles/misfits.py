"""Whether the parts of a bundle fit: what its spec makes, what its model takes and gives, and what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.spec import Spec
    from scoring.bundles.bundle import Bundle
    from scoring.signature import TensorSpec

__all__ = ["misfits"]


def misfits(bundle: Bundle, spec: Spec) -> list[str]:
    """What the spec makes against what the model takes, and what is published against what the model gives."""
    problems = _input_problems(bundle.signature.inputs, spec, fixed=bundle.signature.fixed_rows)
    given = {tensor.name: tensor for tensor in bundle.signature.outputs}
    for column in bundle.columns:
        if column.tensor not in given:
            problems.append(f"column {column.column!r} takes {column.tensor!r}, the model gives {', '.join(given)}")
        elif (problem := column.problem(given[column.tensor])) is not None:
            problems.append(f"column {column.column!r}: {problem}")
    names = [column.column for column in bundle.columns]
    problems.extend(f"column {name!r} is published twice" for name in sorted({n for n in names if names.count(n) > 1}))
    return problems


class _Fed(NamedTuple):
    """What an input of the model is fed with."""

    dtype: str
    axes: tuple[int, ...]
    """Behind the rows'; 0 where it has several lengths."""
    lengths: tuple[int, ...] = ()
    """Those that it may have, if these are known."""
    is_padded: bool = False


def _fed(spec: Spec) -> dict[str, _Fed]:
    """By model input; a mask is as long as what it is the mask of."""
    widths = spec.widths()
    found = {}
    for output in spec.outputs.tensors:
        axes = output.axes(widths[output.tensor])
        fed = _Fed(output.dtype, axes, output.lengths, output.is_padded)
        found[output.model_input] = fed
        if output.ragged and output.ragged.mask:
            found[output.ragged.mask.model_input] = fed._replace(dtype=output.ragged.mask.dtype)
    return found


def _input_problems(inputs: Sequence[TensorSpec], spec: Spec, *, fixed: int | None) -> list[str]:
    made = _fed(spec)
    problems = []
    for tensor in inputs:
        if not tensor.shape or tensor.shape[0] != fixed:
            # Each batch would fail, and be halved until all its rows were alone.
            found = f"model input {tensor} has another first axis than the first input ({fixed or 'any'})"
            problems.append(f"{found}: export all with a dynamic one (`dynamic_axes` of torch.onnx.export)")
        fed = made.pop(tensor.name, None)
        if fed is None:
            problems.append(f"model input {tensor} is fed by no tensor of the spec")
        elif fed.dtype != tensor.dtype or len(fed.axes) + 1 != len(tensor.shape):
            problems.append(f"model input {tensor} is fed with {fed.dtype} of rank {len(fed.axes) + 1}")
        elif (problem := _shape_problem(tensor, fed)) is not None:
            problems.append(f"model input {tensor} is fed with {problem}")
    problems.extend(f"tensor {name!r} of the spec is no input of the model" for name in made)
    return problems


def _shape_problem(tensor: TensorSpec, fed: _Fed) -> str | None:
    if not _differ(tensor.shape[1:], fed.axes):
        return None
    if fed.is_padded:
        lengths = " or ".join(map(str, fed.lengths)) or "whatever length the longest has"
        advice = f"a fixed axis takes `buckets: [{tensor.shape[1]}]` alone, or export it with a dynamic one"
        return f"rows padded to {lengths}: {advice}"
    return f"{fed.axes[0]} columns" if len(fed.axes) == 1 else f"rows of shape {list(fed.axes)}"


def _differ(declared: tuple[int | None, ...], made: tuple[int, ...]) -> bool:
    """Whether an axis has another size than the model declares; the model may leave any open."""
    return any(size not in {None, found} for size, found in zip(declared, made, strict=True))
