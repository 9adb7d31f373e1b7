"""What docs/TRAPS.md says of tests is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "TRAPS.md").read_text(encoding="utf-8")
COUNT = 39
ENTRY = re.compile(r"^\*\*([0-9]+)\. [^*]+\.\*\* (.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
REASON = re.compile(r"^No test: (.+)", re.MULTILINE | re.DOTALL)
GROUPS = {"Of mlflow": (1, 8), "Of Spark": (9, 24), "Of onnxruntime": (25, 33), "Of others' design": (34, 39)}


def entries(text: str = PAGE) -> list[tuple[int, str]]:
    """Number and text of each trap, in the order of the page."""
    return [(int(number), told) for number, told in ENTRY.findall(text)]


def functions_of(path: Path) -> set[str]:
    """The functions that a file of tests defines for pytest to run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_trap_is_there_once() -> None:
    """The traps from 1 to 39 are each there once, in their order, and in the section of whom they are of."""
    assert [number for number, _ in entries()] == list(range(1, COUNT + 1))
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert {title: (entries(text)[0][0], entries(text)[-1][0]) for title, text in sections.items()} == GROUPS


@pytest.mark.parametrize(("number", "told"), entries())
def test_each_trap_has_its_tests_or_a_reason(number: int, told: str) -> None:
    """A trap names tests that exist, behind "Held by", or says in words why there is none; never both, nor neither."""
    held = told.partition("\nHeld by ")[2]
    tests, reason = TEST.findall(held), REASON.search(told)
    assert bool(tests) != bool(reason), number
    assert len(TEST.findall(told)) == len(tests) == told.count("::"), number
    for path, name in tests:
        assert name.startswith("test_")
        assert (REPOSITORY / path).is_file(), f"{number}: there is no {path}"
        assert name in functions_of(REPOSITORY / path), f"{number}: {path} has no {name}"
    if reason is not None:
        assert len(reason[1].split()) >= 8, number


def test_readers_find_the_page() -> None:
    """README and the page about scoring link the traps."""
    for page in ("README.md", "docs/SCORING.md"):
        assert "TRAPS.md" in (REPOSITORY / page).read_text(encoding="utf-8")
