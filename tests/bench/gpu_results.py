"""What the measurement on a GPU found, as it is kept and as the page of the benchmarks shows it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

__all__ = ["RESULT", "GpuAim", "GpuModel", "GpuResults", "GpuRun"]

RESULT = Path(__file__).parent / "results" / "gpu.json"
"""Where a whole measurement on a GPU is kept; not there until one was made."""
_LEAST_RATIO = 0.9
_LEAST_BUSY = 0.9


class GpuAim(BaseModel):
    """What was wanted, and what was measured."""

    text: str
    found: str
    is_met: bool


class GpuRun(BaseModel):
    """Ours on one model: so many tasks that share the device, each in a process of its own."""

    tasks: int
    padding: str
    """Which lengths rows were padded to, or `fixed` where they have one."""
    rows: int
    seconds: float
    """From when all tasks had loaded the model and found its batch size until the last one was done."""
    rows_per_second: float
    busy: float | None
    """Mean share of time in which a kernel ran, as the driver samples it; None where nothing tells."""
    peak_gpu_bytes: int | None
    """Most of the device's memory that was taken, without what was before."""
    call_rows: int
    """Rows of a call that the workers found; the median, of a model of several lengths over all of them."""
    seconds_per_row: dict[str, float]
    """What the first worker measured to find it, by rows of a call."""
    seconds_by_phase: dict[str, float]
    waiting_by_phase: dict[str, float]
    provider: str


class GpuModel(BaseModel):
    """A model, bare and ours."""

    name: str
    bare_rows: int
    """Rows of a call at which bare is quickest."""
    bare_rates: dict[int, float]
    """Rows a second of bare, by rows of a call."""
    bare_rows_per_second: float
    bare_variants: dict[str, float] = {}
    """Rows a second at that size where products are rounded to TensorFloat-32 (`tf32`), where inputs and outputs are
    bound to the device (`IO binding`).
    """
    largest_deviation: float
    """Of any score of ours from plain onnxruntime's on the CPU."""
    runs: list[GpuRun]


class GpuResults(BaseModel):
    """A whole measurement."""

    about: dict[str, str]
    """Device, driver, date, commit, versions, command."""
    models: list[GpuModel]

    @property
    def aims(self) -> list[GpuAim]:
        """Of the best number of tasks, for each model."""
        found = []
        for model in self.models:
            best = max(model.runs, key=lambda run: run.rows_per_second)
            ratio = best.rows_per_second / model.bare_rows_per_second
            tasks = "with 1 task" if best.tasks == 1 else f"with {best.tasks} tasks"
            told = f"{ratio:.2f} {tasks}"
            found.append(
                GpuAim(text=f"{model.name}: ≥ {_LEAST_RATIO} × bare", found=told, is_met=ratio >= _LEAST_RATIO)
            )
            told = "not measured" if best.busy is None else f"{best.busy:.0%} {tasks}"
            is_met = best.busy is not None and best.busy >= _LEAST_BUSY
            found.append(GpuAim(text=f"{model.name}: GPU busy ≥ {_LEAST_BUSY:.0%}", found=told, is_met=is_met))
        return found
