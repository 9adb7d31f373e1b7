"""A run over pinned files: storage, splits, reading, receipts, the account of rows, publication. Knows no spec."""
