"""A contract that takes no other columns, in the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from etl.contract import InputField
from etl.errors import ContractError
from etl.types import ColumnType
from scoring.bundles.create import create_bundle
from tests.scoring.workshop import LOGISTIC_SPEC, STORE, P, Work, logistic_model, numbers, parts_of, predictions

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

SPEC = LOGISTIC_SPEC.replace("input:\n", "input:\n  extra_columns: error\n  labels: [{name: y, type: float64}]\n")
CARRIED = tuple(InputField(name=name, type=ColumnType("int64"), role="id") for name in ("y", "key"))


def bundle(folder: Path) -> AuditedBundle:
    """A bundle whose contract takes no other columns and has a label."""
    return create_bundle(STORE, str(folder), parts_of(SPEC, logistic_model(), numbers(2), [P]))


def table() -> pa.Table:
    """Rows with the label, as integers, and a key that the contract does not name."""
    numbers_ = pa.array(range(5), pa.int64())
    return numbers(5).append_column("y", numbers_).append_column("key", numbers_)


def test_what_a_job_hands_through_is_no_extra_column(tmp_path: Path) -> None:
    """A column that nobody names refuses the file; once the job hands it through, or it is a label, it is let be."""
    with pytest.raises(ContractError, match="column 'key' is not in the contract, and extra_columns is error"):
        Work(tmp_path / "a", table(), bundle).score()
    work = Work(tmp_path / "b", table(), bundle, order={"carried": CARRIED, "passthrough": ("id", "y", "key")})
    found = predictions(work.score())
    assert found.column("y").to_pylist() == found.column("key").to_pylist() == list(range(5))
    alone = table().drop_columns(["key"])
    assert predictions(Work(tmp_path / "c", alone, bundle).score()).num_rows == 5
