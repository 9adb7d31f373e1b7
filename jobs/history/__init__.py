"""Looking back at runs that were: what lies in storage of them, why they took as long, one row of them again."""

from __future__ import annotations

__all__: list[str] = []
