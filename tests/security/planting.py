"""Secrets in every place where somebody may put one, and a search through all that a run has written."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

__all__ = ["CONFIGURED", "SECRETS", "Planted", "found_in"]

SECRETS = {
    name: f"{name}/PLANTED+{number:04}=="
    for number, name in enumerate(
        ("accesskey", "sessiontoken", "profilekey", "proxypass", "mlflowpass", "mlflowtoken", "variable", "literal")
    )
}
"""Each has signs that a URL or a shell writes otherwise, as keys of AWS have."""

CONFIGURED = {
    "AWS_ACCESS_KEY_ID": "AKIDPLANTED",
    "AWS_SECRET_ACCESS_KEY": SECRETS["accesskey"],
    "AWS_SESSION_TOKEN": SECRETS["sessiontoken"],
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "HTTP_PROXY": f"http://proxy:{quote(SECRETS['proxypass'], safe='')}@127.0.0.1:9",
    "HTTPS_PROXY": f"http://proxy:{quote(SECRETS['proxypass'], safe='')}@127.0.0.1:9",
    "MLFLOW_TRACKING_URI": f"http://me:{quote(SECRETS['mlflowpass'], safe='')}@127.0.0.1:9",
    "MLFLOW_TRACKING_TOKEN": SECRETS["mlflowtoken"],
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "DB_PASSWORD": SECRETS["variable"],
}
"""Variables of the environment."""


class Planted(NamedTuple):
    """A folder of a test's own, whose user has secrets wherever they are kept."""

    folder: Path

    def start(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as that user; all that it writes is below the folder, and what it says is returned."""
        home, temporary = self.folder / "home", self.folder / "tmp"
        (home / ".aws").mkdir(parents=True, exist_ok=True)
        temporary.mkdir(exist_ok=True)
        keys = f"[other]\naws_access_key_id = AKID\naws_secret_access_key = {SECRETS['profilekey']}\n"
        (home / ".aws" / "credentials").write_text(keys)
        own = {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "SPARK_LOCAL_DIRS": str(temporary / "spark"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={temporary}",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HTTP", "MLFLOW"))}
        return subprocess.run(
            [sys.executable, "-m", "jobs.main", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**kept, **CONFIGURED, **own, **variables},
        )

    def leaks(self, *said: str) -> set[str]:
        """Secrets in what was said, or in any file but those that the user has written."""
        found = {f"{name}: said" for text in said for name in found_in(text.encode())}
        mine = {self.folder / "job.yaml", self.folder / "home" / ".aws" / "credentials"}
        for path in self.folder.rglob("*"):
            names = found_in(str(path).encode())
            if path.is_file() and path not in mine:
                names |= found_in(path.read_bytes())
            found |= {f"{name}: {path.relative_to(self.folder)}" for name in names}
        return found


def found_in(data: bytes) -> set[str]:
    """Names of the secrets that stand in some bytes, as they are, percent-encoded, escaped, or in any base64."""
    return {name for name, secret in SECRETS.items() if any(form in data for form in _forms(secret))}


def _forms(secret: str) -> set[bytes]:
    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.replace("/", "\\/")}
    found = {form.encode() for form in forms} | {secret.encode("utf-16-le")}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Behind other bytes it is written in three ways; what depends on the neighbours is cut off.
            text = encode(b"x" * before + secret.encode())
            found.add(text[4 if before else 0 : -4])
    return found
