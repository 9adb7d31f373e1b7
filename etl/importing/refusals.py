"""How an import refuses what it cannot express: each with its place, and all of them together in the end."""

from __future__ import annotations

from typing import NoReturn

from etl.format.problems import Problem

__all__ = ["collecting", "give_up", "refuse"]

UNSUPPORTED = "E-UNSUPPORTED-IMPORT"


class _Refusal(Exception):
    """Something cannot be imported; without a problem, because of something that has one already."""

    def __init__(self, problem: Problem | None) -> None:
        super().__init__(problem)
        self.problem = problem


def refuse(pointer: str, message: str) -> NoReturn:
    """Say that what stands at a place cannot be imported, and why."""
    raise _Refusal(Problem(pointer, message, UNSUPPORTED))


def give_up() -> NoReturn:
    """Leave off what depends on something that has been refused already."""
    raise _Refusal(None)


class collecting:  # noqa: N801  a context manager, used as a function is
    """Run to the first refusal, which is added to the problems."""

    def __init__(self, problems: list[Problem]) -> None:
        """`problems` is what is added to."""
        self._problems = problems

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Take a refusal, and let anything else pass."""
        if isinstance(error, _Refusal) and error.problem is not None:
            self._problems.append(error.problem)
        return isinstance(error, _Refusal)
