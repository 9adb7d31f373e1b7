"""`scorespec/1`: an ETL spec as data. Parsing one checks it whole; what it means is in `etl.pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from etl.artifacts import ReadArtifact, resolved
from etl.contract import Contract
from etl.documents import Document, Strict, canonical_json, sha256_hex
from etl.errors import SpecError
from etl.expectations import AnyExpectation, expectation_problems
from etl.migrations import migrated
from etl.ops import AnyRowStep
from etl.ops.base import StepId
from etl.ops.columns import Assemble, Copy, Rename
from etl.ops.filtering import Filter
from etl.ops.relations import AnyRelationalStep, table_problems
from etl.outputs import Outputs, TensorOutput
from etl.problems import Problem, Source, nearest, parse, problem_lines
from etl.salvage import sound_part
from etl.training import FieldProfile, GoldenRow, Integrity, Provenance
from etl.types import ColumnType, Schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from etl.ops.base import Step
    from etl.transforming import Transformed

__all__ = ["FORMAT", "Outputs", "Semantics", "Spec", "TensorOutput", "read_spec", "trace"]

FORMAT = "scorespec/1"

_LONGEST = 16 * 2**20
"""Characters of a spec; vocabularies of more than 1,000 entries lie beside it."""


class Semantics(Strict):
    """The frozen meaning of all ops. There is one profile; a spec names it so that a later one cannot change it."""

    profile: Literal["f64-v1"] = Field(
        default="f64-v1",
        description="float64 inside, NaN is missing, UTC; numeric ops reject rows whose int64 is beyond ±2^53.",
    )
    timezone: Literal["UTC"] = Field(default="UTC", description="Of every date and time.")
    regex: Literal["re2-subset"] = Field(default="re2-subset", description="Patterns are RE2 with explicit classes.")
    hash: Literal["xxh64-42"] = Field(default="xxh64-42", description="Hashes are XXH64 with seed 42.")
    case: Literal["ascii"] = Field(default="ascii", description="Case folding is ASCII unless a step says otherwise.")


class Spec(Document):
    """An ETL spec: contract, relational steps, row steps and tensors. Without state it is a recipe."""

    schema_uri: str | None = Field(default=None, alias="$schema", description="The JSON Schema, for editors.")
    format: Literal["scorespec/1"] = Field(description="Name and major version of this format.")
    spec_id: StepId = Field(description="Name of the spec.")
    revision: int = Field(default=1, ge=1, description="Counts up as its author changes it.")
    doc: str | None = Field(default=None, description="What the spec is for.")
    semantics: Semantics = Field(default=Semantics(), description="The meaning of all ops.")
    input: Contract = Field(description="What is read, and what happens to values that break a rule.")
    relational: tuple[AnyRelationalStep, ...] = Field(
        default=(), description="Joins, aggregates, windows and filters, before all row steps."
    )
    steps: tuple[AnyRowStep, ...] = Field(default=(), description="Row steps, in their order.")
    outputs: Outputs = Field(description="What is made.")
    expectations: tuple[AnyExpectation, ...] = Field(default=(), description="What must hold of rows and of shares.")
    reference: dict[str, FieldProfile] = Field(
        default={}, description="Statistics of the training rows, by input field."
    )
    golden: tuple[GoldenRow, ...] = Field(default=(), description="Rows, and every column that the steps make of them.")
    provenance: Provenance | None = Field(default=None, description="Where the state was learned.")
    integrity: Integrity | None = Field(default=None, description="The content's own digest.")

    @property
    def is_fitted(self) -> bool:
        """Whether every step has what it learns."""
        return all(step.is_fitted for step in self.steps)

    @property
    def filters(self) -> bool:
        """Whether a step leaves rows out."""
        return any(isinstance(step, Filter) for step in (*self.relational, *self.steps))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON without `integrity`: the identity of the content."""
        return sha256_hex(canonical_json({key: value for key, value in self.plain().items() if key != "integrity"}))

    def plain(self) -> dict[str, Any]:
        """The JSON value. What equals its default is left out, so that a release with more keys changes no digest; the
        semantics are always said.
        """  # noqa: D205  one sentence each
        plain = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {**plain, "semantics": self.semantics.model_dump(mode="json")}

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same value always gives the same bytes."""
        return canonical_json(self.plain())

    def sealed(self) -> Spec:
        """The same with its digest in `integrity`."""
        return self.model_copy(update={"integrity": Integrity(content_sha256=self.digest)})

    def schemas(self) -> list[tuple[str, Schema]]:
        """The schema after the input and after every step, by the step's id.

        Raises:
            SpecError: the spec is inconsistent.
        """
        schemas, problems = trace(self)
        if problems:
            raise SpecError("\n".join(f"{problem.pointer}: {problem.message}" for problem in problems))
        return schemas

    def transform(self, data: Any, references: Mapping[str, pa.Table] | None = None) -> Transformed:
        """What the spec makes of an Arrow table or batch, or a pandas frame; see `etl.transforming.transform`."""
        from etl.transforming import transform  # noqa: PLC0415  what runs a spec is above what a spec is

        return transform(self, data, references)

    def feature_names(self) -> dict[str, tuple[str, ...]]:
        """What each value of a row is called, by tensor: `column` for a scalar, `column[category]` for an element of a
        vector whose step says what its elements stand for, `column[i]` for one of another vector. What `assemble` puts
        side by side keeps its names.

        Raises:
            SpecError: the spec is inconsistent.
        """  # noqa: D205  the forms are one sentence
        types: Schema = {name: kind for _, schema in self.schemas() for name, kind in schema.items()}
        labels: dict[str, tuple[str, ...] | None] = {}
        parts: dict[str, list[str]] = {}

        def names_of(columns: Iterable[str]) -> list[str]:
            lists = (parts.get(name) or _names(name, types[name], labels.get(name)) for name in columns)
            return [found for names in lists for found in names]

        for step in self.steps:
            for place, name in enumerate(step.outputs):
                labels[name] = step.element_names(name)
                if isinstance(step, Assemble):
                    parts[name] = names_of(step.inputs)
                elif isinstance(step, Copy | Rename):
                    labels[name] = labels.get(step.inputs[place])
                    parts[name] = parts.get(step.inputs[place], [])
        return {tensor.tensor: tuple(names_of(tensor.columns)) for tensor in self.outputs.tensors}

    def derived_from(self, names: Iterable[str]) -> frozenset[str]:
        """These columns, and all that some step makes of one of them."""
        found = set(names)
        for step in (*self.relational, *self.steps):
            if not found.isdisjoint(step.reads):
                found.update(step.outputs)
        return frozenset(found)

    def widths(self) -> dict[str, int]:
        """Width of each tensor by name."""
        _, last = self.schemas()[-1]
        return {tensor.tensor: sum(last[name].width for name in tensor.columns) for tensor in self.outputs.tensors}


def _names(column: str, kind: ColumnType, labels: tuple[str, ...] | None) -> list[str]:
    if kind.kind != "vector":
        return [column]
    return [f"{column}[{label}]" for label in labels or map(str, range(kind.width))]


def read_spec(text: str, name: str, *, fitted: bool = True, artifacts: ReadArtifact = lambda _: None) -> Spec:
    """Parse and check a spec (`fitted=False`: a recipe will do) from JSON or YAML.

    `artifacts` gives the files of large states, which lie beside the spec.

    Raises:
        SpecError: with every problem, one a line, by file, line, column and JSON pointer.
    """
    if len(text) > _LONGEST:
        message = f"{name}: has {len(text):,} characters, and a spec at most {_LONGEST:,}. Large state lies beside it."
        raise SpecError(f"{message} [E-SIZE]")
    try:
        source = Source.read(text, name)
    except ValueError as error:
        raise SpecError(str(error)) from error
    try:
        value = migrated(source.value)
    except ValueError as error:
        raise SpecError(
            "\n".join(problem_lines([Problem("/format", f"{error}.", "E-VERSION")], source, with_code=True))
        ) from error
    value, problems = resolved(value, artifacts)
    spec = None
    if not problems:
        spec, problems = parse(Spec, source._replace(value=value))
    problems = _of_the_rest(source, value, problems) if spec is None else _all_problems(spec, fitted=fitted)
    if spec is None or problems:
        raise SpecError("\n".join(problem_lines(problems, source, with_code=True)))
    return spec


def _of_the_rest(source: Source, value: Any, problems: list[Problem]) -> list[Problem]:
    """These problems, and those of meaning in what is sound without the steps that cannot be parsed."""
    sound = sound_part(value, problems)
    spec = parse(Spec, source._replace(value=sound.value))[0] if sound else None
    if sound is None or spec is None:
        return problems
    return source.ordered([*problems, *sound.told(trace(spec)[1])])


def _all_problems(spec: Spec, *, fitted: bool) -> list[Problem]:
    """What parsing cannot see: whether the parts fit each other."""
    problems = trace(spec)[1]
    if fitted and not problems:
        problems = [
            Problem(
                f"/steps/{index}",
                f"step {step.id!r} ({step.op}) is not fitted. Run `batchscore fit` first.",
                "E-NOT-FITTED",
            )
            for index, step in enumerate(spec.steps)
            if not step.is_fitted
        ]
    if spec.integrity is not None and spec.integrity.content_sha256 != spec.digest:
        message = f"the content has SHA-256 {spec.digest}: it was changed since it was sealed."
        problems.append(Problem("/integrity/content_sha256", message, "E-HASH"))
    return problems


def trace(spec: Spec) -> tuple[list[tuple[str, Schema]], list[Problem]]:
    """The schema after every step, and everything that does not fit together."""
    schema: Schema = spec.input.columns()
    labels: Schema = {field.name: field.type for field in spec.input.labels}
    written = set(spec.input.of_training.columns())
    schemas = [("input", dict(schema))]
    problems: list[Problem] = []
    makers = {name: step.id for step in (*spec.relational, *spec.steps) for name in step.outputs if name not in schema}
    seen: set[str] = set()
    for section, steps in (("relational", spec.relational), ("steps", spec.steps)):
        for index, step in enumerate(steps):
            pointer = f"/{section}/{index}"
            if step.id in seen:
                problems.append(Problem(f"{pointer}/id", f"id {step.id!r} is used by an earlier step.", "E-DUP-OUTPUT"))
            seen.add(step.id)
            problems.extend(_unlabelled(step, pointer, labels))
            problems.extend(_advance(step, pointer, schema, written=written, makers=makers))
            schemas.append((step.id, dict(schema)))
            for name in step.outputs:
                makers.pop(name, None)
    problems.extend(table_problems(spec.relational, [name for field in spec.input.fields for name in field.flags]))
    problems.extend(spec.outputs.problems(schema, fitted=spec.is_fitted))
    problems.extend(expectation_problems(spec.expectations, schema, spec.steps))
    return schemas, problems


def _advance(
    step: Step, pointer: str, schema: Schema, *, written: set[str], makers: Mapping[str, str]
) -> list[Problem]:
    """Bring the schema behind the step; unknown types become float64 so that later steps are still checked."""
    problems = [
        *_unread(step, pointer, schema, makers=makers),
        *_miscounted(step, pointer),
        *_rewritten(step, pointer, written),
    ]
    types: tuple[ColumnType, ...] = ()
    if not problems:
        try:
            types = step.infer(tuple(schema[name] for name in step.reads))
        except ValueError as error:
            problems.append(Problem(pointer, f"op {step.op} {error}.", "E-TYPE"))
    for position, name in enumerate(step.outputs):
        schema.setdefault(name, types[position] if position < len(types) else ColumnType("float64"))
    written.update(step.outputs)
    for name in step.dropped:
        schema.pop(name, None)
    return problems


def _unread(step: Step, pointer: str, schema: Schema, *, makers: Mapping[str, str]) -> list[Problem]:
    """Columns that are read and not there; one that only a later step makes would need a cycle, or another order."""
    problems = []
    for position, name in enumerate(step.reads):
        if name not in schema:
            # What a step reads begins with its inputs; the columns of a condition follow.
            place = f"{pointer}/in/{position}" if position < len(step.inputs) else f"{pointer}/params"
            message, code = f"column {name!r} is not there at step {step.id!r}.{nearest(name, schema)}", "E-NO-COLUMN"
            if name in makers:
                by = "itself" if makers[name] == step.id else f"the later step {makers[name]!r}"
                message = f"column {name!r}, which step {step.id!r} reads, is made by {by}; steps run in their order."
                code = "E-CYCLE"
            problems.append(Problem(place, message, code))
    return problems


def _unlabelled(step: Step, pointer: str, labels: Schema) -> list[Problem]:
    problems = []
    for name in step.learns_from:
        if name not in labels:
            message = (
                f"column {name!r}, which step {step.id!r} learns from, is not in /input/labels.{nearest(name, labels)}"
            )
            problems.append(Problem(f"{pointer}/params", message, "E-NO-COLUMN"))
        elif not labels[name].is_numeric:
            message = f"op {step.op} learns from numbers, found label {name!r} of type {labels[name]}."
            problems.append(Problem(f"{pointer}/params", message, "E-TYPE"))
    return problems


def _miscounted(step: Step, pointer: str) -> list[Problem]:
    return [
        Problem(f"{pointer}/{key}", f"op {step.op} takes {wanted} here, found {len(names)}.", "E-TYPE")
        for key, names, wanted in (("in", step.inputs, step.arity[0]), ("out", step.outputs, step.arity[1]))
        if wanted is not None and len(names) != wanted
    ]


def _rewritten(step: Step, pointer: str, written: set[str]) -> list[Problem]:
    return [
        Problem(
            f"{pointer}/out/{place}", f"column {name!r} is already written; names are written once.", "E-DUP-OUTPUT"
        )
        for place, name in enumerate(step.outputs)
        if name in written or name in step.outputs[:place]
    ]
