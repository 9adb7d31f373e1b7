"""A model as a folder: its files and digests, how one is made, and the golden rows that prove it wherever it loads."""
