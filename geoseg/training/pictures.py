"""What a training looks like: curves, the error matrix, and chips that came out worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from geoseg.accuracy.matrix import ErrorMatrix
from geoseg.legend import NODATA, Legend

__all__ = ["Example", "draw_curves", "draw_examples", "draw_matrix"]

NO_LABEL = "#f1f3f5"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A chip as it was, as it is labelled and as it was mapped."""

    title: str
    pictures: Sequence[npt.NDArray[np.float32]]
    """Of each date, (H, W, 3), 0 to 1."""
    labels: npt.NDArray[np.int64]
    """(H, W), places in the legend; 255 where not labelled."""
    mapped: npt.NDArray[np.int64]
    """(H, W), places in the legend."""
    agreement: float
    """Share of the labelled pixels that are mapped as labelled."""


def draw_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Loss and validation mean IoU by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    losses = figure.add_subplot()
    epochs = [row["epoch"] for row in rows]
    losses.plot(epochs, [row["loss"] for row in rows], color="#868e96")
    losses.set_xlabel("epoch")
    losses.set_ylabel("training loss", color="#495057")
    losses.set_ylim(bottom=0)
    losses.grid(axis="x", color="#e9ecef")
    if "miou" in rows[0]:
        ious = losses.twinx()
        for name in (key for key in rows[0] if key.startswith("iou_")):
            ious.plot(epochs, [row.get(name, np.nan) for row in rows], linewidth=1, alpha=0.5,
                      label=name.removeprefix("iou_"))  # fmt: skip
        ious.plot(epochs, [row["miou"] for row in rows], color="#1864ab", linewidth=2, label="mean")
        ious.set_ylabel("IoU on validation ground", color="#1864ab")
        ious.set_ylim(0, 1)
        ious.legend(loc="lower right", fontsize=8)
    _save(figure, path)


def draw_matrix(path: Path, matrix: ErrorMatrix) -> None:
    """The error matrix, each row in percent of what was mapped as the class."""
    count = len(matrix.names)
    side = max(4.0, 0.7 * count + 2)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    share = matrix.entries / np.maximum(matrix.mapped, 1)[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, col in np.ndindex(count, count):
        colour = "white" if share[row, col] > 0.55 else "#212529"
        axes.text(col, row, f"{100 * share[row, col]:.1f}", ha="center", va="center", color=colour)
    ticks = range(count)
    axes.set_xticks(ticks, matrix.names, rotation=35, ha="right")
    axes.set_yticks(ticks, matrix.names)
    axes.set_xlabel("labelled")
    axes.set_ylabel("mapped, percent of the row")
    axes.set_title(
        f"accuracy {100 * matrix.overall:.2f} %, mean IoU {matrix.mean_iou:.4f}", fontsize=10
    )
    _save(figure, path)


def draw_examples(path: Path, examples: Sequence[Example], legend: Legend) -> None:
    """A row for each example: the scene, of two dates the later one too, its labels, the map."""
    dates = max((len(example.pictures) for example in examples), default=1)
    figure = Figure(figsize=(6 + 3 * dates, 3.1 * len(examples) + 0.6), layout="constrained")
    axes = figure.subplots(len(examples), 2 + dates, squeeze=False)
    colours = ListedColormap([each.colour for each in legend])
    for row, example in zip(axes, examples, strict=True):
        for axis, picture in zip(row, example.pictures, strict=False):
            axis.imshow(picture)
        row[0].set_title(example.title, fontsize=8)
        for axis, classes, title in (
            (row[-2], example.labels, "labels"),
            (row[-1], example.mapped, f"map: {100 * example.agreement:.1f} % agree"),
        ):
            axis.set_facecolor(NO_LABEL)
            shown = np.ma.masked_equal(classes, NODATA)
            axis.imshow(shown, cmap=colours, vmin=-0.5, vmax=len(legend) - 0.5,
                        interpolation="nearest")  # fmt: skip
            axis.set_title(title, fontsize=8)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    patches: list[Any] = [_patch(each.colour, each.name) for each in legend]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(legend)),
                  fontsize=8, frameon=False)  # fmt: skip
    _save(figure, path)


def _patch(colour: str, name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, edgecolor="#868e96", label=name)


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="png", dpi=110, metadata={"Software": "geoseg"})
    partial.replace(path)
