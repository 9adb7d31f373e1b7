"""The public face of each package is what its __init__ says."""

from __future__ import annotations

import ast
import itertools

import pytest

OURS = ("etl", "scoring", "jobs")


@pytest.fixture(scope="module")
def packages(sources):
    """Every package of ours, by its __init__."""
    return [source for source in sources if source.path.name == "__init__.py"]


def named(package):
    """Return `__all__`."""
    for node in package.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node).partition("=")[0]:
            return ast.literal_eval(ast.unparse(node).partition("=")[2].strip())
    return []


def public_names(package):
    """Return the public names that an __init__ defines or takes from modules of ours, those that it takes late too."""
    names = set()
    late = [block.body for block in package.tree.body if isinstance(block, ast.If)]
    for node in [*package.tree.body, *itertools.chain(*late)]:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def place(name):
    """Return the key by which ruff sorts `__all__`: constants, then classes, then the rest."""
    return (not name.isupper(), not name[:1].isupper(), name)


def test_all_of_a_package_is_sorted(packages):
    """`__all__` of each package is sorted and names nothing twice."""
    found = {package.module: named(package) for package in packages}
    assert found == {module: sorted(set(names), key=place) for module, names in found.items()}


@pytest.mark.parametrize("module", OURS)
def test_all_of_a_package_is_what_is_public(packages, module):
    """`__all__` of each package equals its public names."""
    within = [package for package in packages if package.module.partition(".")[0] == module]
    assert within
    for package in within:
        assert sorted(named(package)) == sorted(public_names(package)), package.path
