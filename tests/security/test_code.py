"""What is loaded is data: no pickle, no YAML with objects, no array of objects; and what of others is shown is text."""

from __future__ import annotations

import ast
import glob
import io
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt
from rich.console import Console
from typer.testing import CliRunner

import etl
from etl.format.problems import Source
from etl.inspection.page import page_of
from etl.runs.read import open_parquet
from etl.runs.storage import storage_for
from jobs import cli
from jobs.display.summary import Screen, rows_sheet
from scoring.bundles.golden import arrow_table
from tests.numbers_job import write_numbers
from tests.spine.builders import pin

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MODULES = [path for package in ("etl", "scoring", "jobs") for path in sorted((ROOT / package).rglob("*.py"))]

NEVER = {"_pickle", "cPickle", "cloudpickle", "copyreg", "dill", "joblib", "marshal", "pickle", "pickletools", "shelve"}
"""Modules that make objects, and so run code, of bytes."""
CALLS = {
    "compile", "eval", "exec", "full_load", "load_all", "read_pickle", "to_pickle", "unsafe_load", "set_allow_pickle",
    "jit.load", "torch.load", "yaml.load", "joblib.load", "os.system", "os.popen",
}  # fmt: skip
HARMLESS = {"module.eval", "re.compile"}
"""The mode of a module of torch, and a regular expression."""
NEEDS_TRUST = {
    "scoring.runtimes.pyfunc": {"mlflow.pyfunc.load_model"},
    "scoring.runtimes.torch": {"torch.export.load"},
}
"""What runs code of a model, each behind `scoring.trust`: tests/scoring/test_runtimes_pyfunc.py, test_runtimes.py."""
ESC = "\x1b[31m\x1b]0;title\x07"


def trees() -> Iterator[tuple[str, ast.AST]]:
    """Every node of our own source, with its module."""
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield module, node


def test_no_module_can_unpickle() -> None:
    """No module of etl, scoring or jobs imports pickle or a library for it, not even inside a function."""
    assert MODULES
    found = []
    for module, node in trees():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"{module}: {name}" for name in names if name.partition(".")[0] in NEVER]
    assert not found


def test_nothing_that_runs_code_is_called() -> None:
    """No call makes objects or code of text or bytes; the two that a job has to trust are where the table says."""
    found: list[str] = []
    trusting: dict[str, set[str]] = {}
    for module, node in trees():
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in CALLS or (name.rpartition(".")[2] in CALLS and name not in HARMLESS):
            found.append(f"{module}: {name}")
        if name.endswith((".load_model", "export.load")):
            trusting.setdefault(module, set()).add(name)
        if name.endswith("np.load"):
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert given.get("allow_pickle") == "False", f"{module}: np.load without allow_pickle=False"
        assert not any(word.arg == "shell" for word in node.keywords), f"{module}: a shell"
        assert not any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
    assert not found
    assert trusting == NEEDS_TRUST


class Payload:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        """The folder."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """What runs."""
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_a_type_of_arrow_is_not_unpickled(tmp_path: Path, kind: str) -> None:
    """A column whose type says that it is a pickled class is read as what it is stored as, and runs nothing."""
    ran = tmp_path / "ran"
    name, told = b"ARROW:extension:name", b"ARROW:extension:metadata"
    facts = {name: b"arrow.py_extension_type", told: pickle.dumps(Payload(ran))}
    table = pa.table({"a": [1, 2]}, schema=pa.schema([pa.field("a", pa.int64(), metadata=facts)]))
    if kind == "parquet":
        pq.write_table(table, tmp_path / "f.parquet")
        storage, _ = storage_for(str(tmp_path))
        read = open_parquet(storage, pin(tmp_path / "f.parquet")).read()
    else:
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        read = arrow_table(sink.getvalue())
    assert read.column("a").to_pylist() == [1, 2]
    assert not ran.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!new"])
def test_yaml_makes_no_objects(tmp_path: Path, tag: str) -> None:
    """A tag of YAML that would make an object is refused; PyYAML's unsafe loader shows that it would make it."""
    text = f"a: {tag} ['{tmp_path / 'ran'}']\n"
    with pytest.raises(ValueError, match="tag"):
        Source.read(text, "job.yaml")
    assert not (tmp_path / "ran").exists()
    if "apply" in tag:
        yaml.unsafe_load(text)
        assert (tmp_path / "ran").exists()


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "a`<b>`",
    "&lt;b&gt;",
    "|<b>|",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_of_a_spec_has_no_html_of_others(text: str) -> None:
    """Names, values and remarks of a spec are shown as they are by a renderer of Markdown that lets HTML through."""
    written = {
        "format": "scorespec/1",
        "spec_id": "s",
        "doc": text,
        "input": {
            "fields": [
                {"name": text, "type": "string", "doc": text, "allowed": [text]},
                {"name": "n", "type": "float32"},
            ]
        },
        "steps": [{"op": "rename", "id": "r", "in": [text], "out": [f"{text}2"], "doc": text}],
        "outputs": {"tensors": [{"tensor": text, "from": ["n"]}], "passthrough": [f"{text}2"]},
        "expectations": [{"id": "e", "row": {"in": [f"{text}2", [text]]}, "severity": "warn", "doc": text}],
    }
    page = page_of(etl.read_spec(yaml.safe_dump(written), "spec.yaml", fitted=False))
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
    for forbidden in ("<script", "<img", "<b>", 'javascript:alert(1)"'):
        assert forbidden not in shown.lower()


def test_nothing_of_ours_writes_html() -> None:
    """This release writes no HTML: no text of ours holds a tag, and nothing shows itself as HTML in a notebook."""
    for module, node in trees():
        assert not (isinstance(node, ast.FunctionDef) and node.name.startswith("_repr_")), module
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not any(tag in node.value.lower() for tag in ("<html", "<div", "<table", "<script", "<td")), module


HOSTILE_SIGNS = (ESC, "a\nstate: SUCCEEDED", "a\rb", "[bold red]x[/]", "[/]", "[link=http://e]x[/link]", "\u202eabc")


def shown_by(width: int | None, text: str) -> str:
    """All that a screen can print, of a text of others: a terminal of that width, or a log where it is None."""
    out = io.StringIO()
    system = None if width is None else "truecolor"
    screen = Screen(Console(file=out, force_terminal=width is not None, width=width or 80, color_system=system))  # type: ignore[arg-type]
    screen.sheet(rows_sheet(pa.table({text: [text], "b": [1]}), []))
    screen.facts([(text.replace("\n", " "), text)])
    screen.next_steps([("look", f"batchscore show {text}")])
    return out.getvalue()


@pytest.mark.parametrize("width", [None, 80], ids=["log", "terminal"])
@pytest.mark.parametrize("text", HOSTILE_SIGNS)
def test_what_is_shown_of_others_is_text(text: str, width: int | None) -> None:
    """No name or value of others can colour, move, link or turn the direction of what a command prints."""
    shown = shown_by(width, text)
    assert not any(sign in shown for sign in ("\x1b]", "\x1b[31m", "\x1b[1;31m", "\x07", "\r", "\u202e"))
    if "[" in text and "\x1b" not in text:
        assert shown.count(text) == 5


@pytest.mark.parametrize("text", HOSTILE_SIGNS)
def test_no_value_forges_a_line_of_a_log(text: str) -> None:
    """Whatever a value has in it, none of its lines begins as a fact does that a program may look for."""
    assert not [line for line in shown_by(None, text).splitlines() if line.startswith("state:")]


@pytest.mark.parametrize("name", ["[/]", "[bold red]x", "a\nb"])
def test_a_file_of_any_name_can_be_read(tmp_path: Path, name: str) -> None:
    """A folder of training rows whose name reads as markup of a terminal is a name, and no fault of the display."""
    write_numbers(tmp_path / name, files=1, rows=20, row_group=20)
    recipe = {
        "format": "scorespec/1",
        "spec_id": "s",
        "input": {"fields": [{"name": "f0", "type": "float32"}]},
        "steps": [{"op": "standardize", "id": "z", "in": ["f0"], "out": ["z0"]}],
        "outputs": {"tensors": [{"tensor": "X", "from": ["z0"]}]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["fit", str(tmp_path / "recipe.yaml"), "--data", str(tmp_path / glob.escape(name))]
    done = CliRunner().invoke(cli.app, [*words, "--out", str(tmp_path / "etl.json")])
    assert done.exit_code == 0, done.output
