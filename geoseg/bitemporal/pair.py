"""Two scenes of one place on one grid, read together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import Resampling

from geoseg.bands import find_bands
from geoseg.errors import BandError, GridError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.align import onto_grid, pixel_mapping
from geoseg.raster.level import Level
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Chip, Reading, Scene, Units
from geoseg.raster.source import Header, RasterSource

__all__ = ["PairChip", "ScenePair", "StoredRange", "open_pair", "shared_bands"]

FINER = 1.001
"""Grids whose gsd differ by less than this factor count as equal; the earlier one is kept then."""

EDGE_POINTS = 33
"""An outline is followed at this many points a side from one CRS to another."""

SLACK_PX = 1e-3

AHEAD = 1
"""Windows read before they are asked for."""


@dataclass(frozen=True, slots=True)
class PairChip:
    """A window of both scenes."""

    before: npt.NDArray[np.float32]
    """(C, H, W), 0 where that scene is invalid."""
    after: npt.NDArray[np.float32]
    """(C, H, W), likewise."""
    valid: npt.NDArray[np.bool_]
    """(H, W), True where both scenes have data."""
    window: Window
    """Where it lies on the grid of the pair."""


@dataclass(frozen=True, slots=True)
class StoredRange:
    """The numbers that a scene can hold, in the units that it is read in."""

    step: float = 0.0
    """What one grey level is worth; 0 where values are no whole numbers."""
    low: float = -math.inf
    """A value here may have been less, and was cut off."""
    high: float = math.inf
    """A value here may have been more."""


@dataclass(frozen=True, slots=True)
class ScenePair:
    """Two scenes on one grid."""

    before: Scene
    after: Scene
    grid: Grid
    """What both cover, with the coarser scene's pixels."""
    ranges: tuple[StoredRange, StoredRange]
    """What numbers each scene stores."""
    unfitted: Scene
    """The later scene on its own grid."""
    assumed: tuple[str, ...]
    """What was taken for granted, a sentence each."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of both."""
        return self.before.bands

    def read(self, window: Window) -> PairChip:
        """Both scenes at a window, which may reach beyond the grid: there they are invalid."""
        return _joined(self.before.read(window), self.after.read(window))

    def strips(self, pixels: int) -> Iterator[PairChip]:
        """The pair from top to bottom, in strips of about as many pixels."""
        rows = max(1, pixels // self.grid.width)
        yield from self.read_ahead(self.grid.window.row_strips(rows))

    def read_ahead(self, windows: Iterable[Window]) -> Iterator[PairChip]:
        """The pair at some windows, read while earlier ones are used.

        Each scene by one thread: a second one would open it again and decode its blocks twice.
        """
        waiting: deque[tuple[Future[Chip], Future[Chip]]] = deque()
        with (
            ThreadPoolExecutor(1, "geoseg-before") as one,
            ThreadPoolExecutor(1, "geoseg-after") as other,
        ):
            for window in windows:
                waiting.append(
                    (one.submit(self.before.read, window), other.submit(self.after.read, window))
                )
                if len(waiting) > AHEAD:
                    earliest = waiting.popleft()
                    yield _joined(earliest[0].result(), earliest[1].result())
            for before, after in waiting:
                yield _joined(before.result(), after.result())

    def shifted(self, rows: float, cols: float) -> ScenePair:
        """The pair with the later scene moved up by `rows` and to the left by `cols` pixels.

        Whole pixels are read from elsewhere, parts of one interpolated by cubic convolution.
        """
        there = Grid(
            self.grid.crs, self.grid.transform @ Affine.translation(cols, rows), self.grid.shape
        )
        moved = onto_grid(self.unfitted, there, Resampling.cubic)
        return replace(self, after=_PlacedScene(moved, self.grid))


class _PlacedScene:
    """A scene said to lie elsewhere."""

    def __init__(self, scene: Scene, grid: Grid) -> None:
        self._scene = scene
        self.name = scene.name
        self.grid = grid
        self.bands = scene.bands
        self.assumed = scene.assumed

    def read(self, window: Window) -> Chip:
        """See Scene."""
        return self._scene.read(window)


@contextmanager
def open_pair(
    before: str | Path,
    after: str | Path,
    bands: Sequence[str] | None,
    *,
    units: Units = "stored",
    stored_type: str | None = None,
    reading: Reading | None = None,
    fit: Callable[[Grid], Grid] | None = None,
    or_else: Sequence[Sequence[str]] = (),
    levels: Sequence[Level] = (),
) -> Iterator[ScenePair]:
    """Open two scenes on the grid that they share.

    That is the grid of the coarser scene, of the earlier where neither is; the other scene is
    read pixel for pixel where it lies on the same lattice, else resampled.

    Args:
        before: the earlier scene.
        after: the later scene.
        bands: common names, in the order wanted; None: every band of both, in their order.
        units: what the numbers are to mean.
        stored_type: see `open_scene`.
        reading: what a person says about both scenes.
        fit: makes the grid to read at out of the one that they share.
        or_else: sets of bands to take, the largest first, where a scene lacks one of `bands`; both
            scenes are read in the smaller one's.
        levels: see `open_scene`.

    Raises:
        SceneError: if one cannot be read, only one has a CRS, or they do not overlap.
        BandError: if their bands are not, or not clearly, the wanted ones.
    """
    reading = reading or Reading()
    with ExitStack() as stack:

        def open_both(wanted: Sequence[str] | None) -> list[Scene]:
            how: Any = {"units": units, "stored_type": stored_type, "reading": reading}
            return [
                stack.enter_context(open_scene(path, wanted, or_else=or_else, levels=levels, **how))
                for path in (before, after)
            ]

        scenes, told = open_both(bands), dict[str, None]()
        if scenes[0].bands != scenes[1].bands and or_else:
            shared = min((scene.bands for scene in scenes), key=len)
            scenes = open_both(shared)
            told[f"both scenes read in the bands of the poorer one: {' '.join(shared)}"] = None
        grid = _shared_grid(*scenes)
        grid = grid if fit is None else fit(grid)
        fitted = [onto_grid(scene, grid) for scene in scenes]
        ranges = [_stored_range(path, reading) for path in (before, after)]
        told |= {f"{s.name}: {each}": None for s in fitted for each in s.assumed}
        yield ScenePair(fitted[0], fitted[1], grid, (ranges[0], ranges[1]), scenes[1], tuple(told))


def shared_bands(
    before: str | Path, after: str | Path, reading: Reading
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The bands that two scenes have in common.

    Returns:
        common names, or None when neither scene names its bands and both have equally many,
        which are then compared in their order; and what was assumed.

    Raises:
        BandError: if they share none, or it is not clear which.
    """
    headers = [_header(path, reading) for path in (before, after)]
    found = [find_bands(**reading.of_bands(header)) for header in headers]
    names, assumed = (
        [each for each, _ in found],
        tuple(dict.fromkeys(sum((a for _, a in found), ()))),
    )
    if all(names):
        shared = tuple(name for name in names[0] if name in names[1])
        if not shared:
            raise BandError(
                f"the scenes share no band: {headers[0].name} has {' '.join(names[0])}, "
                f"{headers[1].name} has {' '.join(names[1])}"
            )
        left_out = {*names[0], *names[1]} - set(shared)
        if left_out:
            assumed += (f"compared in the bands that both have: {' '.join(shared)}",)
        return shared, assumed
    counts = [header.count - (header.alpha(()) is not None) for header in headers]
    if any(names) or counts[0] != counts[1]:
        raise BandError(
            f"the bands of the scenes cannot be matched: {_told(headers[0], names[0])}, "
            f"{_told(headers[1], names[1])}; say which is which, such as --bands red=1,nir=2"
        )
    return None, (f"bands without names compared in their order, 1 to {counts[0]}",)


def _told(header: Header, names: dict[str, int]) -> str:
    return f"{header.name} has {' '.join(names) or f'{header.count} without names'}"


def _header(path: str | Path, reading: Reading) -> Header:
    source = RasterSource(path, max_pixels=reading.max_pixels)
    source.close()
    return source.header


def _stored_range(path: str | Path, reading: Reading) -> StoredRange:
    dtype = _header(path, reading).dtype
    if dtype.kind == "f":
        return StoredRange()
    scale = 1.0 if reading.scale is None else reading.scale
    offset = reading.offset or 0.0
    limits = np.iinfo(dtype)
    low, high = sorted(float(limit) * scale + offset for limit in (limits.min, limits.max))
    return StoredRange(abs(scale), low, high)


def _shared_grid(before: Scene, after: Scene) -> Grid:
    """What both cover, in the pixels of the coarser one."""
    earlier_is_coarser = _gsd(before.grid) * FINER >= _gsd(after.grid)
    coarse, fine = (before, after) if earlier_is_coarser else (after, before)
    try:
        cols, rows = pixel_mapping(fine.grid, coarse.grid)(*_outline(fine.grid))
    except GridError as error:
        raise SceneError(f"{before.name} and {after.name}: {error}; give both the same") from error
    if not (np.isfinite(cols).all() and np.isfinite(rows).all()):
        raise SceneError(f"{fine.name} does not lie where the CRS of {coarse.name} reaches")
    covered = Window.from_stops(
        math.floor(rows.min() + SLACK_PX),
        math.floor(cols.min() + SLACK_PX),
        math.ceil(rows.max() - SLACK_PX),
        math.ceil(cols.max() - SLACK_PX),
    )
    shared = coarse.grid.window.intersect(covered)
    if shared is None:
        raise SceneError(
            f"{before.name} and {after.name} do not overlap: {_place(before.grid)} and "
            f"{_place(after.grid)}"
        )
    return coarse.grid.crop(shared)


def _gsd(grid: Grid) -> float:
    return grid.gsd_m or math.sqrt(abs(grid.transform.determinant))


def _outline(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Columns and rows along the four edges."""
    along = np.linspace(0.0, 1.0, EDGE_POINTS)
    none, full = np.zeros_like(along), np.ones_like(along)
    cols = np.concatenate((along, along, none, full)) * grid.width
    rows = np.concatenate((none, full, along, along)) * grid.height
    return cols, rows


def _place(grid: Grid) -> str:
    crs = "no CRS" if grid.crs is None else grid.crs.to_string()
    return f"{', '.join(f'{each:.6g}' for each in grid.bounds)} ({crs})"


def _joined(before: Chip, after: Chip) -> PairChip:
    return PairChip(before.pixels, after.pixels, before.valid & after.valid, before.window)
