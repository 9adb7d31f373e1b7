"""`batchscore bundle …`: the commands about bundles. They parse, call, and print, as `jobs.cli` does."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer
from rich.console import Console

from jobs.authoring import bundling
from jobs.commands.etl import named_uris
from jobs.display import bundle as bundle_summary
from jobs.display.summary import Screen
from jobs.errors import Refused
from scoring.runtimes.base import DeviceChoice  # noqa: TC001  typer reads it when the program runs

__all__ = ["bundles"]

bundles = typer.Typer(
    no_args_is_help=True,
    help="Make, look into, prove and log bundles: a model with its ETL, and rows that prove both.\n\nA bundle is named "
    "by its folder or by a URI of MLflow: models:/name@alias, models:/name/3, runs:/id/path.\n\nExit codes: 0 done, 2 "
    "refused: it is not there, not sound, or does not give its golden rows here.",
)

_Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="The folder of a bundle, or a URI of MLflow.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_References = Annotated[
    list[str] | None, typer.Option(metavar="NAME=URI", help="A reference table that the spec joins. Repeatable.")
]

_Outputs = Annotated[
    str | None, typer.Option(metavar="FILE", help="YAML with `outputs:`, as in a job. Default: a column an output.")
]
_FactTexts = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Free text about the model. Repeatable.")
]


def _facts(texts: list[str] | None) -> dict[str, str]:
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Refused(f"--fact {text}: give KEY=VALUE.")
        found[name] = value
    return found


@bundles.command()
def create(  # noqa: PLR0913  each option is a part of a bundle
    *,
    model: Annotated[str, typer.Option(metavar="ONNX", help="The .onnx file; weights beside it come along.")],
    spec: Annotated[str, typer.Option(metavar="SPEC", help="The fitted ETL spec, as `batchscore fit` writes it.")],
    rows: Annotated[list[str], typer.Option(metavar="URI", help="Parquet with golden rows. Repeatable.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Lower-case name of the model.")],
    version: Annotated[str, typer.Option(metavar="TEXT", help="Its version, for people.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="The new folder.")],
    outputs: _Outputs = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, metavar="N", help="Golden rows to keep.")] = 100,
    reference: _References = None,
    fact: _FactTexts = None,
) -> None:
    """Make a bundle of a model, the fitted spec that it was trained behind, and rows that prove both.

    The golden rows are scored here. Values of fields that the spec calls personal data are not stored.
    """
    asked = bundling.Making(
        name=name,
        version=version,
        model=model,
        spec=spec,
        rows=tuple(rows),
        most_rows=most,
        outputs=outputs,
        references=named_uris(reference),
        facts=_facts(fact),
    )
    bundling.make(asked, out)
    screen = _screen()
    screen.facts(bundle_summary.bundle_facts(bundling.find(out)))
    screen.next_steps(
        [
            ("prove it on another machine", _line("bundle", "verify", out)),
            ("make a job of it", _line("init", out, *rows)),
        ]
    )


@bundles.command()
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundle, an .onnx file, or a URI of MLflow.")],
    *,
    as_json: _Json = False,
) -> None:
    """Show what a bundle is: model, columns, ETL, files, golden rows, tolerances. Of an .onnx file its tensors."""
    found = bundling.find(model)
    if as_json:
        typer.echo(json.dumps(bundle_summary.found_plain(found), indent=1))
        return
    screen = _screen()
    screen.facts(bundle_summary.bundle_facts(found))
    screen.line()
    screen.sheet(bundle_summary.tensors_sheet(found))
    if found.audited is not None:
        screen.line()
        screen.sheet(bundle_summary.steps_sheet(found.audited))
        screen.line()
        screen.sheet(bundle_summary.files_sheet(found.audited))


@bundles.command()
def verify(
    bundle: _Bundle,
    *,
    device: Annotated[DeviceChoice, typer.Option(help="Where the golden rows are replayed.")] = "cpu",
    as_json: _Json = False,
) -> None:
    """Audit a bundle and replay its golden rows on this machine; exits 2 on a fault.

    Features must come out equal to the bit, outputs within the bundle's tolerances.
    """
    found = bundling.verify(bundle, device)
    if as_json:
        deviation = None if found.deviation is None else found.deviation._asdict()
        facts = {"sha256": found.audited.sha256, "device": found.device, "provider": found.provider}
        typer.echo(json.dumps({**facts, "tolerance": found.tolerance.model_dump(), "deviation": deviation}))
        return
    _screen().facts(bundle_summary.verified_facts(found))


@bundles.command()
def log(
    bundle: _Bundle,
    *,
    registered_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register it as a new version of this model.")
    ] = None,
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Let this alias name the new version.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the logged model. Default: the bundle's.")
    ] = None,
    reference: _References = None,
    as_json: _Json = False,
) -> None:
    """Log a bundle to MLflow as a model with its ETL inside, so that `mlflow models serve` gives the same scores.

    The server is that of MLFLOW_TRACKING_URI. Reference tables that the spec joins are logged with it, whole.
    """
    logged = bundling.log(bundle, named_uris(reference), name=name, registered=registered_name, alias=alias)
    if as_json:
        typer.echo(json.dumps(logged._asdict()))
        return
    uri = logged.uri if alias is None else f"models:/{registered_name}@{alias}"
    screen = _screen()
    screen.facts([("logged", logged.uri), ("run", logged.run_id), *([("alias", alias)] if alias else [])])
    screen.next_steps(
        [
            ("look into it", _line("bundle", "inspect", uri)),
            ("serve it", shlex.join(["mlflow", "models", "serve", "-m", uri, "--env-manager", "local"])),
        ]
    )


def _line(*words: str) -> str:
    return shlex.join(["batchscore", *words])


def _screen() -> Screen:
    return Screen(Console(highlight=False))
