"""What a model of pictures does to a picture, and what it finds, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["detection_lines", "picture_lines"]


def picture_lines(image: Mapping[str, Any]) -> list[str]:
    """Return the preparation, step by step, from the table `signature.image`."""
    size = f"{image['width']} x {image['height']}"
    fit = {
        "stretch": f"stretched to {size}",
        "letterbox": f"letterboxed into {size}, the rest filled with {image.get('pad', 0)}",
        "crop": f"resized until it covers {_frame(image)}, the centre of {size} cut out",
    }[image.get("fit", "stretch")]
    widens = "" if image.get("antialias", True) else ", without antialias"
    lines = [f"  {fit}", f"  filter {image.get('resize', 'bilinear')}{widens}"]
    lines.append(f"  colour {image.get('colour', 'rgb')}, layout {image.get('layout', 'nchw')}")
    scaled = f"pixel * {image['scale']:g}" if image.get("scale", 1.0) != 1.0 else "pixel"
    mean, std = image.get("mean", []), image.get("std", [])
    scaled = f"({scaled} - {_numbers(mean)})" if mean else scaled
    return [*lines, f"  x = {scaled}{f' / {_numbers(std)}' if std else ''}"]


def detection_lines(task: Mapping[str, Any]) -> list[str]:
    """Return how objects are read from the outputs, from the table `task`."""
    overlap = task.get("iou_threshold")
    suppressed = "none suppressed" if overlap is None or overlap >= 1 else f"overlap at most {overlap:g}"
    most = f"at most {task['max_objects']}"
    return [f"  layout {task['layout']}, score above {task['score_threshold']:g}, {suppressed}, {most} objects"]


def _frame(image: Mapping[str, Any]) -> str:
    side = image.get("crop_from", 0)
    return f"a frame whose shorter side is {side}" if side else "the tensor"


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"[{', '.join(f'{v:g}' for v in values)}]"
