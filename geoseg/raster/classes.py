"""Class rasters: one band of class codes, what the codes mean, read strip by strip."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from geoseg.errors import GridError, InputError, SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS, Meanings
from geoseg.limits import MAX_PIXELS
from geoseg.raster.source import RasterSource

__all__ = ["ClassRaster", "ConfidenceRaster", "read_strips"]

MAX_STRIP_PX = 1 << 23
STRIP_ROWS = 512
MAX_SIDECAR_BYTES = 1 << 20
"""A file of category names larger than this is left unread."""


class ClassRaster:
    """A raster of whole class codes.

    Args:
        path: its file.
        nodata: the value that stands for no data, the file's own when None.
        max_pixels: rasters with more pixels are refused.

    Raises:
        SceneError: if it cannot be read, has several bands, or holds no whole numbers that fit
            32 bits.
        InputError: if it cannot hold the value for no data.
    """

    def __init__(
        self, path: str | Path, *, nodata: float | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.path = Path(path)
        self._source = RasterSource(path, max_pixels=max_pixels)
        header = self._source.header
        self.grid: Grid = header.grid
        """Where its pixels lie."""
        if header.count != 1:
            raise SceneError(
                f"{header.name} has {header.count} bands; expected one band of class codes, "
                "such as NAME_classes.tif of geoseg predict"
            )
        if header.dtype.kind not in "ui" or header.dtype.itemsize > 4:
            raise SceneError(
                f"{header.name} holds {header.dtype} values; expected whole class codes of at most "
                "32 bits; convert it with gdal_translate -ot Byte or -ot Int32"
            )
        if nodata is not None and not _can_hold(header.dtype, nodata):
            raise InputError(f"--nodata {nodata:g}: {header.name} holds {header.dtype} values")
        self.nodata = header.nodata[0] if nodata is None else nodata
        """The value that stands for no data, None when there is none."""
        self.dtype = header.dtype
        """Type of the stored values."""
        self.colours = self._source.colour_table()
        """Red, green, blue and opacity by stored value, empty when there are none."""
        self.tags = self._source.tags()
        """The file's own metadata."""

    @property
    def meanings(self) -> Meanings:
        """What the file says of its codes: geoseg's own tag, else GDAL's category names."""
        names = _told_names(self.tags.get("GEOSEG_LEGEND")) or _category_names(self.path)
        colours = {
            code: f"#{red:02x}{green:02x}{blue:02x}"
            for code, (red, green, blue, _) in self.colours.items()
            if code in names or not names
        }
        return Meanings(names, colours)

    def read(self, window: Window) -> npt.NDArray[np.int32]:
        """Class codes in a window, NO_CLASS where there is no data."""
        stored = self._source.read([1], window)[0]
        missing = np.zeros(stored.shape, bool) if self.nodata is None else stored == self.nodata
        mask = self._source.read_mask(window)
        if mask is not None:
            missing |= ~mask
        if stored.dtype == np.uint32 and (stored[~missing] > np.iinfo(np.int32).max).any():
            raise SceneError(f"{self.path.name} holds codes above 2147483647, which no map has")
        codes: npt.NDArray[np.int32] = stored.astype(np.int32)
        codes[missing] = NO_CLASS
        return codes

    def stored(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.integer[Any]]:
        """Class codes as this file stores them.

        Raises:
            SceneError: if pixels have no data and the file has no value for that.
        """
        missing = codes == NO_CLASS
        if self.nodata is None and missing.any():
            raise SceneError(f"{self.path.name} has no nodata value; choose one with --nodata")
        filled = np.where(missing, 0 if self.nodata is None else int(self.nodata), codes)
        return filled.astype(self.dtype)

    def close(self) -> None:
        """Give back what was opened."""
        self._source.close()


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


class ConfidenceRaster:
    """The confidence of each pixel of a class raster.

    Args:
        path: its file; its first band counts, times its scale plus its offset.
        grid: the class raster's.

    Raises:
        SceneError: if it cannot be read or does not lie on the same pixels.
    """

    def __init__(self, path: str | Path, grid: Grid) -> None:
        self._source = RasterSource(path, max_pixels=sys.maxsize)  # it must lie on that grid
        header = self._source.header
        try:
            fits = grid.align(header.grid) == grid.window
        except GridError:
            fits = False
        if not fits:
            raise SceneError(
                f"{header.name} does not lie on the pixels of the class raster; "
                "give the confidence that was written with it"
            )
        self._nodata, self._scale = header.nodata[0], header.scales[0]
        self._offset = header.offsets[0]

    def read(self, window: Window) -> npt.NDArray[np.float32]:
        """Confidences in a window, NaN where unknown."""
        stored = self._source.read([1], window)[0]
        confidence = np.asarray(stored * self._scale + self._offset, np.float32)
        if self._nodata is not None:
            confidence[stored == self._nodata] = np.nan
        mask = self._source.read_mask(window)
        if mask is not None:
            confidence[~mask] = np.nan
        return confidence

    def close(self) -> None:
        """Give back what was opened."""
        self._source.close()


def read_strips(
    classes: ClassRaster, confidence: ConfidenceRaster | None = None
) -> Iterator[tuple[Window, npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """Rows of class codes and confidences from top to bottom, the next ones read meanwhile.

    Yields:
        the window; codes (rows, width); confidences (rows, width), or (0, 0) without any.

    Raises:
        SceneError: if a file is damaged.
    """
    none = np.empty((0, 0), np.float32)

    def read(window: Window) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        return classes.read(window), none if confidence is None else confidence.read(window)

    rows = max(16, min(STRIP_ROWS, MAX_STRIP_PX // classes.grid.width))
    windows = list(classes.grid.window.row_strips(rows))
    with ThreadPoolExecutor(1, "geoseg-read") as reader:
        ahead = reader.submit(read, windows[0])
        for window, following in zip(windows, [*windows[1:], None], strict=True):
            strip = ahead.result()
            if following is not None:
                ahead = reader.submit(read, following)
            yield window, *strip


def _told_names(text: str | None) -> dict[int, str]:
    try:
        told = json.loads(text) if text else {}
        return {int(code): str(name) for code, name in told.items()}
    except (ValueError, AttributeError):  # somebody else's tag
        return {}


def _category_names(raster: Path) -> dict[int, str]:
    """The names in GDAL's sidecar; a file that declares entities is none of GDAL's."""
    sidecar = raster.with_name(f"{raster.name}.aux.xml")
    if not sidecar.is_file() or sidecar.stat().st_size > MAX_SIDECAR_BYTES:
        return {}
    text = sidecar.read_bytes()
    if b"<!" in text.replace(b"<!--", b""):
        return {}
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  (no entities, no size to speak of)
    except ElementTree.ParseError:
        return {}
    categories = root.findall("PAMRasterBand[@band='1']/CategoryNames/Category")
    return {code: each.text for code, each in enumerate(categories) if each.text}
