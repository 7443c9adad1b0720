"""Pictures of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.evaluate.metrics import ECE_BINS, Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank(width: float, height: float) -> Figure:
    """A figure of this size in inches, without a window system and global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_confusion(confusion: NDArray[np.int64], labels: Sequence[str], file: Path) -> None:
    """The confusion matrix, each row coloured by its shares and marked with its counts."""
    size = 2.5 + 0.6 * len(labels)
    figure = blank(size + 0.5, size)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*confusion.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8
        )
    # A $ in a label would start a formula.
    names = [label.replace("$", r"\$") for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    figure.colorbar(picture, ax=axes, label="share of the label", shrink=0.8)
    figure.savefig(file, dpi=120)


def draw_reliability(bins: Reliability, file: Path) -> None:
    """Accuracy over confidence, and how many utterances each bin holds."""
    figure = blank(5, 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middles = 100 * (np.arange(ECE_BINS) + 0.5) / ECE_BINS
    filled = bins.count > 0
    above.bar(middles[filled], 100 * bins.accuracy[filled], width=90 / ECE_BINS, label="accuracy")
    above.plot(100 * bins.confidence[filled], 100 * bins.accuracy[filled], "o", color="black", markersize=3)
    above.plot([0, 100], [0, 100], "--", color="grey", label="perfectly calibrated")
    above.set(
        xlim=(0, 100),
        ylim=(0, 100),
        ylabel="accuracy, percent",
        title=f"expected calibration error {100 * bins.ece:.1f} %",
    )
    above.legend(loc="upper left")
    below.bar(middles, bins.count, width=90 / ECE_BINS)
    below.set(xlabel="confidence, percent", ylabel="utterances")
    figure.savefig(file, dpi=120)
