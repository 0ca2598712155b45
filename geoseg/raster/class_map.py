"""A class raster to be read: its codes strip by strip, and what they mean."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoseg.errors import LegendError, SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA, UNCERTAIN, Legend, LegendClass
from geoseg.raster.source import RasterSource

__all__ = ["ClassMap", "MapDigest"]

STRIP_PX = 512
"""Rows read together."""

SPARE_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1",
                 "#9c755f", "#ff9da7", "#bab0ac")  # fmt: skip
"""For rasters without a colour table."""


class ClassMap:
    """A GeoTIFF of class codes: one band of bytes, 255 or its own nodata where there is none.

    Args:
        path: the file.

    Raises:
        SceneError: if it is missing, no GeoTIFF, or holds anything but one band of bytes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        """The file."""
        self._source = RasterSource(path)
        header = self._source.header
        self.name = header.name
        """File name."""
        self.grid: Grid = header.grid
        """Where its pixels lie."""
        if header.count != 1 or header.dtype != np.uint8:
            self.close()
            raise SceneError(
                f"{self.name} holds {header.count} band(s) of {header.dtype}; a class raster has "
                "one of uint8 (gdal_translate -ot Byte -b 1 makes one)"
            )
        nodata = header.nodata[0]
        self._nodata = NODATA if nodata is None or not 0 <= nodata < NODATA else int(nodata)
        self._tags, self._colours = _tags_and_colours(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was opened."""
        self._source.close()

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Codes of a window inside the grid, (h, w); 255 where there is no data."""
        codes: npt.NDArray[np.uint8] = self._source.read([1], window)[0]
        mask = self._source.read_mask(window)
        if self._nodata != NODATA:
            codes = np.where(codes == self._nodata, np.uint8(NODATA), codes)
        return codes if mask is None else np.where(mask, codes, np.uint8(NODATA))

    def strips(self) -> Iterator[tuple[Window, npt.NDArray[np.uint8]]]:
        """All codes, top to bottom."""
        for window in self.grid.window.row_strips(STRIP_PX):
            yield window, self.read(window)

    @property
    def declared_names(self) -> dict[int, str]:
        """Class names by code, as geoseg writes them into a map; empty in other rasters."""
        try:
            declared = json.loads(self._tags.get("GEOSEG_LEGEND", "{}"))
            return {int(code): str(name) for code, name in declared.items()}
        except (ValueError, AttributeError) as error:
            raise LegendError(
                f"the GEOSEG_LEGEND tag of {self.name} is damaged: {error}"
            ) from error

    def legend(self, present: npt.NDArray[np.integer[Any]]) -> Legend:
        """The classes it declares and those it holds; without a name, "class 7".

        Args:
            present: the codes that it holds.
        """
        names = self.declared_names
        codes = sorted({*names, *(int(code) for code in present if code < UNCERTAIN)})
        return Legend(
            tuple(
                LegendClass(code, names.get(code, f"class {code}"), self._colour(code))
                for code in codes
            )
        )

    def _colour(self, code: int) -> str:
        known = self._colours.get(code)
        if known is None:
            return SPARE_COLOURS[code % len(SPARE_COLOURS)]
        return "#{:02x}{:02x}{:02x}".format(*known[:3])


class MapDigest:
    """The SHA-256 of a map's grid and pixels: not of its file, which overviews and tags change.

    Args:
        grid: the map's.
    """

    def __init__(self, grid: Grid) -> None:
        place = [*map(float, grid.transform[:6]), *grid.shape]
        crs = "" if grid.crs is None else grid.crs.to_string()
        self._hash = hashlib.sha256(f"{crs}|{place}".encode())

    def add(self, codes: npt.NDArray[np.uint8]) -> None:
        """Take the next rows, (h, W)."""
        self._hash.update(np.ascontiguousarray(codes).tobytes())

    @property
    def sha256(self) -> str:
        """Of what was taken so far."""
        return self._hash.hexdigest()


def _tags_and_colours(path: Path) -> tuple[dict[str, str], dict[int, tuple[int, ...]]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as dataset:
                palette = ColorInterp.palette in dataset.colorinterp
                return dataset.tags(), dataset.colormap(1) if palette else {}
    except RasterioError as error:
        raise SceneError(f"{path} is not a GeoTIFF, as class rasters are: {error}") from error
