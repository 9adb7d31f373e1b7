"""What a notebook may give, and what is said of what it may not."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from etl.errors import ContractError
from etl.given import as_table
from etl.learning.fitting import fit
from tests.etl.nasty import join_of, spec_of

FIELDS = [{"name": "k0", "type": "string"}, {"name": "x", "type": "int64"}]
STEP = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}


def recipe():
    """Return a recipe that joins a reference table."""
    join = join_of(["string"], ["int64"]).model_dump(mode="json", by_alias=True)
    return spec_of(FIELDS, [STEP], relational=[join], columns=["z", "o0"], fitted=False)


ROWS = {"k0": ["a", "b"], "x": [1, 3]}
REFERENCE = {"k0": ["b", "c"], "r0": [5, 7]}


def test_pandas_reference_tables_are_taken():
    """Reference tables given as pandas frames make what Arrow tables make, in a fit and where the spec is applied."""
    arrow, frame = {"ref": pa.table(REFERENCE)}, {"ref": pd.DataFrame(REFERENCE)}
    spec = fit(recipe(), pd.DataFrame(ROWS), frame)
    assert spec.to_bytes() == fit(recipe(), pa.table(ROWS), arrow).to_bytes()
    for given in (arrow, frame):
        assert spec.transform(pa.table(ROWS), given).table["o0"].to_pylist() == [None, 5]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (pd.Series([1.0]), TypeError, r"found pandas's Series; give a frame of it: \.to_frame\(\)$"),
        ({"x": [1]}, TypeError, r"takes an Arrow table or batch, or a pandas frame, found dict$"),
        (
            pd.DataFrame([[1, 2]], columns=["x", "x"]),
            ContractError,
            r"^the frame: has more than one column 'x'\. Rename",
        ),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), ContractError, r"has more than one column '1'"),
        (
            pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", "a"), ("x", "b")])),
            ContractError,
            r"its columns have names of 2 levels\. Give each one name",
        ),
        (pd.DataFrame({"s": ["secret", 3, None]}), ContractError, r"column 's' holds values of int, str, which are no"),
        (pd.DataFrame({"s": [3, "secret"]}), ContractError, r"column 's' holds values of int, str, which are no one"),
        (pd.DataFrame({"x": [1], "c": [2j]}), ContractError, r"column 'c' holds values of complex, which are no one"),
    ],
)
def test_what_is_no_table_is_refused(data, error, message):
    """What is no table, or a frame that Arrow does not take, is refused with what to do and without a value."""
    with pytest.raises(error, match=message) as caught:
        as_table(data)
    assert "secret" not in str(caught.value)


def test_a_reference_that_is_no_table_is_named():
    """A reference of another kind, or a frame that Arrow does not take, is refused by its name."""
    with pytest.raises(TypeError, match=r"^reference 'ref': takes an Arrow table .* found dict$"):
        fit(recipe(), pa.table(ROWS), {"ref": REFERENCE})
    with pytest.raises(ContractError, match=r"^reference 'ref': column 'r0' holds values of int, str"):
        fit(recipe(), pa.table(ROWS), {"ref": pd.DataFrame({**REFERENCE, "r0": [1, "a"]})})


def test_integers_that_pandas_made_floats_are_refused_with_the_cure():
    """An integer or bool column that pandas holds as floats, since one is missing, is refused with the cast that mends
    it; of other floats nothing is said of pandas."""  # noqa: D205, D209  one sentence
    frame = pd.DataFrame({"k0": ["a", "b", "c"], "x": [1, None, 3]})
    reference = {"ref": pd.DataFrame(REFERENCE)}
    with pytest.raises(
        ContractError, match=r"the contract says int64 \(pandas .* \.astype\(\{'x': 'Int64'\}\)"
    ) as told:
        fit(recipe(), frame, reference)
    assert fit(recipe(), frame.astype({"x": "Int64"}), reference).golden[1].given["x"] is None
    with pytest.raises(ContractError, match=r"step 'j' says int64 \(pandas .* \.astype\(\{'r0': 'Int64'\}\)"):
        fit(recipe(), pa.table(ROWS), {"ref": pd.DataFrame({"k0": ["a", "b"], "r0": [1, None]})})
    with pytest.raises(ContractError, match=r"the contract says int64\.?$"):
        fit(recipe(), pa.table({"k0": ["a"], "x": [1.0]}), reference)
    assert "1.0" not in str(told.value)
