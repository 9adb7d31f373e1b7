"""What the pages about platforms tell to type, each command by what it is for; each file that they name is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
import typer
from botocore import xform_name
from botocore.validate import ParamValidator

from jobs.cli import app
from jobs.deploying.submission import Target
from tests.deploy.dry_run import ROOT, printed

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES = [ROOT / "docs" / "DEPLOY.md", *sorted((ROOT / "docs" / "deploy").glob("*.md"))]
_CUSTOM = {
    ("emr", "add-steps"): ("AddJobFlowSteps", {"cluster-id": "JobFlowId", "steps": "Steps"}),
    ("emr", "terminate-clusters"): ("TerminateJobFlows", {"cluster-ids": "JobFlowIds"}),
}
"""Commands that aws has words of its own for: the operation, and the members behind its options."""
_WHOLE = {
    ("emr", "create-default-roles"): r"",
    ("s3", "cp"): r"(?P<file>\S+) s3://BUCKET/batchscore/\S+",
}
"""Commands that are no operation of a service: what stands behind them."""


def commands(page: Path) -> list[str]:
    """The lines of all `sh` blocks of a page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


ALL = sorted({(page.name, line) for page in PAGES for line in commands(page)})


def words_for(program: str) -> list[str]:
    """All lines on the pages that call a program."""
    found = sorted({line for _, line in ALL if line.startswith(program)})
    assert found, program
    return found


@pytest.mark.servers  # each starts Python twice
@pytest.mark.parametrize("line", words_for("./spark-submit.sh"))
def test_a_submission_is_one(line: str, tmp_path: Path) -> None:
    """It prints the command that would be executed, for the target of its page, where the packed Python is there."""
    packed = tmp_path / "environment-DIGEST.tar.gz"
    packed.touch()
    done = printed(*shlex.split(line.replace("dist/environment-DIGEST.tar.gz", str(packed)))[1:])
    assert done.returncode == 0, done.stderr
    assert "nightly.yaml" in done.stdout


def test_each_target_is_submitted_to_on_some_page() -> None:
    """No platform that can be asked for lacks a first run."""
    found = {word for line in words_for("./spark-submit.sh") for word in re.findall(r"--target (\S+)", line)}
    assert found == set(Target)


@pytest.mark.parametrize("line", words_for("batchscore "))
def test_a_command_of_ours_is_one(line: str) -> None:
    """Its command and options are known, and its values are of their types."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    context = command.make_context(words[0], words[1:])
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest)
    assert context.params


@pytest.mark.parametrize("line", words_for("aws "))
def test_a_command_of_aws_is_one(line: str) -> None:
    """Service, operation and options are in AWS's own models, documents are there, and values are of their types."""
    _, service, name, *rest = shlex.split(line)
    if (service, name) in _WHOLE:
        match = re.fullmatch(_WHOLE[service, name], " ".join(rest))
        assert match is not None
        file = match.groupdict().get("file", "conf/nightly.yaml")
        assert file.startswith("dist/") or (ROOT / file).is_file()
        return
    model = botocore.session.get_session().get_service_model("s3" if service == "s3api" else service)
    operation, options = _CUSTOM.get((service, name), ("", {}))
    operation = operation or next(one for one in model.operation_names if xform_name(one, "-") == name)
    found = model.operation_model(operation)
    members = found.input_shape.members
    options = options or {xform_name(member, "-"): member for member in members}
    told: dict[str, Any] = {}
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        given = (ROOT / value.removeprefix("file://")).read_text(encoding="utf-8") if "file://" in value else value
        if option == "--cli-input-json":
            told |= json.loads(given)
            continue
        member = options[option.removeprefix("--")]
        told[member] = as_a(members[member].type_name, given)
    if "Steps" in told:
        told["Steps"] = [as_a_step(**step) for step in told["Steps"]]
    # aws makes one where none is given.
    told |= {"clientToken": "t" * 32} if "clientToken" in found.input_shape.required_members else {}
    assert ParamValidator().validate(told, found.input_shape).generate_report() == ""
    assert set(told) <= set(members)


def test_wrong_commands_are_found_out() -> None:
    """The oracles tell a command and an option that there is not, and a document of another form."""
    for line in ("batchscore packs", "batchscore pack --uploads s3://b"):
        with pytest.raises(Exception, match="No such"):
            test_a_command_of_ours_is_one(line)
    with pytest.raises(KeyError):
        test_a_command_of_aws_is_one("aws iam create-role --role x")
    with pytest.raises(AssertionError):
        test_a_command_of_aws_is_one(
            "aws emr-serverless start-job-run --cli-input-json file://conf/emr/cluster-gpu.json"
        )


def as_a(kind: str, text: str) -> Any:
    """A value as aws reads it: a document, a list of words, or a text."""
    if kind in {"list", "structure"} and text.lstrip()[:1] in {"[", "{"}:
        return json.loads(text)
    return [text] if kind == "list" else text


def as_a_step(**step: Any) -> dict[str, Any]:
    """A step as aws hands it on."""
    assert step.pop("Type") == "CUSTOM_JAR"
    jar = {key: step.pop(key) for key in ("Jar", "Args")}
    return {**step, "HadoopJarStep": jar}


_TOLD_BY = {
    "docker build": "conf/k8s/Dockerfile",
    "kubectl create configmap": "conf/k8s/nightly.yaml",
    "sed ": "conf/k8s/nightly.yaml",
    "gcloud ": "conf/dataproc/cluster-gpu.yaml",
}
"""Commands that stand at the head of what they are for, word by word."""


@pytest.mark.parametrize("program", sorted(_TOLD_BY))
def test_what_a_page_tells_is_what_the_file_tells(program: str) -> None:
    """The same command stands at the head of the file, and names it."""
    for line in words_for(program):
        assert f"#   {line}\n" in (ROOT / _TOLD_BY[program]).read_text(encoding="utf-8")
        assert Path(_TOLD_BY[program]).name in line or "nightly.yaml" in line


def test_a_night_is_made_of_the_manifest(tmp_path: Path) -> None:
    """The sed of the page names resource and run for today, in all places."""
    [line] = words_for("sed ")
    script = line.split(" | ")[0]
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    today = subprocess.run(["date", "-u", "+%F"], check=True, capture_output=True, text=True).stdout.strip()
    assert set(re.findall(r"nightly-\d{4}-\d\d-\d\d", done.stdout)) == {f"nightly-{today}"}
    assert done.stdout.count(f"nightly-{today}") == 2


def test_the_zip_of_the_code_is_made_as_told(tmp_path: Path) -> None:
    """The command that makes it prints where it lies, under a name with its digest."""
    [line] = words_for(".venv/bin/python ")
    words = shlex.split(line.replace(" dist", f" {tmp_path / 'dist'}"))
    done = subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, text=True, cwd=ROOT)
    made = Path(done.stdout.splitlines()[0])
    assert made.is_file()
    assert re.fullmatch(r"code-[0-9a-f]{64}\.zip", made.name)


def test_the_python_of_a_page_makes_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block for boto3 hands on a document that the operation takes."""
    [block] = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/deploy/emr.md").read_text(), re.MULTILINE | re.DOTALL)
    shape = botocore.session.get_session().get_service_model("emr").operation_model("RunJobFlow").input_shape
    reports: list[str] = []

    def run_job_flow(**told: object) -> None:
        reports.append(ParamValidator().validate(told, shape).generate_report())

    stand_in = SimpleNamespace(client=lambda _: SimpleNamespace(run_job_flow=run_job_flow))
    monkeypatch.setitem(sys.modules, "boto3", stand_in)
    monkeypatch.chdir(ROOT)
    exec(block, {})  # noqa: S102  it is ours
    assert reports == [""]


CHECKED: dict[str, Callable[..., object]] = {
    "./spark-submit.sh ": test_a_submission_is_one,
    "batchscore ": test_a_command_of_ours_is_one,
    "aws ": test_a_command_of_aws_is_one,
    ".venv/bin/python ": test_the_zip_of_the_code_is_made_as_told,
    **dict.fromkeys(_TOLD_BY, test_what_a_page_tells_is_what_the_file_tells),
}
_NIGHT = "conf/cron/nightly.sh conf/nightly.yaml --target yarn --deploy-mode cluster --environment hdfs://nn/env/"
_OTHERS = {
    "export HADOOP_CONF_DIR=/etc/hadoop/conf",
    "docker push REGISTRY/batchscore:0.1.0",
    # tests/deploy/test_cron.py executes the crontab's line, which holds it.
    f"{_NIGHT}environment-DIGEST.tar.gz",
}


def test_every_command_is_checked_by_something() -> None:
    """A line that none of the tests here looks at is one of a few that are written out."""
    assert {line for _, line in ALL if not line.startswith(tuple(CHECKED))} == _OTHERS
    assert f"{_NIGHT}environment-DIGEST.tar.gz" in (ROOT / "conf/cron/crontab").read_text(encoding="utf-8")


def test_every_file_and_link_of_the_pages_is_there() -> None:
    """Files of the repository in backquotes or commands, and links, with the headings that they go to."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?<![\w/:])((?:conf|docs|tests|requirements|jobs)/[\w./-]*\w)", text)
        missing = [name for name in named if not (ROOT / name).exists() and name != "conf/job.yaml"]
        assert missing == [], page.name
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", text):
            assert not target or target.startswith("http") or (page.parent / target).exists(), (page.name, target)
        for target, heading in re.findall(r"\]\(([^)#\s]*)#([^)]*)\)", text):
            there = (page.parent / target if target else page).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, heading
