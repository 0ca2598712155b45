"""Where pixels lie: integer windows in pixel space, and grids that place them on the Earth.

Windows are integers and are never computed back from coordinates. Every operation on a grid
returns a new grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from rasterio.crs import CRS

from geoseg.errors import GridError

__all__ = ["Grid", "Window"]

NODE_SPACING_M = 5_000.0
"""Cell areas are computed this far apart and interpolated: relative error below 1e-7."""

ALIGNMENT_TOLERANCE_PX = 1e-3
"""Two grids are one lattice when their pixels differ by less than this."""


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

    @property
    def gsd_m(self) -> float | None:
        """Ground sample distance: the side of a square as large as the middle cell, in metres."""
        area = self.cell_area_m2_at(np.array(self.height / 2), np.array(self.width / 2))
        return None if area is None else math.sqrt(float(area))

    def cell_area_m2(self, window: Window | None = None) -> npt.NDArray[np.float64] | None:
        """The true area of each pixel on the ellipsoid, whatever the CRS.

        The Jacobian of the map projection, from central differences of the geodetic
        coordinates, times the ellipsoid's own element of area M N cos(latitude); computed on
        nodes at most 5 km apart and interpolated between them. Relative error below 1e-6.

        Args:
            window: the pixels asked for; all when None.

        Returns:
            Square metres, (height, width) of the window; None when there is no CRS.
        """
        if self.crs is None:
            return None
        window = window or self.window
        step = self._node_spacing_px()
        rows, row_at, row_part = _nodes(window.row, window.height, step)
        cols, col_at, col_part = _nodes(window.col, window.width, step)
        nodes = self.cell_area_m2_at(*np.meshgrid(rows, cols, indexing="ij"))
        assert nodes is not None  # noqa: S101  (there is a CRS)
        lines = nodes[row_at] * (1 - row_part[:, None]) + nodes[row_at + 1] * row_part[:, None]
        return np.asarray(lines[:, col_at] * (1 - col_part) + lines[:, col_at + 1] * col_part)

    def cell_area_m2_at(
        self, rows: npt.NDArray[np.float64], cols: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64] | None:
        """The true area of a pixel centred on each (row, column), in pixels from the first corner.

        Returns:
            Square metres, in the shape of the arguments; None when there is no CRS.
        """
        if self.crs is None:
            return None
        (east_col, north_col), (east_row, north_row) = _cell_axes(
            self.crs.to_wkt(), self.transform, rows, cols
        )
        return np.asarray(np.abs(east_col * north_row - east_row * north_col))

    def cell_axes_m_at(
        self, rows: npt.NDArray[np.float64], cols: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64] | None:
        """How far one column and one row lead on the ground, at each (row, column) in pixels.

        Returns:
            Metres, (2, 2, ...): first the step across, then the step down, each east and north;
            None when there is no CRS.
        """
        if self.crs is None:
            return None
        return _cell_axes(self.crs.to_wkt(), self.transform, rows, cols)

    def _node_spacing_px(self) -> int:
        area = self.cell_area_m2_at(np.array(self.height / 2), np.array(self.width / 2))
        side = 0.0 if area is None or not area > 0 else math.sqrt(float(area))
        return max(1, int(NODE_SPACING_M / side)) if side else 1


def _nodes(
    start: int, count: int, step: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Pixel centres to compute at, and for each pixel the node before it and the part beyond."""
    first = start // step
    last = (start + count - 1) // step + 1
    nodes = np.arange(first, last + 1, dtype=np.float64) * step + 0.5
    place = np.arange(start, start + count) / step - first
    at = np.floor(place).astype(np.intp)
    return nodes, at, place - at


def _cell_axes(
    wkt: str, transform: Affine, row: npt.NDArray[np.float64], col: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The derivatives of (longitude, latitude) by column and row, in metres on the ellipsoid.

    Their determinant is the Jacobian times the ellipsoid's element of area M N cos(latitude).
    """
    to_geodetic, semi_major, e2 = _geodetic(wkt)
    half = 0.5

    def lon_lat(d_row: float, d_col: float) -> tuple[npt.NDArray[np.float64], ...]:
        t, u, v = transform, col + d_col, row + d_row
        x, y = t.a * u + t.b * v + t.c, t.d * u + t.e * v + t.f
        return to_geodetic.transform(x, y, radians=True) if to_geodetic else _radians(x, y)

    east, west, south, north = (lon_lat(*d) for d in ((0, half), (0, -half), (half, 0), (-half, 0)))
    turn = 2 * math.pi
    dlon_dcol = (east[0] - west[0] + math.pi) % turn - math.pi  # across the antimeridian too
    dlon_drow = (south[0] - north[0] + math.pi) % turn - math.pi
    latitude = (north[1] + south[1]) / 2
    curvature = 1 - e2 * np.sin(latitude) ** 2
    per_lon = semi_major * np.cos(latitude) / np.sqrt(curvature)
    per_lat = semi_major * (1 - e2) / curvature**1.5
    return np.array(
        [
            [dlon_dcol * per_lon, (east[1] - west[1]) * per_lat],
            [dlon_drow * per_lon, (south[1] - north[1]) * per_lat],
        ]
    )


def _radians(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.radians(x), np.radians(y)


@lru_cache(maxsize=64)
def _geodetic(wkt: str) -> tuple[pyproj.Transformer | None, float, float]:
    """How to reach geodetic coordinates (None: they are), the semi-major axis, e squared."""
    crs = pyproj.CRS.from_wkt(wkt)
    geodetic = crs.geodetic_crs
    if geodetic is None or crs.ellipsoid is None:
        raise GridError(f"the CRS {crs.name!r} has no place on the Earth, so areas are unknown")
    a, b = crs.ellipsoid.semi_major_metre, crs.ellipsoid.semi_minor_metre
    e2 = 1 - (b / a) ** 2
    if crs.is_geographic:
        return None, a, e2
    return pyproj.Transformer.from_crs(crs, geodetic, always_xy=True), a, e2
