"""What docs/SCORING.md says can be set is what can be set."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import ByteSize
from typer.main import get_command

from etl.contract import Contract
from etl.outputs import RaggedMask, RaggedRows, TensorOutput
from jobs.cli import app
from jobs.config.job import JobConfig, Model, NamedModel, Scoring
from scoring.combination import Combination, Ensemble
from scoring.engine.stream import ScoreOptions
from scoring.outputs.columns import OutputColumn

if TYPE_CHECKING:
    from pydantic import BaseModel

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "SCORING.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
INLINE: list[str] = re.findall(r"`([^`]+)`", PROSE)
CODE = "\n".join([*(block for _, block in BLOCKS), *INLINE])
SETTINGS: list[type[BaseModel]] = [
    Model,
    NamedModel,
    OutputColumn,
    RaggedRows,
    RaggedMask,
    Combination,
    Ensemble,
    Scoring,
    ScoreOptions,
]
SECTIONS = {"model", "models", "combine", "scoring"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [block for found, block in BLOCKS if found == language]


def in_a_job(sections: dict[str, Any]) -> JobConfig:
    """A job with some sections of the page; those that it needs beside them are made up."""
    job: dict[str, Any] = {"api_version": "batchscore/1", "name": "page"}
    job |= {"input": {"files": "in"}, "output": {"uri": "out"}}
    names = {"champion", "challenger", "german", "french", "world"}
    if "combine" in sections and "models" not in sections:
        asked = {name for name in names if re.search(rf"\b{name}\b", str(sections))} or names
        job["models"] = [{"name": name, "bundle": name} for name in sorted(asked)]
    elif not sections.keys() & {"model", "models"}:
        job["model"] = {"bundle": "bundle"}
    return JobConfig.model_validate({**job, **sections})


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda model: model.__name__)
def test_each_setting_is_on_the_page(settings: type[BaseModel]) -> None:
    """Each key of a section that says how a job scores is in the page, as code."""
    keys = {field.alias or name for name, field in settings.model_fields.items()}
    assert not {key for key in keys if not re.search(rf"(?:^|[\s{{(.,]){key}(?=[:=]|$)", CODE, re.MULTILINE)}


def shown(value: Any) -> str:
    """A default as the table has it."""
    if isinstance(value, ByteSize):
        return f"`{value.human_readable(separator=' ')}`".replace(".0 ", " ")
    if value is None:
        return "\N{EN DASH}"
    return "none" if value == () else f"`{json.dumps(value).strip(chr(34))}`"


def test_each_setting_is_in_the_table_with_its_default() -> None:
    """The first table has each key of `scoring:` with the default that the config has, and no other key."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+(?: MiB`)?) \| .* \| \[", PAGE, re.MULTILINE))
    assert rows == {name: shown(field.default) for name, field in Scoring.model_fields.items()}


def test_each_variable_is_on_the_page() -> None:
    """Each variable of the environment that the engine reads is in the page."""
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "scoring").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(BATCHSCORE_[A-Z_]+)"', text)}
    assert len(read) >= 3
    assert read <= set(re.findall(r"BATCHSCORE_[A-Z_]+", CODE))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_each_yaml_block_is_one_that_is_taken(block: str) -> None:
    """A block is a section of a job, a part of a spec, or a part of a model, and the strict models accept it."""
    found = yaml.safe_load(block)
    if found.keys() <= SECTIONS:
        in_a_job(found)
        return
    assert found.keys() <= {"input", "outputs"}
    if "input" in found:
        Contract.model_validate(found["input"])
    for tensor in found["outputs"]["tensors"]:
        TensorOutput.model_validate(tensor)


@pytest.mark.parametrize("text", [text for text in INLINE if re.match(r"(model|models|combine|scoring): ", text)])
def test_each_section_in_a_sentence_is_one_that_is_taken(text: str) -> None:
    """A section that a sentence shows is one that a job accepts; an ellipsis leaves keys out that need not be there."""
    in_a_job(yaml.safe_load(re.sub(r", …|…, ", "", text)))


@pytest.mark.parametrize("block", blocks("python"))
def test_each_python_block_compiles(block: str) -> None:
    """A block is Python, and what it imports is there."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            there = importlib.import_module(node.module)
            assert all(hasattr(there, alias.name) for alias in node.names)


@pytest.mark.parametrize("block", blocks("json"))
def test_each_json_block_is_json(block: str) -> None:
    """A block is one JSON document."""
    assert isinstance(json.loads(block), dict)


def test_each_link_leads_to_a_section() -> None:
    """A link to a place of a page of the documentation leads to a heading that is there."""
    links = re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", PAGE)
    assert links
    for page, place in links:
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8") if page else PAGE
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not place or place in slugs, (page, place)


def options_of(command: Any) -> set[str]:
    """The options of a command and of all below it."""
    found = {option for parameter in command.params for option in parameter.opts}
    return found.union(*map(options_of, getattr(command, "commands", {}).values()))


def test_each_option_of_a_command_is_there() -> None:
    """Each command and each option of `batchscore` that the page shows is one that `batchscore` has."""
    command: Any = get_command(app)
    told = [line for line in CODE.splitlines() if line.startswith("batchscore ")]
    assert told
    for line in told:
        words, found = line.partition("#")[0].split()[1:], command
        while words and hasattr(found, "commands"):
            for name in words[0].split("|"):
                assert name in found.commands, line
            found = found.commands[words.pop(0).split("|")[0]]
    shown = {option for line in CODE.splitlines() if "mlflow" not in line for option in re.findall(r"--[a-z-]+", line)}
    assert shown
    assert shown <= options_of(command)
