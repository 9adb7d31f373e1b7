"""From a model's output tensors to published Arrow columns."""
