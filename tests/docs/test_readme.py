"""What README shows is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.config.job import JobConfig

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader of README would, with the environment's commands on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
    )


@pytest.mark.servers
@pytest.mark.timeout(400)
def test_the_demo_and_every_command_of_readme_succeed() -> None:
    """`make demo` shows a partially succeeded run whose rows add up, and then every command that README shows works."""
    demo = shell("make demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "PARTIALLY_SUCCEEDED" in demo.stdout
    account = re.search(r"([\d,]+) in = ([\d,]+) scored \+ ([\d,]+) quarantined \+ ([\d,]+) filtered", demo.stdout)
    assert account is not None
    rows_in, *parts = (int(number.replace(",", "")) for number in account.groups())
    assert rows_in == sum(parts)
    assert parts[1] == 7
    commands, tour = blocks("sh")[1:]
    for line in (commands + tour).splitlines():
        command = line.partition("  #")[0].strip()
        done = shell(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.servers
def test_the_preprocessing_of_readme_runs() -> None:
    """The data of the example specs are made as README says, and its Python block makes tensors of them."""
    assert shell("python examples/specs/data.py demo/specs").returncode == 0
    done = shell(f"python - <<'END'\n{blocks('python')[1]}\nprint(spec.is_fitted)\nEND")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "True"


@pytest.mark.servers
def test_the_python_of_readme_runs_on_the_demo() -> None:
    """The Python block opens the demo's results as one whole version."""
    done = shell(f"python - <<'END'\n{blocks('python')[0]}\nprint(results.rows)\nEND")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 80_000


def test_the_job_of_readme_is_a_valid_config() -> None:
    """The YAML block is a job that the strict model accepts."""
    JobConfig.model_validate(yaml.safe_load(blocks("yaml")[0]))


def test_the_bare_model_of_readme_is_valid() -> None:
    """The second YAML block, in the place of the first one's model, is one that the strict model accepts."""
    job, model = (yaml.safe_load(block) for block in blocks("yaml"))
    JobConfig.model_validate({**job, **model})


def test_the_auc_of_readme_is_the_bundles() -> None:
    """README quotes the AUC that training measured and the bundle carries."""
    facts = json.loads((REPOSITORY / "examples/flights/bundle/bundle.json").read_bytes())["facts"]
    quoted = re.search(r"its AUC is (0\.\d+)", README)
    assert quoted is not None
    assert float(quoted[1]) == round(float(facts["test_auc"]), 3)
