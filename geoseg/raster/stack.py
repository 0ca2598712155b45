"""Bands that come as a file each, put into one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import OutputError, SceneError
from geoseg.raster.source import Header, RasterSource, georeference_may_lack

__all__ = ["stack_bands"]

STRIP_ROWS = 512


def stack_bands(paths: Sequence[Path], names: Sequence[str], target: Path) -> None:
    """Write the first band of each file into one GeoTIFF, named.

    Args:
        paths: rasters on one grid, of one type.
        names: what the bands are to be called.
        target: the file to make.

    Raises:
        SceneError: if a file cannot be read, or they differ in grid, type or nodata.
        OutputError: if the result cannot be written.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(RasterSource(path))) for path in paths]
        first = sources[0].header
        for source in sources[1:]:
            _refuse_other(first, source.header)
        staged = target.with_name(f".{target.name}.part")
        try:
            _write(sources, names, staged)
            staged.replace(target)
        except (RasterioError, OSError) as error:
            raise OutputError(f"could not write {target}: {error}") from error
        finally:
            staged.unlink(missing_ok=True)


def _refuse_other(first: Header, other: Header) -> None:
    """Bands of one scene lie on one grid, and mean the same by a number."""
    pairs = {
        "grid": (first.grid, other.grid),
        "type": (first.dtype, other.dtype),
        "nodata value": (str(first.nodata[0]), str(other.nodata[0])),  # NaN equals nothing
    }
    for what, (one, two) in pairs.items():
        if one != two:
            raise SceneError(
                f"{other.name} and {first.name} cannot be bands of one scene: they differ in {what}"
            )


def _write(sources: Sequence[RasterSource], names: Sequence[str], path: Path) -> None:
    header = sources[0].header
    grid = header.grid
    with georeference_may_lack():
        dataset = rasterio.open(
            path, "w", driver="GTiff", count=len(sources), height=grid.height, width=grid.width,
            dtype=header.dtype, crs=grid.crs, transform=grid.transform, nodata=header.nodata[0],
            tiled=True, blockxsize=512, blockysize=512, compress="deflate", bigtiff="if_safer",
        )  # fmt: skip
    with dataset:
        dataset.descriptions = tuple(names)
        dataset.scales = [source.header.scales[0] for source in sources]
        dataset.offsets = [source.header.offsets[0] for source in sources]
        for strip in grid.window.row_strips(STRIP_ROWS):
            place = RasterioWindow(strip.col, strip.row, strip.width, strip.height)
            bands = [source.read((1,), strip)[0] for source in sources]
            dataset.write(np.stack(bands), window=place)
