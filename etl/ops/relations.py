"""Relational steps, which come before all row steps: joins to reference tables, and what needs other rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from etl.ops.filtering import Filter
from etl.ops.lookup import LookupJoin

__all__ = ["AnyRelationalStep"]

AnyRelationalStep = Annotated[Filter | LookupJoin, Field(discriminator="op")]
"""Any step that may come before the row steps."""
