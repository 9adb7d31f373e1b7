"""Which columns of the input, and of reference tables, each published column of a run depends on. Kept in its plan."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pydantic import Field

from etl.documents import Strict
from etl.inspection.origins import Origin, borne, origins_of
from scoring.bundles.bundle import output_schema
from scoring.predictions import VARIANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scoring.bundles.bundle import AuditedBundle
    from scoring.order import Order

__all__ = ["Lineage", "Published", "lineage_of"]


class Published(Strict):
    """Published columns that depend on the same ones."""

    columns: tuple[str, ...] = Field(min_length=1, description="Their names in the output.")
    made_by: tuple[str, ...] = Field(default=(), description="`name:version` of the models that made them, if any did.")
    origins: tuple[Origin, ...] = Field(description="What they depend on.")


class Lineage(Strict):
    """Where the published columns of a run come from. Stamps come from nowhere, and are left out."""

    published: tuple[Published, ...] = Field(default=(), description="Each column in one of them, in no order.")
    rows: tuple[Origin, ...] = Field(default=(), description="What decides which rows there are; see `SpecOrigins`.")


def lineage_of(order: Order, bundles: Sequence[AuditedBundle]) -> Lineage:
    """What an order publishes, by the specs of its bundles. All that a model is fed bears on all that it gives.

    What picks the model of a row bears on all columns.
    """
    chosen = [Origin("", field.name, "conditional") for field in order.chosen_by]
    made: dict[str, Published] = {}
    handed: dict[str, tuple[Origin, ...]] = {}
    rows: dict[Origin, None] = {}
    for model, audited in zip(order.models, bundles, strict=True):
        found = origins_of(audited.spec)
        tensors = [name for tensor in audited.spec.outputs.tensors for name in tensor.columns]
        origins = _once([*_behind(borne(found.of(tensors), "transformation"), handed), *chosen])
        rows |= dict.fromkeys(_behind(found.rows, handed))
        for field in output_schema(audited.bundle):
            long = f"{model.name}_{field.name}" if model.name else field.name
            handed |= {long: origins} if model.name else {}
            name = field.name if _is_variant(order) else long
            made[name] = _joined(made.get(name), Published(columns=(name,), made_by=(model.version,), origins=origins))
    for one in order.combination.ensembles if order.combination else ():
        parts = [made[name].model_copy(update={"columns": (one.column,)}) for name in one.of]
        made[one.column] = functools.reduce(_joined, parts)
    if _is_variant(order):
        made[VARIANT] = Published(columns=(VARIANT,), origins=tuple(chosen))
    through = [Published(columns=(name,), origins=(Origin("", name, "identity"),)) for name in order.passthrough]
    return Lineage(published=_grouped([*through, *made.values()]), rows=tuple(rows))


def _is_variant(order: Order) -> bool:
    return order.combination is not None and order.combination.is_variant


def _joined(before: Published | None, more: Published) -> Published:
    """A column that several models make, or whose rows are each of one of them."""
    if before is None:
        return more
    versions = tuple(dict.fromkeys((*before.made_by, *more.made_by)))
    return more.model_copy(update={"made_by": versions, "origins": _once((*before.origins, *more.origins))})


def _behind(origins: Iterable[Origin], handed: dict[str, tuple[Origin, ...]]) -> list[Origin]:
    """The origins, and in the place of what an earlier model of the job handed on, what that was made of."""
    found: list[Origin] = []
    for origin in origins:
        earlier = None if origin.table else handed.get(origin.column)
        found += [origin] if earlier is None else borne(earlier, origin.how)
    return found


def _once(origins: Iterable[Origin]) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys(origins))


def _grouped(published: Iterable[Published]) -> tuple[Published, ...]:
    """One for all columns of the same origins: a model with many columns lists what it is fed once."""
    groups: dict[tuple[tuple[str, ...], tuple[Origin, ...]], list[str]] = {}
    for one in published:
        groups.setdefault((one.made_by, one.origins), []).extend(one.columns)
    return tuple(
        Published(columns=tuple(names), made_by=made_by, origins=origins)
        for (made_by, origins), names in groups.items()
    )
