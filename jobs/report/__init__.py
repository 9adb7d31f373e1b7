"""A run as one page: an HTML file beside its record that needs no network, no server and no JavaScript.

gathered.py   what the page tells, from the record, the receipts, the predictions and the rows that were set aside
work.py     throughput over time and the slowest splits, from one pass over the receipts
scores.py   distributions of the scores, from a bounded sample of the files
reasons.py  why rows were set aside, with some of them; personal data is masked
as_run.py   the config beside the run
charts.py     numbers to SVG and to shares of a width
page.py       the page, by the template `page.html`
leaving.py    writes it when a run ends, in bounded time, and never fails the run
"""

from __future__ import annotations

__all__: list[str] = []
