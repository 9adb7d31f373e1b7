"""Golden rows: a bundle proves on this machine that its ETL and its model mean what they meant when it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from etl.errors import ContractError
from etl.ulp import ulp_distance
from scoring.bundles.bundle import AuditedBundle, Tolerance, audit
from scoring.bundles.create import create_bundle
from scoring.bundles.golden import arrow_bytes, arrow_table, replay
from scoring.errors import BundleError, GoldenError
from scoring.outputs.columns import OutputColumn
from scoring.outputs.steps import Labels, TopK
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from tests.scoring.test_bundle import change, replace_file
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    logistic_bundle,
    logistic_model,
    model_of,
    numbers,
    parts_of,
    with_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXACT = Tolerance(atol=0, rtol=0)
USUAL = Tolerance(atol=1e-5, rtol=1e-4)


def replayed(folder: Path, tolerance: Tolerance = USUAL) -> Any:
    """What the replay of a bundle finds."""
    audited = audit(STORE, str(folder))
    return replay(audited, Session(audited.model, RuntimeOptions(), "model"), tolerance)


def tamper(folder: Path, name: str, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Change a golden table, and its digest with it so that the audit passes."""
    data = (folder / "golden" / f"{name}.arrow").read_bytes()
    replace_file(folder, f"golden/{name}.arrow", arrow_bytes(edit(arrow_table(data))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good bundle with 5 golden rows."""
    logistic_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_reproduces_its_golden_rows(folder: Path) -> None:
    """A bundle gives, where it was made, its own features to the bit and its own outputs exactly."""
    assert replayed(folder, EXACT) == (0, 0.0)


def test_a_bundle_without_golden_rows_proves_nothing(folder: Path) -> None:
    """Where a bundle has no golden rows, the replay says so instead of saying that nothing deviates."""
    change(folder, lambda value: value.update(golden=None))
    assert replayed(folder) is None


def moved(values: list[list[float]], row: int, column: int, *, steps: int) -> list[list[float]]:
    """A matrix with one value moved by so many representable numbers."""
    matrix = np.array(values, dtype=np.float32)
    for _ in range(steps):
        matrix[row, column] = np.nextafter(matrix[row, column], np.float32(np.inf))
    return [list(line) for line in matrix]


@pytest.mark.parametrize(("row", "column", "steps"), [(0, 0, 1), (3, 2, 1), (4, 3, 70)])
def test_a_feature_that_differs_is_named(folder: Path, row: int, column: int, steps: int) -> None:
    """A feature that differs in its last bit is told with its row, its place in the tensor, and how far it is off."""

    def edit(table: pa.Table) -> pa.Table:
        return pa.table(
            {"X": pa.array(moved(table["X"].to_pylist(), row, column, steps=steps), pa.list_(pa.float32()))}
        )

    tamper(folder, "features", edit)
    message = (
        f"golden row {row}: feature {column} of tensor 'X' is off by {steps} units in the last place, 0 are allowed"
    )
    with pytest.raises(GoldenError, match=message):
        replayed(folder)


@pytest.mark.parametrize(("off", "is_refused"), [(5e-6, False), (1e-3, True), (-1e-3, True), (float("nan"), True)])
def test_an_output_that_differs_is_named(folder: Path, off: float, *, is_refused: bool) -> None:
    """An output beyond the tolerance is told with its row and column; one within it is let pass and measured."""

    def edit(table: pa.Table) -> pa.Table:
        values = table["p"].to_numpy().copy()
        values[2] += off
        return pa.table({"p": values})

    tamper(folder, "outputs", edit)
    if is_refused:
        with pytest.raises(GoldenError, match="golden row 2: output 'p' is off by"):
            replayed(folder)
    else:
        assert replayed(folder).outputs_abs == pytest.approx(abs(off), rel=0.1)


@pytest.mark.parametrize("name", ["features", "outputs"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda table: table.slice(1), "has 4 golden rows, here there are 5"),
        (lambda table: table.rename_columns(["other"]), "the golden rows have no .*; there is: other"),
    ],
)
def test_golden_tables_of_another_shape_are_told(
    folder: Path, name: str, edit: Callable[[pa.Table], pa.Table], message: str
) -> None:
    """A golden table with other rows or columns than the replay gives is told, and not an error of ours."""
    tamper(folder, name, edit)
    with pytest.raises(GoldenError, match=message):
        replayed(folder)


def test_golden_features_of_another_width_are_told(folder: Path) -> None:
    """Golden features of another width than the spec makes are told."""
    tamper(folder, "features", lambda _: pa.table({"X": pa.array([[1.0]] * 5, pa.list_(pa.float32()))}))
    with pytest.raises(GoldenError, match="golden row 0: features of tensor 'X' have 1 values, here there are 4"):
        replayed(folder)


def test_golden_outputs_of_another_type_are_told(folder: Path) -> None:
    """Golden outputs of another type than the model's are told with both."""
    tamper(folder, "outputs", lambda table: table.cast(pa.schema([("p", pa.float64())])))
    with pytest.raises(GoldenError, match="golden output 'p' is double of another shape than the float here"):
        replayed(folder)


def cube_model() -> bytes:
    """The features as (n, 2, 2), and their first one."""
    nodes = [
        helper.make_node("Reshape", ["X", "shape"], ["cube"]),
        helper.make_node("Gather", ["X", "zero"], ["first"], axis=1),
    ]
    outputs = {"cube": (TensorProto.FLOAT, [None, 2, 2]), "first": (TensorProto.FLOAT, [None, 1])}
    shape, zero = np.array([-1, 2, 2]), np.array([0])
    return model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, shape=shape, zero=zero)


DEEP = [
    OutputColumn(column="cube", tensor="cube"),
    OutputColumn(column="best", tensor="cube", apply=(TopK(top_k=1), Labels(labels=("a", "b")))),
]


def test_lists_in_lists_and_pairs_are_compared(tmp_path: Path) -> None:
    """A value in a nested list or in a pair may be off within the tolerance; a label is equal or is told."""
    parts = parts_of(LOGISTIC_SPEC, cube_model(), numbers(5), DEEP)
    create_bundle(STORE, str(tmp_path / "b"), parts)
    assert replayed(tmp_path / "b", EXACT) == (0, 0.0)

    def edited(name: str, edit: Callable[[Any], None]) -> None:
        def put(table: pa.Table) -> pa.Table:
            values = table.column(name).to_pylist()
            edit(values[3])
            place = table.schema.get_field_index(name)
            return table.set_column(place, name, pa.array(values, table.schema.field(name).type))

        tamper(tmp_path / "b", "outputs", put)

    edited("cube", lambda row: row[1].__setitem__(0, row[1][0] + 0.5))
    with pytest.raises(GoldenError, match=r"golden row 3: output 'cube' is off by 0\.5;"):
        replayed(tmp_path / "b")
    assert replayed(tmp_path / "b", Tolerance(atol=0.6, rtol=0)).outputs_abs == pytest.approx(0.5)
    edited("best", lambda row: row[1][0].update(label="c"))
    with pytest.raises(GoldenError, match="golden row 3: output 'best' is off by inf"):
        replayed(tmp_path / "b", Tolerance(atol=0.6, rtol=0))


def test_golden_outputs_are_not_finite_as_they_are(tmp_path: Path) -> None:
    """A golden row whose output is infinite stays one, though a run would set it aside; one without a value is none."""
    golden = with_values(numbers(3), "f0", {1: float("inf")})
    columns = [OutputColumn(column="first", tensor="first")]
    create_bundle(STORE, str(tmp_path / "b"), parts_of(LOGISTIC_SPEC, cube_model(), golden, columns))
    assert replayed(tmp_path / "b", EXACT) == (0, 0.0)
    whole = [OutputColumn(column="first", tensor="first", type="int64")]
    with pytest.raises(GoldenError, match=r"golden row 0 has no value for column 'first': .* cannot hold\. Leave"):
        create_bundle(STORE, str(tmp_path / "c"), parts_of(LOGISTIC_SPEC, cube_model(), golden, whole))


def test_golden_rows_must_keep_the_contract(folder: Path) -> None:
    """Golden rows that lack a column, or break a rule, are told with the column or the row."""
    tamper(folder, "rows", lambda table: with_values(table, "f1", {3: None}))
    with pytest.raises(GoldenError, match="golden row 3 is rejected: f1 has no value"):
        replayed(folder)
    tamper(folder, "rows", lambda table: table.drop_columns(["f1"]))
    with pytest.raises(ContractError, match=r"golden/rows\.arrow: breaks the input contract: column 'f1' is not there"):
        replayed(folder)


def test_no_bundle_is_made_of_bad_golden_rows(tmp_path: Path) -> None:
    """Golden rows that the spec rejects, or that lack a column, make no bundle."""
    for golden, error, message in (
        (with_values(numbers(5), "f1", {3: None}), BundleError, "golden row 3 is rejected by /input/fields/1"),
        (numbers(5).drop_columns(["f1"]), ContractError, "golden rows: breaks the input contract: column 'f1'"),
    ):
        with pytest.raises(error, match=message):
            create_bundle(STORE, str(tmp_path / "b"), parts_of(LOGISTIC_SPEC, logistic_model(), golden, [P]))
    assert not (tmp_path / "b").exists()


def test_golden_rows_of_a_lookup_bring_their_reference(tmp_path: Path) -> None:
    """A bundle whose spec joins a reference table replays with the excerpt that it carries."""
    from tests.scoring.workshop import lookup_model
    from tests.spine.test_references import SPEC, airports

    spec = SPEC.replace("type: float64", "type: int64").replace("X, from", "index, dtype: int64, shape: [-1], from")
    table = airports(["a", "b"], pa.int64())
    parts = parts_of(spec, lookup_model(), pa.table({"code": ["b", "a", "b"]}), [P])._replace(
        references={"airports": table}
    )
    audited: AuditedBundle = create_bundle(STORE, str(tmp_path / "b"), parts)
    assert audited.bundle.golden is not None
    assert arrow_table(audited.files[audited.bundle.golden.outputs])["p"].to_pylist() == [0.5, 0.25, 0.5]
    assert replayed(tmp_path / "b", EXACT) == (0, 0.0)


WIDTHS: dict[str, Literal[16, 32, 64]] = {"float16": 16, "float32": 32, "float64": 64}


@pytest.mark.parametrize("dtype", WIDTHS)
@settings(deadline=None)
@given(data=st.data(), steps=st.integers(0, 20), is_up=st.booleans())
def test_a_distance_counts_representable_numbers(dtype: str, data: st.DataObject, steps: int, *, is_up: bool) -> None:
    """So many steps of numpy's nextafter away, across zero too, is that distance, from either side."""
    start: Any = np.array([data.draw(st.floats(width=WIDTHS[dtype], allow_nan=False))], dtype=dtype)
    end, towards = start, np.array(np.inf if is_up else -np.inf, dtype=dtype)
    taken = 0
    for _ in range(steps):
        with np.errstate(over="ignore"):  # the last step leads to infinity
            following = np.nextafter(end, towards)
        taken += int(following[0] != end[0])
        end = following
    assert ulp_distance(start, end).tolist() == ulp_distance(end, start).tolist() == [taken]


def test_missing_equals_missing_alone() -> None:
    """NaN is no distance from NaN, whatever its bits, and far from every number and from infinity."""
    nan, other = np.float32("nan"), np.array([0x7F800001], np.uint32).view(np.float32)[0]
    values = np.array([nan, other, nan, other, 1.0, -0.0], dtype=np.float32)
    wanted = np.array([nan, nan, 1.0, np.inf, nan, 0.0], dtype=np.float32)
    found = ulp_distance(values, wanted)
    assert found[[0, 1, 5]].tolist() == [0, 0, 0]
    assert (found[[2, 3, 4]] > 1000).all()


@pytest.mark.parametrize("values", [[1, 2], [True, False], ["a", "b"]])
def test_what_is_no_float_is_equal_or_far(values: list[Any]) -> None:
    """Whole numbers, truths and texts have no distance but equal and different."""
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    assert ulp_distance(array, array).tolist() == [0, 0]
    assert (ulp_distance(array, array[::-1]) > 1000).all()
