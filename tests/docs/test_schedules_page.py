"""What docs/SCHEDULES.md says can be written, typed and met is what can be."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.job import JobConfig, read_config
from jobs.config.variables import logical_date
from jobs.identity import run_id_of_date
from jobs.scheduling.drivers import Outcome, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "SCHEDULES.md").read_text(encoding="utf-8")


def rows_of(head: str) -> Iterator[list[str]]:
    """The cells of the table with this head."""
    for line in PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_outcome_is_in_the_table() -> None:
    """Each outcome of a date stands there with the exit code that it has alone; what was not started has none."""
    told = {name.strip("`"): code for name, _, code in rows_of("| a date is")}
    assert list(map(Outcome, told)) == sorted(Outcome, key=list(told).index)
    assert {name: code for name, code in told.items() if name != "not started"} == {
        str(outcome): str(worst([outcome])) for outcome in Outcome if outcome is not Outcome.NOT_STARTED
    }


def test_the_config_is_filled_in_as_shown(tmp_path: Path) -> None:
    """The page's config is a job with a model, and each variable becomes what its table says, in UTC."""
    [section] = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    job = {"api_version": "batchscore/1", "model": {"bundle": "b"}, **section}
    JobConfig.model_validate(job)
    head = next(line for line in PAGE.splitlines() if line.startswith("| in the config"))
    moment = re.findall("`(.*?)`", head)[0]
    path = tmp_path / "job.yaml"
    for variable, found, _ in rows_of("| in the config"):
        path.write_text(yaml.safe_dump({**job, "doc": variable.strip("`")}))
        assert read_config(str(path), date=logical_date(moment)).doc == found.strip("`")
    config = read_config(str(path), date=logical_date("2026-11-26"))
    assert config.input.files == "s3://history/flights/day=2026-11-26/"
    assert run_id_of_date(config.name, logical_date("2026-11-26")) in PAGE
    assert run_id_of_date("JOB", logical_date("2026-11-26T06:00:00+00:00")) in PAGE
    local = logical_date("2026-11-26T00:00:00+01:00")
    assert (f"{local:%Y-%m-%d}", f"{local:%H}") == ("2026-11-25", "23")


@pytest.mark.parametrize("line", re.findall(r"^\$ batchscore (.*?)(?: +#.*)?$", PAGE, re.MULTILINE))
def test_the_commands_are_there(line: str) -> None:
    """Each command of the page has the options that it is shown with."""
    command, *words = shlex.split(line.partition(" -- ")[0])
    told = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert [word for word in words if word.startswith("--") and word not in told.stdout] == []
