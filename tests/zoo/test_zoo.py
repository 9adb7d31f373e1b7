"""Each model of the zoo has the scores of plain onnxruntime, row by row, whichever way its rows take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.zoo import paths
from tests.zoo.zoo import CATALOGUE, HERE, differences, model_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

NAMES = list(CATALOGUE)
CUTS = ((1, 1000), (4, 70), (2, 7))
"""Pieces of a file, and rows of a call of the model."""


@pytest.mark.parametrize(("pieces", "batch_rows"), CUTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_worker_gives_what_onnxruntime_gives(tmp_path: Path, name: str, pieces: int, batch_rows: int) -> None:
    """However a file is cut and rows are batched, each row has the scores that onnxruntime alone gives it."""
    model = model_of(name)
    assert not differences(model, paths.worker(model, tmp_path / "work", pieces=pieces, batch_rows=batch_rows))


def test_no_model_disturbs_another(tmp_path: Path) -> None:
    """Sessions that take turns in one process give the same bits again, whichever ran between."""
    turns = [*(names := ["transformer", "convolution", "mlp"]), *reversed(names)]
    found = [
        paths.worker(model_of(name), tmp_path / str(turn), pieces=2, batch_rows=32) for turn, name in enumerate(turns)
    ]
    assert all(first.equals(second) for first, second in zip(found[:3], reversed(found[3:]), strict=True))


@pytest.mark.parametrize(
    "path", [paths.job_over_files, paths.job_over_tables, paths.score_of_frames, paths.score_of_columns]
)
def test_spark_gives_what_onnxruntime_gives(tmp_path: Path, spark: SparkSession, path: paths.Way) -> None:
    """A job over files or a table, `score(df)` and `score_udf` give each row the scores of onnxruntime alone."""
    found = path([model_of(name) for name in NAMES], tmp_path, spark)
    assert not [told for name, table in found.items() for told in differences(model_of(name), table)]
    assert found.keys() == set(NAMES)


def test_the_catalogue_names_every_model() -> None:
    """Each file of the zoo is a model in the catalogue, and none is larger than 200 kB, all together 1.5 MB."""
    assert {path.stem for path in (HERE / "models").glob("*.onnx")} == set(CATALOGUE)
    sizes = [path.stat().st_size for folder in ("models", "rows") for path in (HERE / folder).iterdir()]
    assert max(sizes) < 200_000
    assert sum(sizes) < 1_500_000
