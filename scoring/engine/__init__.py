"""The flow of rows through a worker: stages that overlap, batches of the model, what a split became."""
