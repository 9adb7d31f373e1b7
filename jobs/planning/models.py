"""Resolve the models of a job over its input: their bundles, the columns that they read, the tables that they join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from etl.arrivals import ORIGIN, check_entry
from etl.contract import InputField
from etl.documents import Strict
from etl.expectations import unique_columns
from etl.format.problems import nearest
from etl.ops.relations import joins, on_table
from etl.references import pin_references
from etl.types import UNSIGNED, ColumnType
from jobs.errors import Refused
from jobs.planning.model import resolve_model
from scoring.bundles.bundle import output_schema
from scoring.engine.chaining import chained_columns
from scoring.engine.modelling import expectation_id
from scoring.engine.reading import shown_fields
from scoring.order import ModelOrder, Routed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.expectations import AnyExpectation
    from etl.references import PinnedReference
    from etl.runs.splits import InputFile
    from etl.spec import Spec
    from jobs.config.job import JobConfig
    from jobs.planning.preparation import PreparedInput
    from scoring.bundles.bundle import AuditedBundle

__all__ = ["Known", "ModelFacts", "Models", "audited_models", "resolve_models"]

_ON_TABLE = (
    "its spec has relational steps that run on the whole table, which a job of several models does not do. Prepare the "
    "rows before, or score with this model alone."
)


class ModelFacts(Strict):
    """The model that a plan resolved to."""

    alias: str = Field(default="", description="Its name among several models of the job.")
    name: str
    version: str
    bundle_sha256: str
    spec_digest: str
    facts: dict[str, str]
    source: dict[str, str] = Field(
        default_factory=dict,
        description="Of a model of MLflow: the `uri` of the config, the `registry`, and the version that it was "
        "`resolved` to when the run was planned.",
    )


class Known(NamedTuple):
    """What was read before the plan is made."""

    audited: AuditedBundle | None = None
    """The job's bundle."""
    prepared: PreparedInput | None = None
    """What Spark made of the input."""

    @property
    def moved(self) -> tuple[str, ...]:
        """Ids of joins of the worker that Spark has done."""
        return self.prepared.moved if self.prepared else ()

    @property
    def sources(self) -> tuple[InputFile, ...]:
        """The pinned files that Spark made the input of; none of a table or query, and where Spark made nothing."""
        return self.prepared.preparation.source if self.prepared else ()


class Models(NamedTuple):
    """What scores a job's rows."""

    bundles: tuple[AuditedBundle, ...]
    orders: tuple[ModelOrder, ...]
    references: dict[str, PinnedReference]
    """The reference tables of all of them, by name."""
    carried: tuple[InputField, ...]
    """Columns that are published, and that not each of them reads."""
    chosen_by: tuple[InputField, ...]
    """The columns that tell which of them scores a row."""
    routed: Routed | None
    """What workers know of them before they load them, where each row goes to the one of its segment."""

    @property
    def told(self) -> dict[str, Any]:
        """What the order has of them."""
        told = {"models": self.orders, "chosen_by": self.chosen_by, "carried": self.carried}
        return {**told, "routed": self.routed}

    @property
    def facts(self) -> tuple[ModelFacts, ...]:
        """For the plan and the record."""
        return tuple(
            ModelFacts(
                alias=order.name,
                name=audited.bundle.name,
                version=audited.bundle.version,
                bundle_sha256=audited.sha256,
                spec_digest=audited.spec.digest,
                facts=audited.bundle.facts,
                source=dict(audited.origin),
            )
            for order, audited in zip(self.orders, self.bundles, strict=True)
        )

    @property
    def expectations(self) -> tuple[AnyExpectation, ...]:
        """Of the specs, under the ids that they have among those of all."""
        return tuple(
            one.model_copy(update={"id": expectation_id(order.name, one.id)})
            for order, audited in zip(self.orders, self.bundles, strict=True)
            for one in audited.spec.expectations
        )


def resolve_models(config: JobConfig, schema: pa.Schema, *, where: str, known: Known) -> Models:
    """The models of a job; `schema` is that of the file `where`, or of the rows that Spark prepared.

    Raises:
        BundleError: a bundle or model cannot be used.
        ContractError: the input is not what one of them reads.
        Refused: columns cannot be bound, published or found.
    """
    entries = config.entries
    bundles = (known.audited,) if known.audited is not None else audited_models(config, schema)
    others = [*config.output.passthrough, *([ORIGIN] if known.sources else []), *config.combine.chosen_by]
    for number, audited in enumerate(bundles):
        check_entry(
            audited.spec, _seen(config, schema, bundles, number=number), where, others=others, moved=known.moved
        )
    references = dict(known.prepared.references) if known.prepared else {}
    for audited in bundles if not known.prepared else ():
        references |= pin_references(audited.spec, config.references)
    joined = [joins(audited.spec.relational, known.moved)[1].values() for audited in bundles]
    orders = tuple(
        ModelOrder(
            name=entry.name,
            required=entry.required,
            version=f"{audited.bundle.name}:{audited.bundle.version}",
            bundle_sha256=audited.sha256,
            references={name: references[name].sha256 for name in sorted({step.params.reference for step in steps})},
            moved=known.moved,
            runtime=config.scoring.runtime_options(),
        )
        for entry, audited, steps in zip(entries, bundles, joined, strict=True)
    )
    specs = [audited.spec for audited in bundles]
    chosen = tuple(_field(name, schema, "combine") for name in config.combine.chosen_by)
    if config.combine.is_variant:
        _check_variants(config, bundles)
    carried = _carried(config, specs, schema)
    routed = _routed(specs, carried) if config.combine.route_by is not None else None
    return Models(bundles, orders, references, carried, chosen, routed)


def _check_variants(config: JobConfig, bundles: Sequence[AuditedBundle]) -> None:
    """Where a row is one model's, all of them publish the same columns, and none waits for another."""
    names = [entry.name for entry in config.entries]
    wanted = output_schema(bundles[0].bundle)
    for number, audited in enumerate(bundles):
        found = output_schema(audited.bundle)
        if found != wanted:
            columns = " and ".join(f"({', '.join(f'{c.name} {c.type}' for c in each)})" for each in (wanted, found))
            message = (
                f"models {names[0]} and {names[number]} publish {columns}: under a column `variant` they must agree."
            )
            raise Refused(message)
        chained = chained_columns(names, bundles, number)
        if chained and config.combine.chooses:
            message = f"model {names[number]} reads {chained[0].field.name!r}, and a row is scored by one model only."
            raise Refused(message)
        if config.combine.route_by is not None and unique_columns(audited.spec.expectations):
            message = (
                f"model {names[number]}: its spec expects keys to be unique, which is not counted with `route_by`."
            )
            raise Refused(message)


def _routed(specs: Sequence[Spec], carried: tuple[InputField, ...]) -> Routed:
    columns = dict.fromkeys(field.name for spec in specs for field in spec.input.fields)
    names = tuple(dict.fromkeys([*columns, *(field.name for field in carried)]))
    return Routed(columns=names, shown=shown_fields([spec.input for spec in specs]))


def audited_models(config: JobConfig, schema: pa.Schema) -> tuple[AuditedBundle, ...]:
    """The bundle of each model; a bare one is bound to the input's columns, and to what those before it publish.

    Raises:
        BundleError: a bundle or model cannot be used.
        Refused: a bare model's inputs cannot be bound to columns, or a spec needs the whole table.
    """
    bundles: list[AuditedBundle] = []
    for entry in config.entries:
        audited = resolve_model(entry.model, schema)
        if entry.name and on_table(audited.spec.relational):
            raise Refused(f"model {entry.name}: {_ON_TABLE}")
        bundles.append(audited)
        schema = _with_published(schema, entry.name, audited)
    return tuple(bundles)


def _seen(config: JobConfig, schema: pa.Schema, bundles: Sequence[AuditedBundle], *, number: int) -> pa.Schema:
    """The columns that a model can read: the input's, and those that it reads of earlier models."""
    for column in chained_columns([entry.name for entry in config.entries], bundles, number):
        schema = schema.append(column.field)
    return schema


def _with_published(schema: pa.Schema, name: str, audited: AuditedBundle) -> pa.Schema:
    """The columns that a later bare model may be bound to."""
    for field in output_schema(audited.bundle):
        column = f"{name}_{field.name}"
        if column not in schema.names:
            schema = schema.append(field.with_name(column))
    return schema


def _carried(config: JobConfig, specs: list[Spec], schema: pa.Schema) -> tuple[InputField, ...]:
    """Fields for passthrough columns that not every spec reads: typed as the specs have it, or as in the first file."""
    carried: list[InputField] = []
    for name in config.output.passthrough:
        types = [types[name] for spec in specs if name in (types := spec.input.columns())]
        if any(type_.kind == "struct" for type_ in types):
            message = f"output.passthrough: column {name!r} is a struct, which cannot be passed through"
            raise Refused(f"{message}. Leave it out, or make columns of its subfields: `input.sql` can.")
        if len(set(types)) > 1:
            message = (
                f"output.passthrough: column {name!r} is {' and '.join(map(str, dict.fromkeys(types)))} to the models"
            )
            raise Refused(f"{message}. Leave it out, or let their specs agree.")
        if len(types) == len(specs):
            continue
        field = _field(name, schema, "output.passthrough")
        carried.append(field.model_copy(update={"type": types[0]}) if types else field)
    return tuple(carried)


def _field(name: str, schema: pa.Schema, setting: str) -> InputField:
    """A column of the input as it is, with nothing to be checked."""
    if name not in schema.names:
        message = f"{setting} names column {name!r}, which the input has not.{nearest(name, schema.names)}"
        raise Refused(message)
    type_ = _column_type(schema.field(name), setting)
    return InputField(name=name, type=type_, nan_is_value=type_.is_float, role="id")


def _column_type(field: pa.Field, setting: str) -> ColumnType:
    type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_large_string(type_) or pa.types.is_string(type_) or pa.types.is_string_view(type_):
        return ColumnType("string")
    if pa.types.is_timestamp(type_):
        return ColumnType("timestamp")
    if pa.types.is_integer(type_):
        return ColumnType("uint64" if type_ == pa.uint64() else "int64")
    if type_ == UNSIGNED:
        return ColumnType("uint64")
    for kind in ("bool", "float32", "float64", "date"):
        if type_ == ColumnType(kind).arrow:
            return ColumnType(kind)
    found = f"{setting}: column {field.name!r} has type {field.type}"
    message = f"{found}, which cannot be passed through. Leave it out, or cast it: `input.sql` can."
    raise Refused(message)
