"""Write docs/RELIABILITY.md: `python -m tests.faults.reliability`.

What is on the page stands in `reliability.md` beside this file and in the tests' marks `matrix(fault, outcome)`; only
the seconds are measured, where the tests ran last. So what the page says of tests can be compared with them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.faults.stopwatch import measured
from tests.faults.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PAGE", "Case", "cases", "page", "without_seconds"]

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "RELIABILITY.md"
_TEMPLATE = Path(__file__).with_name("reliability.md")
_MARK = "mark.matrix("
_HEAD = "| fault | outcome | disk | moto | versitygw | HDFS | test |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n"
_SECONDS = re.compile(r" (?:[0-9.]+ s|tried) (?=\|)")


class Case(NamedTuple):
    """A test that disturbs a run on a store."""

    fault: str
    outcome: str
    store: str
    test: str
    """As pytest names it."""


class _Collected:
    """A plugin that takes the marks of all tests that were found, and lets none run."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
            for mark in item.iter_markers("matrix"):
                fault, outcome = (text.format_map(params) for text in mark.args)
                store = mark.kwargs.get("store", params.get("place") or _store_of(item)).format_map(params)
                self.cases.append(Case(fault, outcome, store, item.nodeid))


def _store_of(item: pytest.Item) -> str:
    """The store in a test's name; the disk where there is none."""
    words = item.name.partition("[")[2].rstrip("]").split("-")
    return next((word for word in words if word in STORES), "local")


def cases() -> list[Case]:
    """Those of all tests, asked in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.reliability", "--cases"]
    told = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    return [Case(*one) for one in json.loads(told.stdout.splitlines()[-1])]


def _collect() -> list[Case]:
    found = [str(path) for path in (_ROOT / "tests").rglob("test_*.py") if _MARK in path.read_text(encoding="utf-8")]
    plugin = _Collected()
    pytest.main(["--collect-only", "-qq", "-m", "", *sorted(found)], plugins=[plugin])
    return plugin.cases


def page(found: Iterable[Case], seconds: dict[str, float]) -> str:
    """The page."""
    return _TEMPLATE.read_text(encoding="utf-8").replace("{matrix}\n", _matrix(found, seconds))


def _matrix(found: Iterable[Case], seconds: dict[str, float]) -> str:
    """A row for each fault and outcome; of each store the seconds, where it is tried."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for case in found:
        file, _, rest = case.test.partition("::")
        test = f"{file.rpartition('/')[2]}::{rest.partition('[')[0]}"
        told = f"{seconds[case.test]:.1f} s" if case.test in seconds else "tried"
        rows.setdefault((case.fault, case.outcome, test), {})[case.store] = told
    lines = []
    for (fault, outcome, test), by_store in rows.items():
        cells = " | ".join(by_store.get(store, "") for store in STORES)
        lines.append(f"| {fault} | {outcome} | {cells} | `{test}` |\n")
    return _HEAD + "".join(lines)


def without_seconds(text: str) -> str:
    """The page, but for what differs from run to run."""
    return _SECONDS.sub(" tried ", text)


def main() -> None:
    """Write the page, or with `--cases` print what was found."""
    if sys.argv[1:] == ["--cases"]:
        sys.stdout.write("\n" + json.dumps(_collect()))
        return
    seconds = measured()
    PAGE.write_text(page(cases(), seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
