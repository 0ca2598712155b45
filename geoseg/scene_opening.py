"""A scene opened as a model reads it: its bands, its units, at a gsd that it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import rasterio

from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid
from geoseg.model.card import Card
from geoseg.raster.align import onto_grid
from geoseg.raster.opening import SceneLike, open_scene
from geoseg.raster.scene import Reading, Scene

__all__ = ["GDAL_CACHE_BYTES", "Opening", "at_gsd", "fitting_grid", "refuse_two_dates"]

GSD_TOLERANCE = 1.25
"""A scene this much finer or coarser than a model's range is still read as it is."""

GDAL_CACHE_BYTES = 128 << 20
"""For blocks that the next row of chips reads again; GDAL alone takes 5 % of the machine."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How scenes are opened for a model."""

    reading: Reading
    """What a person says about the scene."""
    gsd: float | None
    """Metres to read at, 0 for the scene's own, None for the nearest that the model knows."""

    @contextmanager
    def open(self, scene: SceneLike, card: Card) -> Iterator[Scene]:
        """Open a scene for the model of a card.

        Raises:
            SceneError: if it cannot be read.
            BandError: if its bands are not, or not clearly, the model's.
            InputError: if the gsd makes no sense.
        """
        opening = open_scene(
            scene,
            card.bands,
            units=card.units,
            stored_type=card.stored_type,
            reading=self.reading,
            or_else=card.band_sets,
            levels=card.levels,
        )
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), opening as opened:
            most = self.reading.max_pixels
            grid = fitting_grid(opened.grid, opened.name, card, self.gsd, most)
            yield onto_grid(opened, grid)


def refuse_two_dates(card: Card) -> None:
    """Refuse a model that compares two scenes where there is one.

    Raises:
        InputError: if it does.
    """
    if card.dates == 2:
        raise InputError(
            f"{card.name} compares two scenes: use geoseg change BEFORE AFTER --model MODEL"
        )


def fitting_grid(grid: Grid, name: str, card: Card, gsd: float | None, max_pixels: int) -> Grid:
    """The grid at the ground sample distance asked for, or at one that the model knows.

    Args:
        grid: the scene's.
        name: what to call the scene.
        card: the model's.
        gsd: metres, 0 for the grid as it is; None: the nearest end of the model's range.
        max_pixels: grids with more pixels are refused.

    Raises:
        InputError: if that makes no sense, or needs a gsd that is not known.
    """
    if gsd is None and card.gsd_m is not None and grid.gsd_m is not None:
        finest, coarsest = card.gsd_m
        if finest / GSD_TOLERANCE <= grid.gsd_m <= coarsest * GSD_TOLERANCE:
            return grid
        gsd = finest if grid.gsd_m < finest else coarsest
    return at_gsd(grid, name, gsd, max_pixels)


def at_gsd(grid: Grid, name: str, gsd: float | None, max_pixels: int) -> Grid:
    """The grid at a ground sample distance in metres; as it is for 0 and None.

    Raises:
        InputError: if that makes no sense, or the grid's own gsd is not known.
    """
    if gsd is None or gsd == 0:
        return grid
    if not 0 < gsd < math.inf:
        raise InputError(f"--gsd {gsd:g} makes no sense; give metres, or 0 for the scene's own")
    if grid.gsd_m is None:
        raise SceneError(f"the gsd of {name} is not known: it cannot be read at {gsd:g} m")
    factor = gsd / grid.gsd_m
    height, width = (size / factor for size in grid.shape)
    if height * width > max_pixels or max(height, width) < 1:
        raise InputError(
            f"{name} at {gsd:g} m would have {height:.3g} x {width:.3g} pixels; "
            "choose another --gsd"
        )
    return grid.at_gsd(gsd)
