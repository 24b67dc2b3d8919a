"""Turn data into predictions inside one process. Knows nothing of serving."""
