"""What can go wrong with a job, as one tree, and the exit code that each ending has.

BatchscoreError
└── JobError
    ├── ConfigError    the config is malformed or inconsistent; refused before any work
    ├── Refused        the request cannot be honoured as it stands; refused before any work
    │   └── NoPlanYet  only a run can make the plan: Spark makes, or freezes, what is scored
    ├── SplitsFailed   some splits cannot be scored; the rest is kept for the next try under the same id
    │   └── InputUnfit the input is at fault; mended it is another input, which needs another id
    ├── SparkNotStarted  no session could be made
    ├── LimitPassed    the run took longer, or cost more, than its config allows; the same id goes on
    ├── NotAwaited     nobody waits for a job on a cluster any more, which goes on, or may: a signal, or no answers
    ├── NotOurTurn     another driver works on the run; it is waited for
    └── Cancelled      stopped by a signal; the same id goes on
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError, OutcomeUnknown, Superseded

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "Cancelled",
    "ConfigError",
    "ExitCode",
    "InputUnfit",
    "JobError",
    "LimitPassed",
    "NoPlanYet",
    "NotAwaited",
    "NotOurTurn",
    "Refused",
    "SparkNotStarted",
    "SplitsFailed",
    "exit_code",
    "refusing",
]


class JobError(BatchscoreError):
    """A job did not end as asked."""


class ConfigError(JobError):
    """The config is malformed or inconsistent; the message has a line for each problem."""


class Refused(JobError):
    """The request cannot be honoured as it stands."""


class NoPlanYet(Refused):
    """Only a run can make the plan, since Spark makes, or freezes, what is scored."""


class SplitsFailed(JobError):
    """Some splits cannot be scored."""


class InputUnfit(SplitsFailed):
    """Some splits cannot be scored because of what the input is. The plan binds the id to just that input."""


class SparkNotStarted(JobError):
    """No Spark session could be made with these settings."""


class LimitPassed(JobError):
    """The run was stopped because it took longer, or cost more, than its config allows."""


class NotAwaited(JobError):
    """Nobody waits for a job whose driver runs elsewhere any more. It goes on, or may have been taken."""


class NotOurTurn(JobError):
    """Another driver works on the run."""


class Cancelled(JobError):
    """A signal stopped the run."""


@contextlib.contextmanager
def refusing() -> Generator[None]:
    """Before work starts, every error is a refusal.

    Raises:
        Refused: an error of another layer came up inside.
    """
    try:
        yield
    except JobError:
        raise
    except BatchscoreError as error:
        raise Refused(str(error)) from error


class ExitCode:
    """What the process ends with."""

    PUBLISHED = 0
    FAILED = 1
    REFUSED = 2
    UNKNOWN = 3
    NOT_PUBLISHED = 4
    GATE_FAILED = 4
    """`compare`: the runs were compared, and a limit does not hold."""
    REFIT_MODEL = 5
    """`etl diff`: the model has to be trained again behind the new spec."""
    INCOMPATIBLE = 6
    """`etl diff`: the model cannot be fed by the new spec."""


def exit_code(error: Exception) -> int:
    """The exit code of an ending; anything that is not told apart is a failure."""
    if isinstance(error, ConfigError | Refused):
        return ExitCode.REFUSED
    if isinstance(error, OutcomeUnknown | NotAwaited):
        return ExitCode.UNKNOWN
    if isinstance(error, Superseded):
        return ExitCode.NOT_PUBLISHED
    return ExitCode.FAILED
