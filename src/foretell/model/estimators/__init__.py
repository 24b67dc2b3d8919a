"""The child process in which a pickled estimator is opened, described, converted and, at worst, run."""
