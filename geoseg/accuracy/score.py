"""What is known of a model after its maps were compared with labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import add

from geoseg.accuracy.boundaries import BoundaryCount
from geoseg.accuracy.calibration import Calibration
from geoseg.accuracy.matrix import ErrorMatrix
from geoseg.grid import Window
from geoseg.legend import Legend

__all__ = ["SceneScore", "Score", "WorstChip"]


@dataclass(frozen=True, slots=True, eq=False)
class SceneScore:
    """One scene compared with its labels, as counts that add up over scenes."""

    scene: str
    """Its path."""
    labels: str
    """Their path."""
    shape: tuple[int, int]
    """(height, width) in the pixels that the model saw."""
    gsd_m: float | None
    """Of those pixels; None when the scene has no CRS."""
    matrix: ErrorMatrix
    """Pixels; rows are the map, columns the labels."""
    calibration: Calibration
    boundaries: BoundaryCount
    tolerance_m: float | None
    """How far a boundary may be off; None in pixels, where the scene has no CRS."""
    unlabelled: int
    """Pixels with data that nobody labelled."""
    unmapped: int
    """Labelled pixels that the map says nothing of: the scene has no data there."""
    assumed: tuple[str, ...]
    """What was taken for granted to read scene and labels, a sentence each."""

    @property
    def compared(self) -> int:
        """Pixels with both a mapped and a labelled class."""
        return int(self.matrix.total)


@dataclass(frozen=True, slots=True, eq=False)
class WorstChip:
    """A window where map and labels agree least."""

    scene: str
    """Its path."""
    window: Window
    """In the pixels that the model saw."""
    agreement: float
    """Share of labelled pixels with the right class, 0 to 1."""
    compared: int
    """Pixels with both a mapped and a labelled class."""
    pictures: tuple[bytes, bytes, bytes]
    """The scene as JPEG; labels and map as PNG."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A model scored on labelled scenes.

    All figures are of the pixels of all scenes together, never means of scores of scenes.
    """

    model: str
    """The name on its card."""
    model_sha256: str
    runtime: str
    """What computed it."""
    legend: Legend
    """The model's, in the order of the matrix."""
    scenes: tuple[SceneScore, ...]
    worst: tuple[WorstChip, ...]
    """Lowest agreement first."""
    trained_with: tuple[str, ...] = ()
    """Paths of those scenes that the model's card names among the scenes of its training."""

    @property
    def matrix(self) -> ErrorMatrix:
        """The error matrix of all scenes; rows are the map, columns the labels."""
        return reduce(add, (each.matrix for each in self.scenes))

    @property
    def calibration(self) -> Calibration:
        """The confidences of all scenes."""
        return reduce(add, (each.calibration for each in self.scenes))

    @property
    def boundaries(self) -> BoundaryCount:
        """The boundaries of all scenes."""
        return reduce(add, (each.boundaries for each in self.scenes))

    @property
    def tolerance(self) -> str:
        """How far boundaries may be off, in words."""
        metres = [each.tolerance_m for each in self.scenes if each.tolerance_m is not None]
        if not metres:
            return "2 pixels"
        low, high = min(metres), max(metres)
        told = (
            f"{high:.4g} m" if math.isclose(low, high, rel_tol=1e-3) else f"{low:.4g}-{high:.4g} m"
        )
        return told if len(metres) == len(self.scenes) else f"{told}, 2 pixels without a CRS"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know."""
        found = []
        if seen := self.trained_with:
            found.append(
                f"{len(seen)} of {len(self.scenes)} scenes are on the model's card among those of "
                f"its training, first {seen[0]}: the score is honest only for what was kept apart."
            )
        if absent := self.matrix.absent:
            found.append(
                f"Not in the labels, so without a figure and in no mean: {', '.join(absent)}."
            )
        if unmapped := sum(each.unmapped for each in self.scenes):
            found.append(f"{unmapped:,} labelled pixels are left out: the scene has no data there.")
        if empty := [each.scene for each in self.scenes if not each.compared]:
            found.append(f"Scenes without a pixel that could be compared: {', '.join(empty)}.")
        return tuple(found)
