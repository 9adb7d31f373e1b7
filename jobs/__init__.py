"""Composition: config, plan, run, record, results, command line. May import both other packages; nobody imports it."""

from __future__ import annotations

__all__: list[str] = []
