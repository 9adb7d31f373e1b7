"""`scorespec/1`: an ETL spec as data. Parsing one checks it whole; what it means is in `etl.pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from etl.contract import Contract
from etl.documents import Document, Strict, sha256_hex
from etl.errors import SpecError
from etl.ops import AnyRowStep
from etl.ops.base import Name, StepId
from etl.ops.lookup import LookupJoin
from etl.problems import Problem, Source, nearest, parse, problem_lines
from etl.types import ColumnType, Schema

if TYPE_CHECKING:
    from etl.ops.base import Step

__all__ = ["Outputs", "Semantics", "Spec", "TensorOutput", "read_spec", "trace"]

_NUMBERS = ("bool", "int32", "int64", "float32", "float64", "vector")
_TENSOR_KINDS = {
    "float32": _NUMBERS,
    "float64": _NUMBERS,
    "int64": ("bool", "int32", "int64"),
    "int32": ("bool", "int32", "int64"),
    "bool": ("bool",),
    "string": ("string",),
}
"""Kinds of columns that a tensor takes: nothing is rounded or cut off on its way into one of integers."""


class Semantics(Strict):
    """The frozen meaning of all ops. There is one profile; a spec names it so that a later one cannot change it."""

    profile: Literal["f64-v1"] = Field(
        default="f64-v1",
        description="float64 inside, NaN is missing, UTC; numeric ops reject rows whose int64 is beyond ±2^53.",
    )


class TensorOutput(Strict):
    """One tensor that the spec makes: columns side by side, cast once."""

    tensor: Name = Field(description="Name of the model input that it feeds.")
    dtype: Literal["float32", "float64", "int32", "int64", "bool", "string"] = Field(
        default="float32",
        description="Element type. Integer and bool tensors take integers and bools; cast other columns first. A row "
        "with an integer beyond int32 is rejected by an int32 tensor.",
    )
    columns: tuple[Name, ...] = Field(alias="from", min_length=1, description="Columns, in the tensor's order.")
    rank: Literal[1, 2] = Field(default=2, description="2: (rows, width); 1: (rows,), for a single scalar column.")


class Outputs(Strict):
    """What a spec makes."""

    tensors: tuple[TensorOutput, ...] = Field(min_length=1, description="Model inputs.")


class Spec(Document):
    """An ETL spec: contract, relational steps, row steps and tensors. Without state it is a recipe."""

    format: Literal["scorespec/1"]
    spec_id: StepId
    revision: int = Field(default=1, ge=1)
    doc: str | None = None
    semantics: Semantics = Semantics()
    input: Contract = Field(description="What is read, and what happens to values that break a rule.")
    relational: tuple[LookupJoin, ...] = Field(default=(), description="Joins, before all row steps.")
    steps: tuple[AnyRowStep, ...] = Field(default=(), description="Row steps, in their order.")
    outputs: Outputs = Field(description="What is made.")
    provenance: dict[str, str] = Field(default_factory=dict, description="Where the state was learned; free text.")

    @property
    def is_fitted(self) -> bool:
        """Whether every step has what it learns."""
        return all(step.is_fitted for step in self.steps)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256_hex(self.to_bytes())

    def schemas(self) -> list[tuple[str, Schema]]:
        """The schema after the input and after every step, by the step's id.

        Raises:
            SpecError: the spec is inconsistent.
        """
        schemas, problems = trace(self)
        if problems:
            raise SpecError("\n".join(f"{problem.pointer}: {problem.message}" for problem in problems))
        return schemas

    def widths(self) -> dict[str, int]:
        """Width of each tensor by name."""
        _, last = self.schemas()[-1]
        return {tensor.tensor: sum(last[name].width for name in tensor.columns) for tensor in self.outputs.tensors}


def read_spec(text: str, name: str, *, fitted: bool = True) -> Spec:
    """Parse and check a spec (`fitted=False`: a recipe will do) from JSON or YAML.

    Raises:
        SpecError: with every problem, one a line, by file, line, column and JSON pointer.
    """
    try:
        source = Source.read(text, name)
    except ValueError as error:
        raise SpecError(str(error)) from error
    spec, problems = parse(Spec, source)
    if spec is not None:
        problems = trace(spec)[1]
        if fitted and not problems:
            problems = [
                Problem(f"/steps/{index}", f"step {step.id!r} ({step.op}) is not fitted. Run `batchscore fit` first.")
                for index, step in enumerate(spec.steps)
                if not step.is_fitted
            ]
    if spec is None or problems:
        raise SpecError("\n".join(problem_lines(problems, source)))
    return spec


def trace(spec: Spec) -> tuple[list[tuple[str, Schema]], list[Problem]]:
    """The schema after every step, and everything that does not fit together."""
    schema: Schema = {field.name: field.type for field in spec.input.fields}
    schemas = [("input", dict(schema))]
    problems: list[Problem] = []
    seen: set[str] = set()
    for section, steps in (("relational", spec.relational), ("steps", spec.steps)):
        for index, step in enumerate(steps):
            pointer = f"/{section}/{index}"
            if step.id in seen:
                problems.append(Problem(f"{pointer}/id", f"id {step.id!r} is used by an earlier step."))
            seen.add(step.id)
            problems.extend(_advance(step, pointer, schema))
            schemas.append((step.id, dict(schema)))
    problems.extend(_check_tensors(spec.outputs, schema))
    return schemas, problems


def _advance(step: Step, pointer: str, schema: Schema) -> list[Problem]:
    """Add the step's outputs to the schema; unknown types become float64 so that later steps are still checked."""
    problems = [
        Problem(f"{pointer}/in/{position}", f"column {name!r} is not there at step {step.id!r}.{nearest(name, schema)}")
        for position, name in enumerate(step.inputs)
        if name not in schema
    ]
    for key, names, wanted in (("in", step.inputs, step.arity[0]), ("out", step.outputs, step.arity[1])):
        if wanted is not None and len(names) != wanted:
            problems.append(Problem(f"{pointer}/{key}", f"op {step.op} takes {wanted} here, found {len(names)}."))
    for position, name in enumerate(step.outputs):
        if name in schema or name in step.outputs[:position]:
            place = f"{pointer}/out/{position}"
            problems.append(Problem(place, f"column {name!r} is already written; names are written once."))
    types: tuple[ColumnType, ...] = ()
    if not problems:
        try:
            types = step.infer(tuple(schema[name] for name in step.inputs))
        except ValueError as error:
            problems.append(Problem(pointer, f"op {step.op} {error}."))
    for position, name in enumerate(step.outputs):
        schema.setdefault(name, types[position] if position < len(types) else ColumnType("float64"))
    return problems


def _check_tensors(outputs: Outputs, schema: Schema) -> list[Problem]:
    problems: list[Problem] = []
    for index, tensor in enumerate(outputs.tensors):
        pointer = f"/outputs/tensors/{index}"
        if any(tensor.tensor == earlier.tensor for earlier in outputs.tensors[:index]):
            problems.append(Problem(f"{pointer}/tensor", f"tensor {tensor.tensor!r} is already made."))
        takes = _TENSOR_KINDS[tensor.dtype]
        for position, name in enumerate(tensor.columns):
            place = f"{pointer}/from/{position}"
            if name not in schema:
                problems.append(Problem(place, f"column {name!r} is made by no step.{nearest(name, schema)}"))
            elif schema[name].kind not in takes:
                found = f"column {name!r} is {schema[name]}, a tensor of {tensor.dtype} takes {', '.join(takes)}"
                problems.append(Problem(place, f"{found}; cast it, or derive another column."))
        width = sum(schema[name].width for name in tensor.columns if name in schema)
        if tensor.rank == 1 and width > 1:
            problems.append(Problem(f"{pointer}/rank", f"rank 1 takes a single scalar column, found {width} values."))
    return problems
