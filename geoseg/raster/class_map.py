"""A class raster to be read: its codes strip by strip, and what they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS, NODATA, UNCERTAIN, Legend, LegendClass
from geoseg.limits import MAX_PIXELS
from geoseg.raster.classes import ClassRaster

__all__ = ["ClassMap", "MapDigest"]

STRIP_PX = 512
"""Rows read together."""


class ClassMap:
    """A raster of byte codes to be judged.

    Args:
        path: the file.
        nodata: the code that stands for no data, the file's own when None.
        max_pixels: rasters with more pixels are refused.

    Raises:
        SceneError: if it is missing, no raster, or holds anything but one band of bytes.
        InputError: if it cannot hold the code for no data.
    """

    def __init__(
        self, path: str | Path, *, nodata: float | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.path = Path(path)
        """The file."""
        self._raster = ClassRaster(path, nodata=nodata, max_pixels=max_pixels)
        self.name = self.path.name
        """File name."""
        self.grid: Grid = self._raster.grid
        """Where its pixels lie."""
        if self._raster.dtype != np.uint8:
            self.close()
            raise SceneError(
                f"{self.name} holds codes of {self._raster.dtype}; accuracy is judged on maps of "
                "uint8 (gdal_translate -ot Byte makes one)"
            )
        self.meanings = self._raster.meanings
        """What it says of its codes."""

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
        self._raster.close()

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Codes of a window inside the grid, (h, w); 255 where there is no data.

        Raises:
            SceneError: if it is damaged, or 255 is one of its codes.
        """
        codes = self._raster.read(window)
        if (codes == NODATA).any():
            raise SceneError(
                f"{self.name} holds the code 255, which stands for no data here: if it does there, "
                "too, say --nodata 255 or declare it with gdal_edit -a_nodata 255; if it is a "
                "class, give it another code"
            )
        return np.where(codes == NO_CLASS, NODATA, codes).astype(np.uint8)

    def strips(self) -> Iterator[tuple[Window, npt.NDArray[np.uint8]]]:
        """All codes, top to bottom."""
        for window in self.grid.window.row_strips(STRIP_PX):
            yield window, self.read(window)

    def legend(self, present: npt.NDArray[np.integer[Any]]) -> Legend:
        """The classes it declares and those it holds; without a name, "class 7".

        Args:
            present: the codes that it holds.
        """
        declared = (code for code in self.meanings.names if 0 <= code < UNCERTAIN)
        codes = sorted({*declared, *(int(code) for code in present if code < UNCERTAIN)})
        return Legend(
            tuple(
                LegendClass(code, self.meanings.name(code), self.meanings.colour(code))
                for code in codes
            )
        )


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
