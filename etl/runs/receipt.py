"""A receipt: what one attempt did with one split. The first attempt to create it wins; later ones find it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from etl.documents import STRICT, Document, Strict
from etl.runs.digest import digest_of
from etl.runs.storage import Pending

__all__ = ["EMPTY", "BatchFacts", "Receipt", "RowTally", "SplitAccount", "Tally", "WorkerFacts", "Written"]

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTally:
    """A set of rows, by count and by digest of their identities."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rows: Annotated[int, Field(ge=0)]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """Sum of row hashes modulo 2^64, hexadecimal; see `etl.runs.digest`."""

    @classmethod
    def of(cls, rows: int, digest: int) -> RowTally:
        """From a count and a digest as a number."""
        return cls(rows=rows, digest=f"{digest & _MASK:016x}")

    def __add__(self, other: RowTally) -> RowTally:
        """Tally of the union of two disjoint sets."""
        return RowTally.of(self.rows + other.rows, int(self.digest, 16) + int(other.digest, 16))

    @classmethod
    def of_hashes(cls, hashes: object) -> RowTally:
        """From the hashes of the rows; see `etl.runs.digest.row_hashes`."""
        return cls.of(len(hashes), digest_of(hashes))  # type: ignore[arg-type]  # numpy's array, told as object: this file needs no numpy


EMPTY = RowTally.of(0, 0)
"""No rows."""


class SplitAccount(Strict):
    """Where the rows of a split went: rows_in = scored + quarantined + filtered, by count and by digest."""

    rows_in: RowTally = EMPTY
    scored: RowTally = EMPTY
    quarantined: RowTally = EMPTY
    filtered: RowTally = EMPTY

    @property
    def adds_up(self) -> bool:
        """Whether every row went somewhere, and none twice."""
        return self.rows_in == self.scored + self.quarantined + self.filtered

    def __add__(self, other: SplitAccount) -> SplitAccount:
        """Account of two splits together."""
        return SplitAccount(
            rows_in=self.rows_in + other.rows_in,
            scored=self.scored + other.scored,
            quarantined=self.quarantined + other.quarantined,
            filtered=self.filtered + other.filtered,
        )


class Tally(Strict):
    """How often something was found in rows. Tallies of disjoint sets of rows add up."""

    hits: int = Field(default=0, ge=0, description="How often it was found.")
    rows: int = Field(default=0, ge=0, description="Rows that were looked at; of `oov_share`, ids.")

    def __add__(self, other: Tally) -> Tally:
        """Tally of two disjoint sets together."""
        return Tally(hits=self.hits + other.hits, rows=self.rows + other.rows)


class Written(Strict):
    """A file that an attempt wrote."""

    pending: Pending
    rows: int = Field(ge=0)
    partition: str = Field(
        default="", description="Folder in the run's, `column=value/…`, whose columns the file does not hold."
    )


class WorkerFacts(Strict):
    """The process that made a receipt."""

    host: str
    pid: int
    code: str = Field(description="Digest of the batchscore modules it ran.")
    provider: str = Field(description="The execution provider that ran the model.")
    device_id: int | None = Field(
        default=None, ge=0, description="Number of the GPU that it ran on, as CUDA counts them; None on the CPU."
    )
    fell_back: str | None = Field(
        default=None, description="Why it ran on the CPU though a GPU was asked for; None where it ran as asked."
    )
    operators: dict[str, int] = Field(
        default_factory=dict,
        description="On a GPU, operators of the model by the provider that ran them; empty where that is not known.",
    )
    profile: str | None = Field(default=None, description="File of this host with the runtime's own profile.")
    task_try: int = Field(default=0, ge=0, description="How often Spark had tried the task before.")
    loads: int = Field(ge=0, description="Models that this process had loaded so far, this one included.")
    peak_rss_bytes: int = Field(ge=0, description="Largest resident size of the process so far, in bytes.")
    golden_features_ulp: int | None = Field(
        default=None,
        ge=0,
        description="Largest deviation of a golden feature here, in units in the last place; None without golden rows.",
    )
    golden_outputs_abs: float | None = Field(
        default=None, ge=0, description="Largest deviation of a golden output here; None without golden rows."
    )


class BatchFacts(Strict):
    """Calls of a model, and how many rows each had."""

    rows: int = Field(ge=1, description="Rows of a call, as asked or found; the last of a task has fewer.")
    calls: int = Field(ge=0, description="Calls since the receipt before; of which split they were, nobody knows.")
    out_of_memory: int = Field(default=0, ge=0, description="Calls that were too large, halved and tried again.")
    seconds_per_row: dict[str, float] = Field(
        default_factory=dict, description="What was measured to find the rows of a call, by rows of a call."
    )


class Receipt(Document):
    """What an attempt did with a split."""

    format: Literal["batchscore.receipt/1"] = "batchscore.receipt/1"
    run_id: str
    split: int = Field(ge=0)
    attempt: str = Field(description="Random name of the attempt; its files carry it.")
    account: SplitAccount
    predictions: tuple[Written, ...] = Field(
        description="Several where they are in folders, or were too large for one."
    )
    quarantine: Written | None = Field(description="None when no row was quarantined.")
    reasons: dict[str, int] = Field(description="Quarantined rows by `stage/CODE`; a row counts once.")
    expectations: dict[str, Tally] = Field(
        default_factory=dict, description="By id: rows that break a row expectation, or count in a batch expectation."
    )
    non_finite: dict[str, int] = Field(
        default_factory=dict,
        description="By column: rows whose score was NaN or ±inf and is published, as it is or as null.",
    )
    by_variant: bool = Field(
        default=False, description="Whether a row is published once for each model that scored it, and not just once."
    )
    by_model: dict[str, RowTally] = Field(
        default_factory=dict, description="Of several models: the published rows that have a score of each."
    )
    unscored: dict[str, int] = Field(
        default_factory=dict,
        description="Published rows that a model which is not required could not score, by `model/CODE`.",
    )
    keys: dict[str, Written] = Field(
        default_factory=dict,
        description="By id of a `unique` expectation: digests of the rows' keys; gone once the run has counted them.",
    )
    sketch: str | None = Field(
        default=None, description="Path of the sketch of the published rows; None where none was asked for or made."
    )
    seconds: dict[str, float] = Field(description="Worker-seconds of work, by phase.")
    waiting: dict[str, float] = Field(
        default_factory=dict,
        description="Worker-seconds in which a phase waited: for rows, or for the next phase to take them.",
    )
    batches: dict[str, BatchFacts] = Field(
        default_factory=dict, description="How the model was called, by its name and the lengths it was padded to."
    )
    contained_rows: int = Field(
        default=0,
        ge=0,
        description="Rows that were given to a model in a process of its own, because a try before had died.",
    )
    bytes_read: int = Field(
        ge=0, description="Bytes of the input that were read: of the columns' chunks, or of small files as a whole."
    )
    started_at: AwareDatetime
    ended_at: AwareDatetime
    worker: WorkerFacts
