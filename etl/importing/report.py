"""What an import gives: a spec, and a report of what each part of the source became."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.spec import read_spec

if TYPE_CHECKING:
    from etl.spec import Spec

__all__ = ["Imported", "Mapped"]


class Mapped(NamedTuple):
    """What one part of the source became."""

    pointer: str
    """JSON pointer into the source."""
    source: str
    """Its class, and the column where it has one."""
    became: str
    """Fields, steps and expectations of the spec, or why there are none."""
    note: str | None = None
    """Where the meaning differs: rows that are set aside here and not there, values that cannot occur here."""


class Imported(NamedTuple):
    """A spec that was read from another system's form."""

    document: dict[str, Any]
    """The spec as a plain JSON value, as `etl.spec.read_spec` reads it."""
    report: tuple[Mapped, ...]
    """What each part of the source became, in its order."""
    source_names: tuple[str, ...] = ()
    """What the source calls each value of the tensor, in the tensor's order; empty where it cannot tell."""

    def feature_names(self) -> tuple[tuple[str, str], ...]:
        """What the source calls each value of the tensor, and what `Spec.feature_names` calls it, in the tensor's
        order; empty where the source cannot tell.
        """  # noqa: D205  one sentence
        if not self.source_names:
            return ()
        (ours,) = self.spec().feature_names().values()
        return tuple(zip(self.source_names, ours, strict=True))

    def spec(self) -> Spec:
        """The spec, checked as one that is read; `etl.save_spec` writes it."""
        return read_spec(json.dumps(self.document), self.document["spec_id"])
