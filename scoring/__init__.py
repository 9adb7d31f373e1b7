"""Models: bundle, signature, session, batching, worker. Knows tables, not jobs, and imports Spark in `scoring.spark` alone."""

from __future__ import annotations

__all__: list[str] = []
