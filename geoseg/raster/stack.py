"""Bands that come as a file each, put into one, without what a quality band says is cloudy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import OutputError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.align import pixel_mapping
from geoseg.raster.cloud_rule import CloudRule
from geoseg.raster.source import Header, RasterSource, georeference_may_lack

__all__ = ["stack_bands"]

STRIP_ROWS = 512


def stack_bands(
    paths: Sequence[Path],
    names: Sequence[str],
    target: Path,
    *,
    quality: tuple[Path, CloudRule] | None = None,
) -> None:
    """Write the first band of each file, or all of an only file, into one GeoTIFF, named.

    Args:
        paths: rasters on one grid, of one type.
        names: what the bands are to be called; those of an only file keep their names.
        target: the file to make.
        quality: a raster of one band, on any grid, and what in it is no clear ground; there, and
            where it does not reach, the file's mask says that there is no data.

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
            judge = None
            if quality is not None:
                source = stack.enter_context(closing(RasterSource(quality[0])))
                judge = _Judge(source, first.grid, quality[1])
            _write(sources, names, staged, judge)
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


class _Judge:
    """Tells clear ground by a quality band, the nearest pixel of which is taken."""

    def __init__(self, quality: RasterSource, grid: Grid, rule: CloudRule) -> None:
        if quality.header.dtype.kind not in "iu":
            raise SceneError(f"{quality.header.name} holds no whole numbers: no quality band")
        self._quality, self._rule = quality, rule
        self._mapping = pixel_mapping(grid, quality.header.grid)

    def clear(self, window: Window) -> npt.NDArray[np.bool_]:
        """(H, W), False where there are clouds or nobody knows."""
        rows, cols = np.mgrid[window.row : window.row_stop, window.col : window.col_stop] + 0.5
        col, row = (np.floor(each) for each in self._mapping(cols, rows))
        whole = self._quality.header.grid.window
        inside = (row >= 0) & (row < whole.height) & (col >= 0) & (col < whole.width)
        clear = np.zeros(window.shape, np.bool_)
        if inside.any():
            at = row[inside].astype(np.int64), col[inside].astype(np.int64)
            part = Window.from_stops(
                int(at[0].min()), int(at[1].min()), int(at[0].max()) + 1, int(at[1].max()) + 1
            )
            values = self._quality.read((1,), part)[0]
            clear[inside] = self._rule.clear(values[at[0] - part.row, at[1] - part.col])
        return clear


def _write(
    sources: Sequence[RasterSource], names: Sequence[str], path: Path, judge: _Judge | None
) -> None:
    header = sources[0].header
    grid = header.grid
    alone = len(sources) == 1
    numbers = tuple(range(1, header.count + 1)) if alone else (1,)
    bands = [(source, number) for source in sources for number in numbers]
    with georeference_may_lack(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        dataset = rasterio.open(
            path, "w", driver="GTiff", count=len(bands), height=grid.height, width=grid.width,
            dtype=header.dtype, crs=grid.crs, transform=grid.transform, nodata=header.nodata[0],
            tiled=True, blockxsize=512, blockysize=512, compress="deflate", bigtiff="if_safer",
        )  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), dataset:
        dataset.descriptions = header.descriptions if alone else tuple(names)
        if alone:  # a band that is alpha stays that
            dataset.colorinterp = [ColorInterp[colour or "undefined"] for colour in header.colours]
        dataset.scales = [source.header.scales[number - 1] for source, number in bands]
        dataset.offsets = [source.header.offsets[number - 1] for source, number in bands]
        for strip in grid.window.row_strips(STRIP_ROWS):
            place = RasterioWindow(strip.col, strip.row, strip.width, strip.height)
            dataset.write(
                np.concatenate([source.read(numbers, strip) for source in sources]), window=place
            )
            if judge is not None:
                masks = [source.read_mask(strip) for source in sources]
                clear = judge.clear(strip)
                for mask in masks:
                    clear &= True if mask is None else mask
                dataset.write_mask(clear, window=place)
