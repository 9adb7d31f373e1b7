"""The worked example specs: fitted, checked and run, beside what numpy and Python make of the same rows by hand."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from typer.testing import CliRunner

import etl
from etl.checks import check
from etl.learning.pieces import Piece
from etl.spec import Spec, read_spec
from jobs import cli
from tests.spark.frames import arrow_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).parents[2]
SPECS = REPOSITORY / "examples" / "specs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' data, as their script makes it."""
    folder = tmp_path_factory.mktemp("specs")
    subprocess.run([sys.executable, SPECS / "data.py", folder], check=True)
    return folder


def fitted(folder: Path, name: str, **references: str) -> Spec:
    """Fit a recipe by the command, and read what it wrote."""
    out = folder / f"{name}.json"
    words = [word for key, file in references.items() for word in ("--reference", f"{key}={folder / file}")]
    command = ["fit", SPECS / f"{name}.yaml", "--data", folder / f"{name}.parquet", *words, "--out", out]
    for line in (command, ["etl", "validate", out], ["etl", "explain", out], ["etl", "diff", out, out]):
        done = CliRunner().invoke(cli.app, [str(word) for word in line])
        assert done.exit_code == 0, done.output
    return read_spec(out.read_text(encoding="utf-8"), str(out), artifacts=lambda file: (folder / file).read_bytes())


@pytest.fixture(scope="module")
def credit(data: Path) -> Spec:
    """The credit spec, fitted."""
    return fitted(data, "credit", merchant_region="merchant_region.parquet")


@pytest.fixture(scope="module")
def tickets(data: Path) -> Spec:
    """The tickets spec, fitted."""
    return fitted(data, "tickets")


def credit_by_hand(rows: pa.Table, regions: pa.Table) -> tuple[np.ndarray, list[int], list[int]]:
    """The dense tensor, the merchants' ids and the kept rows, with nothing of the package."""
    risk = dict(zip(regions["merchant"].to_pylist(), regions["region_risk"].to_pylist(), strict=True))
    table = rows.to_pylist()
    kept = [
        n for n, row in enumerate(table) if 18 <= row["age"] <= 110 and (row["debt"] is None or 0 <= row["debt"] <= 1e8)
    ]
    good = [table[n] for n in kept]
    incomes = sorted(row["income"] for row in good if row["income"] is not None)
    median = incomes[math.ceil(0.5 * len(incomes)) - 1]
    logs = [math.log1p(row["income"] if row["income"] is not None else median) for row in good]
    mean = math.fsum(logs) / len(logs)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in logs) / len(logs))
    ages = sorted(row["age"] for row in good)
    splits = sorted({ages[math.ceil(share * len(ages)) - 1] for share in (0.2, 0.4, 0.6, 0.8)})
    grades = Counter(row["grade"].strip(" ") for row in good if row["grade"] is not None)
    hot = sorted(grades, key=lambda grade: (-grades[grade], grade.encode()))
    counts = Counter(row["merchant"] for row in good if row["merchant"] is not None)
    known = sorted((m for m in counts if counts[m] >= 5), key=lambda m: (-counts[m], m.encode()))
    dense, ids = [], []
    for row, log in zip(good, logs, strict=True):
        income = row["income"] if row["income"] is not None else median
        ratio = (row["debt"] or 0.0) / income if income else 0.0
        months = (row["scored_at"] - row["opened_at"]).total_seconds() / (30 * 86_400)
        grade = None if row["grade"] is None else row["grade"].strip(" ")
        dense.append(
            [
                (log - mean) / std,
                float(row["income"] is None),
                min(max(ratio, 0.0), 10.0),
                float(sum(row["age"] >= split for split in splits)),
                max(months, 0.0),
                risk.get(row["merchant"], 0.5),
                *(float(grade == name) for name in hot),
            ]
        )
        merchant = row["merchant"]
        if merchant is None:
            ids.append(1)
        elif merchant in known:
            ids.append(6 + known.index(merchant))
        else:
            digest = xxhash.xxh64_intdigest(merchant.encode(), seed=42)
            ids.append(2 + (digest - 2**64 if digest >= 2**63 else digest) % 4)
    return np.array(dense, np.float64).astype(np.float32), ids, kept


def test_credit_is_what_python_makes_of_it(credit: Spec, data: Path) -> None:
    """Every value of the credit spec is the one of plain Python, bit for bit, but ≤ 1 ULP behind log1p."""
    rows, regions = pq.read_table(data / "credit.parquet"), pq.read_table(data / "merchant_region.parquet")
    made = credit.transform(rows, {"merchant_region": regions})
    dense, ids, kept = credit_by_hand(rows, regions)
    assert made.rows.tolist() == kept
    assert {rejection.code for rejection in made.rejections} == {"OUT_OF_RANGE"}
    assert made.tensors["merchant"].tolist() == ids
    assert np.array_equal(made.tensors["dense"][:, 1:], dense[:, 1:])
    np.testing.assert_array_max_ulp(made.tensors["dense"][:, 0], dense[:, 0], maxulp=1)
    found = {one.id: one.holds for one in check(credit, rows, {"merchant_region": regions})}
    assert found == {"inc_nulls": True, "grade_known": True, "id_unique": True, "adult": True}


def test_tickets_are_what_python_makes_of_them(tickets: Spec, data: Path) -> None:
    """Ids, mask and lengths of the tickets spec are those of plain Python."""
    rows = pq.read_table(data / "tickets.parquet")
    made = tickets.transform(rows)
    texts = [f"{row['subject'] or ''} {row['body'] or ''}" for row in rows.to_pylist()]
    lowered = ["".join(chr(ord(sign) + 32) if "A" <= sign <= "Z" else sign for sign in text) for text in texts]
    tokens = [[token for token in re.split("[^a-z0-9]+", re.sub("[0-9]+", " 0 ", text)) if token] for text in lowered]
    counts = Counter(token for row in tokens for token in row)
    known = {token: 2 + n for n, token in enumerate(sorted(counts, key=lambda t: (-counts[t], t.encode())))}
    wanted = [[known[token] for token in row][:128] for row in tokens]
    ids = np.array([row + [0] * (128 - len(row)) for row in wanted])
    assert np.array_equal(made.tensors["input_ids"], ids)
    assert np.array_equal(made.tensors["attention_mask"], (ids != 0).astype(np.int64))
    lengths = np.array([[math.log1p(len(row))] for row in tokens]).astype(np.float32)
    np.testing.assert_array_max_ulp(made.tensors["len"], lengths, maxulp=1)
    shares = {one.id: one.share for one in check(tickets, rows)}
    assert shares["oov"] == 0
    assert shares["trunc"] == np.mean([len(row) > 128 for row in tokens])


def flights() -> tuple[Spec, pa.Table, dict[str, pa.Table]]:
    """The flights spec, with raw rows and reference tables out of the bundle's golden ones."""
    bundle = REPOSITORY / "examples" / "flights" / "bundle"
    tables = {file.stem: pa.ipc.open_file(file).read_all() for file in (bundle / "golden").glob("*.arrow")}
    references = {name: tables[f"reference-{name}"] for name in ("weather", "planes")}
    return read_spec((bundle / "etl.json").read_text(encoding="utf-8"), "etl.json"), tables["rows"], references


def test_spark_makes_what_a_notebook_makes(spark: SparkSession, credit: Spec, tickets: Spec, data: Path) -> None:
    """The three specs give the same tensors to the bit by Spark and by a notebook, for the same kept rows."""
    from etl.spark import transform

    region = {"merchant_region": pq.read_table(data / "merchant_region.parquet")}
    cases: list[tuple[Spec, pa.Table, dict[str, pa.Table], str]] = [
        (credit, pq.read_table(data / "credit.parquet"), region, "app_id"),
        (tickets, pq.read_table(data / "tickets.parquet").slice(0, 500), {}, "ticket_id"),
        (*flights(), "flight_id"),
    ]
    for spec, rows, references, key in cases:
        if key not in spec.outputs.passthrough:
            spec = spec.model_copy(update={"outputs": spec.outputs.model_copy(update={"passthrough": (key,)})})  # noqa: PLW2901  the same with its key
        here = spec.transform(rows, references)
        folder = data / f"{key}-for-spark"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        pq.write_table(rows, folder / "rows.parquet", row_group_size=max(1, rows.num_rows // 3))
        frame = transform(spark.read.parquet(f"file://{folder}"), spec, references, on_rejected="keep")
        everything = arrow_of(frame).sort_by(key)
        assert everything.num_rows == rows.num_rows
        there = everything.filter(everything["rejection"].is_null())
        keys = here.table[key]
        order = pa.compute.sort_indices(keys)
        assert there[key].to_pylist() == keys.take(order).to_pylist()
        for output in spec.outputs.tensors:
            tensor = here.tensors[output.model_input]
            found = np.array(there[output.model_input].to_pylist(), tensor.dtype).reshape(tensor.shape)
            assert found.tobytes() == tensor[order.to_numpy()].tobytes(), output.tensor


def test_the_data_is_the_same_each_time(data: Path, tmp_path: Path) -> None:
    """The script of the examples makes the same rows each time."""
    module: Any = importlib.util.spec_from_file_location("example_data", SPECS / "data.py")
    script = importlib.util.module_from_spec(module)
    module.loader.exec_module(script)
    script.main(tmp_path)
    for name in ("credit", "merchant_region", "tickets"):
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(pq.read_table(data / f"{name}.parquet"))


def test_a_fit_of_the_examples_does_not_depend_on_the_layout(credit: Spec, data: Path) -> None:
    """The credit spec learns the same state from the rows in another order and in other pieces, on two threads."""
    recipe = read_spec((SPECS / "credit.yaml").read_text(encoding="utf-8"), "credit.yaml", fitted=False)
    rows = pq.read_table(data / "credit.parquet")
    shuffled = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    pieces = [Piece("", [part].copy) for part in shuffled.to_batches(max_chunksize=700)]
    references = {"merchant_region": pq.read_table(data / "merchant_region.parquet")}
    again = etl.fit(recipe, pieces, references, workers=2)
    assert again.steps == credit.steps
    assert again.reference == credit.reference
