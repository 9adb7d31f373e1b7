"""Models: bundle, signature, session, batching, worker. Knows tables, not jobs.

What a notebook needs is here: `score_table` for a table in memory, `score` and `score_udf` for DataFrames of Spark,
with `ScoreOptions`. They are imported when they are asked for, and Spark only where one has a DataFrame, so that a
worker starts without either.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoring.engine.stream import ScoreOptions
    from scoring.spark.frames import score
    from scoring.spark.udf import score_udf
    from scoring.tables import score_table

__all__ = ["ScoreOptions", "score", "score_table", "score_udf"]

_PLACES = {
    "ScoreOptions": "scoring.engine.stream",
    "score": "scoring.spark.frames",
    "score_table": "scoring.tables",
    "score_udf": "scoring.spark.udf",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_PLACES[name]), name)
