"""The audit of a bundle: every file and every fit is checked before anything is loaded, and all is told at once."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort
import pyarrow as pa
import pytest
import yaml

from etl.documents import canonical_json
from etl.errors import SpecError
from etl.format.artifacts import MOST_INLINE, stored
from etl.learning.fitting import fit
from etl.runs.layout import model_folder
from scoring.bundles.bundle import DEFAULT_TOLERANCES, audit, copy_bundle, spec_of
from scoring.bundles.create import create_bundle
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.scorer import load_scorer
from tests.etl.nasty import spec_of as nasty_spec
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    Work,
    logistic_bundle,
    logistic_model,
    lookup_model,
    numbers,
    parts_of,
)
from tests.stores.site import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPE = """
format: scorespec/1
spec_id: recipe
input: {fields: [{name: f0, type: float32}]}
steps:
- {op: standardize, id: z, in: [f0], out: [z0]}
outputs: {tensors: [{tensor: X, from: [z0, z0, z0, z0]}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good bundle."""
    logistic_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def nothing_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no session can be made; asked for after the bundle was."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a session was made before the audit had passed")

    monkeypatch.setattr(ort, "InferenceSession", refuse)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a bundle's own document."""
    path = folder / "bundle.json"
    value = json.loads(path.read_bytes())
    edit(value)
    path.write_bytes(canonical_json(value))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Change a file of a bundle, and its digest with it."""
    (folder / name).write_bytes(data)
    change(folder, lambda value: value["files"].update({name: {"bytes": len(data), "sha256": sha256(data)}}))


def replace_spec(folder: Path, text: str) -> None:
    """Give a bundle another spec, by all its digests."""
    replace_file(folder, "etl.json", json.dumps(yaml.safe_load(text)).encode())


def refused(folder: Path) -> str:
    """What the audit says of a bundle that it refuses."""
    with pytest.raises(BundleError) as caught:
        audit(STORE, str(folder))
    return str(caught.value)


def test_a_good_bundle_passes(folder: Path) -> None:
    """A bundle as it was made passes, and is identified by the digest of its document."""
    audited = audit(STORE, str(folder))
    assert audited.sha256 == sha256((folder / "bundle.json").read_bytes())
    assert audited.model == logistic_model()
    assert {name: sha256(bytes(data)) for name, data in audited.files.items()} == {
        name: facts.sha256 for name, facts in audited.bundle.files.items()
    }


@pytest.mark.parametrize("name", ["model.onnx", "etl.json", "golden/rows.arrow", "golden/outputs.arrow"])
def test_a_changed_byte_is_found(folder: Path, nothing_loads: None, name: str) -> None:
    """One changed byte of any file is found, and named."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert refused(folder) == (
        f"{folder}: file {name} was changed: its SHA-256 is not the one in bundle.json. Nothing was loaded."
    )


@pytest.mark.parametrize("name", ["bundle.json", "etl.json"])
def test_a_spec_is_read_without_the_model_and_checked(folder: Path, name: str) -> None:
    """The spec of an audited bundle is the audit's, also where no other file is there any more; another bundle, and a
    spec with another byte or none, are refused with the path.
    """  # noqa: D205  one sentence
    audited = audit(STORE, str(folder))
    for other in audited.files:
        if other != "etl.json":
            (folder / other).unlink()
    assert spec_of(STORE, str(folder), audited.sha256) == audited.spec
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"^{folder}/{name}: is missing or was changed"):
        spec_of(STORE, str(folder), audited.sha256)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"^{folder}/{name}: is missing or was changed"):
        spec_of(STORE, str(folder), audited.sha256)


def test_a_large_state_is_read_with_its_spec(folder: Path) -> None:
    """A state that lies in a file beside the spec is read and checked, too."""
    fields = [{"name": "word", "type": "string"}]
    steps = [{"id": "s", "op": "string_index", "in": ["word"], "out": ["code"]}]
    words = pa.table({"word": [f"word {number}" for number in range(MOST_INLINE + 1)]})
    spec = fit(nasty_spec(fields, steps, dtype="int64", fitted=False), words)
    files = stored(spec)
    [large] = files.artifacts
    for name, data in {"etl.json": files.text, **files.artifacts}.items():
        replace_file(folder, name, data)
    digest = sha256((folder / "bundle.json").read_bytes())
    assert spec_of(STORE, str(folder), digest) == spec
    (folder / large).write_bytes(files.artifacts[large][:-1])
    with pytest.raises(BundleError, match=f"^{folder}/{large}: is missing or was changed"):
        spec_of(STORE, str(folder), digest)


@pytest.mark.parametrize("name", ["model.onnx", "etl.json", "golden/features.arrow"])
def test_a_missing_file_is_found(folder: Path, nothing_loads: None, name: str) -> None:
    """A file that is not there is found, and named."""
    (folder / name).unlink()
    assert refused(folder) == f"{folder}: file {name} is missing. Nothing was loaded."


@pytest.mark.parametrize("name", ["model.onnx", "etl.json", "golden/rows.arrow"])
def test_a_file_without_a_digest_is_found(folder: Path, nothing_loads: None, name: str) -> None:
    """A file that is used and has no digest is found, and named."""
    change(folder, lambda value: value["files"].pop(name))
    assert refused(folder) == f"{folder}: file {name} is used but has no digest in bundle.json. Nothing was loaded."


@pytest.mark.parametrize(
    "name",
    ["../secret", "golden/../../secret", "/secret", ".hidden", "golden/.hidden", "a//b", "a\\b", "", "~/x", "a/"],
)
def test_a_path_that_leaves_the_bundle_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nothing_loads: None, name: str
) -> None:
    """A file name that leads out of the folder, or is hidden, is refused unread, though its digest is right."""
    (folder.parent / "secret").write_bytes(b"secret")
    read: list[str] = []
    look = type(STORE).read_bytes

    def note(store: Any, path: str) -> bytes | None:
        read.append(path)
        return look(store, path)

    monkeypatch.setattr(type(STORE), "read_bytes", note)
    change(folder, lambda value: value["files"].update({name: {"bytes": 6, "sha256": sha256(b"secret")}}))
    change(folder, lambda value: value.update(model=name))
    assert f"file name {name!r} leaves the bundle or is hidden" in refused(folder)
    known = {"bundle.json", "model.onnx", "etl.json", *(f"golden/{n}.arrow" for n in ("rows", "features", "outputs"))}
    assert set(read) <= {f"{folder}/{file}" for file in known}


def test_a_link_that_leaves_the_bundle_is_not_read(folder: Path, nothing_loads: None) -> None:
    """A link out of the folder, of a file or of a folder in it, is refused though its digest is right; one within is
    read, as Kubernetes mounts files.
    """  # noqa: D205  one sentence
    inside, outside = folder / "..data", folder.parent / "outside"
    inside.mkdir()
    (folder / "model.onnx").rename(inside / "model.onnx")
    (folder / "model.onnx").symlink_to("..data/model.onnx")
    assert audit(STORE, str(folder)).model
    (folder / "golden").rename(outside)
    (folder / "golden").symlink_to(outside)
    told = refused(folder)
    assert told.count("is a link that leaves the bundle") == 3
    assert "file golden/rows.arrow is a link that leaves the bundle; put the file itself there" in told


def test_a_file_of_another_size_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch, nothing_loads: None) -> None:
    """A file that is longer or shorter than the bundle says is refused unread."""
    size = (folder / "model.onnx").stat().st_size
    look = type(STORE).read_bytes

    def unless_model(store: Any, path: str) -> bytes | None:
        assert not path.endswith("model.onnx")
        return look(store, path)

    monkeypatch.setattr(type(STORE), "read_bytes", unless_model)
    for other in (2**34, size - 1, 0):
        with (folder / "model.onnx").open("r+b") as file:
            file.truncate(other)
        said = f"file model.onnx was changed: it has {other:,} bytes, and {size:,} by bundle.json"
        assert refused(folder) == f"{folder}: {said}. Nothing was loaded."


def test_a_folder_where_a_file_should_be_is_told(folder: Path, nothing_loads: None) -> None:
    """A file that cannot be read is told with the store's reason, beside the other problems."""
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert "file model.onnx cannot be read (" in refused(folder)


def test_a_folder_without_a_bundle_is_told(tmp_path: Path) -> None:
    """A folder without a bundle's document is told, and what would do instead: where a bundle is asked for, no more."""
    assert refused(tmp_path) == f"{tmp_path}: there is no bundle.json here. Give the folder of a bundle."


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.update(format="batchscore.bundle/2"),
        lambda value: value.update(surprise=1),
        lambda value: value.update(name="Not A Name"),
        lambda value: value.update(columns=[]),
        lambda value: value["tolerances"]["cpu"].update(atol=-1),
        lambda value: value.pop("signature"),
    ],
)
def test_a_malformed_document_is_refused(
    folder: Path, nothing_loads: None, edit: Callable[[dict[str, Any]], object]
) -> None:
    """A document of another format, with unknown keys or impossible values is refused with its path."""
    change(folder, edit)
    assert refused(folder).startswith(f"{folder}/bundle.json: not a Bundle this release can read: ")


def test_a_key_that_stands_twice_is_refused(folder: Path, nothing_loads: None) -> None:
    """Nobody knows which of two values was meant; the second one is told with its place."""
    path = folder / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"name":"numbers"', b'"name":"numbers","name":"other"'))
    assert re.search(r"/bundle\.json:1:\d+: key \"name\" stands twice\.", refused(folder))


def two_inputs(value: dict[str, Any]) -> None:
    """Let a bundle's signature have one input more."""
    value["signature"]["inputs"].append({"name": "Y", "dtype": "float32", "shape": [None, 2]})


def other_width(value: dict[str, Any]) -> None:
    """Let a bundle's signature have a wider input."""
    value["signature"]["inputs"][0]["shape"] = [None, 5]


def other_type(value: dict[str, Any]) -> None:
    """Let a bundle's signature have an input of another type."""
    value["signature"]["inputs"][0]["dtype"] = "float64"


def other_name(value: dict[str, Any]) -> None:
    """Let a bundle's signature have an input of another name."""
    value["signature"]["inputs"][0]["name"] = "Z"


def fixed_rows(value: dict[str, Any]) -> None:
    """Let a bundle's signature have two inputs of another fixed number of rows each."""
    value["signature"]["inputs"][0]["shape"] = [1, 4]
    value["signature"]["inputs"].append({"name": "Y", "dtype": "float32", "shape": [2, 4]})


def same_column(value: dict[str, Any]) -> None:
    """Let a bundle publish a column twice."""
    value["columns"].append(value["columns"][0])


def other_output(value: dict[str, Any]) -> None:
    """Let a bundle publish an output that the model does not have."""
    value["columns"].append({"column": "q", "tensor": "q", "type": "float32"})


def wrong_element(value: dict[str, Any]) -> None:
    """Let a bundle publish an element that the output does not have."""
    value["columns"].append({"column": "q", "tensor": "p", "apply": [{"element": 3}], "type": "float32"})


@pytest.mark.parametrize(
    ("edit", "problems"),
    [
        (two_inputs, ["model input Y float32[rows, 2] is fed by no tensor of the spec"]),
        (other_width, ["model input X float32[rows, 5] is fed with 4 columns"]),
        (other_type, ["model input X float64[rows, 4] is fed with float32 of rank 2"]),
        (
            other_name,
            ["model input Z float32[rows, 4] is fed by no tensor of the spec", "tensor 'X' of the spec is no input"],
        ),
        (
            fixed_rows,
            ["model input Y float32[2, 4] has another first axis than the first input (1): export all with a dynamic"],
        ),
        (same_column, ["column 'p' is published twice"]),
        (other_output, ["column 'q' takes 'q', the model gives p"]),
        (
            wrong_element,
            ["column 'q': tensor p float32[rows, 1]: step 1 of `apply`, element, there is no element 3 among 1"],
        ),
    ],
)
def test_parts_that_do_not_fit_are_found(
    folder: Path, nothing_loads: None, edit: Callable[[dict[str, Any]], object], problems: list[str]
) -> None:
    """What the spec makes and the model takes, and what the model gives and is published, are compared by name."""
    change(folder, edit)
    message = refused(folder)
    assert message.startswith(f"{folder}: ")
    assert all(problem in message for problem in problems)


def test_a_recipe_is_no_part_of_a_bundle(folder: Path, nothing_loads: None) -> None:
    """A spec that is not fitted is a SpecError with the step and what to do."""
    replace_spec(folder, RECIPE)
    with pytest.raises(SpecError, match=r"step 'z' \(standardize\) is not fitted. Run `batchscore fit` first"):
        audit(STORE, str(folder))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe{}", b"[]", b'{"format": "scorespec/9"}'])
def test_a_malformed_spec_is_told(folder: Path, nothing_loads: None, data: bytes) -> None:
    """A spec that is no spec is a SpecError with its path."""
    replace_file(folder, "etl.json", data)
    with pytest.raises(SpecError, match=f"{folder}/etl.json"):
        audit(STORE, str(folder))


def test_everything_is_told_at_once(folder: Path, nothing_loads: None) -> None:
    """One refusal names a changed, a missing, an undigested and a hidden file, and every part that does not fit."""
    (folder / "model.onnx").write_bytes(b"other")
    (folder / "golden" / "rows.arrow").unlink()
    for edit in (two_inputs, other_width, same_column, other_output):
        change(folder, edit)
    change(folder, lambda value: value["files"].pop("golden/outputs.arrow"))
    change(folder, lambda value: value["files"].update({"../x": {"bytes": 0, "sha256": "0" * 64}}))
    message = refused(folder)
    for problem in (
        "file model.onnx was changed",
        "file golden/rows.arrow is missing",
        "file golden/outputs.arrow is used but has no digest",
        "file name '../x' leaves the bundle",
        "model input Y float32[rows, 2] is fed by no tensor",
        "is fed with 4 columns",
        "column 'p' is published twice",
        "column 'q' takes 'q'",
    ):
        assert problem in message
    assert message.endswith(". Nothing was loaded.")


def test_a_spec_that_is_not_fitted_is_told_beside_other_problems(folder: Path, nothing_loads: None) -> None:
    """Where files are damaged too, an unfitted spec is one problem among them."""
    replace_spec(folder, RECIPE)
    (folder / "model.onnx").unlink()
    message = refused(folder)
    assert "file model.onnx is missing" in message
    assert "is not fitted" in message


def test_the_audit_needs_no_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit makes no session, and asks nothing of onnxruntime."""
    monkeypatch.setattr(ort, "InferenceSession", None)
    monkeypatch.setattr(ort, "get_available_providers", None)
    assert "onnxruntime" in sys.modules
    assert audit(STORE, str(folder)).bundle.name == "numbers"


def test_a_stray_file_is_neither_read_nor_copied(folder: Path, tmp_path: Path) -> None:
    """A file that the bundle does not name is left where it is."""
    (folder / "model.pkl").write_bytes(b"evil")
    audited = audit(STORE, str(folder))
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"bundle.json", *audited.bundle.files}
    assert audit(STORE, str(tmp_path / "copy")) == audited


def test_a_copy_that_is_there_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """A copy is written once: its name is its digest, so it holds the same bytes."""
    audited = audit(STORE, str(folder))
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")}
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")} == before


def test_a_copy_that_died_is_completed(folder: Path, tmp_path: Path) -> None:
    """A copy whose maker died before its last file is no bundle, and is completed by the next one."""
    audited = audit(STORE, str(folder))
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    for name in ("bundle.json", "etl.json"):
        (tmp_path / "copy" / name).unlink()
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    assert audit(STORE, str(tmp_path / "copy")) == audited


def test_a_signature_that_is_not_the_models_is_found(tmp_path: Path) -> None:
    """A bundle that declares other tensors than its model has is refused when it is loaded."""
    work = Work(tmp_path, numbers(3))
    replace_file(tmp_path / "bundle", "model.onnx", lookup_model())
    other = audit(STORE, str(tmp_path / "bundle"))
    copy_bundle(other, STORE, model_folder(work.root, other.sha256))
    order = work.make_order(bundle_sha256=other.sha256)
    with pytest.raises(BundleError, match=r"the model's tensors are not the ones that bundle\.json declares"):
        load_scorer(STORE, order, order.models[0])


def test_another_bundle_under_the_name_is_found(tmp_path: Path) -> None:
    """A copy whose document is not the one that was planned is refused, though it is a good bundle."""
    work = Work(tmp_path, numbers(3))
    change(Path(model_folder(work.root, work.audited.sha256)), lambda value: value.update(version="other"))
    order = work.make_order()
    with pytest.raises(BundleError, match="is not the bundle that was planned"):
        load_scorer(STORE, order, order.models[0])


def test_a_device_without_a_tolerance_has_the_default(folder: Path) -> None:
    """A bundle that says a tolerance for one device has the default one on the other."""
    change(folder, lambda value: value["tolerances"].pop("cuda"))
    audited = audit(STORE, str(folder))
    assert audited.tolerance("cuda") == DEFAULT_TOLERANCES["cuda"]
    assert audited.tolerance("cpu") == audited.bundle.tolerances["cpu"]


def test_parts_that_do_not_fit_make_no_bundle(tmp_path: Path) -> None:
    """Parts that do not fit are all told, nothing is written, and the same folder can be used for better ones."""
    columns = [P, P, OutputColumn(column="q", tensor="q", type="float32")]
    spec = LOGISTIC_SPEC.replace("tensor: X, from: [f0, f1, f2, f3]", "tensor: X, from: [f0, f1]")
    with pytest.raises(BundleError, match="Nothing was written") as caught:
        create_bundle(STORE, str(tmp_path / "bundle"), parts_of(spec, logistic_model(), numbers(3), columns))
    for problem in ("is fed with 2 columns", "column 'p' is published twice", "column 'q' takes 'q'"):
        assert problem in str(caught.value)
    assert not (tmp_path / "bundle").exists()
    assert logistic_bundle(tmp_path / "bundle").bundle.name == "numbers"


def test_a_bundle_is_not_overwritten(folder: Path) -> None:
    """A folder that has a bundle takes no other one."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match="there is a bundle here, and bundles are not changed"):
        logistic_bundle(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_bundle_is_a_function_of_its_parts(tmp_path: Path) -> None:
    """The same parts make the same bundle, byte for byte, wherever it is written."""
    assert logistic_bundle(tmp_path / "one").sha256 == logistic_bundle(tmp_path / "two").sha256


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "golden/rows.arrow"])
def test_a_pipe_is_not_waited_for(folder: Path, nothing_loads: None, name: str) -> None:
    """A pipe in the place of a file, which would be waited for without end, is refused, and named."""
    (folder / name).unlink()
    os.mkfifo(folder / name)

    def give_up(*_: object) -> None:
        pytest.fail("the audit waited for a pipe")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        assert f"{name} is no regular file; put the file itself there" in refused(folder)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
