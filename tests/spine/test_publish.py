"""Publishing: whatever dies, races or is lost on the way, a version is whole or is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import (
    AccountError,
    DocumentError,
    OutcomeUnknown,
    PendingLost,
    PendingTaken,
    PublishError,
    ReceiptsVoid,
    StorageError,
    Superseded,
)
from etl.runs.commit import Terms
from etl.runs.layout import Layout, manifest_folder, manifest_path
from etl.runs.local import LocalStorage
from etl.runs.manifest import Manifest, Mode, files_table, latest_manifest, published_files, read_manifest
from etl.runs.publish import bar, is_barred, publish, withdraw
from tests.spine.builders import PREDICTIONS, STORE, make_run
from tests.spine.faults import Died, FaultyStore
from tests.stores.test_contract import race

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.runs.receipt import Receipt
    from etl.runs.storage import Storage

RACERS = 16


def do_publish(
    layout: Layout,
    receipts: list[Receipt],
    *,
    storage: Storage = STORE,
    mode: Mode = "append",
    schema: pa.Schema = PREDICTIONS,
    on_step: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Publish, with what most tests do not care about filled in."""
    return publish(storage, layout, receipts, schema=schema, terms=Terms(mode=mode), on_step=on_step)


def layout_of(root: Path, run_id: str = "run") -> Layout:
    """A run under an output root."""
    return Layout(str(root), run_id)


def whole_version(manifest: Manifest) -> dict[str, int]:
    """Rows by run of a version, read from its files; fails unless every file is as the version says."""
    rows = {}
    for run in manifest.runs:
        files = published_files(STORE, run).to_pylist()
        for file in files:
            found = STORE.stat(file["path"])
            assert found is not None
            assert found.bytes == file["bytes"]
            assert pq.read_table(file["path"], partitioning=None).schema.equals(PREDICTIONS)
            assert pq.read_metadata(file["path"]).num_rows == file["rows"]
        assert sum(file["rows"] for file in files) == run.rows
        assert sum(file["bytes"] for file in files) == run.bytes
        rows[run.run_id] = run.rows
    return rows


def versions(root: Path) -> list[Manifest]:
    """Every version under a root; fails unless they are numbered from 1 without gaps."""
    names = STORE.names(manifest_folder(str(root)))
    assert names == [f"{seq:012d}.json" for seq in range(1, len(names) + 1)]
    found = [read_manifest(STORE, str(root), seq) for seq in range(1, len(names) + 1)]
    assert [manifest.seq for manifest in found if manifest] == list(range(1, len(names) + 1))
    return [manifest for manifest in found if manifest]


def state_of(root: Path) -> dict[str, bytes]:
    """Everything under a root, hidden files too, with the time of the commit left out."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.parent.name == "manifests":
                data = json.dumps({**json.loads(data), "committed_at": None}).encode()
            found[str(path.relative_to(root))] = data
    return found


def test_a_published_run_is_whole(tmp_path: Path) -> None:
    """A published run is a version of all its files and rows, its folder is marked, and the steps come in order."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout, files=3, rows=2)
    steps: list[str] = []
    manifest = do_publish(layout, receipts, on_step=steps.append)
    assert steps == ["complete", "commit", "mark"]
    assert versions(tmp_path) == [manifest] == [latest_manifest(STORE, str(tmp_path))]
    assert whole_version(manifest) == {"run": 6}
    assert manifest.committed_by == "run"
    assert [(column.name, column.type) for column in manifest.columns] == [("id", "int64"), ("p", "float")]
    assert json.loads(Path(layout.success).read_bytes()) == {"run_id": "run", "rows": 6, "seq": 1}
    assert pq.read_table(layout.data, partitioning=None).column("id").to_pylist() == list(range(6))
    files = published_files(STORE, manifest.runs[0]).to_pylist()
    assert [file["split"] for file in files] == [0, 1, 2]
    digests = {receipt.split: receipt.account.scored.digest for receipt in receipts}
    assert {file["split"]: file["digest"] for file in files} == {split: digests[split] for split in range(3)}


def test_nothing_is_left_pending(tmp_path: Path) -> None:
    """After publication no hidden file is left."""
    layout = layout_of(tmp_path)
    do_publish(layout, make_run(STORE, layout))
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_run_without_predictions_is_a_version(tmp_path: Path) -> None:
    """A run that scored no row is published with no file."""
    layout = layout_of(tmp_path)
    manifest = do_publish(layout, make_run(STORE, layout, files=0))
    assert whole_version(manifest) == {"run": 0}
    assert published_files(STORE, manifest.runs[0]).num_rows == 0


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    """Publishing a published run again gives the same version and changes no byte."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    first = do_publish(layout, receipts)
    before = state_of(tmp_path)
    for mode in ("append", "error"):
        assert do_publish(layout, receipts[::-1], mode=mode) == first
    assert state_of(tmp_path) == before


def test_publishing_again_after_another_run_adds_no_version(tmp_path: Path) -> None:
    """A run that is published is not added again, whoever published last; it is told by the version that was its."""
    runs = {name: make_run(STORE, layout_of(tmp_path, name)) for name in ("one", "two")}
    manifests = [do_publish(layout_of(tmp_path, name), runs[name]) for name in ("one", "two", "one")]
    assert [manifest.seq for manifest in manifests] == [1, 2, 1]
    assert len(versions(tmp_path)) == 2


def test_racing_runs_all_land(tmp_path: Path) -> None:
    """Of 16 runs that are appended at once every one lands, in 16 versions, each with one run more and whole."""
    runs = {f"run-{number:02d}": make_run(STORE, layout_of(tmp_path, f"run-{number:02d}")) for number in range(RACERS)}
    manifests = race(list(runs), lambda name: do_publish(layout_of(tmp_path, name), runs[name]))
    found = versions(tmp_path)
    assert sorted(manifest.seq for manifest in manifests) == list(range(1, RACERS + 1))
    for manifest, before in zip(found, [(), *(manifest.runs for manifest in found)], strict=False):
        assert manifest.runs[:-1] == before
        assert manifest.runs[-1].run_id == manifest.committed_by
    assert whole_version(found[-1]) == dict.fromkeys((run.run_id for run in found[-1].runs), 6)
    assert found[-1].run_ids == runs.keys()


def test_racing_publishers_of_one_run_agree(tmp_path: Path) -> None:
    """16 publishers of one run all succeed with the same version, and it is the only one."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    manifests = race(range(RACERS), lambda _: do_publish(layout, receipts))
    assert versions(tmp_path) == [manifests[0]]
    assert manifests == [manifests[0]] * RACERS


def outcome(action: Callable[[], object]) -> object:
    """What an action gives, or raises."""
    try:
        return action()
    except PublishError as error:
        return error


def test_one_of_many_runs_takes_an_empty_root(tmp_path: Path) -> None:
    """Of 16 runs with mode `error` exactly one lands, and each other is told which."""
    runs = {f"run-{number:02d}": make_run(STORE, layout_of(tmp_path, f"run-{number:02d}")) for number in range(RACERS)}
    outcomes = race(
        list(runs), lambda name: outcome(lambda: do_publish(layout_of(tmp_path, name), runs[name], mode="error"))
    )
    [manifest] = versions(tmp_path)
    [winner] = manifest.run_ids
    assert outcomes.count(manifest) == 1
    refusals = [found for found in outcomes if found != manifest]
    assert {type(found) for found in refusals} == {Superseded}
    message = f"{tmp_path}: run {winner} is published here, and output.mode is `error`. "
    message += "Use another output.uri, or mode append."
    assert {str(found) for found in refusals} == {message}
    assert whole_version(manifest) == {winner: 6}


def test_a_refused_run_shows_no_file(tmp_path: Path) -> None:
    """A run that may not be published beside another shows none of its files, and can still be thrown away."""
    do_publish(layout_of(tmp_path, "one"), make_run(STORE, layout_of(tmp_path, "one")))
    second = layout_of(tmp_path, "two")
    receipts = make_run(STORE, second)
    other = pa.schema([("id", pa.int64()), ("q", pa.float64())])
    with pytest.raises(Superseded, match=r"run one is published here, and output\.mode is `error`"):
        do_publish(second, receipts, mode="error")
    message = rf"{tmp_path}: run one has columns \(id int64, p float\); this one has \(id int64, q double\)"
    with pytest.raises(Superseded, match=message):
        do_publish(second, receipts, schema=other)
    assert STORE.names(second.data) == []
    bar(STORE, second)
    bar(STORE, second)
    withdraw(STORE, second, receipts)
    withdraw(STORE, second, receipts)
    assert list(Path(second.data).iterdir()) == []
    assert len(versions(tmp_path)) == 1


def test_a_run_that_lacks_a_file_shows_none(tmp_path: Path) -> None:
    """Where one of several pending files is gone or was cut, no file of the run becomes visible."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    written = [written for receipt in receipts for written in receipt.predictions]
    assert len(written) > 1
    pending = Path(written[-1].pending.upload)
    whole = pending.read_bytes()
    for damage in (lambda: pending.write_bytes(whole[:-1]), pending.unlink):
        damage()
        with pytest.raises(PendingLost):
            do_publish(layout, receipts)
        assert STORE.names(layout.data) == []
    pending.write_bytes(whole)
    assert do_publish(layout, receipts).seq == 1


def test_a_barred_run_commits_nothing(tmp_path: Path) -> None:
    """Once a run is barred no publisher commits it, and a run whose publication has begun cannot be barred."""
    barred, begun = layout_of(tmp_path, "barred"), layout_of(tmp_path, "begun")
    receipts = make_run(STORE, barred)
    bar(STORE, barred)
    with pytest.raises(PublishError, match="this run was given up"):
        do_publish(barred, receipts)
    assert versions(tmp_path) == []
    withdraw(STORE, barred, receipts)
    assert STORE.names(barred.data) == []
    do_publish(begun, make_run(STORE, begun))
    with pytest.raises(PublishError, match="a publication of this run has begun"):
        bar(STORE, begun)


def test_a_run_that_cannot_be_barred_is_left_as_it_was(tmp_path: Path) -> None:
    """Where a publication has begun, and files were lost since, nobody is told to end it by an id that is barred."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    STORE.create_if_absent(layout.files(), files_table(receipts))
    STORE.create_if_absent(layout.void("000001"), b"")
    with pytest.raises(PublishError, match="Run the same id again to end it"):
        bar(STORE, layout)
    assert not is_barred(STORE, layout)


def test_the_hint_of_the_newest_version_may_fail(tmp_path: Path) -> None:
    """A publication does not fail because `current.json`, which nothing rests on, cannot be written."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    (tmp_path / "_batchscore" / "current.json").mkdir(parents=True)
    assert do_publish(layout, receipts).seq == 1
    assert STORE.stat(layout.success) is not None


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The operations of one publication, in order."""
    layout = layout_of(tmp_path_factory.mktemp("calls"))
    receipts = make_run(STORE, layout)
    store = FaultyStore(STORE, Died)
    do_publish(layout, receipts, storage=store)
    return store.calls


@pytest.mark.parametrize("is_applied", [False, True])
def test_a_death_at_any_call_is_made_good(tmp_path: Path, calls: list[str], *, is_applied: bool) -> None:
    """A publisher that dies at any call of the store, before or after it took effect, is completed by the next one.

    What then lies under the root is, to the byte, what lies there when nobody died.
    """
    assert {"complete", "open_input", "create_if_absent", "names", "replace"} <= set(calls)
    states = []
    for at in [*range(len(calls)), -1]:
        root = tmp_path / str(at)
        layout = layout_of(root)
        receipts = make_run(STORE, layout)
        store = FaultyStore(STORE, Died, at=at, is_applied=is_applied)
        if at >= 0:
            with pytest.raises(Died):
                do_publish(layout, receipts, storage=store)
        manifest = do_publish(layout, receipts)
        assert whole_version(manifest) == {"run": 6}
        assert versions(root) == [manifest]
        states.append({name: data.replace(str(root).encode(), b"") for name, data in state_of(root).items()})
    names = [name for name in states[-1] if not name.endswith((".json", ".arrow"))]
    assert len(names) == 4
    for state in states:
        assert state.keys() == states[-1].keys()
        assert {name: state[name] for name in names} == {name: states[-1][name] for name in names}


def test_a_death_between_runs_that_race_loses_no_version(tmp_path: Path, calls: list[str]) -> None:
    """A run whose publisher dies at any call, while another run lands, is there after the next try, and once."""
    for at in range(len(calls)):
        root = tmp_path / str(at)
        runs = {name: make_run(STORE, layout_of(root, name)) for name in ("one", "two")}
        store = FaultyStore(STORE, Died, at=at, is_applied=True)
        with pytest.raises(Died):
            do_publish(layout_of(root, "one"), runs["one"], storage=store)
        do_publish(layout_of(root, "two"), runs["two"])
        do_publish(layout_of(root, "one"), runs["one"])
        assert whole_version(versions(root)[-1]) == {"one": 6, "two": 6}
        assert len(versions(root)) == 2


class LostAnswers:
    """A store that loses the answer to the creation of a manifest, and may be asked again or not."""

    def __init__(self, *, is_applied: bool, can_be_asked: bool = True, refusal: type[Exception] = OSError):
        self.is_applied = is_applied
        self.can_be_asked = can_be_asked
        self.refusal = refusal
        self.is_lost = False

    def __getattr__(self, name):
        return getattr(STORE, name)

    def create_if_absent(self, path, data):
        """See `etl.runs.storage.Storage.create_if_absent`."""
        if "/manifests/" not in path or self.is_lost:
            return STORE.create_if_absent(path, data)
        self.is_lost = True
        if self.is_applied:
            STORE.create_if_absent(path, data)
        raise TimeoutError("no answer in 60 s")

    def read_bytes(self, path):
        """See `etl.runs.storage.Storage.read_bytes`."""
        if self.is_lost and not self.can_be_asked:
            raise self.refusal("the store is away")
        return STORE.read_bytes(path)


def test_a_commit_that_landed_unanswered_is_published(tmp_path: Path) -> None:
    """A commit whose answer was lost and that is there is a success, and no other version is made."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    manifest = do_publish(layout, receipts, storage=LostAnswers(is_applied=True))
    assert versions(tmp_path) == [manifest]
    assert Path(layout.success).exists()


def test_a_commit_that_did_not_land_is_told(tmp_path: Path) -> None:
    """A commit that failed and is not there is a PublishError that says so; the same run can be published again."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    with pytest.raises(
        PublishError, match=r"the commit did not land \(no answer in 60 s\). Run the same id again"
    ) as caught:
        do_publish(layout, receipts, storage=LostAnswers(is_applied=False))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert manifest_path(str(tmp_path), 1) in str(caught.value)
    assert latest_manifest(STORE, str(tmp_path)) is None
    assert whole_version(do_publish(layout, receipts)) == {"run": 6}


@pytest.mark.parametrize("refusal", [OSError, StorageError])
@pytest.mark.parametrize("is_applied", [False, True])
def test_a_commit_that_nobody_knows_of_is_told(tmp_path: Path, refusal: type[Exception], *, is_applied: bool) -> None:
    """A commit whose answer was lost by a store that cannot be asked is OutcomeUnknown; the same command settles it."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    store = LostAnswers(is_applied=is_applied, can_be_asked=False, refusal=refusal)
    with pytest.raises(OutcomeUnknown, match=r"the commit may have landed\. Run the same id again"):
        do_publish(layout, receipts, storage=store)
    assert not Path(layout.success).exists()
    assert whole_version(do_publish(layout, receipts)) == {"run": 6}
    assert len(versions(tmp_path)) == 1


def test_a_lost_answer_to_a_lost_race_is_no_success(tmp_path: Path) -> None:
    """A commit whose answer was lost while another run took its place is tried again behind that run."""
    runs = {name: make_run(STORE, layout_of(tmp_path, name)) for name in ("one", "two")}

    class Overtaken(LostAnswers):
        def create_if_absent(self, path, data):
            if "/manifests/" in path and not self.is_lost:
                do_publish(layout_of(tmp_path, "two"), runs["two"])
            return super().create_if_absent(path, data)

    manifest = do_publish(layout_of(tmp_path, "one"), runs["one"], storage=Overtaken(is_applied=True))
    assert manifest.seq == 2
    assert whole_version(manifest) == {"two": 6, "one": 6}


def test_a_refusal_of_the_store_is_no_lost_answer(tmp_path: Path) -> None:
    """A store that refuses the commit, as a full disk does, is told as it says, for nothing can have landed."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)

    class Full(LostAnswers):
        def create_if_absent(self, path, data):
            if "/manifests/" in path:
                raise StorageError(f"{path}: no space left to write.")
            return STORE.create_if_absent(path, data)

    with pytest.raises(StorageError, match="no space left"):
        do_publish(layout, receipts, storage=Full(is_applied=False))
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_a_lost_file_is_not_published(tmp_path: Path) -> None:
    """A run one of whose pending files is gone is PendingLost with the file's name, and nothing is committed."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    [lost] = receipts[1].predictions
    STORE.abort(lost.pending)
    with pytest.raises(PendingLost, match=lost.pending.path):
        do_publish(layout, receipts)
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_other_bytes_under_a_name_are_not_published(tmp_path: Path) -> None:
    """A run one of whose final names has other bytes is PendingTaken, and nothing is committed."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    [taken] = receipts[1].predictions
    STORE.create_if_absent(taken.pending.path, b"other")
    with pytest.raises(PendingTaken, match=taken.pending.path):
        do_publish(layout, receipts)
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_a_file_of_other_rows_or_columns_is_not_committed(tmp_path: Path) -> None:
    """A file that does not have the rows and columns of its receipt is told with both, and nothing is committed."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    [written] = receipts[1].predictions
    more = receipts[1].model_copy(update={"predictions": (written.model_copy(update={"rows": 3}),)})
    with pytest.raises(AccountError, match=rf"{written.pending.path}: has 2 rows of .*, its receipt says 3 of "):
        do_publish(layout, [receipts[0], more, *receipts[2:]])
    other = pa.schema([("id", pa.int64()), ("p", pa.float64())])
    with pytest.raises(AccountError, match=r"\(id int64, p float\), its receipt says 2 of \(id int64, p double\)"):
        do_publish(layout, receipts, schema=other)
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_a_file_that_cannot_be_read_back_is_not_committed(tmp_path: Path) -> None:
    """A file whose bytes are no Parquet any more is told with its name, and nothing is committed."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    [written] = receipts[1].predictions
    Path(written.pending.upload).write_bytes(b"x" * written.pending.bytes)
    with pytest.raises(AccountError, match=f"{written.pending.path}: was written but cannot be read back"):
        do_publish(layout, receipts)
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_a_store_that_does_not_answer_damages_no_file(tmp_path: Path) -> None:
    """A file that the store does not give when it is read back fails the publication, and the same id goes on."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)

    class Away(LocalStorage):
        def open_input(self, path):
            raise ConnectionError(f"{path}: reset")

    with pytest.raises(StorageError, match=r"cannot be read back: .*: reset\. .*Run the same id again"):
        do_publish(layout, receipts, storage=Away())
    assert do_publish(layout, receipts).seq == 1


def test_a_publisher_whose_files_are_taken_away_finds_them_lost(tmp_path: Path) -> None:
    """A file that somebody removes between its completion and the look at it is lost, and no fault of the disk."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    [written] = receipts[1].predictions

    class Overtaken(LocalStorage):
        def complete(self, pending):
            super().complete(pending)
            if pending == written.pending:
                self.delete(pending.path)

    with pytest.raises(ReceiptsVoid, match=f"1 file is lost. {written.pending.path}") as told:
        do_publish(layout, receipts, storage=Overtaken())
    assert told.value.attempts == {receipts[1].attempt}


def test_two_publishers_with_other_receipts_are_told_apart(tmp_path: Path) -> None:
    """A run that was about to be published with other receipts is refused with the table's name."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    STORE.create_if_absent(layout.files(), files_table(receipts[:2]))
    with pytest.raises(PublishError, match=f"{layout.files()}: another publisher of this run found other receipts"):
        do_publish(layout, receipts)
    assert latest_manifest(STORE, str(tmp_path)) is None


def test_a_table_in_other_bytes_is_the_same_table(tmp_path: Path) -> None:
    """A table of files that another release of Arrow wrote in other bytes is taken as it is, if it says the same."""
    layout = layout_of(tmp_path)
    receipts = make_run(STORE, layout)
    table = pa.ipc.open_file(pa.BufferReader(files_table(receipts))).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    STORE.create_if_absent(layout.files(), sink.getvalue().to_pybytes())
    assert whole_version(do_publish(layout, receipts)) == {"run": 6}


def test_the_table_of_files_is_a_function_of_the_receipts(tmp_path: Path) -> None:
    """Receipts in any order make one table of files, byte for byte."""
    receipts = make_run(STORE, layout_of(tmp_path))
    assert files_table(receipts) == files_table(receipts[::-1])


def test_a_changed_table_of_files_is_found(tmp_path: Path) -> None:
    """A published table of files that was changed or removed is a DocumentError with its name and the run's."""
    layout = layout_of(tmp_path)
    manifest = do_publish(layout, make_run(STORE, layout))
    for damage in (lambda: STORE.replace(layout.files(), b"other"), lambda: STORE.delete(layout.files())):
        damage()
        with pytest.raises(
            DocumentError, match=f"{layout.files()}: the table of files of run run is missing or was changed"
        ):
            published_files(STORE, manifest.runs[0])


def test_strangers_among_the_manifests_are_passed_over(tmp_path: Path) -> None:
    """Only names of twelve digits are versions; an editor's copy or a note beside them is none."""
    layout = layout_of(tmp_path)
    manifest = do_publish(layout, make_run(STORE, layout))
    for name in ("notes.json", "000000000009.json.bak", "9.json", "000000000001 (copy).json"):
        STORE.create_if_absent(f"{manifest_folder(str(tmp_path))}/{name}", b"?")
    assert latest_manifest(STORE, str(tmp_path)) == manifest


def test_a_hint_is_not_relied_on(tmp_path: Path) -> None:
    """The newest version is found by listing, whatever the hint says."""
    layout = layout_of(tmp_path)
    manifest = do_publish(layout, make_run(STORE, layout))
    STORE.replace(f"{tmp_path}/_batchscore/current.json", b'{"seq": 99}')
    assert latest_manifest(STORE, str(tmp_path)) == manifest
    STORE.delete(f"{tmp_path}/_batchscore/current.json")
    assert latest_manifest(STORE, str(tmp_path)) == manifest


def test_a_version_that_vanishes_is_not_gone_around(tmp_path: Path) -> None:
    """A version that is listed and cannot be read is an error: to go on from an older one would undo commits."""
    layout = layout_of(tmp_path)
    do_publish(layout, make_run(STORE, layout))

    class Forgetful(LostAnswers):
        def read_bytes(self, _):
            return None

    with pytest.raises(DocumentError, match=r"was listed and is gone\. Nobody may remove a manifest"):
        latest_manifest(Forgetful(is_applied=False), str(tmp_path))
