"""Sockets, routes, signals and draining: bytes in, the engine's answers out."""
