"""One scene mapped by a model and compared with its labels, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from geoseg.accuracy.boundaries import BoundaryCounter
from geoseg.accuracy.calibration import count_confidences
from geoseg.accuracy.matrix import count_pairs
from geoseg.accuracy.score import SceneScore, WorstChip
from geoseg.bitemporal.stacked import open_stacked
from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid
from geoseg.labels import LabelledScene, Labels, open_labels
from geoseg.legend import NODATA, Legend
from geoseg.map_making import Progress
from geoseg.model.card import Card
from geoseg.model.loading import Model
from geoseg.raster.align import onto_grid
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Reading, Scene
from geoseg.raster.stitch import Strip
from geoseg.raster.worst_chips import ChipRanking
from geoseg.scene_mapping import predict_strips
from geoseg.scene_opening import GDAL_CACHE_BYTES, fitting_grid

__all__ = ["Scoring", "score_scene"]

TOLERANCE_PX = 2.0
"""How far a boundary may be off unless metres are given."""

BLOCK_PX = 1 << 20
"""Counted at once: eight bytes a pixel several times over."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How scenes and labels are read and compared."""

    reading: Reading = field(default_factory=Reading)
    """What a person says about the scenes."""
    gsd: float | None = None
    """See `predict`."""
    label_field: str = "class"
    """Of polygons: the field that holds the class."""
    unlabelled: Sequence[int] = ()
    """Codes of label rasters that say nothing about a pixel."""
    boundary_tolerance_m: float | None = None
    """How far a boundary may be off; None: two pixels."""


def score_scene(
    pair: LabelledScene, model: Model, how: Scoring, below: float, progress: Progress
) -> tuple[SceneScore, tuple[WorstChip, ...]]:
    """Map a scene and compare.

    Args:
        pair: the scene and its labels.
        model: what maps it.
        how: how both are read and compared.
        below: chips are only drawn where less than this share is right.
        progress: called with the share that is done, 0 to 1.

    Returns:
        The counts, and the chips that agree least.
    """
    card = model.card
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), _opened(pair, card, how) as scene:
        labelling = open_labels(
            pair.labels,
            scene.grid,
            card.legend,
            field=how.label_field,
            unlabelled=how.unlabelled,
            scene=scene.name,
        )
        with labelling as labels:
            comparison = _Comparison(scene, labels, card.legend, how.boundary_tolerance_m, below)
            for strip in predict_strips(scene, model):
                comparison.add(strip)
                progress(strip.window.row_stop / scene.grid.height)
            return comparison.finish(pair), comparison.worst(pair)


@contextmanager
def _opened(pair: LabelledScene, card: Card, how: Scoring) -> Iterator[Scene]:
    """A scene, or two stacked, as the model wants them."""

    def fit(grid: Grid) -> Grid:
        return fitting_grid(grid, pair.name, card, how.gsd, how.reading.max_pixels)

    told: Any = {"units": card.units, "stored_type": card.stored_type, "reading": how.reading}
    if pair.after is not None:
        with open_stacked(pair.scene, pair.after, card.bands, fit=fit, **told) as stacked:
            yield stacked
        return
    ways: Any = {"or_else": card.band_sets, "levels": card.levels}
    with open_scene(pair.scene, card.bands, **ways, **told) as scene:
        yield onto_grid(scene, fit(scene.grid))


class _Comparison:
    """Compares the map of one scene with its labels, strip by strip."""

    def __init__(
        self,
        scene: Scene,
        labels: Labels,
        legend: Legend,
        tolerance_m: float | None,
        below: float,
    ) -> None:
        self._scene, self._labels, self._legend = scene, labels, legend
        self._place = np.full(NODATA + 1, NODATA, np.uint8)
        self._place[list(legend.codes)] = np.arange(len(legend))
        self._tolerance_m, reach = _tolerance(scene, tolerance_m)
        self._boundaries = BoundaryCounter(scene.grid.width, legend.names, reach)
        self._ranking = ChipRanking(scene.grid.shape, below=below)
        self._unlabelled = self._unmapped = 0
        none = np.zeros(0, np.uint8)
        self._matrix = count_pairs(none, none, legend.names)
        self._calibration = count_confidences(none, none.astype(np.bool_))

    def add(self, strip: Strip) -> None:
        """Take the next strip of the map."""
        labelled = self._labels.read(strip.window)
        self._ranking.add(strip.window, strip.classes, labelled)
        mapped, reference = self._place[strip.classes], self._place[labelled]
        self._boundaries.add(mapped, reference)
        for block in strip.window.row_strips(max(1, BLOCK_PX // strip.window.width)):
            rows = block.within(strip.window)
            self._count(mapped[rows], reference[rows], strip.confidence[rows])

    def _count(
        self,
        mapped: npt.NDArray[np.uint8],
        reference: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.uint8],
    ) -> None:
        says, knows = mapped != NODATA, reference != NODATA
        both = says & knows
        self._unlabelled += int((says & ~knows).sum())
        self._unmapped += int((knows & ~says).sum())
        ours, theirs = mapped[both], reference[both]
        self._matrix += count_pairs(ours, theirs, self._legend.names)
        self._calibration += count_confidences(confidence[both], ours == theirs)

    def finish(self, pair: LabelledScene) -> SceneScore:
        """The counts, after the last strip."""
        return SceneScore(
            scene=_path_of(pair),
            labels=str(pair.labels),
            shape=self._scene.grid.shape,
            gsd_m=self._scene.grid.gsd_m,
            matrix=self._matrix,
            calibration=self._calibration,
            boundaries=self._boundaries.finish(),
            tolerance_m=self._tolerance_m,
            unlabelled=self._unlabelled,
            unmapped=self._unmapped,
            assumed=(*self._scene.assumed, *self._labels.assumed),
        )

    def worst(self, pair: LabelledScene) -> tuple[WorstChip, ...]:
        """Pictures of the chips that agree least."""
        return self._ranking.draw(self._scene, _path_of(pair), self._legend)


def _path_of(pair: LabelledScene) -> str:
    """What figures call a scene: its path, or the names of two."""
    return str(pair.scene) if pair.after is None else pair.name


def _tolerance(scene: Scene, metres: float | None) -> tuple[float | None, tuple[float, float]]:
    """The tolerance in metres, and in pixels down and across."""
    grid = scene.grid
    gsd = grid.gsd_m
    if metres is None:
        return None if gsd is None else TOLERANCE_PX * gsd, (TOLERANCE_PX, TOLERANCE_PX)
    if not 0 <= metres < math.inf:
        raise InputError(f"--boundary-tolerance {metres:g} makes no sense; give metres")
    steps = grid.cell_steps_m_at(np.array(grid.height / 2), np.array(grid.width / 2))
    if gsd is None or steps is None:
        raise SceneError(
            f"the gsd of {scene.name} is not known: boundaries cannot be {metres:g} m off; leave "
            "--boundary-tolerance out for two pixels"
        )
    across, down = (float(np.linalg.norm(step)) for step in steps)
    return metres, (metres / down, metres / across)
