"""What a fit learns of data: state of the steps, statistics of the fields, what the rows say to the expectations."""
