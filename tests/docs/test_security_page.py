"""What docs/SECURITY.md says of tests and policies is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.test_traps import TEST, functions_of

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^\| ([^|]+) \| (`tests/.+`) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("promise", "tests"), PROMISES)
def test_each_promise_has_its_tests(promise: str, tests: str) -> None:
    """A promise names tests, all of which there are."""
    found = TEST.findall(tests)
    assert len(found) == tests.count("::") > 0, promise
    assert [name for path, name in found if name not in functions_of(REPOSITORY / path)] == []


def test_every_row_of_promises_names_a_test() -> None:
    """No promise of the table is without a test."""
    section = PAGE.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(PROMISES) > 20


def test_the_policies_of_the_page_are_the_files() -> None:
    """Each policy is shown as the file that its paragraph names has it, and each file is shown."""
    shown = re.findall(r"`(docs/iam/\w+\.json)`[^`]*(?:`[^`]+`[^`]*)*?\n\n```json\n(.*?)\n```", PAGE, re.DOTALL)
    files = {f"docs/iam/{path.name}": path.read_text().rstrip() for path in (REPOSITORY / "docs" / "iam").iterdir()}
    assert dict(shown) == files
    assert len(shown) == PAGE.count("```json")
    assert all(json.loads(text) for text in files.values())


def test_readers_find_the_page() -> None:
    """README and the page about storage link it."""
    for page in ("README.md", "docs/STORAGE.md"):
        assert "SECURITY.md" in (REPOSITORY / page).read_text(encoding="utf-8")
