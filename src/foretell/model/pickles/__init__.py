"""Pickles, looked into without running them: an inert reader, and what it says of an estimator."""

from __future__ import annotations

from foretell.model.pickles.estimator import describe_estimator
from foretell.model.pickles.inert import UnreadablePickle
from foretell.model.pickles.opcodes import pickle_protocol, read_pickle

__all__ = ["UnreadablePickle", "describe_estimator", "pickle_protocol", "read_pickle"]
