"""A scene read onto another grid."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoseg.grid import Grid, Window
from geoseg.raster.scene import Chip, Scene

__all__ = ["ResampledScene"]

AVERAGE_FROM = 2.0
"""From this many source pixels a target pixel, they are averaged; below, interpolated."""

MOST_SOURCE_PIXELS = 1 << 22
"""Source pixels read at once; a chip that needs more is read in parts."""

ANYWHERE = CRS.from_epsg(3857)
"""Only the affine part of a grid matters between two grids of one CRS."""


class ResampledScene:
    """A scene on a grid of the same CRS with another pixel size, origin or rotation.

    A target pixel is valid where at least half of what it is made of is.
    """

    def __init__(self, scene: Scene, grid: Grid) -> None:
        self._scene = scene
        self._to_source = ~scene.grid.transform @ grid.transform
        self._ratio = math.sqrt(abs(self._to_source.determinant))
        averages = self._ratio >= AVERAGE_FROM
        self._resampling = Resampling.average if averages else Resampling.bilinear
        self.name = scene.name
        self.grid = grid
        self.bands = scene.bands
        self.assumed = (
            *scene.assumed,
            f"resampled from {_gsd(scene.grid)} to {_gsd(grid)}, {self._resampling.name}",
        )

    def read(self, window: Window) -> Chip:
        """See Scene."""
        source = self._source_window(window)
        if source.height * source.width > MOST_SOURCE_PIXELS and max(window.shape) > 1:
            return self._read_in_halves(window)
        chip = self._scene.read(source)
        share = self._resample(chip.valid[None].astype(np.float32), source, window)[0]
        known = np.where(chip.valid, chip.pixels, np.nan)
        pixels = self._resample(known, source, window)
        valid = (share >= 0.5) & np.isfinite(pixels).all(axis=0)
        return Chip(np.where(valid, pixels, np.float32(0)), valid, window)

    def _read_in_halves(self, window: Window) -> Chip:
        """A chip of a far finer scene may stand for more pixels than should be held at once."""
        axis = 0 if window.height >= window.width else 1
        if axis == 0:
            first = Window(window.row, window.col, window.height // 2, window.width)
            second = Window.from_stops(first.row_stop, window.col, window.row_stop, window.col_stop)
        else:
            first = Window(window.row, window.col, window.height, window.width // 2)
            second = Window.from_stops(window.row, first.col_stop, window.row_stop, window.col_stop)
        chips = self.read(first), self.read(second)
        pixels = np.concatenate([chip.pixels for chip in chips], axis=axis + 1)
        return Chip(pixels, np.concatenate([chip.valid for chip in chips], axis=axis), window)

    def _source_window(self, window: Window) -> Window:
        corners = [
            self._to_source @ (col, row)
            for row in (window.row, window.row_stop)
            for col in (window.col, window.col_stop)
        ]
        cols, rows = zip(*corners, strict=True)
        margin = math.ceil(2 * self._ratio) + 2  # the reach of the resampling kernel
        return Window.from_stops(
            math.floor(min(rows)), math.floor(min(cols)), math.ceil(max(rows)), math.ceil(max(cols))
        ).pad(margin)

    def _resample(
        self, planes: npt.NDArray[np.float32], source: Window, target: Window
    ) -> npt.NDArray[np.float32]:
        resampled = np.full((len(planes), *target.shape), np.nan, np.float32)
        reproject(
            planes,
            resampled,
            src_transform=self._scene.grid.crop(source).transform,
            dst_transform=self.grid.crop(target).transform,
            src_crs=ANYWHERE,
            dst_crs=ANYWHERE,
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=self._resampling,
            XSCALE=1 / self._ratio,  # or GDAL takes the kernel's width from each window's size
            YSCALE=1 / self._ratio,
        )
        return resampled


def _gsd(grid: Grid) -> str:
    gsd = grid.gsd_m
    return "an unknown gsd" if gsd is None else f"{gsd:.4g} m"
