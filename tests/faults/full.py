"""A disk that is full, under one folder, for the processes of one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["batchscore_with_full", "worker_folders"]

_MOUNTED = """
mount -t tmpfs -o size=64k,mode=0700 tmpfs "$FULL" || exit 77
head -c 1000000 /dev/zero > "$FULL/filler" 2> /dev/null
"$@"
code=$?
echo FREE $(df --output=avail "$FULL" | tail -n 1)
exit $code
"""


def batchscore_with_full(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of batchscore while the disk at `folder`, which is empty, has no byte left."""
    inside = ["unshare", "--map-root-user", "--user", "--mount", "sh", "-c", _MOUNTED, "sh"]
    return subprocess.run(
        [*inside, sys.executable, "-m", "jobs.main", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FULL": str(folder), "PYSPARK_PYTHON": sys.executable},
    )


def worker_folders(folder: Path) -> dict[str, dict[str, str]]:
    """The config's section `spark`, whose workers keep what they keep in a folder."""
    names = ("TMPDIR", "BATCHSCORE_CACHE", "HOME", "XDG_CACHE_HOME")
    return {"conf": {f"spark.executorEnv.{name}": str(folder) for name in names}}
