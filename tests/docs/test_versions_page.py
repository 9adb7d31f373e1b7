"""What docs/VERSIONS.md says can be set and typed is what can be."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.testing import CliRunner

from etl.runs.manifest import Mode
from jobs.cli import app
from jobs.config.job import Input
from jobs.config.output import Output

PAGE = (Path(__file__).parents[2] / "docs" / "VERSIONS.md").read_text(encoding="utf-8")


def rows_of(head: str) -> dict[str, str]:
    """The first two columns of the table with this head."""
    table = PAGE[PAGE.index(head) :].split("\n\n")[0].partition("\n")[2]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))


def test_every_setting_of_output_is_in_the_table() -> None:
    """The table has each key of `output`, no other one, and the defaults that are words."""
    rows = rows_of("| key of `output`")
    assert list(rows) == list(Output.model_fields)
    told = {name: default.strip("`") for name, default in rows.items()}
    for name in ("mode", "on_schema_change"):
        assert told[name] == Output.model_fields[name].default
    assert told["max_open_files"] == str(Output.model_fields["max_open_files"].default)
    assert told["file_bytes"] == f"{Output.model_fields['file_bytes'].default >> 20} MiB"


def test_every_mode_is_in_the_table() -> None:
    """The table of modes has each of them."""
    assert list(rows_of("| `mode` |")) == list(get_args(Mode))


def test_what_says_what_is_new_is_in_the_table() -> None:
    """The keys about increments have their defaults."""
    for name, default in rows_of("| key of `input`").items():
        assert default.strip().strip("`") == str(Input.model_fields[name].default).lower()


def test_the_examples_can_be_read() -> None:
    """Each example of a config on the page is a section that can be read as such."""
    found = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    assert [list(section) for section in found] == [["output"], ["input"]]
    assert Output.model_validate(found[0]["output"]).keep_versions == 30
    assert Input.model_validate(found[1]["input"]).incremental


@pytest.mark.parametrize("line", re.findall(r"^\$ batchscore (.*)$", PAGE, re.MULTILINE))
def test_the_commands_are_there(line: str) -> None:
    """Each command of the page has the options that it is shown with."""
    command, *words = shlex.split(line)
    told = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert [word for word in words if word.startswith("--") and word not in told.stdout] == []
