"""What spark-submit starts. It defines nothing: what `__main__` defines is pickled by value."""

from __future__ import annotations

from jobs.cli import main
from jobs.commands.process import take_streams

take_streams()
main()
