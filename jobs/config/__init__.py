"""The job config: what a person writes, checked whole."""

from __future__ import annotations

__all__: list[str] = []
