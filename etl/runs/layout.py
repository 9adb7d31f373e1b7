"""Where everything of a run lies under its output root. Nothing but published predictions ends in `.parquet` there.

DuckDB and Polars read what `**/*.parquet` matches, hidden folders too; Spark, pyarrow and pandas skip names that begin
with `_` or `.`. So state lies under `_batchscore/`, and what lies there is JSON or Arrow IPC.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Layout",
    "manifest_folder",
    "manifest_path",
    "model_folder",
    "models_folder",
    "runs_folder",
    "scratch_folder",
    "scratch_root",
]

_STATE = "_batchscore"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one run."""

    root: str
    """The output root, in its store's naming, without a slash at the end."""
    run_id: str
    """The run's id, already checked to be a safe name."""
    is_hidden: bool = False
    """Whether the run's predictions lie where readers that list the root find none of them."""

    @property
    def folder(self) -> str:
        """Folder of the run's predictions, below the root."""
        return f"_runs/run_id={self.run_id}" if self.is_hidden else f"run_id={self.run_id}"

    @property
    def data(self) -> str:
        """Folder of the run's predictions."""
        return f"{self.root}/{self.folder}"

    @property
    def state(self) -> str:
        """Folder of everything else of the run."""
        return f"{self.root}/{_STATE}/runs/{self.run_id}"

    @property
    def claim(self) -> str:
        """Who asked for what under this id."""
        return f"{self.state}/claim.json"

    @property
    def last_try(self) -> str:
        """Who works on the run, or did last."""
        return f"{self.state}/last_try.json"

    @property
    def plan(self) -> str:
        """What was resolved: inputs, splits, model."""
        return f"{self.state}/plan.json"

    @property
    def record(self) -> str:
        """What happened."""
        return f"{self.state}/record.json"

    @property
    def report(self) -> str:
        """The record as a page for people."""
        return f"{self.state}/report.html"

    @property
    def config(self) -> str:
        """The resolved config as the run's last try had it."""
        return f"{self.state}/config.json"

    @property
    def status(self) -> str:
        """What the run's driver is doing."""
        return f"{self.state}/status.json"

    @property
    def drivers(self) -> str:
        """Folder of those who worked on the run, one after the other."""
        return f"{self.state}/drivers"

    @property
    def deliveries(self) -> str:
        """Who was told of the run's beginning and end."""
        return f"{self.state}/deliveries.json"

    @property
    def decision(self) -> str:
        """What a person decided on a run that was held back."""
        return f"{self.state}/decision.json"

    @property
    def repeats(self) -> str:
        """How many rows of the run repeat the key of another."""
        return f"{self.state}/repeats.json"

    @property
    def receipts(self) -> str:
        """Folder of the receipts."""
        return f"{self.state}/receipts"

    def files(self, voids: int = 0) -> str:
        """Table of the published files; where receipts became void after one was written, the next one has a number."""
        return f"{self.state}/files.{voids}.arrow" if voids else f"{self.state}/files.arrow"

    @property
    def success(self) -> str:
        """Marks the run's folder as whole."""
        return f"{self.data}/_SUCCESS"

    def receipt(self, split: str) -> str:
        """A split's receipt."""
        return f"{self.receipts}/{split}.json"

    @property
    def voids(self) -> str:
        """Folder of the marks that a receipt is void."""
        return f"{self.state}/voids"

    def void(self, split: str) -> str:
        """Says that the receipt of a split is void, and its next generation is scored."""
        return f"{self.voids}/{split}.json"

    def part(self, split: str, attempt: str, *, partition: str = "", number: int = 0) -> str:
        """One of the files with an attempt's predictions of a split; `partition` is their folder in the run's."""
        folder = f"{self.data}/{partition}" if partition else self.data
        return f"{folder}/part-{split}-{attempt}{f'-{number}' if number else ''}.parquet"

    def quarantine(self, split: str, attempt: str) -> str:
        """An attempt's quarantined rows of a split."""
        return f"{self.state}/quarantine/{split}-{attempt}.arrow"

    def keys(self, expectation: str, split: str, attempt: str) -> str:
        """An attempt's digests of a split's keys under a `unique` expectation, until the run has counted them."""
        return f"{self.state}/keys/{expectation}-{split}-{attempt}.arrow"

    def sketch(self, split: str, attempt: str) -> str:
        """An attempt's sketch of a split's published rows, until the run is published."""
        return f"{self.sketches}/{split}-{attempt}.arrow"

    @property
    def sketches(self) -> str:
        """Folder of these."""
        return f"{self.state}/sketches"

    @property
    def run_sketch(self) -> str:
        """The sketch of all rows of the run."""
        return f"{self.state}/sketch.arrow"

    @property
    def drift(self) -> str:
        """How far the columns of the run have moved."""
        return f"{self.state}/drift.json"

    def published_keys(self, sha256: str) -> str:
        """Keys that were published when the run was planned, so that it leaves their rows out."""
        return f"{self.state}/published_keys-{sha256}.arrow"

    def reference(self, name: str, sha256: str) -> str:
        """A reference table as the run pinned it; a try that died before its plan may have pinned another."""
        return f"{self.state}/references/{name}-{sha256}.arrow"


def manifest_folder(root: str) -> str:
    """Folder of the commits of an output root."""
    return f"{root}/{_STATE}/manifests"


def manifest_path(root: str, seq: int) -> str:
    """One commit."""
    return f"{manifest_folder(root)}/{seq:012d}.json"


def models_folder(root: str) -> str:
    """Folder that has one of each model that scored."""
    return f"{root}/{_STATE}/models"


def model_folder(root: str, sha256: str) -> str:
    """The bytes of a model that scored."""
    return f"{models_folder(root)}/{sha256}"


def runs_folder(root: str) -> str:
    """Folder that has one of each run that was claimed."""
    return f"{root}/{_STATE}/runs"


def scratch_folder(root: str) -> str:
    """Folder of the trial runs, each of which has an output root of its own."""
    return f"{root}/{_STATE}/scratch"


def scratch_root(root: str, run_id: str) -> str:
    """Output root of a trial run, as `--limit` and `--sample` make it."""
    return f"{scratch_folder(root)}/{run_id}"
