"""An Airflow of its own for these tests: a home that is thrown away, no examples, and nobody told of it."""

from __future__ import annotations

import os
import tempfile

# Airflow reads its home when it is imported.
_HOME = tempfile.TemporaryDirectory(prefix="airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
