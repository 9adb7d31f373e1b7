"""Partial states of fitting: what one part of the rows tells, and how the parts are put together.

All are exact, so the same rows give the same state, to the byte, however they are cut and in whatever order the parts
are merged. They know columns of values alone: the missing ones are taken out before.
"""

from __future__ import annotations

from etl.partials.base import Partial
from etl.partials.counts import Counts, NumberCounts
from etl.partials.histogram import Histogram
from etl.partials.keyed import KeyedSums
from etl.partials.moments import Extent, Moments
from etl.partials.quantiles import Quantiles

__all__ = ["Counts", "Extent", "Histogram", "KeyedSums", "Moments", "NumberCounts", "Partial", "Quantiles"]
