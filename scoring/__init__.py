"""Models: bundle, signature, session, batching, worker. Knows tables, not jobs.

Spark is imported in `scoring.spark.tasks` alone, so that the worker runs without it.
"""

from __future__ import annotations

__all__: list[str] = []
