"""Whether the parts of a bundle fit: what its spec makes, what its model takes and gives, and what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etl.spec import Spec
    from scoring.bundles.bundle import Bundle

__all__ = ["misfits"]


def misfits(bundle: Bundle, spec: Spec) -> list[str]:
    """What the spec makes against what the model takes, and what is published against what the model gives."""
    made = {tensor.model_input: tensor for tensor in spec.outputs.tensors}
    widths = spec.widths()
    problems = []
    for tensor in bundle.signature.inputs:
        if tensor.shape and tensor.shape[0] is not None:
            # Each batch would fail, and be halved until all its rows were alone.
            fixed = f"model input {tensor} has a fixed first axis, the rows of a batch"
            problems.append(f"{fixed}: export it with a dynamic one (`dynamic_axes` of torch.onnx.export)")
        output = made.pop(tensor.name, None)
        if output is None:
            problems.append(f"model input {tensor} is fed by no tensor of the spec")
        elif output.dtype != tensor.dtype or output.rank != len(tensor.shape):
            problems.append(f"model input {tensor} is fed with {output.dtype} of rank {output.rank}")
        elif output.rank == 2 and tensor.shape[1] not in {None, widths[output.tensor]}:  # noqa: PLR2004  a matrix
            problems.append(f"model input {tensor} is fed with {widths[output.tensor]} columns")
        elif _differ(tensor.shape[1:], output.axes(widths[output.tensor])):
            problems.append(
                f"model input {tensor} is fed with rows of shape {list(output.axes(widths[output.tensor]))}"
            )
    problems.extend(f"tensor {name!r} of the spec is no input of the model" for name in made)
    given = {tensor.name: tensor for tensor in bundle.signature.outputs}
    for column in bundle.columns:
        if column.tensor not in given:
            problems.append(f"column {column.column!r} takes {column.tensor!r}, the model gives {', '.join(given)}")
        elif (problem := column.problem(given[column.tensor])) is not None:
            problems.append(f"column {column.column!r}: {problem}")
    names = [column.column for column in bundle.columns]
    problems.extend(f"column {name!r} is published twice" for name in sorted({n for n in names if names.count(n) > 1}))
    return problems


def _differ(declared: tuple[int | None, ...], made: tuple[int, ...]) -> bool:
    """Whether an axis has another size than the model declares; the model may leave any open."""
    return any(size not in {None, found} for size, found in zip(declared, made, strict=True))
