"""`batchscore etl …`: the commands about ETL specs. They parse, call, and print, as `jobs.cli` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from etl.format.files import save_spec
from etl.format.problems import nearest
from etl.golden import replay
from etl.inspection.diff import diff as compare
from etl.inspection.explain import explain as explain_spec
from etl.inspection.op_reference import op_names, op_page, ops_page
from etl.inspection.page import page_of
from etl.spec import read_spec
from jobs.authoring.fitting import check_out
from jobs.authoring.specs import import_datavec_file, read_spec_file, sample_spec
from jobs.display import spec as spec_summary
from jobs.display.summary import Screen
from jobs.errors import ExitCode, Refused, refusing

if TYPE_CHECKING:
    from etl.inspection.diff import Verdict

__all__ = ["named_uris", "specs"]

VERDICT_CODES: dict[Verdict, int] = {
    "compatible": 0,
    "refit-model": ExitCode.REFIT_MODEL,
    "incompatible": ExitCode.INCOMPATIBLE,
}
"""What `diff` ends with."""

specs = typer.Typer(
    no_args_is_help=True,
    help="Check, explain, compare, try and import ETL specs.\n\nExit codes: 0 done, 2 refused; `diff`: 0 compatible, "
    "5 the model has to be trained again, 6 it cannot be fed.",
)
imports = typer.Typer(
    no_args_is_help=True,
    help="Make a spec of what another system wrote. A scikit-learn pipeline is imported from Python, by "
    "etl.importing.sklearn_pipeline.import_sklearn: on disk it is a pickle, which runs code, and no pickle is loaded.",
)
specs.add_typer(imports, name="import")

_Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="A spec or recipe, YAML or JSON; or the folder of a bundle.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_References = Annotated[
    list[str] | None, typer.Option(metavar="NAME=URI", help="A reference table that the spec joins. Repeatable.")
]


def named_uris(pairs: list[str] | None) -> dict[str, str]:
    """Reference tables by name, from `NAME=URI`.

    Raises:
        Refused: a text has no name or no URI.
    """
    found = {}
    for text in pairs or ():
        name, equals, uri = text.partition("=")
        if not (name and equals and uri):
            raise Refused(f"--reference {text}: give NAME=URI.")
        found[name] = uri
    return found


@specs.command()
def validate(spec: _Spec) -> None:
    """Check a spec or recipe whole: form, columns, types, its digest, its golden rows; exits 2 on a fault.

    Warns of a fitted spec that is not sealed: a digest and golden rows that were taken out can tell of no change.
    """
    read = read_spec_file(spec)
    if read.is_fitted:
        with refusing():
            replay(read)
    _screen().facts([*spec_summary.spec_facts(read), *spec_summary.verdict_facts(read)])


@specs.command()
def explain(
    spec: _Spec,
    *,
    schema: Annotated[bool, typer.Option("--schema", help="List every column behind each step, too.")] = False,
    as_json: _Json = False,
) -> None:
    """Show what each step adds to and takes from the columns, the passes of a fit, and what a row costs here."""
    read = read_spec_file(spec)
    steps = explain_spec(read)
    if as_json:
        typer.echo(json.dumps([spec_summary.explained_plain(step) for step in steps]))
        return
    screen = _screen()
    screen.sheet(spec_summary.explained_sheet(read, steps))
    if schema:
        screen.line()
        screen.facts(spec_summary.schema_facts(read, steps))
    screen.line()
    screen.facts(spec_summary.explained_facts(read, steps))


@specs.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The spec that the model was trained behind.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The spec that is to take its place.")],
    *,
    as_json: _Json = False,
) -> None:
    """Compare two specs: steps, drift of what was learned, layout of the tensors.

    Exit codes: 0 compatible, the model gets the same numbers.

    5 refit-model, it has to be trained again. 6 incompatible, it cannot even be fed. 2 refused.
    """
    found = compare(read_spec_file(old), read_spec_file(new))
    if as_json:
        typer.echo(json.dumps(_plain(found)))
    else:
        screen = _screen()
        sheet = spec_summary.difference_sheet(found)
        if sheet.rows:
            screen.sheet(sheet)
            screen.line()
        screen.facts([("verdict", found.verdict)])
    raise typer.Exit(VERDICT_CODES[found.verdict])


@specs.command()
def sample(
    spec: _Spec,
    *,
    data: Annotated[list[str], typer.Option(metavar="URI", help="Rows: folder, file or glob of Parquet. Repeatable.")],
    reference: _References = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=1000, metavar="N", help="How many.")] = 3,
    as_json: _Json = False,
) -> None:
    """Show the first rows of data before and after every step."""
    found = sample_spec(read_spec_file(spec, fitted=True), tuple(data), rows, references=named_uris(reference))
    if as_json:
        columns = [column._replace(type=str(column.type))._asdict() for column in found.columns]  # type: ignore[arg-type]  # as text, for JSON
        typer.echo(json.dumps({"columns": columns, "outcomes": found.outcomes}))
        return
    _screen().sheet(spec_summary.sample_sheet(found))


@specs.command()
def docs(
    spec: _Spec,
    *,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the page here instead of printing it.")] = None,
) -> None:
    """Print a page that explains a spec to a person, as Markdown."""
    read = read_spec_file(spec)
    page = page_of(read)
    if out is None:
        typer.echo(page, nl=False)
        return
    check_out(out, spec, spec=read)
    try:
        with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123  what the user names, as the shell would
            file.write(page)
    except OSError as error:
        raise Refused(f"{out}: the page cannot be written: {error.strerror}.") from error
    _screen().line(f"written to {out}")


@specs.command()
def ops(name: Annotated[str | None, typer.Argument(metavar="OP", help="One op; without it, all.")] = None) -> None:
    """Print what ops mean, as Markdown."""
    if name is None:
        typer.echo(ops_page(), nl=False)
        return
    try:
        typer.echo(op_page(name), nl=False)
    except KeyError:
        raise Refused(f"no op {name!r}.{nearest(name, op_names())}") from None


@imports.command()
def datavec(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TransformProcess of DataVec, as its toJson wrote it.")],
    *,
    out: Annotated[str, typer.Option(metavar="SPEC", help="Where the spec goes.")],
    as_json: _Json = False,
) -> None:
    """Make a spec of a DataVec process that makes the same of rows, and tell what each action became.

    What cannot be expressed exactly is refused, all of it at once, and nothing is written.
    """
    found = import_datavec_file(file)
    check_out(out, file)
    with refusing():
        spec = read_spec(json.dumps(found.document), out)
    written = save_spec(spec, out)
    if as_json:
        typer.echo(json.dumps({"report": [part._asdict() for part in found.report], "written": written}))
        return
    screen = _screen()
    screen.sheet(spec_summary.imported_sheet(found))
    screen.line()
    screen.facts([("spec", spec.spec_id), ("written", ", ".join(written))])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(part) for key, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _screen() -> Screen:
    return Screen(Console(highlight=False))
