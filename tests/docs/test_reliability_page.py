"""What docs/RELIABILITY.md says of tests is what the tests say of themselves."""

from __future__ import annotations

import re

import pytest

from tests.faults.reliability import PAGE, Case, cases, page, without_seconds

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found() -> list[Case]:
    """All cases of the matrix."""
    return cases()


def test_the_page_has_each_case_and_no_other_one(found: list[Case]) -> None:
    """The page is the one that `make reliability` would write, but for the seconds."""
    assert without_seconds(TEXT) == without_seconds(page(found, {}))


def test_each_test_that_the_text_names_is_one_of_the_matrix(found: list[Case]) -> None:
    """No promise rests on a test that is not there."""
    there = {case.test.rpartition("::")[2].partition("[")[0] for case in found}
    assert set(re.findall(r"`(?:[\w.]+::)?(test_\w+)`", TEXT)) == there


def test_each_test_that_disturbs_is_on_the_page(found: list[Case]) -> None:
    """No file of tests/faults has a test without a row."""
    assert found
    files = (PAGE.parents[1] / "tests" / "faults").glob("test_*.py")
    there = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}
    assert there <= {case.test.rpartition("::")[2].partition("[")[0] for case in found}
