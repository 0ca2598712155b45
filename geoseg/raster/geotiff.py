"""Finished strips to Cloud Optimized GeoTIFFs that other programs open coloured and named."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError  # what rasterio.shutil.copy lets through
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import OutputError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_COLOUR, Legend, rgb_of
from geoseg.raster.classes import ClassRaster
from geoseg.raster.source import georeference_may_lack

__all__ = ["MapWriter", "write_category_names"]

BLOCK_PX = 512

COPYING = {
    # GDAL keeps blocks, by default in a twentieth of all memory; a copy meets each of them once
    "GDAL_CACHEMAX": 64 << 20,
    # what a person has set for overviews of their own is not for ours, which are copied
    "COMPRESS_OVERVIEW": "NONE",
    "TIFF_USE_OVR": "NO",
    "USE_RRD": "NO",
}
"""GDAL's settings while a COG is made."""


class MapWriter:
    """Writes a byte raster strip by strip, then turns it into a checked COG.

    Strips go to a plain file beside the destination as they come, so memory does not grow with
    the scene; with overviews it takes 4/3 of the raster's uncompressed size. `close` makes the COG
    from it, reads the COG back and compares every pixel by checksum.

    Args:
        path: the COG to make; whatever is there is replaced.
        grid: where the pixels lie.
        descriptions: the name of each band, which also says how many there are.
        tags: written into the file's metadata.
        legend: give the single band the legend's colours.
        scale: physical value = stored value * scale; one for all bands, or one a band.
        like: take type, nodata, colours and tags from this class raster instead.
        overviews: how they are made; by default the commonest class with a legend or `like`,
            else the mean.

    Raises:
        OutputError: when the file cannot be written in full.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        descriptions: tuple[str, ...],
        *,
        tags: Mapping[str, str],
        legend: Legend | None = None,
        scale: float | Sequence[float] | None = None,
        like: ClassRaster | None = None,
        overviews: Literal["mode", "average"] | None = None,
    ) -> None:
        self._path = path
        self._grid = grid
        self._strips = path.with_name(f"{path.name}.strips")
        commonest = legend is not None or like is not None
        self._overviews = overviews or ("mode" if commonest else "average")
        self._checksums = [0] * len(descriptions)
        with _writing(path):
            profile = _profile(grid, len(descriptions))
            if like is not None:
                profile |= {"dtype": like.dtype, "nodata": like.nodata}
            with georeference_may_lack():
                self._dataset = rasterio.open(self._strips, "w", **profile)
            _describe(self._dataset, descriptions, tags, legend, scale)
            if like is not None and like.colours:
                self._dataset.colorinterp = [ColorInterp.palette]
                self._dataset.write_colormap(1, like.colours)

    def write(self, window: Window, bands: npt.NDArray[np.integer[Any]]) -> None:
        """Write finished rows, (C, H, W); strips come top to bottom."""
        with _writing(self._path):
            place = RasterioWindow(window.col, window.row, window.width, window.height)
            self._dataset.write(bands, window=place)
        for index, band in enumerate(bands):
            self._checksums[index] = zlib.crc32(band.tobytes(), self._checksums[index])

    def close(self) -> None:
        """Make the COG and check it against what was written."""
        with _writing(self._path):
            with rasterio.Env(**COPYING):
                # behind the strips, uncompressed: the COG driver would pack and unpack its own
                self._dataset.build_overviews(_factors(self._grid), Resampling[self._overviews])
                self._dataset.close()
                rasterio.shutil.copy(
                    self._strips,
                    self._path,
                    driver="COG",
                    BLOCKSIZE=BLOCK_PX,
                    COMPRESS="DEFLATE",
                    BIGTIFF="IF_SAFER",
                    OVERVIEWS="FORCE_USE_EXISTING",
                    NUM_THREADS="ALL_CPUS",
                )
            self._strips.unlink()
            self._check()

    def _check(self) -> None:
        with georeference_may_lack():
            dataset = rasterio.open(self._path, driver="GTiff")
        with dataset:
            for number, written in enumerate(self._checksums, 1):
                found = 0
                for strip in self._grid.window.row_strips(BLOCK_PX):
                    place = RasterioWindow(strip.col, strip.row, strip.width, strip.height)
                    found = zlib.crc32(dataset.read(number, window=place), found)
                if found != written:
                    raise OutputError(
                        f"{self._path.name} does not hold what was written into it: "
                        "the disk is full or faulty"
                    )

    def discard(self) -> None:
        """Let go of what `close` has not finished."""
        with suppress(
            RasterioError, CPLE_BaseError
        ):  # the disk may be full; the file goes either way
            self._dataset.close()
        self._strips.unlink(missing_ok=True)


def write_category_names(
    raster: Path, names: Mapping[int, str], bands: Sequence[int] = (1,)
) -> Path:
    """Write the class names of some bands beside a raster, where GDAL looks for them.

    GeoTIFF has no place for them: GDAL keeps them in a sidecar, NAME.tif.aux.xml.
    """
    root = ElementTree.Element("PAMDataset")
    for number in bands:
        band = ElementTree.SubElement(root, "PAMRasterBand", band=str(number))
        categories = ElementTree.SubElement(band, "CategoryNames")
        for code in range(max(names) + 1):
            ElementTree.SubElement(categories, "Category").text = names.get(code, "")
    ElementTree.indent(root)
    path = raster.with_name(f"{raster.name}.aux.xml")
    ElementTree.ElementTree(root).write(path, encoding="utf-8")
    return path


def _factors(grid: Grid) -> list[int]:
    """By which a raster is made smaller, until a block holds it."""
    halvings = max(0, math.ceil(math.log2(max(grid.shape) / BLOCK_PX)))
    return [2**number for number in range(1, halvings + 1)]


def _profile(grid: Grid, count: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": count,
        "dtype": "uint8",
        "nodata": NODATA,
        "crs": grid.crs,
        # no georeference at all is said by leaving the transform out
        "transform": None if grid.transform == Affine.identity() else grid.transform,
        "interleave": "band",
        "photometric": "MINISBLACK",  # or GDAL takes three bands for red, green and blue
        "BIGTIFF": "IF_SAFER",
    }


def _describe(
    dataset: Any,
    descriptions: tuple[str, ...],
    tags: Mapping[str, str],
    legend: Legend | None,
    scale: float | Sequence[float] | None,
) -> None:
    dataset.descriptions = descriptions
    dataset.update_tags(**tags)
    if legend is not None:
        dataset.colorinterp = [ColorInterp.palette]
        colours = {each.code: (*each.rgb, 255) for each in legend}
        dataset.write_colormap(
            1, {NODATA: (0, 0, 0, 0), UNCERTAIN: (*rgb_of(UNCERTAIN_COLOUR), 255)} | colours
        )
    if scale is not None:
        scales = (scale,) * dataset.count if isinstance(scale, float | int) else tuple(scale)
        dataset.scales = scales


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what GDAL and the file system say of a failed write into an OutputError."""
    try:
        yield
    except OutputError:
        raise
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise OutputError(f"could not write {path.name}: {error}") from error
