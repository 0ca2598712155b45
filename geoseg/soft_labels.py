"""Soft labels of a scene: how probable each class is at each pixel, as another model says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.align import onto_grid
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Scene

__all__ = ["SoftLabels", "open_soft_labels"]

STRIP_ROWS = 256

Shares: TypeAlias = npt.NDArray[np.uint8]
"""(K, H, W), in 1/255; 0 for every class where unlabelled."""


class SoftLabels:
    """Class probabilities on the pixels of a scene.

    Args:
        scene: a band a class, in the legend's order; values count against their sum.
        grid: where to.
    """

    def __init__(self, scene: Scene, grid: Grid) -> None:
        self.name = scene.name
        self._scene = onto_grid(scene, grid)
        self.assumed = tuple(f"labels {self.name}: {said}" for said in self._scene.assumed)

    def read(self, window: Window) -> Shares:
        """The shares of a window, which may reach beyond the scene: there nothing is labelled.

        Raises:
            SceneError: if a value is negative.
        """
        chip = self._scene.read(window)
        if chip.pixels.min(initial=0) < 0:
            raise SceneError(f"the labels {self.name} hold negative values, no probabilities")
        total = chip.pixels.sum(axis=0)
        known = chip.valid & (total > 0)
        shares = np.zeros_like(chip.pixels)
        np.divide(chip.pixels, total, out=shares, where=known)
        return np.rint(255 * shares).astype(np.uint8)


@contextmanager
def open_soft_labels(path: Path, grid: Grid, classes: int, scene: str) -> Iterator[SoftLabels]:
    """Open a raster of probabilities, of any number type.

    Args:
        path: a band a class.
        grid: the scene's.
        classes: how many.
        scene: what to call the scene.

    Raises:
        SceneError: if it cannot be read, has another number of bands, or lies elsewhere.
    """
    with open_scene(path, None, units="stored") as opened:
        if len(opened.bands) != classes:
            raise SceneError(
                f"the labels {opened.name} hold {len(opened.bands)} bands; probabilities need one "
                f"for each of the {classes} classes"
            )
        labels = SoftLabels(opened, grid)
        if not any(labels.read(strip).any() for strip in grid.window.row_strips(STRIP_ROWS)):
            raise SceneError(f"the labels {opened.name} do not overlap {scene}, or hold nothing")
        yield labels
