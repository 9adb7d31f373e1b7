"""What needs Spark of models: the tasks of a run, and scores in DataFrames."""
