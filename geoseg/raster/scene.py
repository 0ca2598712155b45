"""A scene: the bands a model wants, in its units, with one array that says where data is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from geoseg.bands import BandMatch, match_bands, parse_bands, sensor_named
from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.source import MAX_PIXELS, Header, RasterSource, Source

if TYPE_CHECKING:
    import xarray

__all__ = ["Chip", "Reading", "Scene", "SourceScene", "Units", "open_scene"]

Units: TypeAlias = Literal["reflectance", "stored"]
"""What a model's numbers mean: reflectance 0-1, or the values as they are stored in the file."""

SceneLike: TypeAlias = "str | Path | xarray.DataArray"

PLAUSIBLE_REFLECTANCE = 2.0
"""The median of no real scene's reflectance is above this; of unscaled integers it is."""

LOWEST_REFLECTANCE = -1.0
"""Corrections of the atmosphere leave values a little below 0, never these."""

EIGHT_BIT = (
    "8-bit values / 255 taken as reflectance: a stretched picture is none, so expect a worse map"
)


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
    ) -> None:
        self._source = source
        self._numbers = tuple(numbers)
        self._scale, self._offset = (each[:, None, None] for each in scaling)
        self._as_stored = bool((scaling[0] == 1).all() and (scaling[1] == 0).all())
        dtype = source.header.dtype
        self._nodata = [_as_stored(value, dtype) for value in nodata]
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
        for band, nodata in zip(stored, self._nodata, strict=True):
            if nodata is not None:
                valid &= band != nodata
        return stored, valid


@contextmanager
def open_scene(
    scene: SceneLike,
    bands: Sequence[str] | None,
    *,
    units: Units = "reflectance",
    stored_type: str | None = None,
    reading: Reading | None = None,
) -> Iterator[SourceScene]:
    """Open a raster file or an xarray.DataArray as the bands that a model reads.

    Args:
        scene: a path, or an array that follows rioxarray's conventions.
        bands: common names, in the order wanted; None: every band but alpha, in the scene's
            order, called "band 1" and so on.
        units: what the numbers are to mean.
        stored_type: with units "stored", the data type that the model was trained on.
        reading: what a person says about the scene.

    Raises:
        SceneError: if it cannot be read, or its numbers cannot be brought to `units`.
        BandError: if its bands are not, or not clearly, the wanted ones.
    """
    reading = reading or Reading()
    if reading.nodata is not None and not math.isfinite(reading.nodata):
        raise InputError(
            f"--nodata {reading.nodata} is not needed: NaN and infinity are never data"
        )
    source: Source
    if isinstance(scene, str | Path):
        source = RasterSource(scene, max_pixels=reading.max_pixels)
    elif not hasattr(scene, "dims"):
        kind = type(scene).__name__
        raise SceneError(f"a scene is a path or an xarray.DataArray, not a {kind}")
    else:
        from geoseg.raster.arrays import source_of_array

        source = source_of_array(scene)
    try:
        header = source.header
        if "palette" in header.colours:
            raise SceneError(
                f"{header.name} holds palette colours, not measurements; give the scene itself"
            )
        match = _match(header, bands, reading)
        scale, offset, assumed = _scaling(header, match.indexes, units, stored_type, reading)
        nodata = [
            header.nodata[n - 1] if reading.nodata is None else reading.nodata
            for n in match.indexes
        ]
        opened = SourceScene(
            source,
            match.names,
            match.indexes,
            (scale, offset),
            nodata,
            header.alpha(match.known),
            (*match.assumed, *assumed),
        )
        if units == "reflectance":
            _refuse_unscaled(opened)
        yield opened
    finally:
        source.close()


def _match(header: Header, bands: Sequence[str] | None, reading: Reading) -> BandMatch:
    if bands is None:
        alpha = header.alpha(())
        numbers = tuple(n for n in range(1, header.count + 1) if n != alpha)
        return BandMatch(numbers, tuple(f"band {n}" for n in numbers), ())
    return match_bands(bands, **reading.of_bands(header))


def _scaling(
    header: Header,
    numbers: Sequence[int],
    units: Units,
    stored_type: str | None,
    reading: Reading,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[str, ...]]:
    """Scale and offset of each band, and what was assumed to choose them."""
    count = len(numbers)
    scales = np.array([header.scales[n - 1] for n in numbers], np.float32)
    offsets = np.array([header.offsets[n - 1] for n in numbers], np.float32)
    if reading.scale is not None or reading.offset is not None:
        for name, value in (("scale", reading.scale), ("offset", reading.offset)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"--{name} {value} is no number to calculate with")
        if reading.scale == 0:
            raise InputError("--scale 0 would make every value the same")
        scales = scales if reading.scale is None else np.full_like(scales, reading.scale)
        offsets = offsets if reading.offset is None else np.full_like(offsets, reading.offset)
        return scales, offsets, (f"values x {scales[0]:g} + {offsets[0]:g}, as told",)
    if units == "stored":
        if stored_type is not None and header.dtype != np.dtype(stored_type):
            raise SceneError(
                f"{header.name} holds {header.dtype} values, the model was trained on "
                f"{stored_type} values as stored; say how they compare with --scale and --offset"
            )
        return *_constant(count, 1.0), ()
    if (scales != 1).any() or (offsets != 0).any():
        return scales, offsets, ()
    if header.dtype.kind == "f":
        return scales, offsets, ("values taken as reflectance 0-1",)
    if header.dtype == np.uint8:
        return *_constant(count, 1 / 255), (EIGHT_BIT,)
    if header.dtype.itemsize == 2:
        return *_constant(count, 1e-4), (f"{header.dtype} values taken as reflectance x 10000",)
    raise SceneError(
        f"{header.name} holds {header.dtype} values; say with --scale how they become reflectance"
    )


def _constant(count: int, scale: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return np.full(count, scale, np.float32), np.zeros(count, np.float32)


def _refuse_unscaled(scene: SourceScene) -> None:
    """Look at the middle of the scene: reflectance of 300 is a forgotten scale, -9999 a nodata."""
    rows, cols = scene.grid.shape
    size = min(256, rows), min(256, cols)
    chip = scene.read(Window((rows - size[0]) // 2, (cols - size[1]) // 2, *size))
    if not chip.valid.any():
        return
    values = chip.pixels[:, chip.valid]
    median, lowest = float(np.median(values)), float(values.min())
    if median > PLAUSIBLE_REFLECTANCE:
        raise SceneError(
            f"{scene.name}: the middle of the scene has a median of {median:.4g}, which is no "
            "reflectance 0-1; give the scale, for example --scale 0.0001"
        )
    if lowest < LOWEST_REFLECTANCE:
        raise SceneError(
            f"{scene.name}: the middle of the scene holds {lowest:.4g}, which is no reflectance; "
            "if it stands for no data, give the stored value with --nodata"
        )


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
