"""Runs of many dates: which they are, their drivers side by side, and what is scored again with another model."""

from __future__ import annotations

__all__: list[str] = []
