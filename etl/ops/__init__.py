"""The ops of a spec, one family a file; `catalogue` has them all."""

from __future__ import annotations

from etl.ops.catalogue import FAMILIES, OPS, AnyRowStep

__all__ = ["FAMILIES", "OPS", "AnyRowStep"]
