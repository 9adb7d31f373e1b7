"""Fork 8 processes that create one file, each with its own bytes, all at once; prints who won. Not a test.

The forks are made before anything is done with the store, so each has clients of its own, and share one import.
"""

from __future__ import annotations

import os
import sys

from pydantic import TypeAdapter

import etl.runs.local  # noqa: F401  imported before the forks, not in each
from etl.runs.storage import storage_for
from etl.runs.store_settings import StoreSettings, configure

RACERS = 8


def payload(number: int) -> bytes:
    """What a racer writes."""
    return str(number).encode() * 100_000


def main() -> None:
    """`racer.py URI SETTINGS`: each racer waits for the closing of a pipe."""
    configure(TypeAdapter(tuple[StoreSettings, ...]).validate_json(sys.argv[2]))
    waiting, starting = os.pipe()
    children = []
    for number in range(RACERS):
        child = os.fork()
        if child == 0:
            os.close(starting)
            storage, path = storage_for(sys.argv[1])
            os.read(waiting, 1)
            os._exit(0 if storage.create_if_absent(path, payload(number)) else 1)
        children.append(child)
    os.close(starting)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.stdout.write(" ".join(str(code) for code in codes))


if __name__ == "__main__":
    main()
