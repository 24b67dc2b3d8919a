"""Show predicted beside real prices, the error, and a plot: compare.py OUT."""

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt


def main(out: Path) -> None:
    homes = pd.read_csv(out / "prices.csv").merge(pd.read_csv(out / "sold.csv"), on="Id")
    error = homes["prediction"] - homes["Sale_Price"]
    shown = homes.head(8).assign(off=(error / homes["Sale_Price"]).head(8).map("{:+.1%}".format))
    print(shown.to_string(index=False, formatters={c: "${:,.0f}".format for c in ("prediction", "Sale_Price")}))
    r2 = 1 - (error**2).sum() / ((homes["Sale_Price"] - homes["Sale_Price"].mean()) ** 2).sum()
    median = (error.abs() / homes["Sale_Price"]).median()
    print(
        f"\n{len(homes)} homes the model has not seen: R2 {r2:.3f}, mean error ${error.abs().mean():,.0f}, "
        f"half of them within {median:.1%}"
    )
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    axes.scatter(homes["Sale_Price"] / 1e3, homes["prediction"] / 1e3, s=10, alpha=0.6)
    top = max(homes["Sale_Price"].max(), homes["prediction"].max()) / 1e3
    axes.plot([0, top], [0, top], color="black", linewidth=0.8)
    axes.set(
        xlabel="sold for, thousand $", ylabel="predicted, thousand $", title="Homes in Ames the model has not seen"
    )
    figure.savefig(out / "prices.png", dpi=120)
    print(f"plot: {out / 'prices.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
