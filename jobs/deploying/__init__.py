"""Getting to a cluster: a Python to pack, a place to check, what is waited for."""

from __future__ import annotations

__all__: list[str] = []
