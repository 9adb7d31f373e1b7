"""Notebooks as a person executes them, and what their cells show."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupytext

with warnings.catch_warnings():
    # Its imports set the event loop's policy, which newer Pythons discourage.
    warnings.simplefilter("ignore")
    import nbclient
    import nbformat

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NOTEBOOKS", "charts", "data_of", "executed", "printed"]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def executed(name: str, environment: Mapping[str, str], folder: Path = NOTEBOOKS) -> list[Any]:
    """The cells of a notebook, executed in its folder; charts are their specification, which a test can read."""
    notebook = jupytext.read(folder / f"{name}.py")
    setup = f"import altair, os; altair.renderers.enable('json')\nos.environ.update({dict(environment)!r})"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = nbclient.NotebookClient(
            notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    return list(notebook.cells[1:])


def charts(cells: list[Any]) -> list[dict[str, Any]]:
    """Vega-Lite specifications in the order of the notebook."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", []):
            with contextlib.suppress(AttributeError):
                found += [value for kind, value in output.data.items() if kind == "application/json"]
    return found


def data_of(chart: dict[str, Any], *, having: str) -> list[dict[str, Any]]:
    """The rows that a chart draws and that have a field."""
    return [row for rows in chart["datasets"].values() for row in rows if having in row]


def printed(cells: list[Any]) -> str:
    """What the cells print."""
    return "".join(
        output.text
        for cell in cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )
