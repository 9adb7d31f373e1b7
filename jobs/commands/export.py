"""`batchscore export …`: models of other libraries as ONNX. The commands parse, call, and print, as `jobs.cli` does."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from etl.printable import counted
from jobs.authoring.exporting import Export, Exported, export_torch
from jobs.display.summary import Screen

__all__ = ["exports"]

exports = typer.Typer(
    no_args_is_help=True,
    help="Make ONNX of a model of another library, and prove it on rows.\n\nExit codes: 0 done, 2 refused; nothing is "
    "written where ONNX does not give what the library gives.",
)


@exports.callback()
def group() -> None:
    """Keep `torch` a word of the command line, though it is the only one yet."""


@exports.command("torch")
def torch_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A program of torch.export (.pt2), or a .json that declares a module and its weights. A program is "
            "loaded, and so run: give one whose maker you know.",
        ),
    ],
    *,
    out: Annotated[str, typer.Option(metavar="FILE", help="The .onnx file to write.")],
    sample: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Rows on which both are compared: .npz with an array an input, or Parquet with a column an input.",
        ),
    ],
    opset: Annotated[int | None, typer.Option(min=18, metavar="N", help="Of ONNX. Default: torch's own.")] = None,
    atol: Annotated[
        float, typer.Option(min=0, metavar="X", help="|onnx - torch| may be atol + rtol · |torch|.")
    ] = 1e-5,
    rtol: Annotated[float, typer.Option(min=0, metavar="X", help="See --atol.")] = 1e-4,
) -> None:
    """Export a torch model to ONNX with rows as an open axis, and compare both on a sample."""
    done = export_torch(Export(source=source, sample=sample, out=out, opset=opset, atol=atol, rtol=rtol))
    Screen(Console(highlight=False)).facts([("written", out), *_facts(done)])


def _facts(done: Exported) -> list[tuple[str, str]]:
    return [
        *(("input", str(tensor)) for tensor in done.signature.inputs),
        *(("output", str(tensor)) for tensor in done.signature.outputs),
        ("compared", f"{counted(done.rows, 'row')}, all at once and the first alone"),
        *((f"off, {one.output}", f"{one.absolute:.3g}, relative {one.relative:.3g}") for one in done.differences),
    ]
