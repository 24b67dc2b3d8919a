"""Save a fitted pipeline as MLflow's own model folder: save_for_mlflow.py PIPELINE FOLDER."""

import sys
from pathlib import Path

import joblib
import mlflow.sklearn

source, target = sys.argv[1:]
if not Path(target).exists():
    mlflow.sklearn.save_model(joblib.load(source), target, serialization_format="cloudpickle", pip_requirements=[])
