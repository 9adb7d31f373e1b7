"""What our own source leaves out, so that known traps of Spark and of other scorers stay shut; see docs/TRAPS.md."""

from __future__ import annotations

import ast
import importlib
import inspect

# Of Spark: functions of single rows, those that go through pandas, and what rows are shuffled for or held back by.
OTHER_WAYS = {
    "applyInArrow",
    "applyInPandas",
    "foreachPartition",
    "mapInPandas",
    "mapPartitions",
    "predict_batch_udf",
    "rdd",
    "udf",
}
# The one function that gets Arrow batches, and that of columns, with pandas where Spark has no other.
SPARK_WAYS = {
    "arrow_udf": {"scoring.spark.udf"},
    "mapInArrow": {
        "etl.spark.batches",
        "etl.spark.fitting",
        "scoring.spark.frames",
        "scoring.spark.probes",
        "scoring.spark.tasks",
    },
    "pandas_udf": {"scoring.spark.udf"},
}
# All that is given to mapInArrow.
TASKS = {
    "etl.spark.batches": "_run",
    "etl.spark.fitting": "_learn",
    "scoring.spark.frames": "_run",
    "scoring.spark.probes": "_run",
    "scoring.spark.tasks": "_run_task",
}
# Servers, and those who ask them.
OF_THE_NET = {"aiohttp", "asyncio", "fastapi", "flask", "grpc", "http", "httpx", "requests", "socketserver", "xmlrpc"}
# Rows as objects of Python or in a pandas frame.
OBJECTS = {"as_py", "iterrows", "itertuples", "to_pandas", "to_pylist", "tolist"}
HOT = ("scoring.engine", "scoring.outputs", "scoring.spark", "etl.outputs", "etl.pipeline", "etl.ragged", "etl.tensors")
NOT_HOT = {
    "scoring.engine.attempt": "codes of the rows that were set aside, to count them",
    "scoring.engine.batching": "lengths that rows are padded to, a few",
    "scoring.engine.routing": "numbers of the models of a batch",
    "scoring.spark.tasks": "numbers of tasks: the rows themselves do not come through Spark",
    "scoring.spark.udf": "the way through pandas, for a Spark without Arrow functions",
}
# Settings and stages of Spark, and limits of the system, each of which is a trap.
SHUT = ("barrier", "pyspark.memory", "rlimit_as", "semaphore", "udf.pipelined")


def names_in(tree):
    """Yield each attribute and each name that is called, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno


def imported(tree):
    """Yield the modules that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_row_waits_for_a_clock(sources):
    """Nothing in etl or scoring sleeps but who waits for a GPU that is full while a model is loaded, asks a store
    again that broke off, or asks each worker what it has and scores nothing (trap 1).
    """  # noqa: D205  one sentence
    found = {source.module for source in sources for name, _ in names_in(source.tree) if name == "sleep"}
    found = {module for module in found if not module.startswith("jobs")}
    assert found == {"etl.runs.hdfs", "etl.runs.s3_client", "scoring.runtimes.onnx.session", "scoring.spark.probes"}


def test_no_row_goes_through_a_server(sources):
    """The packages of workers import no HTTP server and no client of one, so there is no map of hosts (34)."""
    found = [
        f"{source.path} imports {module}"
        for source in sources
        if not source.module.startswith("jobs")
        for module in imported(source.tree)
        if module.partition(".")[0] in OF_THE_NET or module == "urllib.request"
    ]
    assert not found, "\n".join(found)


def test_spark_hands_over_batches_and_never_rows(sources):
    """Spark's functions of single rows and of pandas groups are called nowhere, those of batches in their files (9)."""
    found = [(name, source.module) for source in sources for name, _ in names_in(source.tree)]
    assert not [(name, module) for name, module in found if name in OTHER_WAYS]
    assert {name: {module for other, module in found if other == name} for name in SPARK_WAYS} == SPARK_WAYS


def test_each_task_of_spark_is_a_generator():
    """What Spark is given to map over batches gives an iterator, and holds no partition as a list (21, 35)."""
    assert TASKS.keys() == SPARK_WAYS["mapInArrow"]
    assert all(inspect.isgeneratorfunction(getattr(importlib.import_module(name), TASKS[name])) for name in TASKS)


def test_no_column_becomes_objects_of_python(sources):
    """On the way from Arrow to the model and back no column is made into Python values; exceptions are named (18)."""
    hot = [source for source in sources if source.module.startswith(HOT)]
    found = {source.module for source in hot for name, _ in names_in(source.tree) if name in OBJECTS}
    assert found == NOT_HOT.keys()


def test_nothing_is_set_that_is_a_trap(sources):
    """No barrier stage, no address space limit, no semaphore between tasks and no pipelined mode is asked for (12, 13,
    14, 20).
    """  # noqa: D205  one sentence
    found = [f"{source.path}: {word}" for source in sources for word in SHUT if word in source.text.lower()]
    assert not found, "\n".join(found)


def test_sessions_of_spark_are_started_in_one_place(sources):
    """Only the file that starts a job's session makes one; each other uses the one that it was given (16)."""
    makes = {"getOrCreate", "newSession", "cloneSession"}
    assert {source.module for source in sources for name, _ in names_in(source.tree) if name in makes} == {
        "jobs.session"
    }
