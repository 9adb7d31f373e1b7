"""Versions: what each mode makes of the one before, who is told to stand back, rollback, and what nobody needs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etl.errors import PublishError, Superseded
from etl.runs.commit import Terms
from etl.runs.layout import Layout
from etl.runs.manifest import Manifest, all_manifests, latest_manifest, published_files, version_of
from etl.runs.publish import publish
from etl.runs.receipt import Written
from etl.runs.retention import Unneeded, holdings, keep, rollback, unneeded_files
from tests.spine.builders import STORE, receipt_of
from tests.spine.faults import Died
from tests.stores.test_contract import race

if TYPE_CHECKING:
    from typing import IO

    from etl.runs.manifest import Mode
    from etl.runs.receipt import Receipt

SCHEMA = pa.schema([("day", pa.int64()), ("id", pa.int64())])
PLAIN = pa.schema([("id", pa.int64())])
NUMBERS = count()


def run_of(
    root: Path | str, name: str, days: dict[int, list[int]], *, is_hidden: bool = True, attempt: str = "abcdef"
) -> list[Receipt]:
    """Receipts of a run with pending files: ids by day, each day in its folder; day -1 is no folder at all."""
    from etl.runs.splits import InputFile, cut_splits

    layout = Layout(str(root), name, is_hidden=is_hidden)
    split = cut_splits((InputFile(path="/in/part.parquet", bytes=1000, etag="etag"),), 1000)[0]
    files = []
    for number, (day, ids) in enumerate(days.items()):
        partition = f"day={day}" if day >= 0 else ""
        writer = STORE.begin(layout.part(split.name, attempt, partition=partition, number=number))
        pq.write_table(pa.table({"id": ids}, PLAIN), cast("IO[bytes]", writer))
        files.append(Written(pending=writer.finish(), rows=len(ids), partition=partition))
    rows = [number for ids in days.values() for number in ids]
    return [receipt_of(split, scored=rows).model_copy(update={"predictions": tuple(files), "attempt": attempt})]


def put(root: Path | str, name: str, receipts: list[Receipt], terms: Terms, *, is_hidden: bool = True) -> Manifest:
    """Publish them."""
    schema = SCHEMA if terms.partition_by else PLAIN
    layout = Layout(str(root), name, is_hidden=is_hidden)
    return publish(STORE, layout, receipts, schema=schema, terms=terms, on_step=lambda _: None)


def terms_of(root: Path | str, mode: Mode, **more: object) -> Terms:
    """As a run that is planned now gets them."""
    latest = latest_manifest(STORE, str(root))
    by = {"partition_by": ("day",)} if mode == "overwrite_partitions" else {}
    return Terms.model_validate({"mode": mode, "base": latest.seq if latest else 0, **by, **more})


def ids_of(manifest: Manifest) -> dict[str, list[int]]:
    """The ids of a version by folder, read with pyarrow from the files that it names."""
    found: dict[str, list[int]] = {}
    for run in manifest.runs:
        rows = size = 0
        for file in published_files(STORE, run).to_pylist():
            ids = pq.read_table(file["path"], partitioning=None).column("id").to_pylist()
            found.setdefault(file["partition"], []).extend(ids)
            rows += len(ids)
            size += Path(file["path"]).stat().st_size
        assert (run.rows, run.bytes) == (rows, size)
    return found


def test_overwrite_holds_the_last_run_alone(tmp_path: Path) -> None:
    """Each version has the newest run only, older ones still have theirs, and a listing of the root finds neither."""
    for number in range(3):
        name = f"run-{number}"
        put(tmp_path, name, run_of(tmp_path, name, {-1: [number, number + 10]}), terms_of(tmp_path, "overwrite"))
    found = all_manifests(STORE, str(tmp_path))
    assert [ids_of(manifest) for manifest in found] == [{"": [0, 10]}, {"": [1, 11]}, {"": [2, 12]}]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("_")] == []


def test_only_the_folders_of_a_run_are_replaced(tmp_path: Path) -> None:
    """Of three runs over days the newest one's rows of each day are there, and a run without any left is gone."""
    for name, days in (("a", {1: [1], 2: [2], 3: [3]}), ("b", {2: [20], 4: [40]}), ("c", {1: [100], 3: [300]})):
        put(tmp_path, name, run_of(tmp_path, name, days), terms_of(tmp_path, "overwrite_partitions"))
    latest = latest_manifest(STORE, str(tmp_path))
    assert latest is not None
    assert ids_of(latest) == {"day=1": [100], "day=2": [20], "day=3": [300], "day=4": [40]}
    assert [run.run_id for run in latest.runs] == ["b", "c"]


@pytest.mark.parametrize("mode", ["overwrite", "overwrite_partitions"])
def test_an_older_run_does_not_replace_a_newer_one(tmp_path: Path, mode: Mode) -> None:
    """A run that was planned before another one was published in its place is superseded, and says by whom."""
    terms = terms_of(tmp_path, mode)
    days = {1: [5], 2: [6]} if mode == "overwrite_partitions" else {-1: [5]}
    late, quick = (run_of(tmp_path, name, days) for name in ("late", "quick"))
    put(tmp_path, "quick", quick, terms)
    with pytest.raises(Superseded, match=rf"version 1 was committed by quick \({mode}\) after this run was planned"):
        put(tmp_path, "late", late, terms)
    assert [manifest.committed_by for manifest in all_manifests(STORE, str(tmp_path))] == ["quick"]


def test_runs_of_other_partitions_do_not_meet(tmp_path: Path) -> None:
    """Two runs that were planned at once and have no folder in common are both published."""
    terms = terms_of(tmp_path, "overwrite_partitions")
    for name, day in (("one", 1), ("two", 2)):
        put(tmp_path, name, run_of(tmp_path, name, {day: [day]}), terms)
    latest = latest_manifest(STORE, str(tmp_path))
    assert latest is not None
    assert ids_of(latest) == {"day=1": [1], "day=2": [2]}


@pytest.mark.matrix("Sixteen runs that were planned at once commit: {mode}", "one is published; fifteen are superseded")
@pytest.mark.parametrize("mode", ["overwrite", "overwrite_partitions"])
def test_of_racing_runs_one_replaces_what_was_there(tmp_path: Path, mode: Mode) -> None:
    """Of 16 runs that were planned at once and replace the same, one lands, and the others are superseded."""
    terms = terms_of(tmp_path, mode)
    names = [f"run-{number:02d}" for number in range(16)]
    day = 3 if mode == "overwrite_partitions" else -1
    runs = {name: run_of(tmp_path, name, {day: [number]}) for number, name in enumerate(names)}

    def outcome(name: str) -> str:
        try:
            put(tmp_path, name, runs[name], terms)
        except Superseded:
            return "superseded"
        return name

    [manifest] = [manifest for found in [race(names, outcome)] for manifest in all_manifests(STORE, str(tmp_path))]
    assert manifest.committed_by in names
    assert list(ids_of(manifest).values()) == [[names.index(manifest.committed_by)]]


def test_a_run_that_was_replaced_is_published_no_more(tmp_path: Path) -> None:
    """A run that was published and then overwritten, or rolled back, stays so when it is published again."""
    receipts = run_of(tmp_path, "one", {-1: [1]})
    first = put(tmp_path, "one", receipts, terms_of(tmp_path, "overwrite"))
    put(tmp_path, "two", run_of(tmp_path, "two", {-1: [2]}), terms_of(tmp_path, "overwrite"))
    assert put(tmp_path, "one", receipts, Terms(mode="overwrite")) == first
    rollback(STORE, str(tmp_path), to=1, who="me@here", reason="two was wrong")
    two = Layout(str(tmp_path), "two", is_hidden=True)
    version = version_of(STORE, two)
    assert version is not None
    assert version.seq == 2
    latest = latest_manifest(STORE, str(tmp_path))
    assert latest is not None
    assert (latest.seq, ids_of(latest), latest.restores, latest.reason) == (3, {"": [1]}, 1, "two was wrong")


def test_other_columns_are_refused_or_begin_anew(tmp_path: Path) -> None:
    """A run with other columns, or other folders, is refused by default; with `new_version` the next one is its own."""
    put(tmp_path, "one", run_of(tmp_path, "one", {-1: [1]}, is_hidden=False), Terms(), is_hidden=False)
    receipts = run_of(tmp_path, "two", {7: [2]}, is_hidden=False)
    message = r"has columns \(id int64\); this one has \(day int64, id int64\) in folders by day.*on_schema_change"
    with pytest.raises(Superseded, match=message):
        put(tmp_path, "two", receipts, Terms(partition_by=("day",)), is_hidden=False)
    unseen = Terms(partition_by=("day",), on_schema_change="new_version")
    with pytest.raises(Superseded, match=r"committed by one \(append\) after this run was planned over version 0"):
        put(tmp_path, "zero", run_of(tmp_path, "zero", {7: [1]}, is_hidden=False), unseen, is_hidden=False)
    receipts = run_of(tmp_path, "two", {7: [2]}, is_hidden=False, attempt="fedcba")
    terms = unseen.model_copy(update={"base": 1})
    assert ids_of(put(tmp_path, "two", receipts, terms, is_hidden=False)) == {"day=7": [2]}
    third = run_of(tmp_path, "three", {8: [3]}, is_hidden=False)
    assert ids_of(put(tmp_path, "three", third, terms, is_hidden=False)) == {"day=7": [2], "day=8": [3]}


def test_who_came_too_late_stays_so(tmp_path: Path) -> None:
    """A run that would have dropped others once is superseded for good, also when its own columns are back."""
    late = run_of(tmp_path, "late", {7: [1]}, is_hidden=False)
    terms = Terms(partition_by=("day",), on_schema_change="new_version")
    put(tmp_path, "other", run_of(tmp_path, "other", {-1: [2]}, is_hidden=False), Terms(), is_hidden=False)
    again = run_of(tmp_path, "again", {8: [3]}, is_hidden=False)
    put(tmp_path, "again", again, terms.model_copy(update={"base": 1}), is_hidden=False)
    with pytest.raises(Superseded, match=r"version 1 was committed by other \(append\) after this run was planned"):
        put(tmp_path, "late", late, terms, is_hidden=False)


def test_a_run_of_other_folders_is_not_dropped_with_its_columns(tmp_path: Path) -> None:
    """A run that begins a version of its own is superseded by one that came meanwhile, though they share no folder."""
    put(tmp_path, "base", run_of(tmp_path, "base", {-1: [1]}), terms_of(tmp_path, "overwrite"))
    late = run_of(tmp_path, "late", {1: [10]})
    terms = terms_of(tmp_path, "overwrite_partitions", on_schema_change="new_version")
    put(tmp_path, "other", run_of(tmp_path, "other", {-1: [2]}), terms_of(tmp_path, "append"))
    with pytest.raises(Superseded, match=r"version 2 was committed by other .* would replace everything"):
        put(tmp_path, "late", late, terms)
    latest = latest_manifest(STORE, str(tmp_path))
    assert latest is not None
    assert sorted(latest.run_ids) == ["base", "other"]


def test_a_run_that_a_kept_version_holds_is_marked(tmp_path: Path) -> None:
    """A run that died before its folder was marked gets its mark from the same id, as long as a version that is kept
    holds all of it, also where the version that published it is kept no more.
    """  # noqa: D205  one sentence
    receipts, layout = run_of(tmp_path, "one", {-1: [1]}, is_hidden=False), Layout(str(tmp_path), "one")

    def die(step: str) -> None:
        if step == "mark":
            raise Died

    with pytest.raises(Died):
        publish(STORE, layout, receipts, schema=PLAIN, terms=Terms(), on_step=die)
    two = run_of(tmp_path, "two", {-1: [2]}, is_hidden=False)
    put(tmp_path, "two", two, terms_of(tmp_path, "append", keep_versions=1), is_hidden=False)
    assert put(tmp_path, "one", receipts, Terms(), is_hidden=False).seq == 1
    assert Path(layout.success).exists()


def test_visible_and_hidden_runs_are_not_mixed(tmp_path: Path) -> None:
    """A root of runs that readers list takes none that they would not find, and the other way round."""
    put(tmp_path / "a", "one", run_of(tmp_path / "a", "one", {-1: [1]}, is_hidden=False), Terms(), is_hidden=False)
    with pytest.raises(Superseded, match=r"lie visibly and with output\.mode overwrite this one would not"):
        put(tmp_path / "a", "two", run_of(tmp_path / "a", "two", {-1: [2]}), terms_of(tmp_path / "a", "overwrite"))
    put(tmp_path / "b", "one", run_of(tmp_path / "b", "one", {-1: [1]}), Terms(mode="overwrite"))
    receipts = run_of(tmp_path / "b", "two", {-1: [2]}, is_hidden=False)
    with pytest.raises(Superseded, match="would take a part for all"):
        put(tmp_path / "b", "two", receipts, Terms(), is_hidden=False)


def test_a_rollback_that_somebody_was_quicker_than_is_refused(tmp_path: Path) -> None:
    """Nothing is rolled back that whoever asked has not seen; versions that are not there, or not kept, are refused."""
    for name in ("one", "two"):
        put(tmp_path, name, run_of(tmp_path, name, {-1: [1]}), terms_of(tmp_path, "overwrite"))
    for to in (0, 2, 3):
        with pytest.raises(PublishError, match="is none of those to go back to, 1 to 1"):
            rollback(STORE, str(tmp_path), to=to, who="me", reason="x")

    class Late:
        """A store in which another run lands between the look and the commit."""

        def __getattr__(self, name):
            return getattr(STORE, name)

        def create_if_absent(self, path, data):
            """See `etl.runs.storage.Storage.create_if_absent`."""
            put(tmp_path, "three", run_of(tmp_path, "three", {-1: [3]}), terms_of(tmp_path, "overwrite"))
            return STORE.create_if_absent(path, data)

    with pytest.raises(Superseded, match=r"three committed version 3 \(overwrite\) meanwhile"):
        rollback(Late(), str(tmp_path), to=1, who="me", reason="x")
    assert keep(STORE, str(tmp_path), versions=1, who="me") is not None
    with pytest.raises(PublishError, match="is none of those to go back to, 3 to 3"):
        rollback(STORE, str(tmp_path), to=1, who="me", reason="x")


def unneeded(root: str, versions: int | None = None) -> list[Unneeded]:
    """What no kept version needs."""
    return unneeded_files(STORE, root, holdings(STORE, root, versions=versions))


class Root(RuleBasedStateMachine):
    """An output root under all that changes it, beside a model of it in plain dicts."""

    @initialize()
    def begin(self) -> None:
        """Nothing is published."""
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        self.versions: list[dict[str, list[int]]] = []
        self.data: list[int] = []
        """Numbers of the versions that something other than `gc` made."""
        self.kept_from = 1

    def teardown(self) -> None:
        """Nothing stays."""
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _committed(self, version: dict[str, list[int]]) -> None:
        self.versions.append(version)
        self.data.append(len(self.versions))

    @rule(days=st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, 99), min_size=1, max_size=3), min_size=1))
    def replace_partitions(self, days: dict[int, list[int]]) -> None:
        """A run in the place of some days."""
        name = f"run-{next(NUMBERS)}"
        put(self.root, name, run_of(self.root, name, days), terms_of(self.root, "overwrite_partitions"))
        before = self.versions[-1] if self.versions else {}
        self._committed({**before, **{f"day={day}": ids for day, ids in days.items()}})

    @rule(day=st.integers(0, 3), ids=st.lists(st.integers(0, 99), min_size=1, max_size=3))
    def replace_all(self, day: int, ids: list[int]) -> None:
        """A run in the place of everything."""
        name = f"run-{next(NUMBERS)}"
        terms = terms_of(self.root, "overwrite", partition_by=("day",))
        put(self.root, name, run_of(self.root, name, {day: ids}), terms)
        self._committed({f"day={day}": ids})

    @precondition(lambda self: len(self.versions) > self.kept_from)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        """Back to any version that is kept."""
        to = data.draw(st.integers(self.kept_from, len(self.versions) - 1))
        for _ in range(2):
            made = rollback(STORE, self.root, to=to, who="me", reason="a test")
            if made.seq > len(self.versions):
                self._committed(self.versions[to - 1])
            # Where nothing was committed, the newest version held that already; the second time it always does.
            assert self.versions[-1] == self.versions[to - 1]

    @precondition(lambda self: self.versions)
    @rule(versions=st.integers(1, 4))
    def collect(self, versions: int) -> None:
        """Keep so many versions, and remove what no other needs."""
        before = len(self.versions)
        foreseen = {file.path for one in unneeded(self.root, versions) for file in one.files}
        found = keep(STORE, self.root, versions=versions, who="me")
        assert found is not None
        if found.seq > before:
            self.versions.append(self.versions[-1])
        self.kept_from = max(self.kept_from, self.data[-versions] if len(self.data) >= versions else 1)
        assert found.kept_from == self.kept_from
        found_now = unneeded(self.root)
        assert {file.path for one in found_now for file in one.files} == foreseen
        for one in found_now:
            one.remove(STORE)
        assert unneeded(self.root) == []

    @invariant()
    def every_kept_version_is_whole(self) -> None:
        """Versions that are kept hold just what the model says, file by file."""
        if not self.versions:
            return
        manifests = all_manifests(STORE, self.root)
        assert len(manifests) == len(self.versions)
        for manifest, wanted in zip(manifests, self.versions, strict=True):
            if manifest.seq >= self.kept_from:
                found = {folder: sorted(ids) for folder, ids in ids_of(manifest).items()}
                assert found == {folder: sorted(ids) for folder, ids in wanted.items()}


TestRoot = Root.TestCase
TestRoot.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
