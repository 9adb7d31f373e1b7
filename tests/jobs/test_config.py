"""The job config: what is filled in from the environment, what --set changes, and that no message shows a secret."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config.job import read_config
from jobs.errors import ConfigError

if TYPE_CHECKING:
    from jobs.config.job import JobConfig

MINIMAL: dict[str, Any] = {
    "api_version": "batchscore/1",
    "name": "numbers",
    "input": {"files": "in"},
    "model": {"onnx": "model.onnx"},
    "output": {"uri": "out"},
}

MODES = "should be 'append', 'error', 'overwrite' or 'overwrite_partitions'"


def job_with(folder: Path, place: str, value: Any) -> str:
    """A config file that has a value at a place, written as `model.inputs.X`."""
    job: dict[str, Any] = {key: dict(part) if isinstance(part, dict) else part for key, part in MINIMAL.items()}
    node = job
    *parents, last = place.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return str(path)


def at(config: JobConfig, place: str) -> Any:
    """What a config has at a place."""
    found: Any = config
    for part in place.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def refused(path: str, *overrides: str) -> list[str]:
    """The lines of the error, each without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    return str(caught.value).replace(f"{Path(path).parent}/", "").splitlines()


@pytest.mark.parametrize(
    ("place", "text", "value", "expected"),
    [
        ("input.files", "s3://${B}/in", "bucket", "s3://bucket/in"),
        ("input.files", ["${B}", "x-${B}-${B}"], "a", ("a", "x-a-a")),
        ("input.files", "${B}", "2024", "2024"),
        ("input.files", "${B}", "${B}", "${B}"),
        ("output.uri", "${B:-other}", "out", "out"),
        ("doc", "${B}", "two\nlines: 1", "two\nlines: 1"),
        ("doc", "${B}", "", ""),
        ("doc", "a ${B} b", "", "a  b"),
        ("doc", "${B:-default}", "", "default"),
        ("doc", "${B:-}", "", ""),
        ("doc", "$B {B} $$", "x", "$B {B} $$"),
        ("model.inputs", {"a/b": "${B}", "c": ["${B}"]}, "1", {"a/b": "1", "c": ("1",)}),
        ("scoring.threads", "${B}", "4", 4),
        ("scoring.threads", "${B:-8}", "", 8),
        ("budgets.contract.max_ratio", "${B}", "0.25", 0.25),
        ("budgets.contract.max_ratio", "${B}", "1", 1.0),
        ("splits.target_bytes", "${B}", "8kB", 8000),
        ("splits.target_bytes", "${B}", "8000", 8000),
        ("spark.conf", {"a.b": "${B}"}, "010", {"a.b": "010"}),
    ],
)
def test_a_variable_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, text: Any, value: str, expected: Any
) -> None:
    """`${NAME}` is the variable's value as text, or as a number where only a number fits; its default where empty."""
    monkeypatch.setenv("B", value)
    found = at(read_config(job_with(tmp_path, place, text)), place)
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, type(expected))


def test_a_default_is_used_where_a_variable_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME:-default}` is the default where the variable is not set."""
    monkeypatch.delenv("B", raising=False)
    assert at(read_config(job_with(tmp_path, "output.uri", "${B:-a:-b}/c")), "output.uri") == "a:-b/c"


def test_a_variable_that_is_not_set_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable that is not set is an error at the place of its text, with what to do, and no second error."""
    monkeypatch.delenv("B", raising=False)
    assert refused(job_with(tmp_path, "output.uri", "${B}")) == [
        "job.yaml:8:3: /output/uri: environment variable B is not set. Set it, or give ${B:-default}."
    ]
    assert refused(job_with(tmp_path, "scoring.threads", "${B}")) == [
        "job.yaml:10:3: /scoring/threads: environment variable B is not set. Set it, or give ${B:-default}."
    ]


def test_an_empty_variable_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable in the place of a number is an error, and not the number's absence."""
    for value in ("", " ", "null", "4\nx: 5", "# 4"):
        monkeypatch.setenv("B", value)
        assert refused(job_with(tmp_path, "budgets.contract.max_rows", "${B}")) == [
            "job.yaml:11:5: /budgets/contract/max_rows: should be a whole number, found '${B}'."
        ]


def test_a_message_shows_the_variable_and_not_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is told by the text as it was written: file names, keys and defaults stay as they are."""
    monkeypatch.setenv("B", "job")
    assert refused(job_with(tmp_path, "output.mode", "${B}")) == [
        "job.yaml:9:3: /output/mode: should be 'append', 'error', 'overwrite' or 'overwrite_partitions', found '${B}'."
    ]
    assert refused(job_with(tmp_path, "output.mode", "${NOT_SET:-job}")) == [
        f"job.yaml:9:3: /output/mode: {MODES}, found '${{NOT_SET:-job}}'."
    ]


PLACES = [
    "api_version", "name", "doc", "input", "input.files", "input.table", "input.fils", "model", "model.onnx",
    "model.nulls", "model.inputs", "model.inputs.X", "model.outputs", "output.uri", "output.mode", "output.stamps",
    "output.passthrough", "references", "references.a", "scoring.device", "scoring.threads", "scoring.batch_rows",
    "splits", "splits.task_bytes", "budgets.contract.max_rows", "budgets.contract.max_ratio", "metrics", "spark.conf",
    "spark.conf.x", "unknown", "scoring.unknown",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    secret=st.text("ABXYZ\n\t\"'\\{}: ,%$/é", min_size=1, max_size=200),
    place=st.sampled_from(PLACES),
    form=st.sampled_from(
        ["${SECRET}", "s3://user:${SECRET}@host", "${SECRET}${SECRET}", "${SECRET:-x}", ["${SECRET}"]]
    ),
)
def test_no_message_depends_on_a_secret(secret: str, place: str, form: Any) -> None:
    """Wherever a variable stands and whatever it is, the message of a faulty config is the same as for another one."""
    said = []
    for value in (secret, "REFERENCE"):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
            environment.setenv("SECRET", value)
            path = Path(job_with(Path(folder), place, form))
            path.write_text(path.read_text() + "faulty: 1\n")
            said.append(refused(str(path)))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("scoring.threds=2", '/scoring/threds: unknown key "threds". Did you mean "threads"?'),
        ("scoring.threads=true", "/scoring/threads: should be a whole number, found True."),
        ("scoring={threads: x}", "/scoring/threads: should be a whole number, found 'x'."),
        (
            "output={uri: a, mode: b}",
            f"/output/mode: {MODES}, found 'b'.",
        ),
        ("input.table=t", "/input: give exactly one of `files`, `table` and `sql`."),
        ("nonsense", "give key.path=value."),
        ("=1", "give key.path=value."),
        ("name.x=1", "name.x does not lead through mappings."),
        ("name={", "the value is not valid YAML."),
        (
            "drift.by_column.p_late.fail.psi=0.1",
            "'p_late.fail.psi' is taken for a column. Give drift.by_column.COLUMN={fail: {psi: 1}}.",
        ),
        ("drift.by_column.p_late={fail: {psi: x}}", "/drift/by_column/p_late/fail/psi: should be a number, found 'x'."),
    ],
)
def test_an_error_of_an_override_names_it(tmp_path: Path, override: str, line: str) -> None:
    """What --set makes wrong is told with the option as its place, and not with a line of the file."""
    path = job_with(tmp_path, "output.mode", "append")
    place = "job.yaml:3:1" if override.startswith("input.") else f"--set {override}"
    assert refused(path, override) == [f"{place}: {line}"]


def test_errors_of_file_and_override_come_together(tmp_path: Path) -> None:
    """Errors of the file keep their lines beside those of overrides."""
    path = job_with(tmp_path, "nmae", "x")
    assert refused(path, "scoring.threads=no", "x") == [
        "--set x: give key.path=value.",
        "--set scoring.threads=no: /scoring/threads: should be a whole number, found 'no'.",
        'job.yaml:9:1: /nmae: unknown key "nmae". Did you mean "name"?',
    ]


@pytest.mark.parametrize(
    ("override", "place", "expected"),
    [
        ("scoring.threads=3", "scoring.threads", 3),
        ("scoring={threads: 3}", "scoring.threads", 3),
        ("input.files=[a, b]", "input.files", ("a", "b")),
        ("doc=a=b", "doc", "a=b"),
        ("spark.conf.spark.sql.x=1", "spark.conf", {"spark.sql.x": "1"}),
        ("spark.conf.spark.sql.x=true", "spark.conf", {"spark.sql.x": "true"}),
        ("spark.conf.spark.sql.x=a b", "spark.conf", {"spark.sql.x": "a b"}),
        ("spark.conf={a.b: 0.5}", "spark.conf", {"a.b": "0.5"}),
        ("model.inputs.input.1=[a, b]", "model.inputs", {"input.1": ("a", "b")}),
        ("references.a.b=c", "references", {"a.b": "c"}),
        ("output.uri=${B}/x", "output.uri", "out/x"),
    ],
)
def test_an_override_sets_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, place: str, expected: Any
) -> None:
    """--set sets a value of YAML; under spark.conf, model.inputs and references the rest of the path is one key."""
    monkeypatch.setenv("B", "out")
    assert at(read_config(job_with(tmp_path, "doc", "x"), (override,)), place) == expected


def test_an_override_takes_the_place_of_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable whose text --set replaces need not be set."""
    monkeypatch.delenv("B", raising=False)
    assert read_config(job_with(tmp_path, "output.uri", "${B}"), ("output.uri=here",)).output.uri == "here"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("budgets.contract.max_rows", True, "should be a whole number, found True."),
        ("budgets.contract.max_rows", 1.0, "should be a whole number, found 1.0."),
        ("scoring.threads", "4", "should be a whole number, found '4'."),
        ("scoring.threads", [4], "should be a whole number, found a list."),
        ("budgets.contract.max_ratio", "0.5", "should be a number, found '0.5'."),
        ("output.uri", 5, "should be text, found 5."),
        ("output.passthrough", "id", "should be a list, found 'id'."),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, place: str, value: Any, message: str) -> None:
    """A bool is no number, a text no number and a number no text: nothing is coerced."""
    [line] = refused(job_with(tmp_path, place, value))
    assert line.partition(": ")[2] == f"/{place.replace('.', '/')}: {message}"
