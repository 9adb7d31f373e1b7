"""A model in a process of its own: a crash or a hang ends that process, and is an error here like any other.

Slower than in the same process, since tensors go through a pipe; so only rows that may have ended a process before are
scored like this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from etl.errors import BatchscoreError
from etl.runs.layout import model_folder
from etl.runs.storage import storage_for
from etl.runs.store_settings import configure, configured
from scoring.bundles.bundle import audit
from scoring.bundles.golden import replay
from scoring.errors import BundleError, InferenceError, OutOfMemory
from scoring.order import ModelOrder
from scoring.runtimes import load
from scoring.runtimes.base import Placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from scoring.runtimes.base import Runtime

__all__ = ["Contained", "serve"]

_STARTING_SECONDS = 600.0
"""How long loading the model may take."""
_LEAST_SECONDS = 5.0
"""A call of few rows may take that long."""
_TIMES_SLOWEST = 10
_PROGRAM = "import sys; from scoring.engine.contained import serve; serve(int(sys.argv[1]))"


class Contained:
    """The model of an order behind a pipe. It is started when it is first called, and anew after it ended."""

    def __init__(self, root: str, model: ModelOrder, placement: Placement, *, deadline: float) -> None:
        """`deadline` is for a call of as many rows as any call had; seconds. One of fewer rows has its part of it."""
        self._told = (root, model.model_dump_json(), tuple(placement), configured())
        self._deadline = deadline
        self._most_rows = 1
        self._slowest: float | None = None
        """The longest call that came back; seconds."""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
        """As a runtime's.

        Raises:
            InferenceError: the model failed, its process ended, or it gave no answer in time.
        """
        rows = max((len(tensor) for tensor in feeds.values()), default=0)
        self._most_rows = max(self._most_rows, rows)
        pipe = self._started()
        seconds = max(self._least(), self._deadline * rows / self._most_rows)
        start = time.monotonic()
        try:
            pipe.send((dict(feeds), tuple(names)))
            if not pipe.poll(seconds):
                self.close()
                limit = "scoring.call_timeout" if seconds >= self._deadline else "a share of scoring.call_timeout"
                message = f"the model failed: no answer within {seconds:.0f} s ({limit}), and was ended"
                raise InferenceError(message)
            kind, answer = pipe.recv()
        except (EOFError, ConnectionError) as error:
            message = f"the model failed: its process ended, {self._end()}"
            raise InferenceError(message) from error
        if kind == "outputs":
            self._slowest = max(self._slowest or 0.0, time.monotonic() - start)
            outputs: dict[str, np.ndarray] = answer
            return outputs
        raise (OutOfMemory if kind == "OutOfMemory" else InferenceError)(answer)

    def _least(self) -> float:
        """What a call may take however few rows it has: each has a price of its own, unknown before one came back."""
        known = self._deadline / 4 if self._slowest is None else _TIMES_SLOWEST * self._slowest
        return min(self._deadline, max(_LEAST_SECONDS, known))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def _end(self) -> str:
        """Wait for the process; how it ended."""
        assert self._process is not None  # noqa: S101  it was started
        assert self._pipe is not None  # noqa: S101  with it
        self._pipe.close()
        code = self._process.wait()
        self._process = self._pipe = None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    def _started(self) -> Connection[Any, Any]:
        if self._pipe is not None:
            return self._pipe
        self._pipe, theirs = Pipe()
        # Its imports are found where this process finds its own.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno())]
        self._process = subprocess.Popen(  # noqa: S603  it is this module, in this Python
            command, pass_fds=(theirs.fileno(),), env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        try:
            self._pipe.send(self._told)
            if not self._pipe.poll(_STARTING_SECONDS):
                self.close()
                message = f"the model was not loaded within {_STARTING_SECONDS:.0f} s in a process of its own"
                raise BundleError(message)
            kind, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            message = f"the model cannot be loaded in a process of its own, which ended {self._end()}"
            raise BundleError(message) from error
        if kind != "ready":
            self.close()
            raise BundleError(answer)
        return self._pipe


def serve(descriptor: int) -> None:
    """The other process: load a model, answer until the pipe is closed."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    root, model_json, placement, stores = pipe.recv()
    configure(stores)
    try:
        runtime = _loaded(root, ModelOrder.model_validate_json(model_json), Placement(*placement))
    except (BatchscoreError, OSError) as error:
        pipe.send(("failed", str(error)))
        return
    pipe.send(("ready", None))
    while True:
        try:
            feeds, names = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("outputs", runtime.predict(feeds, names)))
        except InferenceError as error:
            pipe.send((type(error).__name__, str(error)))


def _loaded(root: str, model: ModelOrder, placement: Placement) -> Runtime:
    storage, _ = storage_for(root)
    folder = model_folder(root, model.bundle_sha256)
    audited = audit(storage, folder)
    if audited.sha256 != model.bundle_sha256:
        message = f"{folder}: is not the bundle that was planned ({audited.sha256} found)."
        raise BundleError(message)
    bundle = audited.bundle
    runtime = load(bundle.model, audited.files, model.runtime, kind=bundle.runtime, where=folder, placement=placement)
    if replay(audited, runtime, audited.tolerance(runtime.device)) is None:
        runtime.warm_up()
    return runtime
