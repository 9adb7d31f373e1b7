"""`batchscore export` where the other library is not; tests/scoring/test_runtimes_torch.py has the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from jobs.authoring.exporting import Export, export_torch
from jobs.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("library", ["torch", "onnxscript"])
def test_an_export_names_the_library_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Without torch, or what it exports with, the command says what to install and where, and leaves no file."""
    monkeypatch.delitem(sys.modules, "scoring.runtimes.torch_onnx", raising=False)
    monkeypatch.delitem(sys.modules, "scoring.runtimes.torch", raising=False)
    if library == "torch":
        monkeypatch.setitem(sys.modules, "onnxscript", sys)
    monkeypatch.setitem(sys.modules, library, None)
    asked = Export(
        source=str(tmp_path / "m.pt2"), sample="s.npz", out=str(tmp_path / "m.onnx"), opset=None, atol=0, rtol=0
    )
    with pytest.raises(
        Refused, match=rf"an export needs {library}, which is not installed here.*batchscore\[torch,cpu\]"
    ):
        export_torch(asked)
    assert list(tmp_path.iterdir()) == []
