"""Specs of other systems, read as specs of ours."""

from __future__ import annotations

from etl.importing.datavec import import_datavec
from etl.importing.draft import Imported, Mapped

__all__ = ["Imported", "Mapped", "import_datavec"]
