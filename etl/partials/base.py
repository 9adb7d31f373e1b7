"""What every partial state can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

__all__ = ["Partial"]


class Partial(ABC):
    """What some of the rows tell, so that it can be put together with what others tell.

    What `vars` gives of one is data, and nothing else: int (of any size), float (±inf too), str, bool, None, numpy
    arrays, mappings from text to int, lists of those, and other partials. So it is shipped without pickle.
    """

    @abstractmethod
    def fresh(self) -> Self:
        """An empty one of the same configuration."""

    @abstractmethod
    def merge(self, later: Self) -> None:
        """Take in what other rows tell, by one of the same configuration. It may compact `later`, and shares nothing
        with it afterwards.
        """  # noqa: D205  one sentence each

    def compact(self) -> None:  # noqa: B027  most are canonical at any time
        """Bring the state into its canonical form: equal rows, equal bytes. To be called before it is shipped."""
