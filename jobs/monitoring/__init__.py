"""What is kept of runs beside their predictions, so that one night can be compared with another."""
