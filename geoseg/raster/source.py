"""Raw pixels, from a file or from memory, and what is known about them before reading."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.limits import MAX_PIXELS

__all__ = [
    "ArraySource",
    "Header",
    "RasterSource",
    "Source",
    "georeference_may_lack",
]

DRIVERS = ("GTiff", "HFA", "ENVI", "JP2OpenJPEG", "PNG", "JPEG")
"""GDAL drivers a scene may be opened with: a VRT or a web service that calls itself .tif is
refused, and so are sidecars that GDAL would open with other drivers."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIDECARS = {".msk": TIFF, ".ovr": TIFF, ".msk.ovr": TIFF, ".aux": (b"EHFA_HEADER_TAG",)}
"""Files that GDAL opens unasked beside a raster, with any driver, and how they must begin."""

_FILTERS = threading.RLock()

MAX_BLOCK_BYTES = 1 << 30
"""Scenes stored in blocks larger than this cannot be read in pieces, and are refused."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a scene says of itself before a pixel is read. Sequences have an entry a band."""

    name: str
    """File name, or the array's name."""
    grid: Grid
    """Where its pixels lie."""
    dtype: np.dtype[Any]
    """Type of the stored values."""
    descriptions: tuple[str | None, ...]
    """Band names."""
    colours: tuple[str | None, ...]
    """Colour interpretations, lower case."""
    wavelengths_um: tuple[float | None, ...]
    """Central wavelengths, micrometres."""
    nodata: tuple[float | None, ...]
    """The value that stands for no data."""
    scales: tuple[float, ...]
    """Physical value = stored value * scale + offset."""
    offsets: tuple[float, ...]
    tags: Mapping[str, str]
    """What else it says of itself, by keys in capitals."""

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.descriptions)

    def alpha(self, spectral: Collection[int]) -> int | None:
        """1-based number of the alpha band; a band that is known as spectral is never one."""
        for number, colour in enumerate(self.colours, 1):
            if colour == "alpha" and number not in spectral:
                return number
        return None


class Source(Protocol):
    """Where raw pixels come from. Reading is safe from several threads."""

    header: Header

    def read(self, numbers: Sequence[int], window: Window) -> npt.NDArray[Any]:
        """Stored values of the bands (1-based) in a window inside the grid, (C, h, w)."""
        ...

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """True where the mask band lets data through, (h, w); None when there is no mask band."""
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...


class RasterSource:
    """A raster file, with a handle for each read that is under way; idle ones are used again.

    Raises:
        SceneError: if the file is missing, no raster, too large, or cannot be read in pieces.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._path = str(path)
        self._idle: list[Any] = []
        self._guard = threading.Lock()
        self._closed = False
        _check_file(Path(self._path))
        try:
            with self._dataset() as dataset:
                _check_size(self._path, dataset, max_pixels)
                self.header = _header(self._path, dataset)
                self._masked = _has_mask_band(dataset)
        except BaseException:
            self.close()
            raise

    def read(self, numbers: Sequence[int], window: Window) -> npt.NDArray[Any]:
        """See Source."""
        return self._guarded(lambda d: d.read(list(numbers), window=_rasterio(window)), window)

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """See Source."""
        if not self._masked:
            return None
        mask = self._guarded(lambda d: d.read_masks(1, window=_rasterio(window)), window)
        return np.asarray(mask != 0)

    def tags(self) -> dict[str, str]:
        """The file's own metadata."""
        with self._dataset() as dataset:
            return dict(dataset.tags())

    def colour_table(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue and opacity of the first band's values, empty when it has none."""
        try:
            with self._dataset() as dataset:
                return dict(dataset.colormap(1))
        except ValueError:  # so rasterio says that there is none
            return {}

    def close(self) -> None:
        """See Source."""
        with self._guard:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def _guarded(self, read: Any, window: Window) -> npt.NDArray[Any]:
        try:
            with self._dataset() as dataset:
                return np.asarray(read(dataset))
        except RasterioError as error:
            raise SceneError(
                f"{self._path} cannot be read at rows {window.row}-{window.row_stop - 1}, "
                f"columns {window.col}-{window.col_stop - 1}: the file is damaged or cut short "
                f"({_last_line(error)})"
            ) from error

    @contextmanager
    def _dataset(self) -> Iterator[Any]:
        """A handle for this thread alone, until it is given back."""
        with self._guard:
            if self._closed:
                raise SceneError(f"{self._path} has been closed already")
            dataset = self._idle.pop() if self._idle else None
        dataset = dataset or _open(self._path)
        try:
            yield dataset
        finally:
            with self._guard:
                if self._closed:
                    dataset.close()
                else:
                    self._idle.append(dataset)


class ArraySource:
    """Pixels that are in memory already, or that a lazy array loads when asked."""

    def __init__(self, header: Header, pixels: Any) -> None:
        self.header = header
        self._pixels = pixels

    def read(self, numbers: Sequence[int], window: Window) -> npt.NDArray[Any]:
        """See Source."""
        rows, cols = window.within(self.header.grid.window)
        return np.asarray(self._pixels[[number - 1 for number in numbers], rows, cols])

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """See Source."""
        return None

    def close(self) -> None:
        """See Source."""


@contextmanager
def georeference_may_lack() -> Iterator[None]:
    """Open a raster without a word about its georeference; one thread at a time.

    Python's warning filters belong to all threads: two that change them would mix them up.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _check_file(path: Path) -> None:
    """Before GDAL sees it: it must be a file, and its sidecars what they say."""
    try:
        if path.is_dir():
            raise SceneError(f"{path} is a folder; give a raster file")
        if not path.exists():
            raise SceneError(f"{path} does not exist; give a raster file")
        if not path.is_file():
            raise SceneError(f"{path} is no regular file; give a raster file")
        path.open("rb").close()
        str(path).encode()
        for ending, magics in SIDECARS.items():
            sidecar = path.with_name(path.name + ending)
            if sidecar.exists() and not sidecar.read_bytes()[:16].startswith(magics):
                raise SceneError(f"{sidecar} beside the scene is not what its name says; remove it")
        notes = path.with_name(f"{path.name}.aux.xml")
        if notes.exists() and b"OVERVIEW_FILE" in notes.read_bytes():
            raise SceneError(f"{notes} beside the scene points to another file; remove it")
    except OSError as error:
        raise SceneError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise SceneError(f"{str(path)!r}: the name is not UTF-8; rename the file") from error


def _open(path: str) -> Any:
    """Open with the first driver of the list that knows the file."""
    reasons = []
    for driver in DRIVERS:
        try:
            with georeference_may_lack():
                return rasterio.open(path, driver=driver)
        except RasterioError as error:
            if "not recognized" not in str(error):
                reasons.append(_last_line(error))
    if reasons:
        raise SceneError(f"{path} cannot be opened: it is damaged or cut short ({reasons[0]})")
    raise SceneError(f"{path} is not a raster that geoseg opens ({', '.join(DRIVERS)})")


def _header(path: str, dataset: Any) -> Header:
    crs = dataset.crs or None
    return Header(
        name=Path(path).name,
        grid=Grid(crs, dataset.transform, (dataset.height, dataset.width)),
        dtype=np.result_type(*map(np.dtype, dataset.dtypes)),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(_colour(each) for each in dataset.colorinterp),
        wavelengths_um=tuple(_wavelength_um(dataset, n) for n in dataset.indexes),
        nodata=tuple(dataset.nodatavals),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        tags={key.upper(): str(value) for key, value in dataset.tags().items()},
    )


def _colour(interpretation: ColorInterp) -> str | None:
    return None if interpretation is ColorInterp.undefined else str(interpretation.name).lower()


def _wavelength_um(dataset: Any, number: int) -> float | None:
    told = dataset.tags(number, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM")
    tags = dataset.tags(number)
    text = told or tags.get("wavelength") or tags.get("WAVELENGTH")
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    nanometres = value is not None and value > 100  # no band lies beyond 100 micrometres
    return value / 1000 if value is not None and nanometres else value


def _has_mask_band(dataset: Any) -> bool:
    return any(
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        for flags in dataset.mask_flag_enums
    )


def _check_size(path: str, dataset: Any, max_pixels: int) -> None:
    if dataset.count == 0:
        raise SceneError(f"{path} holds no bands; if it is a container, give one of its rasters")
    for dtype in dataset.dtypes:
        if np.dtype(dtype).kind not in "uif":
            raise SceneError(f"{path} holds {dtype} values; expected integers or floats")
    if dataset.crs is None and dataset.gcps[0]:
        raise SceneError(f"{path} is placed by ground control points; warp it first with gdalwarp")
    if dataset.height * dataset.width > max_pixels:
        raise SceneError(
            f"{path} claims {dataset.height} x {dataset.width} pixels, more than {max_pixels}; "
            "if that is true, raise the limit with --max-pixels"
        )
    rows, cols = dataset.block_shapes[0]
    together = dataset.count if str(dataset.profile.get("interleave")) == "pixel" else 1
    block = rows * cols * np.dtype(dataset.dtypes[0]).itemsize * together
    if block > MAX_BLOCK_BYTES:
        raise SceneError(
            f"{path} is stored in blocks of {rows} x {cols} pixels ({block >> 20} MiB each) and "
            "cannot be read in pieces; rewrite it with gdal_translate -co TILED=YES"
        )


def _rasterio(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)


def _last_line(error: BaseException) -> str:
    """GDAL's own reason, which rasterio chains behind a general one."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
