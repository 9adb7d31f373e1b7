"""Golden rows of a bundle hold no personal data, and the bundle verifies all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from etl.errors import ContractError
from scoring.bundles.bundle import audit
from scoring.bundles.create import BundleParts, create_bundle
from scoring.bundles.golden import arrow_table, replay
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from tests.scoring.workshop import STORE, P, logistic_model, parts_of

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
format: scorespec/1
spec_id: personal
input:
  fields:
  - {name: f0, type: float32, nullable: false}
  - {name: who, type: string, pii: true}
relational:
- id: risk
  op: lookup_join
  in: [who]
  out: [risk]
  params:
    reference: people
    keys: [{name: who, type: string}]
    columns: [{name: risk, type: float64}]
    on_no_match: {as_value: 0.5}
outputs: {tensors: [{tensor: X, from: [f0, risk, risk, f0]}]}
"""
ROWS = pa.table({"f0": pa.array([1.0, 2.0], pa.float32()), "who": ["Jane Doe", None]})
PEOPLE = pa.table({"who": ["Jane Doe"], "risk": [0.25]})


def parts(spec: str = SPEC) -> BundleParts:
    """What a bundle is made of, with a person in a golden row and in a reference table."""
    return parts_of(spec, logistic_model(), ROWS, [P])._replace(references={"people": PEOPLE})


def test_golden_rows_of_a_bundle_hold_no_personal_data(tmp_path: Path) -> None:
    """Field, what is joined by it, and the table that it is joined to are stored without a person, and replay."""
    audited = create_bundle(STORE, str(tmp_path / "bundle"), parts())
    assert not [name for name, data in audited.files.items() if b"Jane" in data]
    golden = audited.bundle.golden
    assert golden is not None
    assert arrow_table(audited.files[golden.rows]).to_pylist() == [{"f0": 1.0, "who": None}, {"f0": 2.0, "who": None}]
    assert arrow_table(audited.files[golden.features])["X"].to_pylist()[0] == [1.0, 0.5, 0.5, 1.0]
    again = audit(STORE, str(tmp_path / "bundle"))
    assert replay(again, Session(again.model, RuntimeOptions(), "model"), again.bundle.tolerances["cpu"]) == (0, 0.0)


TAUGHT = """
format: scorespec/1
spec_id: taught
input:
  fields: [{name: f0, type: float32}, {name: city, type: string}]
  labels: [{name: salary, type: float64, pii: true}]
steps:
- id: mean
  op: target_encode
  in: [city]
  out: [mean]
  params: {target: salary, leak: acknowledged, smoothing: 0}
  state: {vocab: [a], counts: [1], sums: [70321.0], prior: 0.5, n: 3}
outputs: {tensors: [{tensor: X, from: [f0, mean, mean, f0]}]}
"""


def test_golden_rows_of_a_bundle_hold_nothing_learned_from_a_personal_label(tmp_path: Path) -> None:
    """A step that learned from answers of people is given no category, so no row tells one; an invented one may."""
    rows = pa.table({"f0": pa.array([1.0], pa.float32()), "city": ["a"]})
    made = parts_of(TAUGHT, logistic_model(), rows, [P])
    for number, (invented, mean) in enumerate((([], 0.5), (["salary"], 70321.0))):
        audited = create_bundle(STORE, str(tmp_path / str(number)), made._replace(invented=invented))
        assert audited.bundle.golden is not None
        assert arrow_table(audited.files[audited.bundle.golden.features])["X"].to_pylist() == [[1.0, mean, mean, 1.0]]


def test_invented_values_are_stored(tmp_path: Path) -> None:
    """What its maker says stands for no person is stored, with the table that it is joined to."""
    audited = create_bundle(STORE, str(tmp_path / "bundle"), parts()._replace(invented=["who"]))
    assert audited.bundle.golden is not None
    assert arrow_table(audited.files[audited.bundle.golden.features])["X"].to_pylist()[0] == [1.0, 0.25, 0.25, 1.0]
    assert arrow_table(audited.files[audited.bundle.golden.references["people"]]).equals(PEOPLE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pii: true", "pii: true, nullable: false"),
        ("pii: true", "pii: true, on_missing: fail"),
        ("on_no_match: {as_value: 0.5}", "on_no_match: reject"),
    ],
)
def test_a_spec_that_needs_personal_data_leaves_a_bundle_without_golden_rows(
    tmp_path: Path, old: str, new: str
) -> None:
    """Rows that are nothing without their personal data are left out, and where all are, the bundle has none."""
    made = parts(SPEC.replace(old, new))
    audited = create_bundle(STORE, str(tmp_path / "bundle"), made._replace(golden_rows=ROWS.slice(0, 1)))
    assert audited.bundle.golden is None
    assert set(audited.files) == {"model.onnx", "etl.json"}


def test_a_pinned_table_of_persons_is_not_stored(tmp_path: Path) -> None:
    """A table whose content is pinned cannot be stored without its rows, so there are no golden rows then."""

    def pinned(sha256: str) -> BundleParts:
        return parts(SPEC.replace("reference: people", f"reference: people\n    sha256: '{sha256}'"))

    with pytest.raises(ContractError) as caught:
        create_bundle(STORE, str(tmp_path / "bundle"), pinned("0" * 64))
    right = str(caught.value).partition("its content has SHA-256 ")[2][:64]
    assert create_bundle(STORE, str(tmp_path / "bundle"), pinned(right)).bundle.golden is None
