"""What the tests of architecture read: our own source, as text and as syntax trees."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("etl", "scoring", "jobs")
NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


@dataclass(frozen=True)
class Source:
    """One module of ours."""

    path: Path
    """Relative to the root of the repository."""
    module: str
    """Dotted name; of a package, that of the package."""
    text: str
    tree: ast.Module

    @property
    def functions(self):
        """All functions and methods, nested ones too."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    @property
    def code_lines(self):
        """Numbers of the lines that hold code: neither blank, nor comment, nor docstring."""
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return lines


def read(path):
    """Parse one module."""
    relative = path.relative_to(ROOT)
    text = path.read_text(encoding="utf-8")
    module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    return Source(relative, module, text, ast.parse(text, filename=str(relative)))


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def sources():
    """All modules of etl, scoring and jobs."""
    return [read(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
