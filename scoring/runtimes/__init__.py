"""What runs a model: one room a runtime, behind two verbs, `load` and `predict`. Each is imported when asked for."""

from __future__ import annotations

from scoring.runtimes.loading import load

__all__ = ["load"]
