"""Small pictures of a scene around places on it, for people who look closely."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
from PIL import Image, ImageDraw

from geoseg.bands import find_bands
from geoseg.errors import BandError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.scene import Reading
from geoseg.raster.source import RasterSource

__all__ = ["write_scene_chips"]

GROWN_PX = 320
"""Chips are drawn about this large."""

STRETCH_CHIPS = 100
"""The common stretch is taken from this many chips."""

NATURAL = ("red", "green", "blue")
EMPTY, MARK = 235, (255, 255, 0)

MARK_PX = 3
"""The mark is this many map pixels wide, so that the pixel itself stays in sight."""


def write_scene_chips(
    scene: str | Path,
    grid: Grid,
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    paths: Sequence[Path],
    *,
    chip_px: int,
) -> None:
    """Draw a picture of the scene around each pixel of a map, which is marked.

    All pictures share one stretch, so that the same ground looks the same in each.

    Args:
        scene: a raster file; its red, green and blue bands where they are named, else its first.
        grid: the map's, in whatever CRS.
        rows: (N,), of the pixels.
        cols: (N,).
        paths: (N,), the PNG files to write.
        chip_px: side of a picture in pixels of the scene.

    Raises:
        SceneError: if the scene cannot be read, or map or scene has no CRS and the other has.
    """
    source = RasterSource(scene, max_pixels=sys.maxsize)  # of which little is read
    try:
        outlines = _outlines_on(source, grid, rows, cols)
        centres = np.floor(outlines.mean(axis=1)).astype(int)
        windows = [
            Window(int(row) - chip_px // 2, int(col) - chip_px // 2, chip_px, chip_px)
            for col, row in centres
        ]
        bands = _shown_bands(source)
        low, high = _stretch([_read(source, bands, window) for window in windows[:STRETCH_CHIPS]])
        for window, outline, path in zip(windows, outlines, paths, strict=True):
            light = (_read(source, bands, window) - low) / (high - low) * 255
            picture = np.where(np.isnan(light), EMPTY, np.clip(light, 0, 255)).astype(np.uint8)
            _draw(picture, outline - (window.col, window.row), path)
    finally:
        source.close()


def _outlines_on(
    source: RasterSource, grid: Grid, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(N, 4, 2), the corners of map pixels in (column, row) of the scene."""
    own = source.header.grid
    if (own.crs is None) != (grid.crs is None):
        raise SceneError(f"{source.header.name} and the map: one has a CRS, the other has none")
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    pixel = np.stack((cols, rows), axis=1)[:, None, :] + corners
    x, y = grid.to_map(pixel[..., 0], pixel[..., 1])
    if own.crs is not None and grid.crs is not None and own.crs != grid.crs:
        between = pyproj.Transformer.from_crs(grid.crs.to_wkt(), own.crs.to_wkt(), always_xy=True)
        x, y = between.transform(x, y)
    outlines = np.stack(own.to_pixels(x, y), axis=-1)
    if not np.isfinite(outlines).all():
        raise SceneError(f"{source.header.name} and the map do not lie on the same ground")
    return np.asarray(outlines)


def _shown_bands(source: RasterSource) -> list[int]:
    header = source.header
    try:
        numbers, _ = find_bands(**Reading().of_bands(header))
    except BandError:
        numbers = {}
    if all(name in numbers for name in NATURAL):
        return [numbers[name] for name in NATURAL]
    return [1, 2, 3] if header.count >= 3 else [1, 1, 1]


def _read(source: RasterSource, bands: list[int], window: Window) -> npt.NDArray[np.float32]:
    """(3, h, w), NaN where the scene has no data or does not reach."""
    pixels = np.full((3, *window.shape), np.nan, np.float32)
    shared = window.intersect(source.header.grid.window)
    if shared is None:
        return pixels
    values = source.read(bands, shared).astype(np.float32)
    nodata = source.header.nodata[0]
    if nodata is not None:
        values[:, (values == nodata).all(axis=0)] = np.nan
    mask = source.read_mask(shared)
    if mask is not None:
        values[:, ~mask] = np.nan
    rows, cols = shared.within(window)
    pixels[:, rows, cols] = values
    return pixels


def _stretch(chips: list[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """The 2nd and 98th percentile of all that is known."""
    known = [chip[np.isfinite(chip)] for chip in chips]
    values = np.concatenate(known) if known else np.zeros(0)
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, (2, 98))
    return float(low), float(max(high, low + 1e-9))


def _draw(picture: npt.NDArray[np.uint8], outline: npt.NDArray[np.float64], path: Path) -> None:
    grow = max(1, GROWN_PX // picture.shape[1])
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
    image = image.resize((image.width * grow, image.height * grow), Image.Resampling.NEAREST)
    middle = outline.mean(axis=0)
    around = middle + (outline - middle) * MARK_PX
    corners = [(float(x * grow), float(y * grow)) for x, y in around]
    ImageDraw.Draw(image).polygon(corners, outline=MARK)
    image.save(path, format="PNG")
