"""A scene read onto another grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoseg.errors import GridError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.scene import Chip, Scene

__all__ = ["CroppedScene", "ResampledScene", "onto_grid", "pixel_mapping"]

Floats: TypeAlias = npt.NDArray[np.float64]
PixelMapping: TypeAlias = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""From (columns, rows) of one grid to those of another; NaN or infinite where there is no way."""

AVERAGE_FROM = 2.0
"""From this many source pixels a target pixel, they are averaged; below, interpolated."""

MOST_SOURCE_PIXELS = 1 << 22
"""Source pixels read at once; a chip that needs more is read in parts."""

ANYWHERE = CRS.from_epsg(3857)
"""Only the affine part of a grid matters between two grids of one CRS."""


EDGE_POINTS = 9
"""A window's edge is followed at this many points from one CRS to another."""


def onto_grid(scene: Scene, grid: Grid, interpolation: Resampling = Resampling.bilinear) -> Scene:
    """A scene on a grid: pixel for pixel where the grid lies on its lattice, else resampled.

    Raises:
        SceneError: if one of them has a CRS and the other has none.
    """
    try:
        window = scene.grid.align(grid)
    except GridError:
        return ResampledScene(scene, grid, interpolation)
    return scene if window == scene.grid.window else CroppedScene(scene, window)


def pixel_mapping(target: Grid, source: Grid) -> PixelMapping:
    """How places on one grid, in pixels, are found on another, whatever their CRS.

    Raises:
        GridError: if one has a CRS and the other has none.
    """
    if target.crs == source.crs:
        return _affine_mapping(~source.transform @ target.transform)
    if target.crs is None or source.crs is None:
        raise GridError("one has a CRS, the other has none")
    between = pyproj.Transformer.from_crs(target.crs.to_wkt(), source.crs.to_wkt(), always_xy=True)

    def mapped(cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        x, y = target.to_map(cols, rows)
        return source.to_pixels(*between.transform(x, y))

    return mapped


def _affine_mapping(between: Affine) -> PixelMapping:
    def mapped(cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        t = between
        return t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f

    return mapped


class CroppedScene:
    """A window of a scene, which may reach beyond its edges, as a scene of its own."""

    def __init__(self, scene: Scene, window: Window) -> None:
        self._scene, self._window = scene, window
        self.name = scene.name
        self.grid = scene.grid.crop(window)
        self.bands = scene.bands
        self.assumed = scene.assumed

    def read(self, window: Window) -> Chip:
        """See Scene."""
        chip = self._scene.read(window.shift(self._window.row, self._window.col))
        inside = window.intersect(self.grid.window)
        if inside == window:
            return Chip(chip.pixels, chip.valid, window)
        known = np.zeros_like(chip.valid)
        if inside is not None:
            place = inside.within(window)
            known[place] = chip.valid[place]
        return Chip(np.where(known, chip.pixels, np.float32(0)), known, window)


class ResampledScene:
    """A scene on a grid of another CRS, pixel size, origin or rotation.

    A target pixel is valid where at least half of what it is made of is.

    Args:
        scene: what is resampled.
        grid: where to.
        interpolation: how, where source pixels are not so small that they are averaged.

    Raises:
        SceneError: if one of them has a CRS and the other has none, or they lie too far apart.
    """

    def __init__(
        self, scene: Scene, grid: Grid, interpolation: Resampling = Resampling.bilinear
    ) -> None:
        self._scene = scene
        try:
            self._to_source = pixel_mapping(grid, scene.grid)
        except GridError as error:
            raise SceneError(f"{scene.name} cannot be brought onto the grid: {error}") from error
        same = scene.grid.crs == grid.crs
        self._crs = (ANYWHERE, ANYWHERE) if same else (scene.grid.crs, grid.crs)
        self._ratio = self._middle_ratio(grid)
        averages = self._ratio >= AVERAGE_FROM
        self._resampling = Resampling.average if averages else interpolation
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

    def _middle_ratio(self, grid: Grid) -> float:
        """Source pixels a target pixel, along a side, in the middle of the grid."""
        col, row = grid.width / 2, grid.height / 2
        place = np.array([col, col + 1, col]), np.array([row, row, row + 1])
        cols, rows = self._to_source(*place)
        area = abs(
            (cols[1] - cols[0]) * (rows[2] - rows[0]) - (cols[2] - cols[0]) * (rows[1] - rows[0])
        )
        if not (math.isfinite(area) and area > 0):
            raise SceneError(f"{self._scene.name} does not lie on the same ground as the grid")
        return math.sqrt(area)

    def _source_window(self, window: Window) -> Window:
        along = np.linspace(0, 1, EDGE_POINTS)
        cols, rows = self._to_source(
            *np.meshgrid(window.col + along * window.width, window.row + along * window.height)
        )
        if not (np.isfinite(cols).all() and np.isfinite(rows).all()):
            raise SceneError(
                f"{self._scene.name} does not reach the grid everywhere: clip one of the scenes"
            )
        margin = math.ceil(2 * self._ratio) + 2  # the reach of the resampling kernel
        return Window.from_stops(
            math.floor(rows.min()),
            math.floor(cols.min()),
            math.ceil(rows.max()),
            math.ceil(cols.max()),
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
            src_crs=self._crs[0],
            dst_crs=self._crs[1],
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=self._resampling,
            tolerance=0,  # or windows would differ by what GDAL approximates
            XSCALE=1 / self._ratio,  # or GDAL takes the kernel's width from each window's size
            YSCALE=1 / self._ratio,
        )
        return resampled


def _gsd(grid: Grid) -> str:
    gsd = grid.gsd_m
    return "an unknown gsd" if gsd is None else f"{gsd:.4g} m"
