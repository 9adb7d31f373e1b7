"""A digest of the batchscore code that this process runs, so that a worker can prove that it is the driver's.

A local worker has the working folder first on its path, and a stray `scoring/` there would silently be imported
instead of the shipped archive.
"""

from __future__ import annotations

import importlib.resources

from etl.code import digest_of_packages
from scoring.errors import CodeSkew

__all__ = ["CODE", "check_code", "code_digest"]

CODE = ("etl", "scoring")
"""The packages that a worker needs."""
_PACKAGES = ("etl", "jobs", "scoring")


def code_digest(*packages: str) -> str:
    """Digest of all our packages, or of those named; see `etl.code`."""
    return digest_of_packages(*(packages or _PACKAGES))


def check_code(expected: str, *packages: str) -> None:
    """Refuse to work for a driver that runs other code, in all our packages or in those named.

    Raises:
        CodeSkew: naming both digests and where this process found its code.
    """
    if (mine := code_digest(*packages)) != expected:
        place = importlib.resources.files("scoring")
        message = (
            f"This worker runs batchscore {mine} from {place}, the driver runs {expected}. "
            "Ship the code with spark-submit.sh, and keep folders called etl, scoring or jobs out of the way."
        )
        raise CodeSkew(message)
