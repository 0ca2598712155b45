"""Ground to learn from: a scene and its labels, on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.stacked import open_stacked
from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.labels import LabelledScene, Labels, find_files, open_labels, pair_up
from geoseg.legend import NODATA, Legend
from geoseg.limits import MAX_PIXELS
from geoseg.raster.align import ResampledScene
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Reading, Scene
from geoseg.recipe import Recipe
from geoseg.soft_labels import SoftLabels, open_soft_labels

__all__ = ["Ground", "LabelledChip", "find_pairs", "open_grounds"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledChip:
    """What a window of ground holds."""

    pixels: npt.NDArray[np.float32]
    """(C, H, W), in the recipe's units, 0 where invalid; (2 C, H, W) of two dates."""
    labels: npt.NDArray[np.uint8]
    """(H, W), the class's place in the legend; 255 where unlabelled or invalid."""
    valid: npt.NDArray[np.bool_]
    """(H, W)."""
    soft: npt.NDArray[np.uint8] | None = None
    """(K, H, W), how probable each class is, in 1/255; 0 where unlabelled or invalid. None where
    labels are classes; else those above are the most probable ones."""


class Ground(Protocol):
    """A scene and its labels. Reading is safe from several threads."""

    @property
    def name(self) -> str:
        """The scene's file name."""
        ...

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        ...

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was taken for granted of scene and labels, a sentence each."""
        ...

    def read(self, window: Window) -> LabelledChip:
        """What a window holds, which may reach beyond the scene: there it is invalid."""
        ...


def find_pairs(recipe: Recipe) -> tuple[LabelledScene, ...]:
    """The files of a recipe's scenes and of their labels: to learn from, then those kept apart.

    Raises:
        InputError: if a pattern fits no file, or scenes and labels do not pair up.
    """
    pairs = _pairs(recipe, "")
    for purpose in ("validation", "test"):
        if getattr(recipe, f"{purpose}_scenes") is not None:
            found = _pairs(recipe, f"{purpose}_")
            pairs += tuple(replace(pair, kept_for=purpose) for pair in found)
    return pairs


def _pairs(recipe: Recipe, prefix: str) -> tuple[LabelledScene, ...]:
    def files(key: str) -> list[Path]:
        return find_files(getattr(recipe, prefix + key), prefix + key, recipe.data)

    later = None if recipe.scenes_after is None else files("scenes_after")
    return pair_up(files("scenes"), files("labels"), later)


@contextmanager
def open_grounds(recipe: Recipe, pairs: Sequence[LabelledScene]) -> Iterator[list[Ground]]:
    """Open scenes with their labels; those that fit into the recipe's memory are read once.

    Raises:
        SceneError: if a scene or its labels cannot be read, or do not overlap.
        BandError: if a scene's bands are not, or not clearly, the recipe's.
    """
    left = recipe.cache_mb << 20
    soft = len(recipe.legend) if recipe.labels_are == "probabilities" else 0
    bytes_a_pixel = 4 * recipe.dates * len(recipe.bands) + 2 + soft
    with ExitStack() as stack:
        grounds: list[Ground] = []
        for pair in pairs:
            with ExitStack() as opening:
                ground: Ground = _open(opening, pair, recipe)
                if recipe.logarithm is not None:
                    ground = LogarithmicGround(ground, recipe.logarithm)
                need = ground.grid.height * ground.grid.width * bytes_a_pixel
                if need <= left:
                    left -= need
                    ground = GroundInMemory(ground)
                else:
                    stack.push(opening.pop_all())
            grounds.append(ground)
        yield grounds


def _open(stack: ExitStack, pair: LabelledScene, recipe: Recipe) -> Ground:
    scene = stack.enter_context(_opened(pair, recipe))
    if recipe.labels_are == "probabilities":
        classes = len(recipe.legend)
        opening = open_soft_labels(pair.labels, scene.grid, classes, scene.name)
        return SoftlyLabelledGround(scene, stack.enter_context(opening))
    labels = stack.enter_context(
        open_labels(
            pair.labels,
            scene.grid,
            recipe.legend,
            field=recipe.label_field,
            unlabelled=recipe.unlabelled,
            scene=scene.name,
        )
    )
    return GroundOnDisk(scene, labels, recipe.legend)


@contextmanager
def _opened(pair: LabelledScene, recipe: Recipe) -> Iterator[Scene]:
    """A scene, or two stacked, at the recipe's gsd."""
    reading = Reading(
        recipe.band_numbers,
        recipe.sensor,
        recipe.scale,
        recipe.offset,
        recipe.nodata,
        recipe.max_pixels or MAX_PIXELS,
        keep_clouds=recipe.keep_clouds,
    )

    def fit(grid: Grid) -> Grid:
        return _at_gsd(grid, pair.name, recipe.gsd_m)

    if pair.after is not None:
        with open_stacked(
            pair.scene, pair.after, recipe.bands, units=recipe.units, reading=reading, fit=fit
        ) as stacked:
            yield stacked
        return
    told: Any = {"units": recipe.units, "levels": recipe.levels, "reading": reading}
    with open_scene(pair.scene, recipe.bands, **told) as scene:
        grid = fit(scene.grid)
        yield scene if grid is scene.grid else ResampledScene(scene, grid)


def _at_gsd(grid: Grid, name: str, gsd_m: float | None) -> Grid:
    """The grid itself where its gsd is the wanted one."""
    if gsd_m is None:
        return grid
    if grid.gsd_m is None:
        raise InputError(f"the gsd of {name} is not known: leave gsd_m out")
    return grid.at_gsd(gsd_m)


class GroundOnDisk:
    """Read from scene and labels, window by window."""

    def __init__(self, scene: Scene, labels: Labels, legend: Legend) -> None:
        self.name, self.grid = scene.name, scene.grid
        self.assumed = (*scene.assumed, *labels.assumed)
        self._scene, self._labels = scene, labels
        self._index = np.full(256, NODATA, np.uint8)
        self._index[list(legend.codes)] = np.arange(len(legend))

    def read(self, window: Window) -> LabelledChip:
        """See Ground."""
        chip = self._scene.read(window)
        labels = self._index[self._labels.read(window)]
        labels[~chip.valid] = NODATA
        return LabelledChip(chip.pixels, labels, chip.valid)


class SoftlyLabelledGround:
    """Read from a scene and probabilities of its classes, window by window."""

    def __init__(self, scene: Scene, labels: SoftLabels) -> None:
        self.name, self.grid = scene.name, scene.grid
        self.assumed = (*scene.assumed, *labels.assumed)
        self._scene, self._labels = scene, labels

    def read(self, window: Window) -> LabelledChip:
        """See Ground."""
        chip = self._scene.read(window)
        soft = np.where(chip.valid, self._labels.read(window), np.uint8(0))
        labels = np.where(soft.any(axis=0), soft.argmax(axis=0), NODATA).astype(np.uint8)
        return LabelledChip(chip.pixels, labels, chip.valid, soft)


class LogarithmicGround:
    """Ground in logarithms of its values."""

    def __init__(self, ground: Ground, plus: float) -> None:
        self.name, self.grid, self.assumed = ground.name, ground.grid, ground.assumed
        self._ground, self._plus = ground, np.float32(plus)

    def read(self, window: Window) -> LabelledChip:
        """See Ground."""
        chip = self._ground.read(window)
        values = np.log(np.maximum(chip.pixels, 0) + self._plus)
        return replace(chip, pixels=np.where(chip.valid, values, np.float32(0)))


class GroundInMemory:
    """Ground read in full."""

    def __init__(self, ground: Ground) -> None:
        self.name, self.grid, self.assumed = ground.name, ground.grid, ground.assumed
        self._whole = ground.read(ground.grid.window)

    def read(self, window: Window) -> LabelledChip:
        """See Ground."""
        whole = self._whole
        chip = LabelledChip(
            np.zeros((len(whole.pixels), *window.shape), np.float32),
            np.full(window.shape, NODATA, np.uint8),
            np.zeros(window.shape, np.bool_),
            None if whole.soft is None else np.zeros((len(whole.soft), *window.shape), np.uint8),
        )
        inside = window.intersect(self.grid.window)
        if inside is not None:
            into, out_of = inside.within(window), inside.within(self.grid.window)
            chip.pixels[:, *into] = whole.pixels[:, *out_of]
            chip.labels[into] = whole.labels[out_of]
            chip.valid[into] = whole.valid[out_of]
            if chip.soft is not None and whole.soft is not None:
                chip.soft[:, *into] = whole.soft[:, *out_of]
        return chip
