"""CBM to JSON, by the library. Run as a file in a process of its own, so it imports nothing of foretell.

python -I catboost_json.py model.cbm model.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["translate"]


def translate(source: str, target: str) -> None:
    """Write the model of one file into another.

    Raises:
        Exception: Whatever the library raises on a file that it cannot read.
    """
    import catboost

    model = catboost.CatBoost().load_model(source, format="cbm")
    if not model.get_text_feature_indices() and not model.get_embedding_feature_indices():
        model.save_model(target, format="json")
        return
    # The library does not write such models as JSON: say of what shape they are.
    Path(target).write_text(json.dumps(_described(model)))


def _described(model: Any) -> dict[str, Any]:
    texts, categories = model.get_text_feature_indices(), model.get_cat_feature_indices()
    kinds: dict[str, list[Any]] = {
        "float_features": [], "categorical_features": [], "text_features": [], "embedding_features": [],
    }  # fmt: skip
    for index, name in enumerate(model.feature_names_):
        kind = "text" if index in texts else "categorical" if index in categories else "float"
        kind = "embedding" if index in model.get_embedding_feature_indices() else kind
        entries = kinds[kind + "_features"]
        entries.append({"feature_id": name, "feature_index": len(entries), "flat_feature_index": index})
    loss = model.get_all_params()["loss_function"].partition(":")[0]
    scale, bias = model.get_scale_and_bias()
    classes = [c.item() if hasattr(c, "item") else c for c in model.classes_]
    info = {"params": {"loss_function": {"type": loss}}, "class_params": {"class_names": classes}}
    return {"features_info": kinds, "model_info": info, "trees": [], "scale_and_bias": [scale, bias]}


if __name__ == "__main__":
    translate(sys.argv[1], sys.argv[2])
