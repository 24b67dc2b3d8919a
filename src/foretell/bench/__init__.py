"""Measures a server from outside, over HTTP. Knows nothing of models and of the engine."""
