"""Before there is a job: models to bundles, data to specs, both to a first config."""

from __future__ import annotations

__all__: list[str] = []
