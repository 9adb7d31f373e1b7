"""`scorespec/1`: an ETL spec as data. Parsing one checks it whole; what it means is in `etl.pipeline`."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from etl.contract import Contract
from etl.documents import Document, Strict, canonical_json, sha256_hex
from etl.errors import SpecError, TextError
from etl.expectations import AnyExpectation
from etl.format.artifacts import MOST_TEXT, ReadArtifact, resolved
from etl.format.consistency import inconsistencies, schema_at, trace
from etl.format.migrations import migrated
from etl.format.problems import Problem, Source, few_hints, parse, problem_lines
from etl.format.salvage import sound_part
from etl.format.vocabularies import with_vocabularies
from etl.ops import AnyRowStep
from etl.ops.base import StepId
from etl.ops.columns import Assemble, Copy, Rename
from etl.ops.filtering import Filter
from etl.ops.numbers import ElementStep
from etl.ops.relations import AnyRelationalStep
from etl.ops.vectors import Weigh
from etl.outputs import Outputs, TensorOutput
from etl.training import FieldProfile, GoldenRow, Integrity, Provenance
from etl.types import ColumnType, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from etl.transforming import Transformed
    from etl.types import Schema

__all__ = ["FORMAT", "MOST_BYTES", "Outputs", "Semantics", "Spec", "TensorOutput", "read_spec", "schema_at", "too_long"]

FORMAT = "scorespec/1"

MOST_BYTES = MOST_TEXT
"""Of a spec, in UTF-8; vocabularies of more than 1,000 entries lie beside it."""

_MOST_ENTRIES = 10_000
"""Of each list of a spec: steps, fields, expectations and so on."""

_LISTS = (
    *("/input/fields", "/input/labels", "/relational", "/steps", "/outputs/tensors", "/outputs/passthrough"),
    *("/expectations", "/golden"),
)


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

    def __repr__(self) -> str:
        """Its name, how many steps it has, and its digest: the whole of it may be millions of entries."""
        return f"Spec({self.spec_id!r}, steps={len(self.relational) + len(self.steps)}, digest={self.digest[:12]!r})"

    __str__ = __repr__

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
        _refuse(problems)
        return schemas

    def schema_at(self, count: int | None = None) -> Schema:
        """The schema behind the first `count` steps, relational ones first; of all where it is None.

        Raises:
            SpecError: the spec is inconsistent.
        """
        schema, problems = schema_at(self, len(self.relational) + len(self.steps) if count is None else count)
        _refuse(problems)
        return schema

    def transform(self, data: Any, references: Mapping[str, pa.Table] | None = None) -> Transformed:
        """What the spec makes of an Arrow table or batch, or a pandas frame; see `etl.transforming.transform`.

        Where relational steps run on the whole table, a table or frame is prepared first, and an Arrow table or batch
        that bears the mark of `etl.relational.prepare` is taken as it is.
        """
        from etl.transforming import transform  # noqa: PLC0415  what runs a spec is above what a spec is

        return transform(self, data, references)

    def feature_names(self) -> dict[str, tuple[str, ...]]:
        """What each value of a row is called, by the name that `transform` gives the tensor: `column` for a scalar,
        `column[category]` for an element of a vector whose step says what its elements stand for, `column[i]` for one
        of another vector. What `assemble` puts side by side keeps its names, and so does a vector whose elements are
        taken one by one. No name stands twice in a tensor: a second one, such as of the bucket behind a category that
        is called `(missing)`, has `#2` behind it.

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
                elif isinstance(step, Copy | Rename | Weigh | ElementStep):
                    labels[name] = labels.get(step.inputs[place])
                    parts[name] = parts.get(step.inputs[place], [])
        tensors = self.outputs.tensors
        return {tensor.model_input: _distinct(_listed(tensor) or names_of(tensor.columns)) for tensor in tensors}

    def derived_from(self, names: Iterable[str]) -> frozenset[str]:
        """These columns, labels among them, and all that some step makes of one of them, or learned from one."""
        found = set(names)
        for step in (*self.relational, *self.steps):
            if not found.isdisjoint((*step.reads, *step.learns_from)):
                found.update(step.outputs)
        return frozenset(found)

    def widths(self) -> dict[str, int]:
        """Values of a row of each tensor by name; 0 where that is not known before the fit, or where rows differ."""
        last = self.schema_at()
        return {
            tensor.tensor: math.prod(tensor.axes(0))
            if tensor.ragged
            else width_of(last[name] for name in tensor.columns)
            for tensor in self.outputs.tensors
        }


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise SpecError("\n".join(f"{problem.pointer}: {problem.message} [{problem.code}]" for problem in problems))


def _listed(tensor: TensorOutput) -> list[str]:
    """What the values are called of lists that have to have so many, as a vector has; none of other columns."""
    if tensor.ragged is None or tensor.is_padded:
        return []
    return _names(tensor.columns[0], ColumnType("vector", math.prod(tensor.axes(0))), None)


def _names(column: str, kind: ColumnType, labels: tuple[str, ...] | None) -> list[str]:
    if kind.kind != "vector":
        return [column]
    return [f"{column}[{label}]" for label in labels or list(map(str, range(kind.width))) or ["?"]]


def _distinct(names: list[str]) -> tuple[str, ...]:
    """The same names, each but the first of equal ones with a number behind it that makes another name of it."""
    taken, counts = set(names), Counter[str]()
    found = []
    for name in names:
        counts[name] += 1
        told = name
        while counts[name] > 1 and told in taken:
            told = f"{name}#{counts[name]}"
            counts[name] += told in taken
        taken.add(told)
        found.append(told)
    return tuple(found)


@few_hints()
def read_spec(text: str, name: str, *, fitted: bool = True, artifacts: ReadArtifact = lambda _: None) -> Spec:
    """Parse and check a spec (`fitted=False`: a recipe will do) from JSON or YAML.

    `artifacts` gives the files of large states, which lie beside the spec.

    Raises:
        SpecError: with every problem, one a line, by file, line, column and JSON pointer.
    """
    if len(text) > MOST_BYTES or len(text.encode(errors="surrogatepass")) > MOST_BYTES:
        raise SpecError(too_long(name))
    try:
        source = Source.read(text, name)
    except TextError as error:
        raise SpecError(error.coded) from error
    spec, problems = _parsed(source, artifacts)
    if spec is not None:
        problems = source.ordered(_all_problems(spec, fitted=fitted))
    if spec is None or problems:
        raise SpecError("\n".join(problem_lines(problems, source, with_code=True)))
    return spec


def too_long(name: str) -> str:
    """What is said of a text that is longer than a spec can be."""
    most = f"{MOST_BYTES >> 20} MiB"
    return f"{name}:1:1: /: is longer than {most}, the most of a spec; large states lie beside it. [E-SIZE]"


def _parsed(source: Source, artifacts: ReadArtifact) -> tuple[Spec | None, list[Problem]]:
    """The spec with its states, or everything that is wrong with its form."""
    if problems := _oversized(source.value):
        return None, problems
    try:
        value = migrated(source.value)
    except ValueError as error:
        return None, [Problem("/format", f"{error}.", "E-VERSION")]
    value, problems = resolved(value, artifacts)
    value, more = with_vocabularies(value, artifacts)
    problems += more
    spec = None
    if not problems:
        spec, problems = parse(Spec, source._replace(value=value))
    return spec, problems if spec is not None else _of_the_rest(source, value, problems)


def _oversized(value: Any) -> list[Problem]:
    problems = []
    for pointer in _LISTS:
        entries = value
        for key in pointer.split("/")[1:]:
            entries = entries.get(key) if isinstance(entries, dict) else None
        if isinstance(entries, list) and len(entries) > _MOST_ENTRIES:
            message = f"has {len(entries):,} entries, and at most {_MOST_ENTRIES:,} are read; make two specs of it."
            problems.append(Problem(pointer, message, "E-SIZE"))
    return problems


def _of_the_rest(source: Source, value: Any, problems: list[Problem]) -> list[Problem]:
    """These problems, and those of meaning in what is sound without the steps that cannot be parsed."""
    sound = sound_part(value, problems)
    spec = parse(Spec, source._replace(value=sound.value))[0] if sound else None
    if sound is None or spec is None:
        return problems
    return source.ordered([*problems, *sound.told(inconsistencies(spec))])


_MOST_NAMED = 20


def _unfitted(spec: Spec) -> list[Problem]:
    """That the spec is a recipe, told once, at the first step that has nothing learned."""
    steps = [(index, f"{step.id!r} ({step.op})") for index, step in enumerate(spec.steps) if not step.is_fitted]
    if not steps:
        return []
    more = f" and {len(steps) - _MOST_NAMED} more" if len(steps) > _MOST_NAMED else ""
    names = f"{', '.join(name for _, name in steps[:_MOST_NAMED])}{more}"
    told = f"step {names} is" if len(steps) == 1 else f"steps {names} are"
    message = f"{told} not fitted. Run `batchscore fit` first; to fit it in Python, read it with fitted=False."
    return [Problem(f"/steps/{steps[0][0]}", message, "E-NOT-FITTED")]


def _all_problems(spec: Spec, *, fitted: bool) -> list[Problem]:
    """What parsing cannot see: whether the parts fit each other."""
    problems = inconsistencies(spec)
    if fitted and not problems:
        problems = _unfitted(spec)
    if spec.integrity is not None and spec.integrity.content_sha256 != spec.digest:
        message = f"the content has SHA-256 {spec.digest}: it was changed since it was sealed."
        problems.append(Problem("/integrity/content_sha256", message, "E-HASH"))
    return problems
