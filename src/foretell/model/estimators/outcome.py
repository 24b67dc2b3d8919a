"""What an estimator answers: its task, the outputs of a graph, and its own answers to rows.

Knows the kinds of estimators of scikit-learn: classifiers, regressors, detectors of outliers, clusterers.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import LoadError
from foretell.model.formats.base import Answers
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.signature import Label, TensorSpec

__all__ = ["Outcome", "final", "outcome_of", "unwrap"]

_MOST_PROBABLE = {
    "DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier",
    "GradientBoostingClassifier", "HistGradientBoostingClassifier", "AdaBoostClassifier", "BaggingClassifier",
    "LogisticRegression", "LogisticRegressionCV", "GaussianNB", "MultinomialNB", "BernoulliNB", "ComplementNB",
    "CategoricalNB", "MLPClassifier", "KNeighborsClassifier", "CalibratedClassifierCV", "StackingClassifier",
    "LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis", "GaussianProcessClassifier", "XGBClassifier",
    "XGBRFClassifier", "LGBMClassifier", "CatBoostClassifier", "DummyClassifier",
}  # fmt: skip
"""Classifiers whose `predict` is the label of the largest of `predict_proba`, by their definition."""


@dataclass(frozen=True)
class Outcome:
    """The task, and how it is asked for."""

    task: Task
    wanted: tuple[tuple[str, str, bool], ...]
    """Outputs of a graph: name, method, whether it is flat, (rows,)."""

    def specs(self, estimator_answers: Answers) -> tuple[TensorSpec, ...]:
        """Return the outputs of the runtime that asks the estimator itself."""
        if isinstance(self.task, Classification):
            specs = [TensorSpec("label", "INT64", (-1,))]
            if self.task.probability_output is not None:
                specs.append(TensorSpec("probabilities", "FP64", (-1, len(self.task.classes))))
            return tuple(specs)
        return (TensorSpec("values", "FP64", (-1, *estimator_answers.values.shape[1:])),)

    def own_task(self) -> Task:
        """Return the task of the runtime that asks the estimator itself: it always gives labels."""
        if not isinstance(self.task, Classification):
            return self.task
        place = None if self.task.probability_output is None else 1
        return Classification(self.task.classes, 0, place, label_is_index=True)

    def answers(self, estimator: Any, frame: Any) -> Answers:
        """Ask the estimator itself."""
        import joblib

        with warnings.catch_warnings(), joblib.parallel_config(backend="threading"):
            warnings.simplefilter("ignore")
            values = _flat(np.asarray(estimator.predict(frame)))
            probabilities = None
            if isinstance(self.task, Classification) and self.task.probability_output is not None:
                probabilities = np.asarray(estimator.predict_proba(frame))
        return Answers(values, probabilities)

    def positions(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return labels as positions in the classes."""
        places = {label: place for place, label in enumerate(self.task.classes)}
        return np.array([places[v] for v in labels.tolist()], np.int64)


def unwrap(estimator: Any) -> Any:
    """Return the best estimator of a search, or the estimator as it is."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    return estimator


def final(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator as it is."""
    estimator = unwrap(estimator)
    while hasattr(estimator, "steps") and estimator.steps:
        estimator = unwrap(estimator.steps[-1][1])
    return estimator


def outcome_of(estimator: Any, frame: Any) -> Outcome:
    """Find out what an estimator answers, by its kind and by asking it for one row.

    Raises:
        LoadError: It does not predict, or not one answer a row.
    """
    last = final(estimator)
    name = type(last).__name__
    if not hasattr(estimator, "predict"):
        raise LoadError(f"it ends in {name}, which transforms and does not predict; save the pipeline with its model")
    classes = getattr(estimator, "classes_", None)
    if classes is not None and not _is_regressor(estimator):
        return _classification(estimator, classes, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = _flat(np.asarray(estimator.predict(frame)))
    if _gives_labels(last):
        return _groups(last, name)
    if answer.dtype.kind not in "fiub":
        raise LoadError(f"{name} predicts values of type {answer.dtype}, expected numbers or one label a row")
    return Outcome(Regression(), (("values", "predict", answer.ndim == 1),))


def _classification(estimator: Any, classes: Any, name: str) -> Outcome:
    if isinstance(classes, (list, tuple)) or np.ndim(classes) != 1:
        raise LoadError(f"{name} gives several labels a row; save one classifier for each of them")
    labels = tuple(_label(c) for c in classes)
    has_probabilities = hasattr(estimator, "predict_proba")
    wanted: list[tuple[str, str, bool]] = []
    if not (has_probabilities and name in _MOST_PROBABLE):
        wanted.append(("label", "predict", True))
    place = len(wanted) if has_probabilities else None
    if has_probabilities:
        wanted.append(("probabilities", "predict_proba", False))
    label = 0 if wanted[0][0] == "label" else None
    return Outcome(Classification(labels, label, place, label_is_index=True), tuple(wanted))


def _groups(last: Any, name: str) -> Outcome:
    """Return the outcome of a detector of outliers (1 and -1), or of a clusterer (0, 1 ...)."""
    found = getattr(last, "cluster_centers_", getattr(last, "means_", getattr(last, "weights_", None)))
    if _kind(last) == "outlier_detector":
        labels: tuple[Label, ...] = (-1, 1)
    elif found is not None:
        labels = tuple(range(len(found)))
    else:
        raise LoadError(f"{name} does not say into how many groups it sorts")
    return Outcome(Classification(labels, 0, None, label_is_index=True), (("label", "predict", True),))


def _gives_labels(last: Any) -> bool:
    return _kind(last) in ("outlier_detector", "clusterer", "density_estimator")


def _is_regressor(estimator: Any) -> bool:
    return _kind(estimator) == "regressor"


def _kind(estimator: Any) -> str:
    """Return scikit-learn's word for the kind of an estimator."""
    try:
        from sklearn.utils import get_tags

        return str(get_tags(estimator).estimator_type)
    except (AttributeError, TypeError, ValueError, ImportError):
        return str(getattr(estimator, "_estimator_type", ""))


def _label(value: Any) -> Label:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (str, int, float, bool)):
        raise LoadError(f"a class of type {type(plain).__name__}; expected strings, numbers or booleans")
    return plain


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
