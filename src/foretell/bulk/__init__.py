"""Predict files: read, prepare, run, write."""
