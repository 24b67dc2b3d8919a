"""Foretell: give it a trained model and new data, it gives predictions."""
