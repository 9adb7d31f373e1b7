"""Seals of collected records, so that it shows where one is changed, removed or added later.

    <metrics.uri>/<job>/seals/<run id>.<when>.json

A seal holds the SHA-256 of a record and of its table of tasks, and of the newest seals that were there before: a chain,
in which several may follow one where runs ended at the same time. It is created once, behind the record.

What it cannot show: that the newest endings were removed with their seals, unless one of these is known from elsewhere;
an ending that somebody adds with a seal of its own; a chain that somebody makes anew from some ending on, or from the
first. A key in BATCHSCORE_SEAL_KEY takes the last two from whoever can write here and does not have it. Records from
before the first seal are not sealed: it only says which there were.
"""

from __future__ import annotations

import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from etl.documents import Document, Strict, sha256_hex
from etl.errors import DocumentError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.runs.storage import Storage

__all__ = ["KEY", "Finding", "Seal", "Sealed", "check_seals", "seal_ending"]

KEY = "BATCHSCORE_SEAL_KEY"
"""The variable that holds the key by which seals are signed, if they are."""

_FOLLOWED = 8
"""Seals that one follows: so many runs may end at the same time and all be followed."""
_THREADS = 16
_JSON, _PARQUET = ".json", ".parquet"


class Followed(Strict):
    """A seal that was there before."""

    ending: str
    sha256: str = Field(description="Of its bytes.")


class Seal(Document):
    """What was collected of an ending of a run."""

    format: Literal["batchscore.seal/1"] = "batchscore.seal/1"
    job: str
    ending: str = Field(description="`<run id>.<when>`, as its files are named.")
    record_sha256: str
    tasks_sha256: str | None = Field(default=None, description="Of the table of tasks; None where there is none.")
    follows: tuple[Followed, ...] = Field(default=(), description="The newest seals that were there, the newest first.")
    unsealed: tuple[str, ...] = Field(
        default=(), description="Of a seal that follows none: endings whose records were there, without seals."
    )
    mac: str | None = Field(default=None, description="HMAC-SHA256 by the key of the environment, over the rest.")

    def signed(self, key: bytes) -> Seal:
        """The same with its signature."""
        rest = self.model_copy(update={"mac": None}).to_bytes()
        return self.model_copy(update={"mac": hmac.digest(key, rest, "sha256").hex()})

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the signature is that of the key."""
        return self.mac is not None and hmac.compare_digest(self.mac, self.signed(key).mac or "")


class Finding(NamedTuple):
    """Something that is not as it was sealed."""

    ending: str
    what: Literal["changed", "missing", "added", "unsigned", "unreadable"]
    told: str
    """A sentence on it."""


class Sealed(NamedTuple):
    """What the seals of a job say."""

    findings: tuple[Finding, ...]
    unsealed: frozenset[str]
    """Endings of before the first seal, or of a job without seals."""
    digests: dict[str, str]
    """SHA-256 of each seal, by its ending, the oldest first."""


def seal_ending(storage: Storage, folder: str, seal: Seal) -> str:
    """Create the seal of an ending whose files are there; its SHA-256. `folder` is the job's."""
    others = _endings(storage, f"{folder}/seals", _JSON)
    newest = sorted(others, key=_when, reverse=True)[:_FOLLOWED]
    data = _read(storage, [f"{folder}/seals/{ending}{_JSON}" for ending in newest])
    # One that cannot be read is not followed: a digest of nothing would accuse it once it is mended.
    follows = tuple(
        Followed(ending=one, sha256=sha256_hex(found or b""))
        for one, found in zip(newest, data, strict=True)
        if not isinstance(found, Exception)
    )
    facts: dict[str, object] = {"follows": follows}
    if not newest:
        facts["unsealed"] = tuple(sorted(_endings(storage, f"{folder}/records", _JSON) - {seal.ending}))
    seal = seal.model_copy(update=facts)
    key = _key()
    made = (seal.signed(key) if key is not None else seal).to_bytes()
    storage.create_if_absent(f"{folder}/seals/{seal.ending}{_JSON}", made)
    return sha256_hex(made)


def check_seals(storage: Storage, folder: str) -> Sealed:
    """Hold everything that is collected of a job against its seals. Reads all of it."""
    endings = sorted(_endings(storage, f"{folder}/seals", _JSON), key=_when)
    data = _read(storage, [f"{folder}/seals/{ending}{_JSON}" for ending in endings])
    digests: dict[str, str] = {}
    findings: list[Finding] = []
    seals: dict[str, Seal] = {}
    for ending, found in zip(endings, data, strict=True):
        if isinstance(found, Exception):
            findings.append(Finding(ending, "unreadable", f"its seal cannot be read: {found}"))
            continue
        digests[ending] = sha256_hex(found or b"")
        try:
            seals[ending] = Seal.from_bytes(found or b"", where=f"{folder}/seals/{ending}{_JSON}")
        except DocumentError as error:
            findings.append(Finding(ending, "changed", f"its seal cannot be read: {error}"))
    unreadable = {finding.ending for finding in findings} - digests.keys()
    findings += _chain(seals, digests, unreadable)
    findings += _signatures(seals)
    findings += _contents(storage, folder, seals)
    sealed = digests.keys() | unreadable
    named = {name for seal in seals.values() for name in seal.unsealed} - sealed
    records, tasks = _endings(storage, f"{folder}/records", _JSON), _endings(storage, f"{folder}/tasks", _PARQUET)
    findings += [Finding(one, "missing", "its record, which is older than seals, is gone") for one in named - records]
    free = records - sealed
    added = free - named if sealed else set()
    told = "its record has no seal: it was added, or who wrote it died before the seal"
    findings += [Finding(one, "added", told) for one in added]
    alone = tasks - records - sealed - named
    findings += [Finding(one, "added", "its table of tasks has no record") for one in alone]
    return Sealed(tuple(sorted(findings, key=lambda one: _when(one.ending))), frozenset(free - added), digests)


def _chain(seals: dict[str, Seal], digests: dict[str, str], unreadable: set[str]) -> Iterator[Finding]:
    """Seals that others follow, and that are gone or others now; of the unreadable ones that is told already."""
    told = set(unreadable)
    for seal in seals.values():
        for one in seal.follows:
            if digests.get(one.ending) == one.sha256 or one.ending in told:
                continue
            told.add(one.ending)
            if one.ending in digests:
                yield Finding(one.ending, "changed", f"its seal is not the one that the seal of {seal.ending} follows")
            else:
                yield Finding(one.ending, "missing", f"its seal, which the seal of {seal.ending} follows, is gone")


def _signatures(seals: dict[str, Seal]) -> Iterator[Finding]:
    """Where the key is known: seals of another one, and from the first that is signed on, seals without.

    The newest one has to be signed, or a chain that was made anew from the first, by who has no key, would pass.
    """
    key = _key()
    newest = max(seals, key=_when, default=None)
    signed = [_when(seal.ending) for seal in seals.values() if seal.mac is not None]
    for ending, seal in seals.items() if key is not None else ():
        if seal.mac is None and signed and _when(ending) > min(signed):
            yield Finding(ending, "unsigned", "its seal is not signed, and an older one is")
        elif seal.mac is None and ending == newest:
            yield Finding(ending, "unsigned", f"its seal is the newest one, and none is signed; {KEY} is set here")
        elif seal.mac is not None and key is not None and not seal.is_signed_by(key):
            yield Finding(ending, "changed", f"its seal is not signed by the key in {KEY}")


def _contents(storage: Storage, folder: str, seals: dict[str, Seal]) -> Iterator[Finding]:
    """Records and tables that are not what was sealed under their names."""
    for kind, ending_of, told in (("records", _JSON, "record"), ("tasks", _PARQUET, "table of tasks")):
        found = _read(storage, [f"{folder}/{kind}/{ending}{ending_of}" for ending in seals])
        for (ending, seal), data in zip(seals.items(), found, strict=True):
            sealed = seal.record_sha256 if kind == "records" else seal.tasks_sha256
            if seal.ending != ending:
                if kind == "records":
                    yield Finding(ending, "changed", f"its seal is that of {seal.ending}")
            elif isinstance(data, Exception):
                yield Finding(ending, "unreadable", f"its {told} cannot be read: {data}")
            elif data is None and sealed is not None:
                yield Finding(ending, "missing", f"its {told} is gone")
            elif data is not None and sealed is None:
                yield Finding(ending, "added", f"its {told} was not there when it was sealed")
            elif data is not None and sha256_hex(data) != sealed:
                yield Finding(ending, "changed", f"its {told} is not what was sealed")


def _read(storage: Storage, paths: list[str]) -> list[bytes | StorageError | OSError | None]:
    """What lies there, None where nothing does, or why it cannot be read: a folder in the place of one, say."""

    def one(path: str) -> bytes | StorageError | OSError | None:
        try:
            return storage.read_bytes(path)
        except (StorageError, OSError) as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(one, paths))


def _endings(storage: Storage, folder: str, suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in storage.names(folder) if name.endswith(suffix)}


def _when(ending: str) -> tuple[str, str]:
    """Orders endings by their time; the name breaks ties."""
    return ending.rpartition(".")[2], ending


def _key() -> bytes | None:
    return os.environ[KEY].encode() if os.environ.get(KEY) else None
