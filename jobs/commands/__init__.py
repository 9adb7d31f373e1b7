"""The commands of the command line, a file each: options in, what does the work, and a showing of what came of it."""

from __future__ import annotations

__all__: list[str] = []
