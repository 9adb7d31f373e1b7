"""What is submitted to each target: whole commands, by hand, and what is refused before anything is asked."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.config.job import read_config
from jobs.config.variables import logical_date
from jobs.deploying.ending import code_of
from jobs.deploying.submission import profile_of
from jobs.errors import ConfigError, ExitCode, Refused
from jobs.identity import run_id_of_date
from jobs.record import ErrorFacts, RunState
from tests.jobs.outputs import run_job, write_bad_input, write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "conf" / "spark" / "profiles"
STORE = "s3://b/x"
PYTHON = "./environment/bin/python"
PACKED = ("--environment", "s3://b/e.tar.gz")
HERE, DIGESTED = "env.tar.gz", f"environment-{'1' * 16}.tar.gz"
CODE = f"/c/code-{'0' * 64}.zip"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of which all lies in a store; nobody is asked, so nothing has to be there."""
    monkeypatch.setenv("PYSPARK_PYTHON", "/usr/bin/python3.11")
    told: dict[str, Any] = {
        "api_version": "batchscore/1",
        "name": "nightly",
        "input": {"files": f"{STORE}/in"},
        "model": {"bundle": f"{STORE}/bundle"},
        "output": {"uri": f"{STORE}/out"},
    }
    path = tmp_path / "nightly.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    for name in (HERE, DIGESTED):
        (tmp_path / name).touch()
    return path


def submit(job: Path, *words: str) -> Result:
    """As spark-submit.sh calls it."""
    return CliRunner().invoke(app, ["submit", str(job), "--home", "/h", "--code", CODE, *words], catch_exceptions=False)


def at(**places: str) -> list[str]:
    """Options of places."""
    return [word for name, value in places.items() for word in ("--place", f"{name}={value}")]


def words_of(job: Path, *words: str) -> list[str]:
    """The command that would be executed."""
    done = submit(job, *words, "--run-id", "r", "--show", "words")
    assert done.exit_code == 0, done.output
    return done.stdout.split("\0")[:-1]


def settings_in(words: list[str]) -> list[str]:
    """All of --conf."""
    return [value for option, value in itertools.pairwise(words) if option == "--conf"]


def after(words: list[str], option: str) -> str:
    """The value of an option."""
    return words[words.index(option) + 1]


def test_yarn_in_cluster_mode_gets_all_that_its_driver_needs(job: Path) -> None:
    """Code, Python and config travel; the driver, the workers and the application master run the packed Python."""
    options = [
        "--target",
        "yarn",
        "--environment",
        str(job.with_name(HERE)),
        "--gpus",
        "1",
        "--conf",
        "a=b",
        "--set",
        "report=false",
    ]
    assert words_of(job, *options) == [
        *("spark-submit", "--master", "yarn", "--deploy-mode", "cluster", "--name", "batchscore r"),
        *(
            "--py-files",
            CODE,
            "--archives",
            f"{job.with_name(HERE)}#environment",
            "--files",
            f"{job},/h/conf/spark/gpus.sh",
        ),
        *("--conf", f"spark.executorEnv.PYSPARK_PYTHON={PYTHON}", "--conf", "spark.executorEnv.PYTHONSAFEPATH=1"),
        *("--conf", f"spark.yarn.appMasterEnv.PYSPARK_PYTHON={PYTHON}"),
        *("--conf", "spark.yarn.appMasterEnv.PYTHONSAFEPATH=1"),
        *("--conf", f"spark.yarn.appMasterEnv.PYSPARK_DRIVER_PYTHON={PYTHON}"),
        *("--conf", "spark.yarn.maxAppAttempts=1"),
        *("--conf", "spark.executor.resource.gpu.amount=1", "--conf", "spark.task.resource.gpu.amount=1"),
        *("--conf", "spark.executor.resource.gpu.discoveryScript=./gpus.sh", "--conf", "a=b"),
        *("/h/jobs/main.py", "run", "nightly.yaml", "--run-id", "r", "--set", "report=false"),
    ]


def test_a_driver_here_keeps_its_own_python_and_config(job: Path) -> None:
    """In client mode only workers run the packed Python, and the config is read where it is."""
    words = words_of(job, "--target", "standalone", "--deploy-mode", "client", "--master", "spark://h:7077")
    assert words[:5] == ["spark-submit", "--master", "spark://h:7077", "--deploy-mode", "client"]
    assert "--files" not in words
    assert words[-4:] == ["run", str(job), "--run-id", "r"]
    assert settings_in(words) == [
        "spark.ui.showConsoleProgress=false",
        "spark.executorEnv.PYSPARK_PYTHON=/usr/bin/python3.11",
        "spark.executorEnv.PYTHONSAFEPATH=1",
    ]


def test_kubernetes_gets_its_image_and_gpus_by_their_vendor(job: Path) -> None:
    """The image holds the script that finds GPUs, Spark uploads the rest, and the submission waits for the end."""
    options = [
        "--target",
        "k8s",
        "--master",
        "k8s://https://h:6443",
        *at(image="i:1", namespace="n", stage="s3a://b/s"),
        "--gpus",
        "2",
    ]
    settings = settings_in(words_of(job, *options))
    assert settings[-9:] == [
        "spark.kubernetes.container.image=i:1",
        "spark.kubernetes.namespace=n",
        "spark.kubernetes.file.upload.path=s3a://b/s",
        "spark.kubernetes.submission.waitAppCompletion=true",
        "spark.executor.resource.gpu.amount=2",
        "spark.task.resource.gpu.amount=1",
        "spark.executor.resource.gpu.vendor=nvidia.com",
        "spark.executor.resource.gpu.discoveryScript=/opt/batchscore/gpus.sh",
        "spark.executor.cores=2",
    ]
    assert "spark.kubernetes.driverEnv.PYTHONSAFEPATH=1" in settings


def test_emr_gets_a_step_whose_files_lie_in_the_stage(job: Path) -> None:
    """The step is spark-submit on the cluster; what a digest names is shared by runs, the rest is the run's own."""
    place = [
        "--place",
        "cluster=j-1",
        "--place",
        "stage=s3://b/stage/",
        "--place",
        "role=arn:aws:iam::1:role/s",
        "--place",
        "region=eu-west-1",
    ]
    words = words_of(job, "--target", "emr", "--environment", str(job.with_name(DIGESTED)), *place)
    assert words[:5] == ["aws", "emr", "add-steps", "--cluster-id", "j-1"]
    assert (after(words, "--execution-role-arn"), after(words, "--region")) == ("arn:aws:iam::1:role/s", "eu-west-1")
    [step] = json.loads(after(words, "--steps"))
    arguments = step.pop("Args")
    told = {"Type": "CUSTOM_JAR", "Jar": "command-runner.jar", "ActionOnFailure": "CONTINUE", "Name": "batchscore r"}
    assert step == told
    assert arguments[:3] == ["spark-submit", "--deploy-mode", "cluster"]
    assert after(arguments, "--py-files") == f"s3://b/stage/code-{'0' * 64}.zip"
    assert after(arguments, "--archives") == f"s3://b/stage/environment-{'1' * 16}.tar.gz#environment"
    assert after(arguments, "--files") == "s3://b/stage/r/nightly.yaml"
    assert arguments[-5:] == ["s3://b/stage/r/main.py", "run", "nightly.yaml", "--run-id", "r"]


def test_emr_serverless_gets_settings_as_one_text(job: Path) -> None:
    """Its parameters are a text that is split at spaces, so a value with a space stands in quotes."""
    place = [*at(application="a", stage="s3://b/stage", role="arn:aws:iam::1:role/s")]
    words = words_of(job, "--target", "emr-serverless", *place, "--environment", "s3://b/e.tar.gz", "--conf", 'k=v "w"')
    assert words[:3] == ["aws", "emr-serverless", "start-job-run"]
    told = json.loads(after(words, "--job-driver"))["sparkSubmit"]
    assert told["entryPointArguments"] == ["run", "nightly.yaml", "--run-id", "r"]
    settings = settings_in(shlex.split(told["sparkSubmitParameters"]))
    assert 'k=v "w"' in settings
    assert "spark.archives=s3://b/e.tar.gz#environment" in settings
    assert f"spark.emr-serverless.executorEnv.PYSPARK_PYTHON={PYTHON}" in settings
    assert f"spark.submit.pyFiles=s3://b/stage/code-{'0' * 64}.zip" in settings


def test_dataproc_gets_properties_with_a_mark_of_their_own(job: Path) -> None:
    """Commas part the properties unless another mark is named; the plugin that takes the GPU is off, as is a retry."""
    place = [*at(cluster="c", region="r1", stage="gs://b/stage"), *PACKED]
    words = words_of(job, "--target", "dataproc", *place, "--gpus", "1", "--conf", "k=a,b")
    assert words[:6] == ["gcloud", "dataproc", "jobs", "submit", "pyspark", "gs://b/stage/r/main.py"]
    properties = after(words, "--properties")
    assert properties.startswith("^;^")
    assert {"spark.plugins=", "k=a,b"} <= set(properties.removeprefix("^;^").split(";"))
    assert after(words, "--files") == "gs://b/stage/r/nightly.yaml,gs://b/stage/r/gpus.sh"
    assert after(words, "--max-failures-per-hour") == "0"
    assert words[-5:] == ["--", "run", "nightly.yaml", "--run-id", "r"]


@pytest.mark.parametrize("value", ["a;b,c", ";|", ";|~!@", ";|~!@-0-", "x;|~!@-0", "a;"])
def test_a_property_of_dataproc_holds_whatever_mark(job: Path, value: str) -> None:
    """Properties are parted at the mark between the first two ^, where gcloud finds each setting as it was given."""
    place = [*at(cluster="c", region="r1", stage="gs://b/stage"), *PACKED]
    words = words_of(job, "--target", "dataproc", *place, "--conf", f"k={value}", "--conf", "l=1")
    _, mark, rest = after(words, "--properties").split("^", 2)
    plain = words_of(job, "--target", "dataproc", *place, "--conf", "k=v", "--conf", "l=1")
    expected = after(plain, "--properties").removeprefix("^;^").split(";")
    assert rest.split(mark) == [f"k={value}" if setting == "k=v" else setting for setting in expected]


@pytest.mark.parametrize("value", ['"w"', "it's", "a\\b", "a b", "\"a\\ 'b", "$HOME"])
def test_a_value_of_emr_serverless_survives_its_quotes(job: Path, value: str) -> None:
    """With white space or without: a shell's reading of the text, which has no variables, gives the value back."""
    place = at(application="a", stage="s3://b/stage", role="arn:aws:iam::1:role/s")
    words = words_of(job, "--target", "emr-serverless", *place, *PACKED, "--conf", f"k={value}")
    told = json.loads(after(words, "--job-driver"))["sparkSubmit"]["sparkSubmitParameters"]
    assert f"k={value}" in settings_in(shlex.split(told))


def test_dataproc_serverless_gets_a_batch_of_a_name_of_its_own(job: Path) -> None:
    """A batch's name cannot be used again, a run id can; GPUs are of the premium tier."""
    place = [
        "--place",
        "region=r1",
        "--place",
        "stage=gs://b/stage",
        "--place",
        "image=i",
        "--place",
        "role=s@p",
        "--gpus",
        "1",
    ]
    first, second = (words_of(job, "--target", "dataproc-serverless", *place) for _ in range(2))
    assert after(first, "--batch") != after(second, "--batch")
    assert first[:6] == ["gcloud", "dataproc", "batches", "submit", "pyspark", "gs://b/stage/r/main.py"]
    assert (after(first, "--container-image"), after(first, "--service-account")) == ("i", "s@p")
    assert "PYSPARK_PYTHON" not in after(first, "--properties")  # the image says it
    assert "spark.dataproc.executor.resource.accelerator.type=l4" in after(first, "--properties")


def test_a_python_that_a_service_has_is_that_of_driver_and_workers(job: Path) -> None:
    """Named for the workers, the driver gets it, too."""
    place = at(cluster="j-1", stage="s3://b/s")
    named = "spark.executorEnv.PYSPARK_PYTHON=/usr/bin/python3.11"
    arguments = shlex.join(words_of(job, "--target", "emr", *place, "--conf", named))
    assert "spark.yarn.appMasterEnv.PYSPARK_PYTHON=/usr/bin/python3.11" in arguments
    assert sys.executable not in arguments


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--target", "emr"], "emr needs --stage s3://… and --cluster j-…."),
        (["--target", "emr", *at(stage="s3://b", cluster="j-1")], "emr has a Python of its own, without our libraries"),
        (["--target", "standalone", "--deploy-mode", "client"], "standalone needs --master spark://HOST:7077."),
        (["--target", "standalone", "--master", "spark://h:1"], "use --deploy-mode client"),
        (["--target", "k8s", "--master", "k8s://h", *at(image="i")], "k8s needs --stage s3a://…."),
        (["--target", "yarn", "--profile", "huge"], "there is no profile 'huge'"),
        (["--target", "yarn", "--logical-date", "yesterday"], "'yesterday' is no logical date"),
        (
            [
                "--target",
                "emr-serverless",
                "--place",
                "application=a",
                "--place",
                "role=r",
                "--place",
                "stage=s3://b",
                "--gpus",
                "1",
            ],
            "EMR Serverless has no GPUs",
        ),
        (
            [
                "--target",
                "dataproc",
                "--place",
                "cluster=c",
                "--place",
                "region=r",
                "--place",
                "stage=gs://b",
                "--deploy-mode",
                "client",
            ],
            "dataproc runs the driver itself",
        ),
    ],
)
def test_what_cannot_be_submitted_is_refused_with_what_to_do(job: Path, words: list[str], reason: str) -> None:
    """Nothing is printed to execute, and the exit code is that of a refusal."""
    done = submit(job, *words, "--show", "words")
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert reason in done.stderr


EMR = ["--target", "emr", *at(stage="s3://b", cluster="j-1"), *PACKED]


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (
            ["--target", "yarn", "--master", "spark://h:7077"],
            ["yarn has no --master spark://h:7077: --master yarn, or"],
        ),
        (["--target", "yarn", "--master", "local"], ["yarn has no --master local"]),
        (["--target", "yarn", "--master", "yarns"], ["yarn has no --master yarns"]),
        (
            ["--target", "standalone", "--deploy-mode", "client", "--master", "yarn"],
            ["standalone has no --master yarn: --master spark://HOST:7077."],
        ),
        (
            ["--target", "k8s", "--master", "https://h", *at(image="i", stage="s3a://b")],
            ["k8s has no --master https://h: --master k8s://https://HOST:PORT."],
        ),
        (
            ["--target", "k8s", "--master", "k8s://h", *at(image="i", stage="folder")],
            ["k8s reads no --stage folder: --stage s3a://…."],
        ),
        (
            ["--target", "k8s", "--deploy-mode", "client", "--master", "k8s://h", *at(image="i", stage="s3a://b")],
            ["a driver here needs no --stage s3a://b: leave it out, or use --deploy-mode cluster."],
        ),
        ([*EMR, "--master", "yarn", *at(image="zz")], ["emr takes no --image zz, --master yarn."]),
        (
            ["--target", "yarn", *at(image="i", namespace="n", cluster="c")],
            ["yarn takes no --cluster c, --image i, --namespace n."],
        ),
        (
            ["--target", "dataproc", *at(stage="gs://b", cluster="c", region="r", role="s@p"), *PACKED],
            ["dataproc takes no --role s@p."],
        ),
        (["--target", "emr", *at(stage="gs://b", cluster="j-1"), *PACKED], ["emr reads no --stage gs://b: --stage s3"]),
        (["--target", "emr", *at(stage="x/s3://", cluster="j-1"), *PACKED], ["emr reads no --stage x/s3://"]),
        (
            ["--target", "dataproc-serverless", *at(stage="s3://b", region="r"), *PACKED],
            ["dataproc-serverless reads no --stage s3://b: --stage gs://…."],
        ),
        (
            [
                "--target",
                "yarn",
                "--conf",
                "nonsense",
                "--conf",
                "=1",
                "--environment",
                "/nope/x.tar.gz",
                *at(image="i"),
            ],
            [
                "error: yarn takes no --image i.",
                "\n--environment /nope/x.tar.gz: there is no such file. `batchscore pack` makes one.",
                "\n--conf nonsense: KEY=VALUE, please.\n--conf =1: KEY=VALUE, please.",
            ],
        ),
        (
            ["--target", "emr", *at(region="r"), "--profile", "huge"],
            ["error: emr needs --stage s3", "there is no profile 'huge'"],
        ),
    ],
)
def test_options_that_contradict_or_mean_nothing_are_refused(job: Path, words: list[str], reasons: list[str]) -> None:
    """All of them at once, each with what would do, and nothing is printed to execute."""
    done = submit(job, *words, "--show", "words")
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert [reason for reason in reasons if reason not in done.stderr] == [], done.stderr


@pytest.mark.parametrize(
    ("name", "words", "is_taken"),
    [
        ("a,b.yaml", ["--target", "yarn"], False),
        ("a b.yaml", ["--target", "yarn"], False),
        ("a#b.yaml", EMR, False),
        ("a,b.yaml", EMR, False),
        ("a,b.yaml", ["--target", "yarn", "--deploy-mode", "client"], True),
        ("of, a team/job.yaml", ["--target", "yarn"], False),
        ("of, a team/job.yaml", EMR, True),
        ("of a team/job.yaml", ["--target", "yarn"], True),
    ],
)
def test_a_config_is_sent_by_a_name_that_arrives(job: Path, *, name: str, words: list[str], is_taken: bool) -> None:
    """Spark parts what it sends at commas, and a driver here is sent no config; a service gets its name alone."""
    config = job.parent / name
    config.parent.mkdir(exist_ok=True)
    job.rename(config)
    done = submit(config, *words, "--show", "words")
    assert (done.exit_code == 0) == is_taken, done.stderr
    assert is_taken or f"{config}: Spark " in done.stderr


def test_relative_paths_are_refused_where_the_driver_is_elsewhere(job: Path) -> None:
    """All of them at once, by their places in the config; a driver on this machine takes them."""
    told = yaml.safe_load(job.read_text(encoding="utf-8"))
    told["input"]["files"], told["output"]["uri"] = ["data/in", "/mnt/in"], "out"
    told["model"] = {"bundle": "runs:/0123456789abcdef0123456789abcdef/model"}
    job.write_text(yaml.safe_dump(told), encoding="utf-8")
    done = submit(job, "--target", "yarn", "--show", "words")
    assert done.exit_code == ExitCode.REFUSED
    assert "  /input/files/0: data/in\n  /output/uri: out\n" in done.stderr
    assert words_of(job, "--target", "yarn", "--deploy-mode", "client")


VARIABLE = "BATCHSCORE_TESTS_STORE"


@pytest.fixture
def filled_in(job: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job whose place comes from this shell."""
    monkeypatch.setenv(VARIABLE, "s3://of-this-shell")
    text = job.read_text(encoding="utf-8").replace(f"{STORE}/out", f"${{{VARIABLE}}}/out${{NOT_SET_HERE:-}}")
    job.write_text(text, encoding="utf-8")
    return job


@pytest.mark.parametrize(
    ("target", "setting"),
    [
        (["--target", "yarn"], "spark.yarn.appMasterEnv"),
        (["--target", "k8s", "--master", "k8s://h", *at(image="i", stage="s3a://b")], "spark.kubernetes.driverEnv"),
        (["--target", "emr", *at(stage=STORE, cluster="j-1"), *PACKED], "spark.yarn.appMasterEnv"),
        (
            ["--target", "emr-serverless", *at(stage=STORE, application="a", role="r"), *PACKED],
            "spark.emr-serverless.driverEnv",
        ),
        (["--target", "dataproc", *at(stage="gs://b", cluster="c", region="r"), *PACKED], "spark.yarn.appMasterEnv"),
        (["--target", "dataproc-serverless", *at(stage="gs://b", region="r"), *PACKED], "spark.dataproc.driverEnv"),
    ],
)
def test_variables_that_a_driver_elsewhere_has_not_are_refused(
    filled_in: Path, target: list[str], setting: str
) -> None:
    """By name, with the setting that gives it, and without the value; with that setting, or here, they are taken."""
    done = submit(filled_in, *target, "--show", "words")
    assert done.exit_code == ExitCode.REFUSED
    assert f"\n  {VARIABLE}\nGive each by --conf {setting}.{VARIABLE}=VALUE" in done.stderr
    assert "of-this-shell" not in done.stderr
    assert words_of(filled_in, *target, "--conf", f"{setting}.{VARIABLE}=s3://of-this-shell")
    done = submit(filled_in, *target, "--show", "words", "--conf", f"{setting}.{VARIABLE}=s3://another")
    assert done.exit_code == ExitCode.REFUSED
    assert "Set both alike" in done.stderr


def test_a_variable_that_is_replaced_or_given_otherwise_is_not_missed(
    filled_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver here has it; --set takes its place; Kubernetes may have it of a secret; a date has its own option."""
    yarn = ("--target", "yarn")
    assert words_of(filled_in, *yarn, "--deploy-mode", "client")
    assert words_of(filled_in, *yarn, "--set", f"output.uri={STORE}/out")
    k8s = ("--target", "k8s", "--master", "k8s://h", *at(image="i", stage="s3a://b"))
    assert words_of(filled_in, *k8s, "--conf", f"spark.kubernetes.driver.secretKeyRef.{VARIABLE}=a:b")
    monkeypatch.setenv("LOGICAL_DATE", "2026-11-26")
    text = filled_in.read_text(encoding="utf-8").replace(VARIABLE, "LOGICAL_DATE")
    filled_in.write_text(text.replace("${LOGICAL_DATE}", "s3://b/${LOGICAL_DATE}"), encoding="utf-8")
    assert words_of(filled_in, *yarn, "--logical-date", "2026-11-26")


def test_a_dry_run_says_where_files_go_and_what_is_executed(job: Path) -> None:
    """Without asking anybody, and as a shell reads it."""
    done = submit(
        job,
        "--target",
        "emr",
        "--place",
        "cluster=j-1",
        "--place",
        "stage=s3://b/s",
        *PACKED,
        "--run-id",
        "r",
        "--show",
        "command",
    )
    remarks = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    assert f"# {job} is put at s3://b/s/r/nightly.yaml" in remarks
    command = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("# "))
    assert shlex.split(command.replace("\\\n", " ")) == words_of(
        job, "--target", "emr", *at(cluster="j-1", stage="s3://b/s"), *PACKED
    )


def test_a_dry_run_of_sparks_own_clusters_can_be_pasted(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given to a bare shell it calls the same Spark with the same words and variables."""
    spark = tmp_path / "a spark" / "bin" / "spark-submit"
    spark.parent.mkdir(parents=True)
    spark.write_text('#!/bin/bash\nprintf "%s\\0" "$SPARK_SUBMIT_OPTS" "$@"\n', encoding="utf-8")
    spark.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spark.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Da='b c'")
    yarn = ("--target", "yarn", "--run-id", "r", "--conf", "k=it's $HOME")
    shown = submit(job, *yarn, "--show", "command").stdout
    called = subprocess.run(["bash", "-c", shown], env={}, check=True, capture_output=True, text=True).stdout
    assert called.split("\0")[:-1] == ["-Da='b c'", *words_of(job, *yarn[:2], *yarn[4:])[1:]]


@pytest.mark.parametrize("named", [(), ("--run-id", "again")])
def test_the_driver_is_told_the_date(job: Path, named: tuple[str, ...]) -> None:
    """The date travels as it was given, beside the name that the run has; the config is checked for that date here."""
    text = job.read_text(encoding="utf-8").replace("api_version", "doc: of ${LOGICAL_DATE}\napi_version")
    job.write_text(text, encoding="utf-8")
    moment = "2026-11-26T07:00:00+01:00"
    done = submit(job, "--target", "yarn", "--logical-date", moment, *named, "--show", "words")
    words = done.stdout.split("\0")[:-1]
    assert words[-4:-2] == ["--run-id", "again" if named else "nightly-2026-11-26t060000"]
    assert words[-2:] == ["--logical-date", "2026-11-26T06:00:00+00:00"]
    with pytest.raises(ConfigError, match="LOGICAL_DATE is not known: give --logical-date"):
        read_config(str(job))
    assert submit(job, "--target", "yarn", "--show", "words").exit_code == 2


@pytest.mark.parametrize(
    ("text", "run_id"),
    [
        ("2026-11-26", "nightly-2026-11-26"),
        ("2026-11-26T00:00:00+00:00", "nightly-2026-11-26"),
        ("2026-11-26T01:30:00+02:00", "nightly-2026-11-25t233000"),
    ],
)
def test_a_run_is_named_for_its_date(text: str, run_id: str) -> None:
    """In UTC, and with the time of day only where it is not midnight."""
    assert run_id_of_date("nightly", logical_date(text)) == run_id


def test_every_profile_says_why() -> None:
    """Each setting of a profile stands just below a remark of its own, and is read as it stands."""
    for path in PROFILES.glob("*.conf"):
        lines = path.read_text(encoding="utf-8").splitlines()
        told = [(above, line) for above, line in itertools.pairwise(lines) if line.startswith("spark.")]
        assert len(told) == len(profile_of(PROFILES, path.stem)) > 0
        assert [line for above, line in told if not above.startswith("# ")] == []
    assert "spark.executor.memory=1g" in profile_of(PROFILES, "small")


SLOTS = ("spark.executor.cores", "spark.task.cpus", "spark.executor.memoryOverhead")


@pytest.mark.parametrize(
    ("words", "slots"),
    [
        (["--gpus", "1", "--profile", "gpu"], ["1", "1", "10g"]),
        (["--gpus", "4", "--profile", "gpu"], ["4", "1", "40g"]),
        (["--gpus", "2", "--profile", "gpu", "--conf", "spark.task.cpus=3"], ["6", "3", "20g"]),
        (["--gpus", "2", "--profile", "gpu", "--conf", "spark.executor.memoryOverhead=12g"], ["2", "1", "12g"]),
        (["--gpus", "2", "--profile", "gpu", "--conf", "spark.executor.cores=8"], ["8", "1", "20g"]),
        (["--gpus", "2", "--profile", "large"], ["4", None, "10g"]),
        (["--gpus", "6", "--profile", "large"], ["6", None, "15g"]),
        (["--gpus", "4", "--profile", "large", "--conf", "spark.task.cpus=2"], ["8", "2", "10g"]),
        (["--gpus", "3"], ["3", None, None]),
        (["--gpus", "1"], [None, None, None]),
        (["--profile", "gpu"], ["1", "1", "10g"]),
    ],
)
def test_an_executor_has_a_task_for_each_of_its_gpus(job: Path, words: list[str], slots: list[str]) -> None:
    """There are cores // task.cpus tasks at a time, by Spark's own count, so at least --gpus, and memory for each."""
    home = ["--home", str(ROOT)]
    settings = dict(text.split("=", 1) for text in settings_in(words_of(job, "--target", "yarn", *home, *words)))
    assert [settings.get(name) for name in SLOTS] == slots
    gpus = int(settings.get("spark.executor.resource.gpu.amount", 0))
    assert int(slots[0] or 1) // int(slots[1] or 1) >= gpus


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["spark.executor.cores=1"], "--gpus 2 is 2 tasks at a time, a GPU each, and so 2 cores"),
        (
            ["spark.executor.cores=4", "spark.task.cpus=3"],
            "so 6 cores by spark.task.cpus, where",
        ),
        (["spark.executor.cores=many"], "spark.executor.cores=many: a whole number above 0, please."),
    ],
)
def test_fewer_cores_than_its_gpus_need_are_refused(job: Path, settings: list[str], reason: str) -> None:
    """The caller's own settings are not changed: what would leave GPUs idle is told."""
    words = [word for setting in settings for word in ("--conf", setting)]
    done = submit(job, "--target", "yarn", "--gpus", "2", *words, "--show", "words")
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert reason in done.stderr


def test_a_record_tells_the_exit_code(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """As the driver itself ends; a record of an earlier try, of whatever ending, tells nothing of this one."""
    write_bad_input(tmp_path)
    held = run_job(write_job(tmp_path, logistic_onnx), "held")
    published = run_job(
        write_job(tmp_path, logistic_onnx, budgets={stage: {"max_rows": 4} for stage in ("contract", "transform")}),
        "published",
    )
    refused = held.model_copy(update={"state": RunState.FAILED, "error": ErrorFacts.of(Refused("no"))})
    assert code_of(None, None) == code_of(held, held) == code_of(published, published) == ExitCode.UNKNOWN
    assert code_of(None, held) == ExitCode.NOT_PUBLISHED
    assert code_of(held, published) == code_of(None, published) == ExitCode.PUBLISHED
    assert code_of(None, refused) == ExitCode.REFUSED


def test_a_gpu_script_tells_addresses_as_spark_reads_them(tmp_path: Path) -> None:
    """JSON with a name and a list of texts; without NVIDIA's tool it fails, and says why."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n", encoding="utf-8")
    tool.chmod(0o755)
    script = ["bash", str(ROOT / "conf" / "spark" / "gpus.sh")]
    done = subprocess.run(script, check=True, capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": ["0", "1"]}
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    done = subprocess.run(
        script, check=False, capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert done.returncode == 1
    assert "nvidia-smi does not run here" in done.stderr
