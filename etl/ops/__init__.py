"""The ops of a spec, one family a file, and the union that a spec is parsed with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from etl.ops.categorical import OneHot, StringIndex
from etl.ops.columns import Assemble, Cast
from etl.ops.missing import Impute, MissingFlag
from etl.ops.numeric import Clip, Ratio, Standardize
from etl.ops.time import Cyclical, DatePart

__all__ = [
    "AnyRowStep",
    "Assemble",
    "Cast",
    "Clip",
    "Cyclical",
    "DatePart",
    "Impute",
    "MissingFlag",
    "OneHot",
    "Ratio",
    "Standardize",
    "StringIndex",
]

AnyRowStep = Annotated[
    Assemble | Cast | Clip | Cyclical | DatePart | Impute | MissingFlag | OneHot | Ratio | Standardize | StringIndex,
    Field(discriminator="op"),
]
"""Any step that maps the rows of a batch one by one."""
