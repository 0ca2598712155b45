"""A scene: the bands a model wants, in its units, with one array that says where data is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from geoseg.bands import parse_bands, sensor_named
from geoseg.grid import Grid, Window
from geoseg.limits import MAX_PIXELS
from geoseg.raster.level import Level
from geoseg.raster.source import Header, Source

__all__ = ["Chip", "Reading", "Scene", "SourceScene", "Units"]

Units: TypeAlias = Literal["reflectance", "stored"]
"""What a model's numbers mean: reflectance 0-1, or the values as they are stored in the file."""


@dataclass(frozen=True, slots=True)
class Chip:
    """The window that a network sees."""

    pixels: npt.NDArray[np.float32]
    """(C, H, W), in the scene's units, 0 where invalid."""
    valid: npt.NDArray[np.bool_]
    """(H, W), True where every band has data."""
    window: Window
    """Where it lies in the scene; it may reach beyond the scene's edges."""


@runtime_checkable
class Scene(Protocol):
    """An input image. Reading is safe from several threads."""

    @property
    def name(self) -> str:
        """File name, or the array's name."""
        ...

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands of a chip."""
        ...

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was not written in the scene but taken for granted, a sentence each."""
        ...

    def read(self, window: Window) -> Chip:
        """The chip at a window, which may reach beyond the scene: there it is invalid."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a person says about a scene that its file does not; None where the file knows."""

    bands: str | Mapping[str, int] | None = None
    """1-based band numbers by common name, as a mapping or as 'red=3,green=2'."""
    sensor: str | None = None
    """Whose own band names or customary band order the scene uses."""
    scale: float | None = None
    """Units = stored value * scale + offset; what is None comes from the file."""
    offset: float | None = None
    nodata: float | None = None
    """The stored value that stands for no data."""
    max_pixels: int = MAX_PIXELS
    """Scenes with more pixels are refused."""
    level: Level | None = None
    """Of its reflectance."""
    keep_clouds: bool = False
    """Take what a product's quality bands call cloud, shadow or saturated as valid."""

    def of_bands(self, header: Header) -> dict[str, Any]:
        """What the file and the person say of a scene's bands: the arguments of `find_bands`."""
        told = parse_bands(self.bands) if isinstance(self.bands, str) else self.bands
        return {
            "count": header.count,
            "descriptions": header.descriptions,
            "colours": header.colours,
            "wavelengths_um": header.wavelengths_um,
            "told": told,
            "sensor": None if self.sensor is None else sensor_named(self.sensor),
        }


class SourceScene:
    """A scene read pixel for pixel from its source."""

    def __init__(
        self,
        source: Source,
        bands: Sequence[str],
        numbers: Sequence[int],
        scaling: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        nodata: Sequence[float | None],
        alpha: int | None = None,
        assumed: Sequence[str] = (),
        never: Sequence[float] = (),
    ) -> None:
        self._source = source
        self._numbers = tuple(numbers)
        self._scale, self._offset = (each[:, None, None] for each in scaling)
        self._as_stored = bool((scaling[0] == 1).all() and (scaling[1] == 0).all())
        dtype = source.header.dtype
        self._nodata = [
            [code for value in (one, *never) if (code := _as_stored(value, dtype)) is not None]
            for one in nodata
        ]
        self._alpha = alpha
        self.name = source.header.name
        self.grid = source.header.grid
        self.bands = tuple(bands)
        self.assumed = tuple(assumed)

    def read(self, window: Window) -> Chip:
        """See Scene.

        Raises:
            SceneError: if the file is damaged there.
        """
        pixels = np.zeros((len(self.bands), *window.shape), np.float32)
        valid = np.zeros(window.shape, np.bool_)
        inside = window.intersect(self.grid.window)
        if inside is not None:
            place = inside.within(window)
            stored, known = self._read_inside(inside)
            values = self._in_units(stored)
            if stored.dtype.kind == "f":
                known &= np.isfinite(values).all(axis=0)
            if not known.all():
                values[:, ~known] = 0
            if inside == window:
                return Chip(values, known, window)
            valid[place], pixels[:, *place] = known, values
        return Chip(pixels, valid, window)

    def _in_units(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored.astype(np.float32)
            if not self._as_stored:
                values *= self._scale
                values += self._offset
        return values

    def _read_inside(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        alpha = () if self._alpha is None else (self._alpha,)
        stored = self._source.read((*self._numbers, *alpha), window)
        valid = np.ones(window.shape, np.bool_)
        if alpha:
            valid &= stored[-1] != 0
            stored = stored[:-1]
        mask = self._source.read_mask(window)
        if mask is not None:
            valid &= mask
        for band, codes in zip(stored, self._nodata, strict=True):
            for code in codes:
                valid &= band != code
        return stored, valid


def _as_stored(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """The nodata value in the scene's own type; None when no stored value can equal it."""
    if nodata is None or not np.isfinite(nodata):
        return None  # NaN and infinity are never data
    if dtype.kind == "f":
        return np.float32(nodata) if dtype.itemsize <= 4 else np.float64(nodata)
    limits = np.iinfo(dtype)
    if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        return None
    return dtype.type(int(nodata))
