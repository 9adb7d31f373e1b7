"""The stores that the contract is tried on. Another store joins by one more parameter of `site`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etl.runs.storage import storage_for
from tests.stores.site import Site, read_by_duckdb, read_by_pandas, read_by_polars, read_by_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def local_site(folder: Path) -> Iterator[Site]:
    """A folder of this machine."""
    readers = (read_by_pyarrow, read_by_duckdb, read_by_polars, read_by_pandas)
    storage, root = storage_for(str(folder))
    yield Site(storage=storage, root=root, uri=f"file://{root}", readers=readers)


@pytest.fixture(params=[local_site], ids=["local"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A store with a folder of the test's own."""
    yield from request.param(tmp_path)
