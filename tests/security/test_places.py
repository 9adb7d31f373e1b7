"""No name from outside leads out of its place: not from a config, a spec, a bundle or a command line."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from etl import load_spec
from etl.errors import DocumentError, SpecError, StorageError
from etl.runs.partitions import Partitioning, partition_values
from etl.runs.storage import storage_for
from jobs.config.job import read_config
from jobs.errors import ConfigError, Refused
from jobs.history.runs import find_run
from jobs.identity import check_run_id
from jobs.run import RunRequest
from scoring.bundles.bundle import audit
from scoring.bundles.cache import HostCache, host_cache
from scoring.bundles.files import FileDigest
from scoring.engine.breadcrumbs import Breadcrumb, RowRange
from scoring.errors import BundleError
from scoring.private import private_folder
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
from tests.scoring.test_bundle import change, refused
from tests.scoring.workshop import STORE, logistic_bundle
from tests.stores.site import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAYS_OUT = [
    "..",
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    "%2e%2e/x",
    "a/b",
    "-x",
    "",
    "A",
    "é",
    "a" * 101,
    ".",
]
"""As a name that becomes a folder or a file."""


@pytest.fixture(params=[0, 0o002, 0o077], ids=["umask 0", "umask 002", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """What new files may be, as the user's shell has set it."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", [*WAYS_OUT, "r\n", "2026-11-01"])
def test_a_run_id_is_a_safe_name(tmp_path: Path, job_file: Callable[..., Path], name: str) -> None:
    """A run id that is no plain name is refused where a run begins, and finds no run where one is looked for."""
    (tmp_path / "out" / "_batchscore" / "x").mkdir(parents=True)
    (tmp_path / "out" / "_batchscore" / "x" / "claim.json").write_text("{}")
    with pytest.raises(Refused, match="is not valid: a lower-case letter, then up to 99 of"):
        check_run_id(name)
    with pytest.raises(Refused, match="is not valid"):
        RunRequest(config=read_config(str(job_file())), run_id=name)
    with pytest.raises(Refused, match="there is no run"):
        find_run(str(tmp_path / "out"), name)


@pytest.mark.parametrize("name", WAYS_OUT)
@pytest.mark.parametrize("place", ["job", "model"])
def test_names_of_jobs_and_models_are_safe(job_file: Callable[..., Path], name: str, place: str) -> None:
    """The name of a job, which is a folder of the collected records, and that of a model are checked."""
    model = {"onnx": "m.onnx", "name": name}
    sections: dict[str, Any] = {"name": name} if place == "job" else {"model": None, "models": [model]}
    with pytest.raises(ConfigError, match=r"/name: "):
        read_config(str(job_file(**sections)))


@pytest.mark.parametrize("name", WAYS_OUT)
def test_names_in_a_spec_are_safe(tmp_path: Path, name: str) -> None:
    """Ids of steps and expectations and names of reference tables, which become names of files, are checked."""
    spec = {
        "format": "scorespec/1",
        "spec_id": "s",
        "input": {"fields": [{"name": "a", "type": "int64"}]},
        "relational": [
            {"op": "lookup_join", "id": "j", "params": {"reference": name, "keys": [], "columns": []}},
            {"op": "filter", "id": name},
        ],
        "steps": [{"op": "abs", "id": name, "in": ["a"], "out": ["b"]}],
        "expectations": [{"id": name, "batch": {"unique": ["a"]}, "severity": "warn"}],
        "outputs": {"tensors": [{"tensor": "X", "from": ["a"]}]},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "spec.json", fitted=False)
    told = str(caught.value)
    for place in ("/relational/0/params/reference", "/relational/1/id", "/steps/0/id", "/expectations/0/id"):
        assert f"{place}: " in told


@pytest.mark.parametrize("name", [*WAYS_OUT[:6], "x"])
def test_a_vocabulary_lies_beside_its_recipe(tmp_path: Path, name: str) -> None:
    """The file of a vocabulary that is not in the recipe's folder is not read, be it by its name or by a link."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (tmp_path / "x").write_text("[UNK]\nsecret\n")
    if name == "x":
        (folder / "x").symlink_to(tmp_path / "x")
    step: dict[str, Any] = {"op": "wordpiece", "id": "w", "in": ["t"], "out": ["ids"]}
    step["params"] = {"vocabulary_file": name, "max_length": 4}
    spec = {
        "format": "scorespec/1",
        "spec_id": "s",
        "input": {"fields": [{"name": "t", "type": "string"}]},
        "steps": [step],
        "outputs": {"tensors": [{"tensor": "X", "dtype": "int64", "from": ["ids"]}]},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(SpecError, match="vocabulary_file: ") as caught:
        load_spec(folder / "spec.json", fitted=False)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["in\0x", "file:///in\0x", "s3://bucket/in\0x", "hdfs://nn/in\0x"])
def test_a_name_with_a_nul_is_refused(uri: str) -> None:
    """No system has such a file: it is refused with that reason, and not by an accident of some library."""
    with pytest.raises(StorageError, match="has a NUL in it"):
        storage_for(uri)


@pytest.mark.parametrize("uri", ["s3://b/..", "s3://b/a/../c", "s3a://b/./a", "hdfs://n/a/../b", "hdfs:///.", "s3://"])
def test_a_store_without_folders_takes_no_dots(uri: str) -> None:
    """`.` and `..` are refused where a store would take them for names, or lead elsewhere."""
    with pytest.raises(StorageError, match=r"`\.` or `\.\.` in"):
        storage_for(uri)


@pytest.mark.parametrize("scheme", ["file:///in", "s3://b/in", "hdfs://n/in"])
def test_percent_signs_are_plain(scheme: str) -> None:
    """What looks like an encoded `..` is a name like any other: nothing is decoded."""
    assert storage_for(f"{scheme}/%2e%2e/x")[1].endswith("/in/%2e%2e/x")


@pytest.mark.parametrize("digest", ["../../victim", "/victim", "", "ab", "A" * 64, "0" * 63 + "\n", "0" * 64 + "\n"])
def test_a_digest_is_no_path(tmp_path: Path, digest: str) -> None:
    """The cache of a host names files by their digests: a bundle that has another text there is refused unread."""
    logistic_bundle(tmp_path / "bundle")
    change(tmp_path / "bundle", lambda value: value["files"]["model.onnx"].update(sha256=digest))
    assert "/files/model.onnx/sha256" in refused(tmp_path / "bundle")
    with pytest.raises(ValueError, match="sha256"):
        FileDigest(bytes=1, sha256=digest)


def test_a_document_of_a_bundle_is_its_own(tmp_path: Path) -> None:
    """A bundle.json that is a link out of the folder is refused, and nothing of what it leads to is told."""
    logistic_bundle(tmp_path / "bundle")
    (tmp_path / "other.json").write_text('{"secret": "planted"}')
    (tmp_path / "bundle" / "bundle.json").unlink()
    (tmp_path / "bundle" / "bundle.json").symlink_to(tmp_path / "other.json")
    told = refused(tmp_path / "bundle")
    assert "bundle.json is no regular file" in told
    assert "planted" not in told


def test_a_bundle_that_changes_after_its_audit_is_loaded_as_it_was(tmp_path: Path) -> None:
    """What was hashed is what is loaded: bytes that are exchanged in between, file by file, change no score."""
    logistic_bundle(tmp_path / "bundle")
    audited = audit(STORE, str(tmp_path / "bundle"))
    session = ort.InferenceSession((tmp_path / "bundle" / "model.onnx").read_bytes())
    matrix = np.ones((3, 4), np.float32)
    [expected] = session.run(None, {"X": matrix})
    for path in (tmp_path / "bundle").rglob("*"):
        if path.is_file():
            path.write_bytes(b"exchanged")
    loaded = load("model.onnx", audited.files, RuntimeOptions(), where="here")
    assert np.array_equal(loaded.predict({"X": matrix})["p"], expected)
    assert sha256(bytes(audited.files["model.onnx"])) == audited.bundle.files["model.onnx"].sha256


def _with_weights_at(*locations: bytes, behind: bytes = b"") -> bytes:
    """An ONNX file whose first tensors have their bytes elsewhere, and any bytes at its end."""
    tensors = []
    for number, location in enumerate(locations):
        tensor = TensorProto(name="W" if number == len(locations) - 1 else f"unused{number}", data_type=1, dims=[4, 1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="?" * len(location))
        tensors.append(tensor)
    values = [helper.make_tensor_value_info(name, 1, [None, size]) for name, size in (("X", 4), ("p", 1))]
    graph = helper.make_graph([helper.make_node("MatMul", ["X", "W"], ["p"])], "g", values[:1], values[1:], tensors)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    for location in locations:
        data = data.replace(b"?" * len(location), location, 1)
    return bytes(data) + behind


@pytest.mark.parametrize(
    "hidden",
    [b"", b"\xa3\x06\xa4\x06", b"\x1b"],
    ids=["plain", "behind a group, which our scan does not know", "behind what is no field"],
)
@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/../w.bin", "{}/w.bin", "../{}/w.bin"])
def test_weights_are_never_read_from_a_path_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, hidden: bytes
) -> None:
    """Wherever a model says that its weights are, and though they are there: what no bundle has a digest of is not
    read, even where our own scan of the file is led astray.
    """  # noqa: D205  one sentence
    (tmp_path / "w.bin").write_bytes(np.ones((4, 1), np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    place = location.format(tmp_path if location.startswith("{") else tmp_path.name).encode()
    for model in (_with_weights_at(place, behind=hidden), _with_weights_at(b"\xff\xfe\xfd", place, behind=hidden)):
        with pytest.raises(BundleError):
            load("model.onnx", {"model.onnx": model}, RuntimeOptions(), where="here")


def test_a_cache_removes_no_file_of_others(tmp_path: Path) -> None:
    """A stray file in the cache, whatever its name, does not break it, nor lead it out of its folder."""
    cache = HostCache(tmp_path / "cache")
    (tmp_path / "a").write_bytes(b"hello")
    expected = FileDigest(bytes=5, sha256=sha256(b"hello"))

    class Elsewhere(type(STORE)):  # type: ignore[misc]
        """A store that is no disk of this host."""

    private_folder(cache.folder / "partial", instead="")
    (cache.folder / "partial" / ".stray name").write_bytes(b"x")
    assert cache.content(Elsewhere(), str(tmp_path / "a"), expected) == b"hello"


def test_what_is_kept_on_a_host_is_private(tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache, its parents that were missing and the breadcrumbs can be seen by their user alone, whatever the umask,
    and whichever of them comes first.
    """  # noqa: D205  one sentence
    monkeypatch.setenv("BATCHSCORE_CACHE", str(tmp_path / "new" / "cache"))
    crumb = Breadcrumb(host_cache().folder / "breadcrumbs", "/out", "r", task=0)
    crumb.calling([RowRange(0, 0, 1)])
    (tmp_path / "a").write_bytes(b"hello")
    expected = FileDigest(bytes=5, sha256=sha256(b"hello"))
    assert host_cache().content(STORE, str(tmp_path / "a"), expected) == b"hello"
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert len(made) >= 7
    assert {oct(path.stat().st_mode & 0o077) for path in made} == {"0o0"}


@pytest.mark.parametrize("kind", ["link", "open", "foreign"])
def test_a_folder_that_another_user_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In a shared folder somebody may be first: his folder is refused by the cache, and no breadcrumb is laid in it."""
    mine = tmp_path / f"batchscore-{os.geteuid()}"
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    if kind == "link":
        mine.symlink_to(target)
    else:
        mine.mkdir(mode=0o700)
        mine.chmod(0o777 if kind == "open" else 0o700)
    if kind == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: mine.stat().st_uid + 1)
    (tmp_path / "a").write_bytes(b"hello")
    expected = FileDigest(bytes=5, sha256=sha256(b"hello"))
    with pytest.raises(StorageError, match=r"belongs to another user.*BATCHSCORE_CACHE"):
        HostCache(mine).content(STORE, str(tmp_path / "a"), expected)
    Breadcrumb(mine / "breadcrumbs", "/out", "r", task=0).calling([RowRange(0, 0, 1)])
    assert not list(mine.iterdir())


def test_a_breadcrumb_follows_no_link(tmp_path: Path) -> None:
    """A link in the place of a breadcrumb is not written through: what it leads to stays as it was."""
    first = Breadcrumb(tmp_path / "crumbs", "/out", "r", task=0)
    first.calling([RowRange(0, 0, 1)])
    [place] = (tmp_path / "crumbs").iterdir()
    place.unlink()
    (tmp_path / "victim").write_text("precious")
    place.symlink_to(tmp_path / "victim")
    Breadcrumb(tmp_path / "crumbs", "/out", "r", task=0).calling([RowRange(0, 0, 1)])
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["../x", "/x", "golden/../../x", "a\0b", "a\nb", "%2e%2e/x", ".hidden", "a//b", "b/"])
def test_a_bundle_names_only_files_inside(tmp_path: Path, name: str) -> None:
    """A name of a bundle's file that is absolute, hidden, encoded or has a control character in it is refused."""
    logistic_bundle(tmp_path / "bundle")
    facts = {"bytes": 1, "sha256": "0" * 64}
    change(tmp_path / "bundle", lambda value: value["files"].update({name: facts}))
    problem = "leaves the bundle or is hidden" if "%" not in name else "leaves"
    assert problem in refused(tmp_path / "bundle")


def test_a_stored_document_is_read_strictly() -> None:
    """What is read back from a store is checked as what comes from outside: no key more, no value of another type."""
    from jobs.planning.plan import Claim

    good = {"format": "batchscore.claim/1", "run_id": "r", "job": "j", "claimed_at": "2026-11-01T00:00:00Z"}
    for wrong in ({**good}, {**good, "claimed_by": 1}, {**good, "claimed_by": "me", "more": 1}):
        with pytest.raises(DocumentError):
            Claim.from_bytes(json.dumps(wrong).encode(), where="claim.json")


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1, max_size=30) | st.sampled_from(["..", "../..", "/etc", "%2e%2e", "a/../../b", "\x00", "a\nb"])
)
def test_a_value_names_one_folder(value: str) -> None:
    """A value of a row that becomes a folder is one name below the run's folder, which gives the value back."""
    schema = pa.schema([("day", pa.string()), ("p", pa.float32())])
    batch = pa.record_batch([[value], [0.5]], schema=schema)
    [(folder, _)] = Partitioning(schema, ("day",)).divide(batch)
    assert "/" not in folder
    assert folder.startswith("day=")
    assert not any(ord(sign) < ord(" ") for sign in folder)
    assert partition_values(folder, schema)["day"].as_py() == value
