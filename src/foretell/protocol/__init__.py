"""Bytes to requests and responses to bytes; knows no socket, no clock and no model file."""
