"""A spec as a document: its text and places, all its errors at once, older forms, and the files beside it."""
