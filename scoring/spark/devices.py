"""The GPU of a task, as the scheduler gave it; numbered as CUDA numbers those that the process can see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scoring.errors import DeviceError
from scoring.runtimes.base import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import SparkSession

__all__ = ["device_of", "task_placement", "tasks_per_gpu"]

_AMOUNT = "spark.task.resource.gpu.amount"
_NONE_VISIBLE = {"", "-1", "none", "void", "NoDevFiles"}


def tasks_per_gpu(spark: SparkSession) -> int:
    """How many tasks Spark lets share a GPU, by the session's settings; 1 where tasks ask for none."""
    amount = float(spark.conf.get(_AMOUNT, None) or 1)
    # A share of 1/3 is written with so many digits that three of them may be a little more than 1.
    return max(1, int(1 / amount + 1e-6)) if amount > 0 else 1


def task_placement(workers_per_device: int = 1) -> Placement:
    """Where the task that runs in this process may run a model, and on how many cores.

    Raises:
        DeviceError: Spark gave the task an address that is no GPU of this process.
    """
    from pyspark import TaskContext  # noqa: PLC0415  half a second that commands without Spark need not pay

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context is not None else None
    device = device_of(gpu.addresses if gpu is not None else (), os.environ)
    return Placement(device, workers_per_device, cores=context.cpus() if context is not None else 1)


def device_of(addresses: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """The number of the task's GPU; None where it has none. Of several addresses the first: a model runs on one GPU.

    CUDA numbers what CUDA_VISIBLE_DEVICES shows, from 0. Where it shows one GPU, that is the task's, whatever its
    address on the host: a cluster manager narrows it, and so may a plugin. Where it shows several, an address that it
    lists is the number of its place there.

    Raises:
        DeviceError: the address is no number, and none that CUDA_VISIBLE_DEVICES lists.
    """
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    visible = None if shown is None else [name.strip() for name in shown.split(",")]
    if visible is not None and visible[0] in _NONE_VISIBLE:
        return None
    if visible is not None and len(visible) == 1:
        return 0
    if not addresses:
        return None
    address = addresses[0]
    if visible is not None and address in visible:
        return visible.index(address)
    if address.isdecimal() and (visible is None or int(address) < len(visible)):
        return int(address)
    message = (
        f"Spark gave the task the GPU {address!r}, and CUDA_VISIBLE_DEVICES here is {shown!r}: this process sees no "
        "such GPU. Let the discovery script print the numbers that nvidia-smi shows, or do not set that variable."
    )
    raise DeviceError(message)
