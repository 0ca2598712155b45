"""Where pixels lie: integer windows in pixel space, and grids that place them on the Earth.

Windows are integers and are never computed back from coordinates. Every operation on a grid
returns a new grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from rasterio.crs import CRS

from geoseg.errors import GridError

__all__ = ["Grid", "Window", "between_crs"]

Floats: TypeAlias = npt.NDArray[np.float64]

Between: TypeAlias = tuple[npt.NDArray[np.intp], Floats]
"""For each pixel the node before it, and the part of the way to the next."""

NODE_SPACING_M = 5_000.0
"""Cell areas are computed this far apart and interpolated: relative error below 1e-7."""

ALIGNMENT_TOLERANCE_PX = 1e-3
"""Two grids are one lattice when their pixels differ by less than this."""

SAME_GSD = 1.01
"""Ground sample distances that differ by less than this factor are one: a projection stretches."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of whole pixels: rows [row, row + height), columns [col, col + width).

    Row and column may be negative: a window is a place relative to some grid's first pixel.

    Raises:
        GridError: if height or width is negative.
    """

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise GridError(f"a window cannot have the size {self.height} x {self.width}")

    @classmethod
    def from_stops(cls, row: int, col: int, row_stop: int, col_stop: int) -> Window:
        """The window of rows [row, row_stop) and columns [col, col_stop)."""
        return cls(row, col, row_stop - row, col_stop - col)

    @property
    def row_stop(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def shift(self, rows: int, cols: int) -> Window:
        """The same rectangle, moved."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def pad(self, px: int) -> Window:
        """The rectangle with `px` more pixels on each side."""
        return Window(self.row - px, self.col - px, self.height + 2 * px, self.width + 2 * px)

    def intersect(self, other: Window) -> Window | None:
        """What both cover, or None where they do not meet."""
        row, row_stop = max(self.row, other.row), min(self.row_stop, other.row_stop)
        col, col_stop = max(self.col, other.col), min(self.col_stop, other.col_stop)
        if row >= row_stop or col >= col_stop:
            return None
        return Window.from_stops(row, col, row_stop, col_stop)

    def contains(self, other: Window) -> bool:
        """Whether every pixel of `other` lies in this window."""
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.row_stop <= self.row_stop
            and other.col_stop <= self.col_stop
        )

    def within(self, outer: Window) -> tuple[slice, slice]:
        """The slices that cut this window out of an array that holds `outer`.

        Raises:
            GridError: if it does not lie inside.
        """
        if not outer.contains(self):
            raise GridError(f"{self} does not lie inside {outer}")
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)

    def row_strips(self, height: int) -> Iterator[Window]:
        """The window cut into strips of at most `height` rows, top to bottom."""
        for row in range(self.row, self.row_stop, height):
            yield Window.from_stops(row, self.col, min(row + height, self.row_stop), self.col_stop)


@dataclass(frozen=True, slots=True)
class Grid:
    """A lattice of pixels on the Earth, or nowhere in particular when it has no CRS.

    Raises:
        GridError: if the shape is empty or the transform cannot be inverted.
    """

    crs: CRS | None
    """Coordinate reference system of the map, None when unknown."""
    transform: Affine
    """From (column, row), pixel corners, to (x, y) in the CRS."""
    shape: tuple[int, int]
    """(height, width) in pixels."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise GridError(f"a grid cannot have {self.shape[0]} x {self.shape[1]} pixels")
        if not all(map(math.isfinite, self.transform[:6])) or self.transform.is_degenerate:
            raise GridError(f"the geotransform {tuple(self.transform)[:6]} cannot be inverted")

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.shape[1]

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(0, 0, *self.shape)

    def crop(self, window: Window) -> Grid:
        """The grid of a window of this one, which may reach beyond its edges."""
        moved = self.transform @ Affine.translation(window.col, window.row)
        return Grid(self.crs, moved, window.shape)

    def pad(self, px: int) -> Grid:
        """The grid with `px` more pixels on each side."""
        return self.crop(self.window.pad(px))

    def align(self, other: Grid) -> Window:
        """Where `other` lies on this lattice, in whole pixels; it may reach beyond the edges.

        Raises:
            GridError: if the two differ in CRS, pixel size, rotation, or by part of a pixel.
        """
        if self.crs != other.crs:
            raise GridError(f"the grids differ in CRS: {self.crs} and {other.crs}")
        between = ~self.transform @ other.transform
        col, row = between.c, between.f
        corner_col, corner_row = between @ (other.width, other.height)
        window = Window(round(row), round(col), *other.shape)
        drift = max(
            abs(row - window.row),
            abs(col - window.col),
            abs(corner_row - window.row_stop),
            abs(corner_col - window.col_stop),
        )
        if drift > ALIGNMENT_TOLERANCE_PX:
            raise GridError(f"the grids are not one lattice: {drift:.3g} px apart at a corner")
        return window

    def intersect(self, other: Grid) -> Grid | None:
        """What both cover on this lattice, or None where they do not meet.

        Raises:
            GridError: as `align`.
        """
        shared = self.window.intersect(self.align(other))
        return None if shared is None else self.crop(shared)

    def rescale(self, factor: float) -> Grid:
        """The same ground from the same first corner, with pixels `factor` times as large."""
        shape = math.ceil(self.height / factor - 1e-6), math.ceil(self.width / factor - 1e-6)
        return Grid(self.crs, self.transform @ Affine.scale(factor), shape)

    def at_gsd(self, gsd_m: float) -> Grid:
        """The same ground at another ground sample distance; itself where it is the same one.

        Raises:
            GridError: if its own is not known.
        """
        own = self.gsd_m
        if own is None:
            raise GridError("a grid whose gsd is not known has no other")
        factor = gsd_m / own
        return self if 1 / SAME_GSD < factor < SAME_GSD else self.rescale(factor)

    @property
    def is_north_up(self) -> bool:
        """Whether rows run from north to south and columns from west to east."""
        t = self.transform
        return bool(t.b == 0 and t.d == 0 and t.a > 0 and t.e < 0)

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of the first pixel's outer corner, then clockwise on the image."""
        h, w = self.shape
        return tuple(self.transform @ point for point in ((0, 0), (w, 0), (w, h), (0, h)))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of all corners."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """(x, y) in the CRS of places in pixels from the first corner."""
        t = self.transform
        return t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f

    def to_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """(column, row), in pixels from the first corner, of places in the CRS."""
        t = ~self.transform
        return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f

    def from_pixels_of(self, other: Grid, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """(column, row) on this grid of places in pixels of another; infinite where not reached."""
        x, y = other.to_map(cols, rows)
        if self.crs is not None and other.crs is not None and self.crs != other.crs:
            x, y = between_crs(other.crs.to_wkt(), self.crs.to_wkt()).transform(x, y)
        return self.to_pixels(x, y)

    @property
    def gsd_m(self) -> float | None:
        """Ground sample distance: the side of a square as large as the middle cell, in metres.

        None when there is no CRS, or none that has a place on the Earth there.
        """
        area = self.cell_area_m2_at(np.array(self.height / 2), np.array(self.width / 2))
        return math.sqrt(float(area)) if area is not None and area > 0 else None

    def cell_area_m2(self, window: Window | None = None) -> npt.NDArray[np.float64] | None:
        """The true area of each pixel on the ellipsoid, whatever the CRS.

        What a pixel spans on the ellipsoid, from central differences of points in space,
        computed on nodes at most 5 km apart and interpolated between them. Relative error below
        1e-6. NaN where the CRS does not reach the Earth.

        Args:
            window: the pixels asked for; all when None.

        Returns:
            Square metres, (height, width) of the window; None when there is no CRS, or none
            that has a place on the Earth.
        """
        nodes, (row_at, row_part), (col_at, col_part) = self._area_nodes(window or self.window)
        if nodes is None:
            return None
        lines = nodes[row_at] * (1 - row_part[:, None]) + nodes[row_at + 1] * row_part[:, None]
        return np.asarray(lines[:, col_at] * (1 - col_part) + lines[:, col_at + 1] * col_part)

    def run_areas_m2(
        self,
        window: Window,
        rows: npt.NDArray[np.intp],
        starts: npt.NDArray[np.intp],
        stops: npt.NDArray[np.intp],
    ) -> Floats | None:
        """The true area of pixels that follow each other along a row, in square metres.

        The sums of `cell_area_m2`, without an area for each pixel: what it interpolates is linear
        between rows of nodes, along which a run is the difference of two sums from the first.

        Args:
            window: what rows and columns are counted from.
            rows: (N,), that of each run.
            starts: (N,), its first column.
            stops: (N,), one past its last.

        Returns:
            (N,); None where an area is not known.
        """
        nodes, (row_at, row_part), (col_at, col_part) = self._area_nodes(window)
        if nodes is None or not np.isfinite(nodes).all():
            return None
        cells = nodes[:, col_at] * (1 - col_part) + nodes[:, col_at + 1] * col_part
        until = np.pad(np.cumsum(cells, axis=1), ((0, 0), (1, 0)))
        at, part = row_at[rows], row_part[rows]
        above = until[at, stops] - until[at, starts]
        below = until[at + 1, stops] - until[at + 1, starts]
        return np.asarray(above * (1 - part) + below * part)

    def cell_area_m2_at(
        self, rows: npt.NDArray[np.float64], cols: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64] | None:
        """The true area of a pixel centred on each (row, column), in pixels from the first corner.

        Returns:
            Square metres, in the shape of the arguments; None or NaN as in `cell_area_m2`.
        """
        steps = self.cell_steps_m_at(rows, cols)
        if steps is None:
            return None
        with np.errstate(invalid="ignore"):
            areas = np.linalg.norm(np.cross(*steps), axis=-1)
        return np.where(np.isfinite(areas), areas, np.nan)

    def cell_steps_m_at(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats] | None:
        """How far one column and one row lead in space, at each (row, column) in pixels.

        Central differences; the parallelogram that they span is the pixel.

        Returns:
            Metres, twice (..., 3), geocentric: the step across and the step down; None or NaN as
            in `cell_area_m2`.
        """
        place = None if self.crs is None else _on_ellipsoid(self.crs.to_wkt())
        if place is None:
            return None
        east, west, south, north = (
            place.point(*self.to_map(cols + across, rows + down))
            for across, down in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
        )
        with np.errstate(invalid="ignore"):
            return east - west, south - north

    def _area_nodes(self, window: Window) -> tuple[Floats | None, Between, Between]:
        """The area of a cell at each node around a window; where its rows and columns lie."""
        step = max(1, int(NODE_SPACING_M / (self.gsd_m or NODE_SPACING_M)))
        rows, down = _nodes(window.row, window.height, step)
        cols, across = _nodes(window.col, window.width, step)
        return self.cell_area_m2_at(*np.meshgrid(rows, cols, indexing="ij")), down, across


@lru_cache(maxsize=64)
def between_crs(wkt: str, goal: str) -> pyproj.Transformer:
    """What brings (x, y) of one CRS, as WKT, into another."""
    ends = pyproj.CRS.from_wkt(wkt), pyproj.CRS.from_wkt(goal)
    return pyproj.Transformer.from_crs(ends[0], ends[1], always_xy=True)


def _nodes(start: int, count: int, step: int) -> tuple[Floats, Between]:
    """Pixel centres to compute at, and where the pixels lie between them."""
    first = start // step
    last = (start + count - 1) // step + 1
    nodes = np.arange(first, last + 1, dtype=np.float64) * step + 0.5
    place = np.arange(start, start + count) / step - first
    at = np.floor(place).astype(np.intp)
    return nodes, (at, place - at)


@dataclass(frozen=True, slots=True)
class _OnEllipsoid:
    """From a CRS to points in space."""

    to_geodetic: pyproj.Transformer | None
    """None for a CRS that is geodetic itself."""
    radians: float
    """An angle unit of the geodetic coordinates in radians."""
    semi_major: float
    """Metres."""
    e2: float
    """First eccentricity, squared."""

    def longitude_latitude(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """In radians; NaN where the CRS does not reach."""
        if self.to_geodetic is not None:
            x, y = self.to_geodetic.transform(x, y)
        longitude, latitude = (np.asarray(angle) * self.radians for angle in (x, y))
        reached = np.isfinite(longitude) & (np.abs(latitude) < 2)  # infinity, from afar
        return np.where(reached, longitude, np.nan), np.where(reached, latitude, np.nan)

    def point(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Geocentric (X, Y, Z) in metres, on the last axis."""
        longitude, latitude = self.longitude_latitude(x, y)
        normal = self.semi_major / np.sqrt(1 - self.e2 * np.sin(latitude) ** 2)
        level = normal * np.cos(latitude)
        return np.stack(
            (
                level * np.cos(longitude),
                level * np.sin(longitude),
                normal * (1 - self.e2) * np.sin(latitude),
            ),
            axis=-1,
        )


@lru_cache(maxsize=64)
def _on_ellipsoid(wkt: str) -> _OnEllipsoid | None:
    """None for a CRS that has no place on the Earth: a local one, or one of points in space."""
    crs = pyproj.CRS.from_wkt(wkt)
    geodetic, ellipsoid = crs.geodetic_crs, crs.ellipsoid
    if geodetic is None or ellipsoid is None or crs.is_geocentric:
        return None
    if not (crs.is_geographic or crs.is_projected):
        return None
    e2 = 1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2
    to_geodetic = (
        None if crs.is_geographic else pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    )
    unit = geodetic.axis_info[0].unit_conversion_factor
    return _OnEllipsoid(to_geodetic, unit, ellipsoid.semi_major_metre, e2)
