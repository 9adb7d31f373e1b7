"""What a worker is told: one order for all tasks of a run, and the splits of its own task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from etl.contract import InputField
from etl.documents import Strict
from etl.runs.layout import Layout
from etl.runs.shape import Shape
from etl.runs.splits import InputFile
from etl.sketches.counting import Kind
from scoring.combination import Combination
from scoring.runtimes.base import RuntimeOptions

__all__ = ["MissingKeys", "ModelOrder", "Order", "Routed", "SketchColumn", "SketchOrder", "Stamp"]

Stamp = Literal["run_id", "model_version", "scored_at"]
"""A column that says where a row's scores come from."""


class ModelOrder(Strict):
    """One of the models that score, and what it runs with."""

    name: str = Field(default="", description="Its name among the models of the job; empty where it is the only one.")
    version: str = Field(default="", description="Name and version of the bundle, for the stamp.")
    bundle_sha256: str
    references: dict[str, str] = Field(description="SHA-256 of each pinned reference table, by name.")
    moved: tuple[str, ...] = Field(
        default=(), description="Ids of the spec's joins that were done before, whose columns come with the rows."
    )
    runtime: RuntimeOptions
    required: bool = Field(
        default=True, description="Whether a row that it cannot score is set aside, or only has no value of this model."
    )


class Routed(Strict):
    """What a worker knows of models before it loads them, where each row goes to the one of its segment."""

    columns: tuple[str, ...] = Field(description="The columns of the input that any of them reads.")
    shown: tuple[InputField, ...] = Field(description="The fields by which a row that was set aside is shown.")


class MissingKeys(Strict):
    """That only rows are scored whose key is not published yet."""

    column: str
    sha256: str = Field(description="Of the table of published keys, as the run pinned it.")


class SketchColumn(Strict):
    """A column whose values are sketched."""

    name: str = Field(description="Its name in reports: of a column of a model with a name, `<model>.<column>`.")
    kind: Kind
    model: int | None = Field(
        default=None, ge=0, description="Number of the model whose input or feature it is; None of a published column."
    )
    field: str = Field(default="", description="Its name in the frame of that model.")


class SketchOrder(Strict):
    """What workers note of the rows that they publish."""

    columns: tuple[SketchColumn, ...] = Field(min_length=1)
    rows: int = Field(ge=1, description="Rows of the sample of the run, at most.")
    bytes: int = Field(
        ge=0, description="Size of all splits: each keeps its share of the sample where `of_rows` is None."
    )
    of_rows: int | None = Field(
        default=None,
        ge=0,
        description="About how many rows are published, so that few are taken that are thrown away again; None where "
        "nobody can tell.",
    )


class Order(Strict):
    """How to score any split of a run. Everything in it changes scores or files, so it is part of the plan."""

    run_id: str
    root: str = Field(description="The output root, in its store's naming.")
    models: tuple[ModelOrder, ...] = Field(min_length=1, description="What scores the rows, in this order.")
    combination: Combination | None = Field(default=None, description="Of several models; None of one.")
    chosen_by: tuple[InputField, ...] = Field(default=(), description="The input columns that tell a row's model.")
    routed: Routed | None = Field(default=None, description="Where each row goes to the model of its segment.")
    sources: tuple[InputFile, ...] = Field(
        default=(), description="The pinned files that prepared rows came from, by the number of `ORIGIN`; none else."
    )
    carried: tuple[InputField, ...] = Field(description="Columns that are published but not read by the spec.")
    passthrough: tuple[str, ...] = Field(description="Input columns that are published, in order.")
    stamps: tuple[Stamp, ...]
    shape: Shape = Field(default=Shape(), description="How the predictions lie in files.")
    scored_at: AwareDatetime = Field(description="When the run was planned: the same for all rows, and after a resume.")
    batch_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="Rows of one call of the model; auto finds them by measuring."
    )
    batch_bytes: int = Field(
        default=64 << 20, ge=1, description="Bytes that one call of the model takes and gives at most, about."
    )
    overlap: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether reading, steps, model and writing run side by side in threads. `auto`: where the model "
        "runs on a GPU, the task has several cores, or the rows come from another machine.",
    )
    call_timeout: float = Field(
        default=600, gt=0, description="Seconds that one call of a model may take before it counts as hanging."
    )
    table_rows: int = Field(default=16_384, ge=1, description="Rows that contract and steps take at once, about.")
    sample: float | None = Field(default=None, gt=0, le=1, description="Share of rows scored, chosen by row hash.")
    missing_keys: MissingKeys | None = Field(default=None, description="Leave out rows whose key is published.")
    row_limits: dict[int, int] = Field(
        default_factory=dict, description="Rows scored of a split, where not all, by index."
    )
    sketch: SketchOrder | None = Field(default=None, description="What is noted of published rows, to measure drift.")

    @property
    def layout(self) -> Layout:
        """Where everything of the run lies."""
        return Layout(self.root, self.run_id, is_hidden=self.shape.is_hidden)

    @property
    def leaves_out(self) -> bool:
        """Whether rows are left out before any model sees them."""
        return self.sample is not None or bool(self.row_limits) or self.missing_keys is not None

    @property
    def rows_at_once(self) -> int:
        """Rows that contract and steps take at once: whole model batches, so that each call has the same shape."""
        if self.batch_rows == "auto":
            return self.table_rows
        return max(1, self.table_rows // self.batch_rows) * self.batch_rows
