"""The parts of a job config that say where predictions go, as what, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import ByteSize, Field, model_validator

from etl.documents import Strict
from etl.redaction import Uri
from etl.runs.manifest import Mode
from etl.runs.shape import Shape
from scoring.order import Stamp

__all__ = ["Gc", "Output"]


class Output(Strict):
    """Where predictions go."""

    uri: Uri = Field(min_length=1, description="Output root.")
    mode: Mode = Field(
        default="append",
        description="`append`: beside earlier runs. `error`: only into an empty root. `overwrite`: in the place of all "
        "that is published. `overwrite_partitions`: in the place of the folders that the run has rows for.",
    )
    replaces: str | None = Field(
        default=None,
        description="A run of the newest version. This one is published in the place of just the folders that the "
        "version holds of it, or not at all. `batchscore backfill --rescore-with` sets it.",
    )
    passthrough: tuple[str, ...] = Field(
        default=(), description="Input columns to publish beside the scores, in order."
    )
    stamps: tuple[Stamp, ...] = Field(default=(), description="Columns that say where a score comes from.")
    partition_by: tuple[str, ...] = Field(
        default=(),
        description="Published columns whose values name folders, `column=value/`, outermost first. The files do not "
        "hold them.",
    )
    sort_by: tuple[str, ...] = Field(
        default=(), description="Published columns by which the rows of each file are in ascending order; nulls last."
    )
    file_bytes: ByteSize = Field(
        default=ByteSize(128 << 20),
        ge=1,
        description="Size at which a file is ended and another begun. A split has files of its own, so smaller splits "
        "make smaller files. With `sort_by`: the rows of a file as they are in memory.",
    )
    max_open_files: int = Field(
        default=16, ge=1, description="Files that a task has open at a time, where it writes into several folders."
    )
    on_schema_change: Literal["fail", "new_version"] = Field(
        default="fail",
        description="Where the published columns are others than those that are there: refuse the run, or begin a "
        "version that holds this run alone.",
    )
    keep_versions: int | None = Field(
        default=None,
        ge=1,
        description="Versions whose files stay. What only older ones hold is removed once a run is published. Default: "
        "all, until `batchscore gc`.",
    )
    symlink_manifest: bool = Field(
        default=False,
        description="Whether Athena, Trino and Hive find the newest version listed below `_symlink_format_manifest/`.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Output:
        if self.mode == "overwrite_partitions" and not self.partition_by:
            message = "`mode: overwrite_partitions` needs `partition_by`, which says what the partitions are"
            raise ValueError(message)
        if self.on_schema_change == "new_version" and self.mode == "error":
            message = "`on_schema_change: new_version` has no meaning with `mode: error`, which never meets a schema"
            raise ValueError(message)
        if self.replaces is not None and not self.is_hidden:
            message = (
                f"`mode: {self.mode}` replaces nothing that is published, so `replaces` goes with `overwrite` and "
                "`overwrite_partitions`"
            )
            raise ValueError(message)
        both = sorted({*self.partition_by} & {*self.sort_by})
        twice = [name for key in (self.partition_by, self.sort_by) for name in key if key.count(name) > 1]
        if both or twice:
            message = f"{[*both, *twice][0]!r} is named twice in `partition_by` and `sort_by`"
            raise ValueError(message)
        return self

    @property
    def is_hidden(self) -> bool:
        """Whether runs lie where readers that list the root find none: they may be replaced."""
        return self.mode in {"overwrite", "overwrite_partitions"}

    @property
    def shape(self) -> Shape:
        """How the predictions lie in files."""
        return Shape(
            partition_by=self.partition_by,
            sort_by=self.sort_by,
            file_bytes=int(self.file_bytes),
            open_files=self.max_open_files,
            is_hidden=self.is_hidden,
        )


class Gc(Strict):
    """What `batchscore gc` leaves alone."""

    min_age: timedelta = Field(
        default=timedelta(days=7),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="A run that never ended, and a trial, stay for so long after somebody worked on them last: `P7D`, "
        "or `7 days`.",
    )
