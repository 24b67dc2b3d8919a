"""What a model of pictures answers to a picture, as tensors of a fixed shape per row, and how those are read again.

A network's own outputs are answers to the tensor it takes, and mean something together with what the preparation did.
To somebody who sent a picture the answers are

    detection        boxes, scores, labels, counts: see `Objects`
    classification   label (the name), probability, probabilities
    anything else    the network's own outputs

Knows no picture and no wire.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.predictions import Task
from foretell.signature import TensorSpec

__all__ = ["Answered"]

Outputs = list[NDArray[Any]]


@dataclass(frozen=True)
class Answered:
    """The answers of one model of pictures."""

    specs: tuple[TensorSpec, ...]
    """Of the answers, in order; axis 0 of each is the pictures."""
    reader: Task
    """Reads answers as the model's task reads the outputs of the network: the same values, to the last bit."""
    task: Task
    """Of the model."""
    size: tuple[int, int]
    """Width and height of the network's tensor, in pixels."""

    @classmethod
    def of(cls, task: Task, outputs: tuple[TensorSpec, ...], size: tuple[int, int] = (0, 0)) -> Answered:
        """Return what a model answers.

        Args:
            task: Of the model.
            outputs: Of its network.
            size: Width and height of the tensor that the network takes; needed only by who calls `answers`.
        """
        if isinstance(task, Detection):
            return cls(task.answered, task, task, size)
        if isinstance(task, Classification) and task.label_output is None and task.probability_output is not None:
            datatype = outputs[task.probability_output].datatype
            specs = (
                TensorSpec("label", "BYTES", (-1,)),
                TensorSpec("probability", datatype, (-1,)),
                TensorSpec("probabilities", datatype, (-1, len(task.classes))),
            )
            return cls(specs, replace(task, probability_output=2, logits=False), task, size)
        return cls(outputs, task, task, size)

    def answers(self, outputs: Outputs, geometry: NDArray[np.float64]) -> Outputs:
        """Return the answers to some pictures.

        Args:
            outputs: Of the network.
            geometry: See `Detection.objects`.
        """
        if isinstance(self.task, Detection):
            return list(self.task.objects(outputs, geometry, self.size).arrays())
        if self.reader is self.task or not isinstance(self.task, Classification):
            return outputs
        probabilities = self.task.probabilities(outputs)
        assert probabilities is not None, "such a classification has probabilities. This is a bug."
        best = probabilities.argmax(axis=1)
        labels = np.empty(len(best), object)
        labels[:] = [str(self.task.classes[at]) for at in best.tolist()]
        return [labels, probabilities.max(axis=1), probabilities]
