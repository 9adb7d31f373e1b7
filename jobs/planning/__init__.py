"""From a config to a plan that is stored: pinned inputs, models, what scores them, where they go. Scores nothing."""

from __future__ import annotations

__all__: list[str] = []
