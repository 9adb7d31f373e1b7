"""What nvidia-smi says of a GPU, once and while something runs on it. It comes with the driver; nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Sampled", "Sampler", "device_facts"]

_EVERY_MS = 100
_PROGRAM = "nvidia-smi"


def device_facts() -> dict[str, str]:
    """Name, memory and driver of the first GPU that is visible; empty where there is none."""
    if shutil.which(_PROGRAM) is None:
        return {}
    asked = "name,memory.total,driver_version"
    command = [_PROGRAM, f"--query-gpu={asked}", "--format=csv,noheader", *_chosen()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = done.stdout.strip().splitlines()[0].split(", ") if done.returncode == 0 and done.stdout.strip() else []
    return {"Device": f"{found[0]}, {found[1]}", "Driver": found[2]} if len(found) > 2 else {}


def _chosen() -> list[str]:
    """Numbers and UUIDs of CUDA_VISIBLE_DEVICES are those of nvidia-smi, where devices are in the order of the bus."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    return ["--id", visible or "0"]


class Sampled(NamedTuple):
    """What was seen in some stretch of time."""

    busy: float | None
    """Mean share of time in which a kernel ran, 0 to 1; None without samples."""
    peak_bytes: int | None
    """Most memory that was taken, less what was taken at first; None without samples."""


class Sampler:
    """Samples the device for the length of a block; without a GPU it finds nothing."""

    def __init__(self) -> None:
        """It has not begun."""
        self._samples: list[tuple[float, float, int]] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._program: subprocess.Popen[str] | None = None
        if device_facts():
            asked = "--query-gpu=utilization.gpu,memory.used"
            command = [_PROGRAM, asked, "--format=csv,noheader,nounits", "-lms", str(_EVERY_MS), *_chosen()]
            self._program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._read, args=(self._program,), daemon=True)
            self._thread.start()
            while not self._samples and self._program.poll() is None:
                time.sleep(_EVERY_MS / 1000)
        return self

    def _read(self, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        for line in program.stdout:
            busy, _, memory = line.partition(", ")
            try:
                self._samples.append((time.time(), float(busy) / 100, int(memory) << 20))
            except ValueError:  # "[N/A]", of a device that does not tell
                continue

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        if self._program is not None:
            self._program.terminate()
            self._program.wait()
            self._thread.join()

    def between(self, start: float, end: float) -> Sampled:
        """What was seen from one time to another, both in seconds since the epoch."""
        inside = [sample for sample in self._samples if start <= sample[0] <= end]
        if not inside:
            return Sampled(None, None)
        at_first = self._samples[0][2]
        busy = sum(busy for _, busy, _ in inside) / len(inside)
        return Sampled(busy, max(memory for _, _, memory in inside) - at_first)
