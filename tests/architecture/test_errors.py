"""Errors travel between driver, JVM and workers, so each class must survive being pickled."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pickle

import pytest

MESSAGE = "rows_in is 10, and scored + quarantined + filtered is 9.\n\nHint: look at «receipts/»."


def error_classes():
    """Return every exception class of our errors modules."""
    found = {}
    for name in ("etl.errors", "scoring.errors", "jobs.errors"):
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == name:
                found[f"{name}.{value.__name__}"] = value
    return [pytest.param(value, id=name) for name, value in sorted(found.items())]


@pytest.mark.parametrize("error_class", error_classes())
def test_an_error_survives_pickling(error_class):
    """An error made from one message comes back from pickle with the same type, text, attributes and notes."""
    error = error_class(MESSAGE)
    error.place = "input.columns[3]"
    error.add_note("while scoring split 7")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error)
    assert MESSAGE in str(copy)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error_class", error_classes())
def test_an_error_belongs_to_the_tree_and_explains_itself(error_class):
    """Every error has a docstring of its own and descends from BatchscoreError."""
    assert "BatchscoreError" in {base.__name__ for base in error_class.__mro__}
    assert error_class.__doc__ != error_class.__mro__[1].__doc__


def test_public_errors_are_defined_in_the_errors_modules(sources):
    """No other module defines a public exception, so the tests above see them all."""
    names = {parameter.values[0].__name__ for parameter in error_classes()} | {"BaseException", "Exception"}
    found = [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources
        if not source.module.endswith(".errors")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(base.endswith("Error") or base.rpartition(".")[2] in names for base in map(ast.unparse, node.bases))
    ]
    assert not found, "\n".join(found)
