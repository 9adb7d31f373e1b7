"""What people see of bundles: what one is made of, and what was found when it was proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.inspection.explain import explain
from etl.printable import counted
from jobs.display.spec import explained_plain, explained_sheet, spec_facts
from jobs.display.summary import Column, Facts, Sheet
from scoring.bundles.golden import arrow_table

if TYPE_CHECKING:
    from jobs.authoring.bundling import Found, Verified
    from scoring.bundles.bundle import AuditedBundle

__all__ = ["bundle_facts", "files_sheet", "found_plain", "steps_sheet", "tensors_sheet", "verified_facts"]

_DIGEST = 12


def bundle_facts(found: Found) -> Facts:
    """What it is, in a dozen lines; of a bare model where it is and that it has no ETL."""
    origin = [("from MLflow", _origin(found))] if found.source.origin else []
    if found.audited is None:
        return [("model", f"a bare ONNX file: {found.source.path}"), *origin, ("etl", "none")]
    audited, bundle = found.audited, found.audited.bundle
    size = sum(file.bytes for file in bundle.files.values())
    facts: Facts = [
        ("bundle", f"{bundle.name}:{bundle.version}"),
        ("folder", found.source.path),
        *origin,
        ("sha256", audited.sha256),
        ("runtime", bundle.runtime),
        ("files", f"{len(bundle.files)}, {size:,} bytes, each with the digest that bundle.json names"),
    ]
    facts += [(f"etl {label}", value) for label, value in spec_facts(audited.spec) if label != "tensors"]
    facts += [("proof", _golden(audited)), ("tolerances", _tolerances(audited))]
    return [*facts, *((f"fact {name}", value) for name, value in bundle.facts.items())]


def tensors_sheet(found: Found) -> Sheet:
    """The model's inputs and outputs, and what each is fed by or published as."""
    columns = (Column("tensor"), Column("is"), Column("columns", "fold"))
    fed: dict[str, str] = {}
    published: dict[str, list[str]] = {}
    if found.audited is not None:
        fed = {t.model_input: ", ".join(t.columns) for t in found.audited.spec.outputs.tensors}
        for column in found.audited.bundle.columns:
            published.setdefault(column.tensor, []).append(column.column)
    rows = [(str(tensor), "input", fed.get(tensor.name, "")) for tensor in found.signature.inputs]
    rows += [(str(tensor), "output", ", ".join(published.get(tensor.name, []))) for tensor in found.signature.outputs]
    return Sheet(columns, rows)


def steps_sheet(audited: AuditedBundle) -> Sheet:
    """The ETL, a line a step."""
    return explained_sheet(audited.spec, explain(audited.spec))


def files_sheet(audited: AuditedBundle) -> Sheet:
    """The files with their digests."""
    columns = (Column("file"), Column("bytes", "right"), Column("sha256", rank=1))
    files = audited.bundle.files.items()
    return Sheet(columns, [(name, f"{file.bytes:,}", file.sha256[:_DIGEST]) for name, file in files])


def verified_facts(found: Verified) -> Facts:
    """That it is sound, and how far the golden rows were off."""
    audited, bundle = found.audited, found.audited.bundle
    files = counted(len(bundle.files), "file has the digest", "files have the digests")
    facts: Facts = [
        ("bundle", f"{bundle.name}:{bundle.version}, sha256 {audited.sha256}"),
        ("files", f"{files} that bundle.json names, and the parts fit"),
        ("device", f"{found.device}, {found.provider}"),
    ]
    if found.deviation is None:
        return [*facts, ("golden rows", "none: nothing was replayed")]
    allowed = f"atol {found.tolerance.atol:g}, rtol {found.tolerance.rtol:g} are allowed"
    return [
        *facts,
        ("features", f"off by {found.deviation.features_ulp} units in the last place at most"),
        ("outputs", f"off by {found.deviation.outputs_abs:.3g} at most; {allowed}"),
        ("verdict", "ok"),
    ]


def found_plain(found: Found) -> dict[str, Any]:
    """The same for programs."""
    plain: dict[str, Any] = {
        "kind": "onnx" if found.audited is None else "bundle",
        "path": found.source.path,
        "origin": dict(found.source.origin),
        "signature": found.signature.model_dump(mode="json"),
    }
    if found.audited is not None:
        spec = found.audited.spec
        plain["sha256"] = found.audited.sha256
        plain["bundle"] = found.audited.bundle.model_dump(mode="json", by_alias=True)
        plain["etl"] = {
            "spec_id": spec.spec_id,
            "sha256": spec.digest,
            "fields": {name: str(type_) for name, type_ in spec.input.columns().items()},
            "steps": [explained_plain(step) for step in explain(spec)],
        }
    return plain


def _origin(found: Found) -> str:
    origin = found.source.origin
    asked = "" if origin["uri"] == origin["resolved"] else f", asked for as {origin['uri']}"
    run = f", run {origin['run_id']}" if "run_id" in origin else ""
    return f"{origin['resolved']} of {origin['registry']}{asked}{run}"


def _golden(audited: AuditedBundle) -> str:
    golden = audited.bundle.golden
    if golden is None:
        return "none"
    rows = arrow_table(audited.files[golden.rows]).num_rows
    tables = f", with excerpts of {', '.join(golden.references)}" if golden.references else ""
    return f"{counted(rows, 'row')} that every machine must reproduce{tables}"


def _tolerances(audited: AuditedBundle) -> str:
    found = audited.bundle.tolerances.items()
    return "; ".join(f"{device}: atol {t.atol:g}, rtol {t.rtol:g}" for device, t in found)
