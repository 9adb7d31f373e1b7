"""What spark-submit.sh would execute, as words; the standard library is enough to read it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATE = "2026-11-26"
RUN = f"nightly-{DATE}"
STAGE = "s3://BUCKET/batchscore"
ENVIRONMENT = f"{STAGE}/environment-DIGEST.tar.gz"


def printed(*words: str) -> subprocess.CompletedProcess[str]:
    """What `spark-submit.sh … --dry-run` prints where nothing of the environment tells it about Python or Spark."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "JAVA_HOME", "TZ"}}
    command = [str(ROOT / "spark-submit.sh"), *words, "--dry-run"]
    return subprocess.run(command, cwd=ROOT, env=kept, check=False, capture_output=True, text=True, timeout=100)


def words_of(*words: str) -> list[str]:
    """The words of the command, without remarks and variables; a scheduler's own form of what is this machine's and
    this moment's.

    The digest of the code is `DIGEST`, and what the run would bring along lies in the folder `release`.
    """  # noqa: D205  one sentence
    done = printed(*words)
    if done.returncode:
        raise AssertionError(done.stderr)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("# ")]
    text = re.sub(r"code-[0-9a-f]{64}\.zip", "code-DIGEST.zip", "\n".join(lines).replace("\\\n", " "))
    found = shlex.split(re.sub(rf"(batchscore)/{RUN}/", r"\1/release/", text))
    return list(itertools.dropwhile(re.compile(r"[A-Z_]+=").match, found))


def after(words: list[str], option: str) -> str:
    """The value of an option."""
    return words[words.index(option) + 1]


def settings_in(words: list[str]) -> dict[str, str]:
    """All of --conf."""
    return dict(value.split("=", 1) for option, value in itertools.pairwise(words) if option == "--conf")
