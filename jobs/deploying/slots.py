"""Tasks that an executor works on at a time: a core for each, so that no GPU that was asked for stays idle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["slots_for"]

_CORES, _CPUS, _OVERHEAD = "spark.executor.cores", "spark.task.cpus", "spark.executor.memoryOverhead"


def slots_for(gpus: int, *, given: Sequence[str], own: Sequence[str], cores: int | None) -> list[str]:
    """The settings, KEY=VALUE, by which an executor has a task for each of its GPUs; none where it has already.

    `given` are the settings of profiles and `own` those of the caller, which win and are not changed; `cores` is what
    an executor has where neither says it, None for all of its machine. With more tasks than a profile has, its memory
    beside the JVM grows, too: each task has its own model.

    Raises:
        Refused: the caller's own cores are too few.
    """
    if not gpus:
        return []
    profile, asked = _values(given), _values(own)
    told = {**profile, **asked}
    needed = gpus * (_number(_CPUS, told.get(_CPUS), 1) or 1)
    has = _number(_CORES, told.get(_CORES), cores)
    found = []
    if has is not None and has < needed:
        if _CORES in asked:
            raise Refused(
                f"--gpus {gpus} is {gpus} tasks at a time, a GPU each, and so {needed} cores by {_CPUS}, where "
                f"{_CORES}={has} is given: some GPUs would be idle. Leave {_CORES} out, or raise it."
            )
        found.append(f"{_CORES}={needed}")
    size = re.fullmatch(r"(\d+)([a-zA-Z]*)", profile.get(_OVERHEAD, ""))
    tasks = (_number(_CORES, profile.get(_CORES), 1) or 1) // (_number(_CPUS, profile.get(_CPUS), 1) or 1)
    if size is not None and _OVERHEAD not in asked and gpus > tasks > 0:
        found.append(f"{_OVERHEAD}={-(-int(size[1]) * gpus // tasks)}{size[2]}")
    return found


def _values(settings: Sequence[str]) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in settings if "=" in setting)


def _number(name: str, text: str | None, default: int | None) -> int | None:
    if text is None:
        return default
    if not text.isdecimal() or not int(text):
        raise Refused(f"{name}={text}: a whole number above 0, please.")
    return int(text)
