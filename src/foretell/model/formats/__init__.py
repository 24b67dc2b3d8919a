"""Families of trained models, one a file: artifact -> (signature, task, runners)."""
