"""From receipts to a version: the account, what holds a run back, what is decided, what is left behind."""

from __future__ import annotations

__all__: list[str] = []
