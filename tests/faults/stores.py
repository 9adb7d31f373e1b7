"""What a case of the matrix is: a fault, its outcome, and the stores that it is tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Test = TypeVar("Test", bound=Callable[..., None])

__all__ = ["STORES", "on"]

STORES = ("local", "moto", "versitygw", "hdfs")


def on(*stores: str) -> Callable[[Test], Test]:
    """Try a test on these stores; only `make test-faults` does."""
    made = pytest.mark.parametrize("place", stores, indirect=True)

    def marked(test: Test) -> Test:
        return pytest.mark.faults(made(test))

    return marked
