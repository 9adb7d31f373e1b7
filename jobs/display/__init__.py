"""What people see of runs on a terminal or in a log: facts, tables, progress."""

from __future__ import annotations

__all__: list[str] = []
