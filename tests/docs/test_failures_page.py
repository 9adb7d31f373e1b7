"""docs/FAILURES.md tells of faults that are recognised, in the words in which they are told."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from etl.spark.causes import FAULTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "FAILURES.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def pieces(seen: str) -> list[str]:
    """What stands between the places of a message that differ each time."""
    found = [piece.strip(" :,()") for piece in re.sub(r"^\w+(Error|Skew): ", "", seen).split("…")]
    return [piece for piece in found if len(piece) > 3]


def test_each_fault_of_spark_has_its_row() -> None:
    """By its name, in the order in which they are looked for, with what is told of it."""
    table = rows("What Spark says")
    assert [name for name, *_ in table] == [fault.name for fault in FAULTS]
    for (_, seen, *_), fault in zip(table, FAULTS, strict=True):
        told = re.sub(r"\{\w+\}", "…", fault.told)
        assert seen == told or all(piece in told for piece in pieces(seen)), seen


@pytest.mark.parametrize("heading", ["What workers say", "What is refused before anything runs"])
def test_each_message_is_one_of_the_code(heading: str) -> None:
    """Its words are those of a text in our packages."""
    texts = {
        node.value
        for package in ("etl", "scoring", "jobs")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    table = rows(heading)
    assert len(table) > 2
    missing = [piece for seen, *_ in table for piece in pieces(seen) if not any(piece in text for text in texts)]
    assert not missing
