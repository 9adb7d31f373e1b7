"""What a spec does, said to people: explained, compared with another, written as a page."""
