"""What rows look like, in bounded memory: exact counts, and a random sample of them that can be merged without loss."""
