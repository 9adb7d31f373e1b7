"""The ops of a spec, one family a file, and the union that a spec is parsed with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from etl.ops.categorical import OneHot
from etl.ops.missing import Impute
from etl.ops.numeric import Standardize

__all__ = ["AnyRowStep"]

AnyRowStep = Annotated[Impute | OneHot | Standardize, Field(discriminator="op")]
"""Any step that maps the rows of a batch one by one."""
