"""How several models score the rows of one job: side by side, each its share of them, or each its own segment."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, FiniteFloat, model_validator

from etl.documents import Strict
from etl.ops.base import Name

__all__ = ["Combination", "Ensemble"]


class Ensemble(Strict):
    """A column that is made of columns of several models; null where one of them is null."""

    column: Name = Field(description="Its name in the output.")
    of: tuple[Name, ...] = Field(min_length=2, description="Published columns, `<model>_<column>`.")
    how: Literal["mean", "vote", "weighted"] = Field(
        description="`mean` of numbers, `weighted` mean of numbers, or the value that most columns have (`vote`); of "
        "values that equally many have, the one that comes first in `of`."
    )
    weights: tuple[FiniteFloat, ...] | None = Field(
        default=None, description="Of a weighted mean: one for each column, not all zero; only their ratios count."
    )

    @model_validator(mode="after")
    def _weights_go_with_weighted(self) -> Ensemble:
        if (self.how == "weighted") != (self.weights is not None):
            message = "`weights` go with `how: weighted`, and only with that"
            raise ValueError(message)
        if self.weights is not None and (
            len(self.weights) != len(self.of) or min(self.weights) < 0 or not any(self.weights)
        ):
            message = f"`weights` are {len(self.of)} numbers, one for each column, of 0 or more and not all 0"
            raise ValueError(message)
        return self


class Combination(Strict):
    """What becomes of the rows of a job that several models score. By default each model scores each row."""

    layout: Literal["columns", "variant"] = Field(
        default="columns",
        description="`columns`: one row out for each row in, with `<model>_<column>` of each model. `variant`: a row "
        "out for each model that scored it, whose name is in the column `variant`.",
    )
    assign_by: tuple[Name, ...] = Field(
        default=(), description="Each row to one model, by a hash of these columns: equal keys go to the same model."
    )
    shares: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="With `assign_by`: which share of the keys each model gets. They add up to 1."
    )
    salt: str = Field(default="", description="Another text assigns anew, independently of the assignment before.")
    route_by: Name | None = Field(default=None, description="Each row to the model of its value in this column.")
    routes: dict[str, str] = Field(
        default_factory=dict, description="With `route_by`: the model of each value. Default: the one of that name."
    )
    otherwise: str | None = Field(
        default=None, description="With `route_by`: the model of all other values; None sets such rows aside."
    )
    ensembles: tuple[Ensemble, ...] = ()

    @model_validator(mode="after")
    def _parts_go_together(self) -> Combination:
        if self.assign_by and self.route_by is not None:
            message = "give one of `assign_by` and `route_by`"
            raise ValueError(message)
        if bool(self.assign_by) != bool(self.shares) or (self.salt and not self.assign_by):
            message = "`shares`, and `salt` if you like, go with `assign_by`"
            raise ValueError(message)
        negative = [f"{name!r} has {share:g}" for name, share in self.shares.items() if share < 0]
        if negative:
            message = f"`shares` are of 0 or more, and {', '.join(negative)}"
            raise ValueError(message)
        if self.shares and not math.isclose(sum(self.shares.values()), 1.0):
            message = f"`shares` add up to 1, these to {sum(self.shares.values()):g}"
            raise ValueError(message)
        if self.route_by is None and (self.routes or self.otherwise is not None):
            message = "`routes` and `otherwise` go with `route_by`"
            raise ValueError(message)
        if self.ensembles and self.is_variant:
            message = "an ensemble is of columns side by side: it goes with `layout: columns`, where all models score"
            raise ValueError(message)
        return self

    @property
    def chooses(self) -> bool:
        """Whether a row is scored by one of the models only."""
        return bool(self.assign_by) or self.route_by is not None

    @property
    def is_variant(self) -> bool:
        """Whether the output says in a column of its own which model scored."""
        return self.chooses or self.layout == "variant"

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The input columns that tell a row's model."""
        return self.assign_by or ((self.route_by,) if self.route_by is not None else ())

    def problems(self, names: tuple[str, ...]) -> list[str]:
        """What does not fit models of these names."""
        named = [*self.shares, *self.routes.values(), *([self.otherwise] if self.otherwise is not None else [])]
        there = ", ".join(names)
        found = [f"{name!r} is no model of the job; there is: {there}" for name in named if name not in names]
        missing = [name for name in names if name not in self.shares] if self.assign_by else []
        found.extend(f"model {name!r} has no share; give it one, 0 if you like" for name in missing)
        return found
