"""What spark-submit.sh makes of its arguments and of its surroundings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "which config?"),
        (["--debug"], "which config?"),
        (["a.yaml", "b.yaml"], "one config, please: a.yaml or b.yaml"),
        (["a.yaml", "--dryrun"], "unknown option --dryrun"),
        (["a.yaml", "-x"], "unknown option -x"),
        (["a.yaml", "--debug=yes"], "unknown option --debug=yes"),
        (["a.yaml", "--set"], "--set needs a value"),
        (["a.yaml", "--run-id", "--debug"], "--run-id needs a value"),
        (["a.yaml", "--limit", ""], "--limit needs a value"),
        (["a.yaml", "--master=yarn", "--deploy-mode", "clutser"], "--deploy-mode is client or cluster"),
        (["a.yaml", "--deploy-mode", "cluster"], "--target local has no --deploy-mode but client"),
        (["a.yaml", "--gpus=1"], "--target local takes no --gpus 1"),
        (["a.yaml", "--stage", "s3://b"], "--target local takes no --stage s3://b"),
        (
            ["a.yaml", "--target", "local", "--master", "yarn"],
            "--target local has no --master yarn, but local, local[N] or local-cluster[…]",
        ),
        (["a.yaml", "--conf", "nonsense"], "--conf nonsense: KEY=VALUE, please"),
        (
            ["a.yaml", "--conf", "=1", "--conf", "k=", "--gpus", "1", "--region", "r", "--deploy-mode", "cluster"],
            (
                "--target local has no --deploy-mode but client\nspark-submit.sh: --target local takes no --gpus 1\n"
                "spark-submit.sh: --target local takes no --region r\nspark-submit.sh: --conf =1: KEY=VALUE, please"
            ),
        ),
        (["a.yaml", "--target", "yarn", "--gpus", "x"], "--gpus x: a whole number, please"),
        (["a.yaml", "--limit=-1"], "--limit -1: a whole number, please"),
        (
            ["a.yaml", "--logical-date", "2026-13-01", "--dry-run"],
            "--logical-date 2026-13-01: write 2026-11-26, or 2026-11-26T06:00:00+00:00",
        ),
        (["a.yaml", "--target", "mars"], "unknown target mars"),
        (
            ["a.yaml", "--doctor", "--set", "name=b", "--limit", "5"],
            "--doctor scores nothing, so there is no --limit: leave one of them out",
        ),
    ],
)
def test_a_wrong_call_is_refused_before_anything_starts(project, arguments, reason):
    """A call that makes no sense ends with code 2, says why in its last words but one, and starts nothing."""
    done = project.submit(*arguments)
    assert done.returncode == 2
    assert done.stderr == f"spark-submit.sh: {reason}\nSee ./spark-submit.sh --help.\n"
    assert done.stdout == ""
    assert not project.was_started


def test_help_names_every_option(project):
    """`--help` explains every option that the script accepts, and the exit codes."""
    done = project.submit("--help")
    script = (project.root / "spark-submit.sh").read_text(encoding="utf-8")
    accepted = re.findall(r"--[a-z][a-z-]+(?= \||\)|=\?)", script.partition("while (($#)); do")[2].partition("done")[0])
    assert done.returncode == 0
    assert set(accepted) == set(re.findall(r"^  (--[a-z-]+)", done.stdout, re.MULTILINE))
    assert "0 published, 1 failed, 2 refused" in done.stdout


def test_options_of_the_job_reach_the_job(project):
    """Options of the job arrive behind jobs/main.py as they were given, whatever characters they hold."""
    options = ["--set", 'a=it\'s $HOME, "b" *', "--run-id=x", "--limit", "10", "--sample=0.1", "--set=b=c=d", "--debug"]
    assert project.submit(*options[:2], "conf/a job.yaml", *options[2:]).returncode == 0
    expected = ["--set", options[1], "--run-id", "x", "--limit", "10", "--sample", "0.1", "--set", "b=c=d", "--debug"]
    assert project.job == [str(project.root / "jobs" / "main.py"), "run", "conf/a job.yaml", *expected]


def test_a_doctor_knows_the_date_that_the_config_asks_for(project):
    """It reads the same config, whose places may be those of a date."""
    project.submit("a.yaml", "--doctor", "--logical-date", "2026-11-26", "--set", "name=b")
    assert project.job[1:] == ["doctor", "a.yaml", "--cluster", "--logical-date", "2026-11-26", "--set", "name=b"]


def test_yarn_is_asked_only_where_it_is_known(project):
    """Spark would tell that by a trace. A Spark that is set up for its cluster has the folder's name itself."""
    done = project.submit("a.yaml", "--target", "yarn")
    assert (done.returncode, project.was_started) == (2, False)
    told = "yarn needs HADOOP_CONF_DIR, the folder of the cluster's core-site.xml and yarn-site.xml."
    assert done.stderr == f"spark-submit.sh: {told}\n"
    (project.spark / "conf").mkdir()
    (project.spark / "conf" / "spark-env.sh").touch()
    assert told not in project.submit("a.yaml", "--target", "yarn").stderr
    assert told not in project.submit("a.yaml", "--target", "yarn", SPARK_HOME=None, HADOOP_CONF_DIR="/c").stderr


def test_spark_gets_defaults_that_work(project):
    """Without options Spark runs here on all cores, retries a task, has a name and draws no progress bar."""
    project.submit("conf/flights.yaml")
    start = ["--master", "local[*,4]", "--deploy-mode", "client", "--name", "batchscore flights", "--py-files"]
    assert project.arguments[: len(start)] == start
    assert "spark.ui.showConsoleProgress=false" in project.settings


def test_options_of_spark_reach_spark(project):
    """--master, --deploy-mode and --conf go to spark-submit, and the user's settings come last, so they win."""
    project.submit(
        "a.yaml", "--conf", "spark.executorEnv.PYSPARK_PYTHON=./env/bin/python", "--master=local[2]", "--conf=k=v=w"
    )
    assert project.arguments[:4] == ["--master", "local[2]", "--deploy-mode", "client"]
    assert project.settings[-2:] == ["spark.executorEnv.PYSPARK_PYTHON=./env/bin/python", "k=v=w"]
    assert project.job[1:] == ["run", "a.yaml"]


def test_python_is_the_same_and_safe_everywhere(project):
    """The chosen Python and PYTHONSAFEPATH=1 are set here, and for executors."""
    project.submit("a.yaml")
    assert project.seen["PYTHONSAFEPATH"] == "1"
    assert project.seen["PYSPARK_PYTHON"] == project.seen["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert "spark.executorEnv.PYTHONSAFEPATH=1" in project.settings
    assert f"spark.executorEnv.PYSPARK_PYTHON={sys.executable}" in project.settings


def test_the_workers_python_may_be_one_that_is_not_here(project):
    """With PYSPARK_DRIVER_PYTHON set, PYSPARK_PYTHON may name a Python that only the workers have."""
    project.submit("a.yaml", PYSPARK_PYTHON="./env/bin/python", PYSPARK_DRIVER_PYTHON=sys.executable)
    assert "spark.executorEnv.PYSPARK_PYTHON=./env/bin/python" in project.settings
    assert project.seen["PYSPARK_DRIVER_PYTHON"] == sys.executable


def test_a_dry_run_prints_the_command_that_a_run_executes(project):
    """What --dry-run prints, given to bash, calls spark-submit with the arguments and variables of a real run."""
    options = ["a.yaml", "--set", "a=it's $HOME", "--conf", "k=v w", "--master", "local[2]", "--debug"]
    printed = project.submit(*options, "--dry-run")
    assert (printed.returncode, printed.stderr, project.was_started) == (0, "", False)
    bare = {"PATH": project.environment["PATH"], "RECORDED": str(project.folder)}
    subprocess.run(["bash", "-c", printed.stdout], env=bare, check=True, capture_output=True)
    by_hand, seen = project.arguments, project.seen
    project.submit(*options)
    assert by_hand == project.arguments
    for variable in ("PYTHONSAFEPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME", "SPARK_SUBMIT_OPTS"):
        assert seen[variable] == project.seen[variable]


def test_a_dry_run_prints_one_option_a_line(project):
    """Each line of --dry-run after the variables holds one option with its value."""
    lines = project.submit("a.yaml", "--set", "a=b c", "--dry-run").stdout.splitlines()
    assert "  --master 'local[*,4]' \\" in lines
    assert "  --conf spark.executorEnv.PYTHONSAFEPATH=1 \\" in lines
    assert lines[-1] == "  --set 'a=b c'"


def test_debug_lets_sparks_warnings_through(project):
    """Spark's log level is error, and with --debug warn; options that the user gave to the JVM stay."""
    project.submit("a.yaml", SPARK_SUBMIT_OPTS="-Dmine=1")
    quiet = f'"-Dlog4j2.configurationFile={project.root}/conf/spark/log4j2.properties" -Dbatchscore.spark.log='
    assert project.seen["SPARK_SUBMIT_OPTS"] == f"{quiet}error -Dbatchscore.spark.executor.log=off -Dmine=1"
    project.submit("a.yaml", "--debug")
    assert project.seen["SPARK_SUBMIT_OPTS"] == f"{quiet}warn -Dbatchscore.spark.executor.log=warn"


def test_one_line_of_java_is_left_out(project):
    """The JVM's line on incubator modules is dropped, and everything else that it says arrives."""
    assert project.submit("a.yaml").stderr == "something else that Java says\n"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_the_exit_code_of_spark_is_returned(project, code):
    """The exit code of spark-submit, which is that of the driver, is returned unchanged."""
    assert project.submit("a.yaml", EXIT_CODE=str(code)).returncode == code


@pytest.mark.parametrize("code", [137, 143])
def test_a_jvm_that_ended_by_a_signal_has_no_code_of_its_driver(project, code):
    """Nobody sent it by this script, so how the run ended is not known."""
    done = project.submit("a.yaml", EXIT_CODE=str(code))
    assert done.returncode == 3
    assert f"Spark was killed by signal {code - 128}. Run the same id again" in done.stderr


def test_python_is_looked_for_beside_the_script_then_on_the_path(project, program):
    """Without PYSPARK_PYTHON it is the project's .venv, and without that the python3.11 on PATH."""
    log = project.folder / "log"
    tell = f"#!/usr/bin/env bash\necho \"$0\" >>'{log}'\nexec '{sys.executable}' \"$@\"\n"
    on_path = program("python3.11", tell)
    path = f"{on_path.parent}:{project.environment['PATH']}"
    assert project.submit("a.yaml", PYSPARK_PYTHON=None, PATH=path).returncode == 0
    assert project.seen["PYSPARK_PYTHON"] == str(on_path)
    beside = project.root / ".venv" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    shutil.copy2(on_path, beside)
    assert project.submit("a.yaml", PYSPARK_PYTHON=None, PATH=path).returncode == 0
    assert project.seen["PYSPARK_PYTHON"] == str(beside)
    assert log.read_text(encoding="utf-8").split("\n")[:2] == [str(on_path), str(beside)]


def only(folder, *names):
    """Return a PATH with these programs alone."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(Path(shutil.which(name) or name).resolve())
    return str(folder)


def test_no_python_is_an_error_that_says_what_to_do(project):
    """Without any Python the script ends with code 2 and names `make env` and PYSPARK_PYTHON."""
    done = project.submit("a.yaml", PYSPARK_PYTHON=None, PATH=only(project.folder / "bare", "bash", "env", "dirname"))
    assert done.returncode == 2
    assert done.stderr == "spark-submit.sh: no python3.11. Run `make env`, or set PYSPARK_PYTHON.\n"


@pytest.mark.parametrize("python", ["/nowhere/python", "false"])
def test_a_python_that_does_not_run_is_refused(project, python):
    """A PYSPARK_PYTHON that does not run ends with code 2 and is named."""
    done = project.submit("a.yaml", PYSPARK_PYTHON=python)
    assert done.returncode == 2
    assert done.stderr.endswith(f"spark-submit.sh: {python} could not pack the code.\n")


def test_spark_is_sparks_home_then_pysparks_own_then_on_the_path(project, program):
    """SPARK_HOME comes first; without it the chosen Python's pyspark; without that the spark-submit on PATH."""
    own = project.submit("a.yaml", "--dry-run", SPARK_HOME=None).stdout
    assert f"{sys.prefix}/lib/python3.11/site-packages/pyspark/bin/spark-submit \\\n" in own
    # A Python without site-packages has no pyspark.
    python = program("python", f"#!/usr/bin/env bash\nexec '{sys.executable}' -S \"$@\"\n")
    path = f"{project.spark}/bin:{project.environment['PATH']}"
    bare = project.submit("a.yaml", "--dry-run", SPARK_HOME=None, PYSPARK_PYTHON=str(python), PATH=path).stdout
    assert f"{project.spark}/bin/spark-submit \\\n" in bare
    assert "SPARK_HOME=" not in bare
    nowhere = project.submit("a.yaml", "--dry-run", SPARK_HOME=None, PYSPARK_PYTHON=str(python))
    assert nowhere.returncode == 2
    assert nowhere.stderr == "spark-submit.sh: no Spark. Run `make env`, or set SPARK_HOME.\n"


def test_a_wrong_sparks_home_is_refused(project):
    """A SPARK_HOME without Spark in it ends with code 2 and is not passed over in silence."""
    done = project.submit("a.yaml", SPARK_HOME="/nowhere")
    assert (done.returncode, done.stderr) == (
        2,
        "spark-submit.sh: SPARK_HOME is /nowhere, which has no bin/spark-submit.\n",
    )


def test_without_java_nothing_starts(project):
    """Without a Java that Spark can use the script ends with code 2 and says what was found."""
    done = project.submit("a.yaml", JAVA_HOME="/nowhere")
    assert done.returncode == 2
    assert "JAVA_HOME is /nowhere, which has no bin/java" in done.stderr
    assert not project.was_started
