"""Which file may import which library, and what a worker may not have loaded."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys

# Light enough for every module.
ANYWHERE = {"numpy", "pyarrow", "pydantic", "pydantic_core", "yaml"}
# The others: the modules, or the packages with all that is in them, that may import them.
PLACES = {
    "fsspec": {"etl.runs.blobs"},
    "hdfs_native": {"etl.runs.hdfs"},
    "boto3": {"etl.runs.s3_client"},
    "botocore": {"etl.runs.s3_client"},
    "jinja2": {"jobs.report.page"},
    "markupsafe": {"jobs.report.page"},
    "mlflow": {"scoring.bundles.mlflow", "scoring.runtimes.pyfunc", "jobs.monitoring.mlflow_tracking"},
    "openlineage": {"jobs.monitoring.openlineage_events", "jobs.monitoring.openlineage_sink"},
    "prometheus_client": {"jobs.monitoring.prometheus"},
    "onnxruntime": {"scoring.runtimes.onnx"},
    "onnxscript": {"scoring.runtimes.torch_onnx"},
    "pandas": {"scoring.runtimes.pyfunc", "scoring.spark.udf"},
    "py4j": {"etl.spark", "scoring.spark"},
    "pyspark": {"etl.spark", "scoring.spark", "jobs.session"},
    "rich": {"jobs"},
    "safetensors": {"scoring.runtimes.torch"},
    "sklearn": {"etl.estimator", "etl.importing.sklearn_pipeline"},
    "torch": {"scoring.runtimes.torch", "scoring.runtimes.torch_onnx"},
    "typer": {"jobs"},
}
OURS = {"etl", "scoring", "jobs"}


def runtime_imports(tree):
    """Yield the top-level name and the line of each import outside `if TYPE_CHECKING:`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; ours are absolute"
            yield (node.module or "").partition(".")[0], node.lineno
        else:
            pending += ast.iter_child_nodes(node)


def may_import(module, library):
    """Tell whether the table lets a module import a library."""
    places = PLACES.get(library, set())
    return library in ANYWHERE or any(module == place or module.startswith(f"{place}.") for place in places)


def loaded_by(statement):
    """Return the names of the modules that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_each_library_is_imported_only_where_the_table_says(sources):
    """A library is imported in the files that own it, and one that is not in the table is imported nowhere."""
    known = OURS | sys.stdlib_module_names
    found = [
        f"{source.path}:{line} imports {library}"
        for source in sources
        for library, line in runtime_imports(source.tree)
        if library not in known and not may_import(source.module, library)
    ]
    assert not found, "\n".join(found)


def test_the_worker_starts_without_spark():
    """Importing the worker in a fresh interpreter loads no pyspark, no terminal library and nothing of jobs."""
    worker = "scoring.worker" if importlib.util.find_spec("scoring.worker") else "scoring"
    assert not loaded_by(f"import {worker}") & {"jobs", "mlflow", "pandas", "py4j", "pyspark", "rich", "torch", "typer"}


def test_tables_and_models_never_load_a_terminal_library(sources):
    """No module of etl or scoring loads typer, rich, pandas or pyspark, but those of libraries that load them."""
    apart = PLACES["pyspark"] | PLACES["sklearn"] | PLACES["mlflow"] | PLACES["torch"]
    modules = [
        source.module for source in sources if source.module.partition(".")[0] != "jobs" and source.module not in apart
    ]
    assert not loaded_by(f"import {', '.join(modules)}") & {"jobs", "pandas", "pyspark", "rich", "typer"}


def test_tables_do_without_scikit_learn():
    """Importing etl and its importers loads no scikit-learn."""
    assert not loaded_by("import etl, etl.importing, etl.transforming") & {"sklearn", "scipy"}


def test_importing_the_packages_changes_nothing():
    """Importing etl, scoring and jobs adds no warning filter, log handler, signal handler or environment variable."""
    program = """
import logging, os, signal, sys, warnings
def state():
    return list(warnings.filters), list(logging.root.handlers), dict(os.environ), signal.getsignal(signal.SIGTERM)
import numpy  # it adds filters of its own
before = state()
import etl, scoring, jobs
sys.exit(state() != before)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
