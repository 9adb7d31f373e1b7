"""A reader that looks all the time while a run is disturbed: it sees nothing, or each key once with its score."""

from __future__ import annotations

import io
import json
import re
import threading
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.stores.places import Place

__all__ = ["Watch", "differences"]

_PAUSE = 0.1
_MANIFEST = re.compile(r"_batchscore/manifests/(\d+)\.json")
_MARK = re.compile(r"run_id=([^/]+)/_SUCCESS")
TOLERANCE = 1e-6


def differences(found: dict[int, float], wanted: Mapping[int, float]) -> str:
    """In which way scores by id are others; nothing where they are not."""
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or extra:
        return f"{len(missing)} ids are missing and {len(extra)} are nobody's"
    wrong = [key for key in wanted if abs(found[key] - wanted[key]) > TOLERANCE]
    return f"{len(wrong)} scores are others, that of id {wrong[0]} first" if wrong else ""


class Watch:
    """Looks at the newest version and at each folder with its mark, as clients that are not ours see them."""

    def __init__(self, place: Place, wanted: Mapping[str, Mapping[int, float]], folder: str = "out") -> None:
        """`wanted` has scores by id for each run that may be published."""
        self.problems: list[str] = []
        self.looks = 0
        self.blind = 0
        """Looks at a store that did not answer."""
        self._place, self._wanted, self._folder = place, wanted, folder
        self._seen: tuple[list[int], frozenset[str], dict[str, int], frozenset[str]] | None = None
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        assert not self.problems, "\n".join(self.problems)
        assert self.looks > self.blind, "it could never look"

    def _watch(self) -> None:
        while not self._ending.wait(_PAUSE):
            self.looks += 1
            try:
                self.look()
            except FileNotFoundError as error:
                self.problems.append(f"what a version or a finished run has is gone: {error}")
            except AssertionError as error:
                self.problems.append(str(error))
            except Exception:  # noqa: BLE001  each client has errors of its own where a server is down
                self.blind += 1

    def look(self) -> frozenset[str]:
        """The runs of the newest version; fails on a row that neither it nor a finished folder may show.

        The listing is read before all else, so whatever it shows of a commit or of a mark must be there.
        """
        with self._lock:
            return self._look()

    def _look(self) -> frozenset[str]:
        listing = self._place.sizes(self._folder)
        seqs = sorted(int(found[1]) for name in listing if (found := _MANIFEST.fullmatch(name)))
        marked = frozenset(found[1] for name in listing if (found := _MARK.fullmatch(name)))
        shown = {name: size for name, size in listing.items() if name.startswith("run_id=")}
        if self._seen is not None and self._seen[:3] == (seqs, marked, shown):
            return self._seen[3]
        version = self._version(seqs[-1]) if seqs else frozenset[str]()
        for run_id in marked:
            names = [name for name in listing if name.startswith(f"run_id={run_id}/") and _is_shown(name)]
            self._check(f"the folder of {run_id}", run_id, names)
        # Folders are listed one after the other: a commit may have come after the manifests were.
        assert marked <= version or marked <= self._newest(), "a folder is marked and its run is in no version"
        self._seen = (seqs, marked, shown, version)
        return version

    def _newest(self) -> frozenset[str]:
        listing = self._place.sizes(f"{self._folder}/_batchscore/manifests")
        return self._version(max(int(name.partition(".")[0]) for name in listing if name[0].isdigit()))

    def _version(self, seq: int) -> frozenset[str]:
        manifest = json.loads(self._get(f"_batchscore/manifests/{seq:012d}.json"))
        for entry in manifest["runs"]:
            data = self._get(entry["files"].partition(f"/{self._folder}/")[2])
            paths = pa.ipc.open_file(pa.BufferReader(data)).read_all().column("path").to_pylist()
            names = [path.partition(f"/{self._folder}/")[2] for path in paths]
            self._check(f"version {seq}", entry["run_id"], names)
        found = [entry["run_id"] for entry in manifest["runs"]]
        assert len(found) == len(set(found)), f"version {seq} has a run twice: {found}"
        return frozenset(found)

    def _check(self, where: str, run_id: str, names: Iterable[str]) -> None:
        ids, scores = [], []
        for name in names:
            table = pq.read_table(io.BytesIO(self._get(name)), columns=["id", "p"])
            ids += table.column("id").to_pylist()
            scores += table.column("p").to_pylist()
        assert run_id in self._wanted, f"{where} shows run {run_id}, which nobody may publish"
        assert len(ids) == len(set(ids)), f"{where} shows an id of {run_id} twice"
        told = differences(dict(zip(ids, scores, strict=True)), self._wanted[run_id])
        assert not told, f"{where} shows of {run_id} that {told}"

    def _get(self, name: str) -> bytes:
        return self._place.get(f"{self._folder}/{name}")

    def published(self) -> frozenset[str]:
        """The runs of the newest version, read anew."""
        with self._lock:
            self._seen = None
            return self._look()

    def shows_nothing(self) -> bool:
        """Whether no run is published."""
        return not self.published()


def _is_shown(name: str) -> bool:
    """Whether plain readers of tables take it for one."""
    return name.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in name.split("/"))
