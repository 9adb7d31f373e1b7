"""What needs Spark of models: the tasks of a run. Nothing else of `scoring` imports this."""
