"""The faults do what they say, and a worker loses no row to them."""

from __future__ import annotations

import platform
import re
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest

from etl.spec import read_spec
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.scoring.workshop import STORE, Work, predictions, quarantined
from tests.zoo import faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

ROWS = 100


def scores(model: bytes, rows: list[int]) -> np.ndarray:
    """What onnxruntime alone gives."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"row": np.array(rows)})
    return np.asarray(found)


def process(model: bytes, folder: Path, rows: list[int]) -> subprocess.Popen[str]:
    """A process in which onnxruntime scores rows; it says so before."""
    path = folder / "fault.onnx"
    path.write_bytes(model)
    code = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "session = ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "print('ready', flush=True)\n"
        "print(session.run(None, {'row': np.array(list(map(int, sys.argv[2:])))})[0].tolist())"
    )
    command = [sys.executable, "-c", code, str(path), *map(str, rows)]
    found = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def bundle_of(model: bytes, folder: Path) -> AuditedBundle:
    """A bundle of a fault, with golden rows that it bears."""
    parts = BundleParts(
        name="fault",
        version="1",
        model=model,
        spec=read_spec(faults.SPEC, "spec.yaml"),
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
        golden_rows=pa.table({"id": [0, 1], "row": [0, 1]}),
        references={},
        facts={},
    )
    return create_bundle(STORE, str(folder), parts)


def work_on(model: bytes, folder: Path) -> Work:
    """Rows for a fault, in two splits."""
    table = pa.table({"id": np.arange(ROWS), "row": np.arange(ROWS)})
    return Work(folder / "work", table, bundle=partial(bundle_of, model), row_group=30, pieces=2)


@pytest.mark.parametrize("fault", [faults.fails_on, faults.loses, faults.hangs_on, faults.dies_on])
def test_other_rows_are_scored(fault: Callable[[int], bytes]) -> None:
    """A batch without the bad row has the scores that it would have without a fault."""
    assert scores(fault(7), [3, 8, 70]).tolist() == [3, 8, 70]


def test_a_row_makes_its_batch_fail() -> None:
    """A batch with the row that fails is refused by onnxruntime, with the reason."""
    with pytest.raises(Exception, match="indices element out of data bounds"):
        scores(faults.fails_on(7), [3, 7])


def test_a_row_is_lost_without_a_word() -> None:
    """A batch with the row that is lost has one score too few."""
    assert scores(faults.loses(7), [3, 7, 8]).tolist() == [3, 8]


def test_memory_ends_above_a_number_of_rows() -> None:
    """So many rows are scored, and one more is out of memory by onnxruntime's own word."""
    model = faults.runs_out_of_memory_above(8)
    assert scores(model, list(range(8))).tolist() == list(range(8))
    with pytest.raises(Exception, match="Failed to allocate memory"):
        scores(model, list(range(9)))


def test_a_row_hangs_and_a_row_kills(tmp_path: Path) -> None:
    """From the one row onnxruntime does not come back, and on the other it takes its process with it."""
    hanging = process(faults.hangs_on(7), tmp_path, [3, 7])
    dying = process(faults.dies_on(7), tmp_path, [3, 7])
    assert dying.wait(20) == (-signal.SIGFPE if platform.machine() in {"x86_64", "AMD64"} else 0)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(0.5)
    finally:
        hanging.kill()
        hanging.wait()
    for ended in (hanging, dying):
        assert ended.stdout is not None
        ended.stdout.close()


def test_a_stand_in_dies_as_it_is_told() -> None:
    """A process that has installed a stand-in ends by SIGSEGV, and not before the bad row comes."""
    code = (
        "import numpy as np\n"
        "from tests.zoo.faults import Fault, installed\n"
        "from scoring.runtimes import load\n"
        "from scoring.runtimes.base import RuntimeOptions\n"
        f"with installed({faults.Fault(segfaults_on=7)!r}):\n"
        "    runtime = load('m.onnx', {}, RuntimeOptions(), where='')\n"
        "    print(runtime.predict({'row': np.array([6])})['p'].tolist(), flush=True)\n"
        "    runtime.predict({'row': np.array([6, 7])})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "[6.0]\n")


def test_a_row_that_fails_is_set_aside_alone(tmp_path: Path) -> None:
    """The worker quarantines the row on which the model fails, with onnxruntime's reason, and scores all others."""
    receipts = work_on(faults.fails_on(41), tmp_path).score()
    found, bad = predictions(receipts), quarantined(receipts)
    assert found.column("p").to_pylist() == [row for row in range(ROWS) if row != 41]
    assert bad.column("stage").to_pylist() == ["inference"]
    assert re.search("out of data bounds", bad.column("message")[0].as_py())


def test_a_batch_out_of_memory_costs_no_row(tmp_path: Path) -> None:
    """The worker scores every row of batches that are too large for the memory, in smaller ones."""
    receipts = work_on(faults.runs_out_of_memory_above(5), tmp_path).score(batch_rows=64)
    assert predictions(receipts).column("p").to_pylist() == list(range(ROWS))
    assert quarantined(receipts).num_rows == 0
