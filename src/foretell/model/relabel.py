"""Give the classes of a classifier the names that people use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foretell.errors import ConfigError
from foretell.model.bundle import Golden
from foretell.model.formats.base import Opened
from foretell.model.tasks.classification import Classification

__all__ = ["relabel"]


def relabel(opened: Opened, golden: Golden, labels: Sequence[str]) -> tuple[Opened, Golden]:
    """Return the model and its golden examples with other names for the classes, in the same order.

    Raises:
        ConfigError: The model is no classifier, or has another number of classes.
    """
    task = opened.task
    if not isinstance(task, Classification):
        raise ConfigError(f"--labels: the model is a {task.name}, only a classification has labels; leave it out")
    if len(labels) != len(task.classes) or len(set(labels)) != len(labels):
        raise ConfigError(f"--labels: got {len(set(labels))} names, expected {len(task.classes)} different ones")
    if task.label_output is not None and not task.label_is_index and task.classes != tuple(range(len(task.classes))):
        raise ConfigError(f"--labels: the model names its own classes, {task.classes[:4]} ...; leave --labels out")
    named = replace(task, classes=tuple(labels), label_is_index=task.label_output is not None)
    position = {label: i for i, label in enumerate(task.classes)}
    answers = [a | {"label": labels[position[a["label"]]]} for a in golden.answers]
    return replace(opened, task=named), Golden(golden.rows, answers)
