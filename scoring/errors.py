"""What can go wrong with models, as one tree beside the tables' one.

BatchscoreError
└── ScoringError
    ├── BundleError      a bundle is incomplete, changed, inconsistent, or its model cannot be loaded
    │   └── GoldenError  the bundle does not give its own golden outputs on this machine
    ├── DeviceError      the device that was asked for is not there; there is no silent fall-back
    ├── InferenceError   the model failed on rows, or gave something that the bundle does not declare
    │   ├── OutOfMemory  there was not enough memory for so many rows at once; fewer may do
    │   └── TooFewValues an axis of unknown size has fewer values than a column needs
    ├── RowsRefused      rows have no score where each was to have one
    ├── TasksFailed      Spark gave up on a task after its retries, or went away
    └── CodeSkew         a worker runs other code than the driver
"""

from __future__ import annotations

from etl.errors import BatchscoreError

__all__ = [
    "BundleError",
    "CodeSkew",
    "DeviceError",
    "GoldenError",
    "InferenceError",
    "OutOfMemory",
    "RowsRefused",
    "ScoringError",
    "TasksFailed",
    "TooFewValues",
]


class ScoringError(BatchscoreError):
    """Something is wrong with a model or its device."""


class BundleError(ScoringError):
    """A bundle is incomplete, changed or inconsistent, or its model cannot be loaded."""


class GoldenError(BundleError):
    """The bundle does not give its own golden features or outputs on this machine."""


class DeviceError(ScoringError):
    """The device that was asked for is not there, or did not take the model."""


class InferenceError(ScoringError):
    """The model failed, or gave something that the bundle does not declare."""


class OutOfMemory(InferenceError):
    """There was not enough memory, of the host or of the GPU, to run the model on so many rows at once."""


class TooFewValues(InferenceError):
    """An axis of unknown size has fewer values than a step of a column takes."""


class RowsRefused(ScoringError):
    """Rows of a table have no score, and the caller wants one for each."""


class CodeSkew(ScoringError):
    """A worker runs other code than the driver."""


class TasksFailed(ScoringError):
    """Spark gave up on a task after its retries, or went away."""
