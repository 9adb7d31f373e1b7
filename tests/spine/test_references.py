"""Pinning reference tables: read once, checked whole, and stored as bytes that a resume will use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import ContractError, InputMissing, ReadError
from etl.references import pin_references
from etl.spec import Spec, read_spec
from tests.stores.site import sha256

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
format: scorespec/1
spec_id: with_reference
input: {fields: [{name: code, type: string}]}
relational:
- id: join_airports
  op: lookup_join
  in: [code]
  out: [altitude]
  params:
    reference: airports
    keys: [{name: iata, type: string}]
    columns: [{name: alt, type: float64}]
outputs: {tensors: [{tensor: X, from: [altitude]}]}
"""


@pytest.fixture
def spec() -> Spec:
    """A spec that joins one reference table."""
    return read_spec(SPEC, "spec.yaml")


def write(folder: Path, **tables: pa.Table) -> str:
    """Parquet files by name in a folder."""
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return str(folder)


def airports(codes: list[str | None], alt: pa.DataType | None = None, **more: list[object]) -> pa.Table:
    """A table of airports with an altitude each."""
    return pa.table({"iata": codes, "alt": pa.array(range(len(codes)), pa.float64()).cast(alt or pa.float64()), **more})


def test_a_pinned_table_has_the_columns_that_are_joined(spec: Spec, tmp_path: Path) -> None:
    """A pinned table is Arrow with the spec's columns only, all files' rows in path order, and its own digest."""
    uri = write(tmp_path / "ref", b=airports(["c"]), a=airports(["a", "b"], name=["x", "y"]))
    pinned = pin_references(spec, {"airports": uri})["airports"]
    table = pa.ipc.open_file(pa.BufferReader(pinned.data)).read_all()
    assert table.to_pydict() == {"iata": ["a", "b", "c"], "alt": [0.0, 1.0, 0.0]}
    assert pinned.sha256 == sha256(pinned.data)
    assert pin_references(spec, {"airports": uri})["airports"] == pinned


def test_a_spec_without_references_takes_none(tmp_path: Path) -> None:
    """A spec that joins nothing pins nothing."""
    spec = read_spec(
        "{format: scorespec/1, spec_id: s, input: {fields: [{name: x, type: float64}]}, "
        "outputs: {tensors: [{tensor: X, from: [x]}]}}",
        "spec.yaml",
    )
    assert pin_references(spec, {}) == {}


def test_tables_given_and_tables_joined_are_the_same(spec: Spec, tmp_path: Path) -> None:
    """A table that is missing, or given in vain, is a ContractError with its name and the nearest right one."""
    with pytest.raises(
        ContractError, match="reference table 'airports' is joined by the spec; say where it is"
    ) as caught:
        pin_references(spec, {"airport": "x"})
    assert "airport" in str(caught.value).partition("`references`")[2]
    uri = write(tmp_path / "ref", a=airports(["a"]))
    with pytest.raises(ContractError, match="reference table 'planes' is given, but the spec joins no such table"):
        pin_references(spec, {"airports": uri, "planes": uri})


def test_a_table_that_is_not_there_is_told(spec: Spec, tmp_path: Path) -> None:
    """A URI under which nothing is, is InputMissing with the URI."""
    uri = str(tmp_path / "nothing")
    message = f"{uri}: no reference table is there. Check --reference, in a job `references`."
    with pytest.raises(InputMissing, match=re.escape(message)):
        pin_references(spec, {"airports": uri})


def test_a_table_that_is_no_parquet_is_told(spec: Spec, tmp_path: Path) -> None:
    """A file that is no Parquet is a ReadError with its path."""
    (tmp_path / "ref.csv").write_text("iata,alt\n")
    with pytest.raises(ReadError, match=re.escape(f"{tmp_path / 'ref.csv'}: not a Parquet file")):
        pin_references(spec, {"airports": str(tmp_path / "ref.csv")})


def test_files_of_other_columns_are_told(spec: Spec, tmp_path: Path) -> None:
    """Files that differ in a column that is joined are a ReadError with the URI; other columns may differ."""
    uri = write(tmp_path / "ref", a=airports(["a"]), b=airports(["b"], pa.float32()))
    with pytest.raises(ReadError, match=f"{uri}: the files of this reference table differ in their columns"):
        pin_references(spec, {"airports": uri})


@pytest.mark.parametrize(
    "table",
    [airports(["a", "a"]), airports([None]), airports(["a"]).drop_columns(["alt"]), airports(["a"], pa.string())],
)
def test_a_table_that_breaks_its_declaration_is_refused(spec: Spec, tmp_path: Path, table: pa.Table) -> None:
    """A key that stands twice or is null, or a column that is missing or of another type, is told with the URI."""
    uri = write(tmp_path / "ref", a=table)
    with pytest.raises(ContractError, match=uri):
        pin_references(spec, {"airports": uri})
