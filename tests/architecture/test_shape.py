"""Small pieces: how long a module and a function may be, and how a function may be called."""

from __future__ import annotations

import ast
import sys

MODULE_LINES = 400
FUNCTION_LINES = 35
POSITIONAL_PARAMETERS = 3
DRAWERS = {"common", "helpers", "misc", "util", "utils"}


def of_functions(sources, measure):
    """Return `path:line name` with the measure of each function where it is not None."""
    return [
        f"{source.path}:{function.lineno} {function.name}: {value}"
        for source in sources
        for function in source.functions
        if (value := measure(source, function)) is not None
    ]


def is_boolean(parameter, default):
    """Tell whether a parameter is a flag, by its type or by its default."""
    by_default = isinstance(default, ast.Constant) and isinstance(default.value, bool)
    return by_default or (parameter.annotation is not None and ast.unparse(parameter.annotation) == "bool")


def is_command(function):
    """Tell whether typer turns a function's parameters into options, among which flags are natural."""
    names = [ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list]
    return any(name.endswith((".command", ".callback")) for name in names)


def test_no_module_is_long(sources):
    """No module has more than 400 lines of code."""
    lengths = {source.path: len(source.code_lines) for source in sources}
    found = [f"{path}: {length}" for path, length in lengths.items() if length > MODULE_LINES]
    assert not found, "\n".join(found)


def test_no_function_is_long(sources):
    """No function has more than 35 lines of code, its signature included and its docstring not."""
    lines = {source.path: source.code_lines for source in sources}

    def too_long(source, function):
        count = len(lines[source.path] & set(range(function.lineno, function.end_lineno + 1)))
        return count if count > FUNCTION_LINES else None

    found = of_functions(sources, too_long)
    assert not found, "\n".join(found)


def test_no_call_needs_more_than_three_places(sources):
    """No function takes more than three positional parameters besides self or cls."""

    def too_many(_, function):
        names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        return count if count > POSITIONAL_PARAMETERS else None

    found = of_functions(sources, too_many)
    assert not found, "\n".join(found)


def test_no_function_takes_two_flags(sources):
    """No function but a command of the terminal takes two booleans: two flags are four functions in one."""

    def flags(_, function):
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
        pairs = [
            *zip(positional, defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        names = [parameter.arg for parameter, default in pairs if is_boolean(parameter, default)]
        return names if len(names) > 1 and not is_command(function) else None

    found = of_functions(sources, flags)
    assert not found, "\n".join(found)


def test_no_module_is_a_drawer(sources):
    """No module is named for being a place where things are put."""
    stems = {source.path: source.path.stem for source in sources}
    found = [str(path) for path, stem in stems.items() if stem in DRAWERS or stem.startswith("manager")]
    assert not found, "\n".join(found)


def test_no_module_of_jobs_hides_one_of_python(sources):
    """No module of jobs has the name of a standard one, for a submitted script's folder may come first on sys.path."""
    names = {source.path.stem for source in sources if source.module.startswith("jobs.")}
    assert not names & sys.stdlib_module_names


def test_what_is_submitted_defines_nothing(sources):
    """jobs/main.py imports and calls, because what is defined in __main__ is pickled by value."""
    for source in sources:
        if source.module == "jobs.main":
            kinds = {type(node) for node in source.tree.body}
            assert kinds <= {ast.ImportFrom, ast.Expr, ast.If}
