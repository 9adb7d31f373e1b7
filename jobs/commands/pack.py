"""`batchscore pack`: a Python with what workers need, for clusters that have none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.deploying.packing import Packing, interpreter_of, name_of
from jobs.deploying.packing import pack as make_archive
from jobs.display.summary import Screen, size_text
from jobs.errors import Refused

__all__ = ["pack"]

_LOCK = Path(__file__).parents[2] / "requirements" / "cluster.txt"


def pack(
    *,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the archive is made.")] = Path("dist"),
    upload: Annotated[
        str | None, typer.Option(metavar="URI", help="A folder of s3://, hdfs:// or gs:// that gets the archive, too.")
    ] = None,
    lock: Annotated[Path, typer.Option(metavar="FILE", help="A requirements lock with hashes.")] = _LOCK,
    python: Annotated[
        Path,
        typer.Option(
            metavar="PYTHON",
            help="The Python 3.11 to pack. Its system libraries are not packed: take one of the distribution that the "
            "cluster runs.",
            show_default="this one",
        ),
    ] = Path(sys.executable),
    name: Annotated[
        bool, typer.Option("--name", help="Print the name that the archive gets, and make nothing.")
    ] = False,
) -> None:
    """Pack a Python and what workers need into an archive that runs wherever a cluster unpacks it.

    Its name says what it holds: with nothing changed it is neither made nor uploaded again. Our own code is not in it;
    spark-submit.sh sends that as a zip.

    Exit codes: 0 it is there, 2 refused.
    """
    if name and upload is not None:
        raise Refused("--name makes nothing that --upload could send: leave one of them out.")
    packing = Packing(lock=lock, python=python, folder=to, upload=upload)
    if name:
        typer.echo(name_of(packing, interpreter_of(python))[0])
        return
    packed = make_archive(packing)
    told = "made" if packed.is_new else "unchanged"
    facts = [("environment", packed.uri), ("size", f"{size_text(packed.bytes)}, {told}"), ("digest", packed.digest)]
    Screen(Console(highlight=False)).facts(facts)
