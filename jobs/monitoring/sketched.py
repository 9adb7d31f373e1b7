"""Which columns of a job are sketched: found when it is planned, so that a worker meets none that it cannot sketch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from etl.format.problems import nearest
from etl.sketches.counting import kind_of
from jobs.errors import Refused
from scoring.bundles.bundle import output_schema
from scoring.engine.ensembles import ensemble_type
from scoring.order import SketchColumn, SketchOrder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from etl.runs.splits import InputFile
    from etl.sketches.counting import Kind
    from jobs.config.job import JobConfig
    from jobs.monitoring.drift_settings import DriftSettings
    from jobs.planning.models import Models

__all__ = ["InputSize", "sketch_order"]

_ONLY_OF: dict[str, Kind] = {"ks": "number", "out_of_vocabulary": "text"}


class InputSize(NamedTuple):
    """How much is read."""

    files: tuple[InputFile, ...]
    rows_of_largest: int
    """By its footer."""
    is_all_published: bool
    """Whether no row is left out on purpose."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int | None:
        """About how many, if all files are like the largest; None where that would not tell of published rows."""
        largest = max((file.bytes for file in self.files), default=0)
        return self.rows_of_largest * self.bytes // largest if self.is_all_published and largest else None


def sketch_order(config: JobConfig, models: Models, size: InputSize) -> SketchOrder | None:
    """What workers are told to sketch; None where the job does not ask for it.

    Raises:
        Refused: a column is not there, is personal data, or is none that can be sketched.
    """
    if config.drift is None:
        return None
    there = _There(config, models)
    asked = config.drift.columns
    columns = tuple(there.usual()) if asked is None else tuple(there.named(name) for name in dict.fromkeys(asked))
    if not columns:
        raise Refused("drift: no column of this job is of numbers or texts. Leave `drift` out.")
    _check_limits(config.drift, {column.name: column.kind for column in columns})
    is_filtered = any(audited.spec.filters for audited in models.bundles)
    rows = None if is_filtered else size.rows
    return SketchOrder(columns=columns, rows=config.drift.rows, bytes=size.bytes, of_rows=rows)


def _check_limits(settings: DriftSettings, kinds: Mapping[str, Kind]) -> None:
    """Refuse limits of single columns that nothing could be held against."""
    for name, limits in settings.by_column.items():
        if name not in kinds:
            raise Refused(f"drift.by_column: {name!r} is not sketched.{nearest(name, kinds)}")
        own = {**limits.warn.model_dump(exclude_none=True), **limits.fail.model_dump(exclude_none=True)}
        for measure, kind in _ONLY_OF.items():
            if measure in own and kinds[name] != kind:
                raise Refused(
                    f"drift.by_column: {name!r} has a limit of {measure}, which is of {kind}s only. It is a column of "
                    f"{kinds[name]}s."
                )


class _There:
    """The columns that a job has."""

    def __init__(self, config: JobConfig, models: Models) -> None:
        self._specs = [audited.spec for audited in models.bundles]
        self._names = [order.name for order in models.orders]
        # Where one model knows it for personal data, it is to all of them.
        self._private = {field.name for spec in self._specs for field in spec.input.fields if field.pii}
        self._is_variant = bool(config.models) and config.combine.is_variant
        self._made = self._published(config, models)
        self._passed = self._through(config, models)
        # What a model reads of an earlier one is published already.
        self._chained = {
            f"{name}_{field.name}"
            for name, audited in zip(self._names, models.bundles, strict=True)
            for field in output_schema(audited.bundle)
        }

    @staticmethod
    def _published(config: JobConfig, models: Models) -> dict[str, pa.DataType]:
        """What models publish."""
        is_variant = bool(config.models) and config.combine.is_variant
        found: dict[str, pa.DataType] = {}
        for order, audited in zip(models.orders, models.bundles, strict=True):
            for field in output_schema(audited.bundle):
                found[f"{order.name}_{field.name}" if order.name and not is_variant else field.name] = field.type
        ensembles = config.combine.ensembles if config.models else ()
        found |= {one.column: ensemble_type(one, found) for one in ensembles}
        return found

    def _through(self, config: JobConfig, models: Models) -> dict[str, pa.DataType]:
        """What is published of the input as it is."""
        types = {name: type_.arrow for spec in self._specs for name, type_ in spec.input.columns().items()}
        types |= {field.name: field.type.arrow for field in models.carried}
        return {name: types[name] for name in config.output.passthrough}

    def usual(self) -> Iterator[SketchColumn]:
        """What models publish and read, where it can be sketched."""
        for name, type_ in self._made.items():
            kind = kind_of(type_)
            if kind is not None:
                yield SketchColumn(name=name, kind=kind)
        seen = {*self._made, *self._chained}
        for number, spec in enumerate(() if self._is_variant else self._specs):
            for field in spec.input.fields:
                kind = kind_of(spec.input.columns()[field.name].arrow)
                if (
                    field.name not in seen
                    and kind is not None
                    and field.name not in self._private
                    and field.role == "feature"
                ):
                    seen.add(field.name)
                    yield SketchColumn(name=field.name, kind=kind, model=number, field=field.name)

    def named(self, name: str) -> SketchColumn:
        """A column that the config names."""
        if name in self._made:
            return self._checked(name, self._made[name])
        for number, spec in enumerate(self._specs):
            own = name.removeprefix(f"{self._names[number]}.") if self._names[number] else name
            types = {**spec.schema_at(), **spec.input.columns()}
            if own not in types:
                continue
            if own in spec.derived_from(self._private):
                raise Refused(f"drift.columns: {name!r} is personal data, or made of it; values of it are not kept.")
            if not self._is_variant:
                return self._checked(name, types[own].arrow, model=number, field=own)
            if name not in self._passed:
                raise Refused(
                    f"drift.columns: {name!r} is a column of one model, and a row is not given to all of them. Name "
                    "columns that are published."
                )
        if name in self._passed:
            return self._checked(name, self._passed[name])
        read = {one for spec in self._specs for one in (*spec.input.columns(), *spec.schema_at())}
        known = {*self._made, *self._passed, *read}
        raise Refused(f"drift.columns: nothing is called {name!r}.{nearest(name, known)}")

    @staticmethod
    def _checked(name: str, type_: pa.DataType, *, model: int | None = None, field: str = "") -> SketchColumn:
        kind = kind_of(type_)
        if kind is None:
            raise Refused(f"drift.columns: {name!r} is of type {type_}; only numbers, bools and texts are sketched.")
        return SketchColumn(name=name, kind=kind, model=model, field=field)
