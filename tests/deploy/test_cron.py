"""The crontab of conf/cron: what it starts is tried again where that helps, under one name, and once at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.deploy.dry_run import DATE, ROOT, RUN

if TYPE_CHECKING:
    from pathlib import Path

# It ends with the first code that is left in the file, and writes down how it was called.
STAND_IN = """#!/usr/bin/env bash
here=$(dirname "$0")
echo "$@" >>"$here/calls"
[[ ! -e $here/wait ]] || read -r _ <"$here/wait"
code=$(head -n 1 "$here/codes") && sed -i 1d "$here/codes"
exit "$code"
"""


class Night(NamedTuple):
    """A copy of the script beside a spark-submit.sh that only writes down its calls."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """As cron starts it."""
        return [str(self.folder / "conf" / "cron" / "nightly.sh"), "job.yaml", "--profile", "cpu"]

    @property
    def environment(self) -> dict[str, str]:
        """Without a pause between tries."""
        return {"PATH": os.environ["PATH"], "PAUSE": "0", "DATE": DATE}

    @property
    def calls(self) -> list[str]:
        """How spark-submit.sh was called."""
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def run(self, *codes: int, **variables: str) -> subprocess.CompletedProcess[str]:
        """To its end, where tries end with these codes."""
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes), encoding="utf-8")
        told = {**self.environment, **variables}
        return subprocess.run(
            self.command, check=False, capture_output=True, text=True, cwd=self.folder, env=told, timeout=60
        )


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A night of its own."""
    script = tmp_path / "conf" / "cron" / "nightly.sh"
    script.parent.mkdir(parents=True)
    shutil.copy2(ROOT / "conf" / "cron" / "nightly.sh", script)
    submit = tmp_path / "spark-submit.sh"
    submit.write_text(STAND_IN, encoding="utf-8")
    submit.chmod(0o755)
    return Night(tmp_path)


@pytest.mark.parametrize(
    ("codes", "code", "tries"),
    [
        ([0], 0, 1),
        ([1, 0], 0, 2),
        ([3, 1, 0], 0, 3),
        ([1, 1, 1, 0], 1, 3),
        ([2, 0], 2, 1),
        ([4, 0], 4, 1),
        ([1, 4], 4, 2),
    ],
)
def test_another_try_follows_where_it_can_help(night: Night, codes: list[int], code: int, tries: int) -> None:
    """After 1 and 3, up to three in all; never after 2 and 4; each is of the same night, and so of the same run."""
    done = night.run(*codes)
    assert (done.returncode, len(night.calls)) == (code, tries), done.stderr
    assert set(night.calls) == {f"job.yaml --profile cpu --logical-date {DATE}"}


def test_a_second_one_leaves_while_the_first_goes_on(night: Night) -> None:
    """At once, with 0 and a word about it, and without a call; when the first has ended, the next one runs."""
    os.mkfifo(night.folder / "wait")
    (night.folder / "codes").write_text("0\n0\n", encoding="utf-8")
    with subprocess.Popen(night.command, cwd=night.folder, env=night.environment) as first:
        # Opening the other end waits until the first one is at work.
        with (night.folder / "wait").open("w", encoding="utf-8") as wait:
            second = subprocess.run(
                night.command, check=False, capture_output=True, text=True, cwd=night.folder, env=night.environment
            )
            assert (second.returncode, len(night.calls)) == (0, 1)
            assert "another run of job.yaml goes on" in second.stderr
            wait.write("\n")
        assert first.wait(timeout=30) == 0
    (night.folder / "wait").unlink()
    assert night.run(0).returncode == 0
    assert len(night.calls) == 2


def test_without_a_date_it_is_todays(night: Night) -> None:
    """In UTC, wherever the host stands."""
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        before = subprocess.run(["date", "-u", "+%F"], check=True, capture_output=True, text=True).stdout.strip()
        assert night.run(0, DATE="", TZ=zone).returncode == 0
        after = subprocess.run(["date", "-u", "+%F"], check=True, capture_output=True, text=True).stdout.strip()
        assert night.calls[-1].split()[-1] in {before, after}


def test_the_line_of_the_crontab_submits_the_night(tmp_path: Path) -> None:
    """Its command, as cron reads it, from its own folder: what would be executed is the run of that date."""
    text = (ROOT / "conf" / "cron" / "crontab").read_text(encoding="utf-8")
    [line] = re.findall(r"^[\d*].*$", text, re.MULTILINE)
    *when, user, command = line.split(maxsplit=6)
    assert all(re.fullmatch(r"\*|\d+", field) for field in when)
    assert (len(when), user) == (5, "batch")
    assert re.search(r"(?<!\\)%", command) is None, "cron would take it for the end of the line"
    command = command.replace("/srv/batchscore", str(ROOT)).replace("--target", "--dry-run --target")
    command = command.replace("log/nightly.log", str(tmp_path / "nightly.log"))
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "JAVA_HOME"}}
    told = {**kept, "DATE": DATE, "LOCK": str(tmp_path / "lock")}
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=told, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    log = (tmp_path / "nightly.log").read_text(encoding="utf-8")
    assert "--master yarn" in log
    assert log.rstrip().endswith(f"nightly.yaml \\\n  --run-id {RUN} \\\n  --logical-date {DATE}")
