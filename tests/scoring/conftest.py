"""What of these tests runs where."""

from __future__ import annotations

import importlib.util

# torch is 6 GB with its libraries and in no environment but one: `make test-torch` runs these.
collect_ignore = [] if importlib.util.find_spec("torch") else ["test_runtimes_torch.py"]
