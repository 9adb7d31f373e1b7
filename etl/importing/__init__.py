"""Specs of other systems, read as specs of ours; nothing is made that would mean something else.

Begin with `datavec` (`import_datavec`) or `sklearn_pipeline` (`import_sklearn`, which alone needs scikit-learn). Each
hands the parts of what it reads to the files of its own prefix, one a family, and these write into a draft. What the
two share: `draft` is what has been written, `refusals` says what cannot be, and `report` is what comes out:
`Imported`, whose `document` is read by `etl.read_spec` as any other, and whose `report` says what each part became.
"""

from __future__ import annotations

from etl.importing.datavec import import_datavec
from etl.importing.report import Imported, Mapped

__all__ = ["Imported", "Mapped", "import_datavec"]
