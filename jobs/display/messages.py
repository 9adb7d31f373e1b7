"""Errors and warnings on standard error, for people or, as progress, a JSON document a line."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from etl.printable import printable
from etl.redaction import redacted
from jobs.display.progress import json_line

if TYPE_CHECKING:
    from jobs.display.progress import LogFormat

__all__ = ["Messages"]


class Messages:
    """Those of one process."""

    def __init__(self) -> None:
        """For people, until `log_format` says otherwise."""
        self.log_format: LogFormat = "text"

    def error(self, message: str, error: BaseException, *, debug: bool) -> None:
        """What a command ends with, and the notes on it; the traceback only with `debug`."""
        lines = [_shown(message), *(_shown(note) for note in getattr(error, "__notes__", ()))]
        trace = _shown("".join(traceback.format_exception(error))) if debug else ""
        if self.log_format == "json":
            self._document("error", "\n".join(lines), **({"traceback": trace} if trace else {}))
            return
        sys.stderr.write(trace)
        console = Console(stderr=True, highlight=False)
        console.print(Text.assemble(("error: ", "bold red"), lines[0]), soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(line), soft_wrap=True)

    def warning(self, message: Warning | str, *_: object, **__: object) -> None:
        """As `warnings.showwarning`, without the place in the code."""
        self._say(_shown(str(message)), prefix="warning: ")

    def note(self, message: str) -> None:
        """Something that is as it should be, and that a person may wonder about."""
        self._say(message)

    def _say(self, message: str, *, prefix: str = "") -> None:
        if self.log_format == "json":
            self._document("warning", message)
            return
        # Not by a console of its own: it would write into the line of the spinner, which minds sys.stderr.
        sys.stderr.write(f"{prefix}{message}\n")

    def _document(self, event: str, message: str, **more: str) -> None:
        sys.stderr.write(f"{json_line({'event': event, 'message': message, **more})}\n")


def _shown(text: str) -> str:
    return printable(redacted(text), lines=True)
