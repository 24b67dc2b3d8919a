"""Draws answers in time over the load offered. Knows no server."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def plot(path: Path, offered: Sequence[float], lines: Mapping[str, Sequence[float]], capacity: float) -> None:
    """Write a picture of answers in time per second, a line for each name.

    Args:
        path: `.svg` or `.png`.
        offered: Requests per second.
        lines: Answers in time per second for each of `offered`.
        capacity: Rows per second that the model alone can do on the core.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "overload"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(capacity, color="0.6", linestyle=":", label="what the model alone can do")
    for name, rates in lines.items():
        ours = name.startswith("Foretell")
        axes.plot(offered, rates, marker="o", markersize=4, linewidth=2 if ours else 1.2, label=name,
                  linestyle="-" if ours else "--")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(offered, [f"{rate:,.0f}" for rate in offered])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests offered per second")
    axes.set_ylabel("answers per second within 200 ms")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata, dpi=120)
