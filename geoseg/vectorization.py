"""A class raster in, polygons without gaps or overlaps out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import rasterio

from geoseg.errors import InputError
from geoseg.legend import Meanings
from geoseg.outputs import staged
from geoseg.raster.classes import ClassRaster, ConfidenceRaster, read_meanings, read_strips
from geoseg.raster.source import MAX_PIXELS
from geoseg.vector.layers import layer_file_names, write_layer
from geoseg.vector.polygons import ClassStrip, Generalization, PolygonBatch, trace_polygons

__all__ = ["Vectorization", "vectorize", "write_map_polygons"]


BLOCK_CACHE_MB = 64
"""GDAL keeps blocks that it has read, by default in a twentieth of all memory; strips are read
once. Only counts where no raster was read before."""


@dataclass(frozen=True, slots=True)
class Vectorization:
    """Finished polygons."""

    output: str
    """The file, or the table's name."""
    polygons: int
    """How many there are."""
    files: tuple[Path, ...]
    """Everything that was written to disk."""


def vectorize(
    raster: str | Path,
    output: str | Path | None = None,
    *,
    simplify: float | None = None,
    smooth: bool = False,
    classes: Sequence[str | int] | None = None,
    confidence: str | Path | None = None,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> Vectorization:
    """Outline the patches of a class raster as one coverage: neighbours share their borders.

    Args:
        raster: one band of whole class codes; float rasters are refused.
        output: a file whose ending says the format (.gpkg, .shp, .parquet, .fgb, .geojson); by
            default a GeoPackage in the current folder, named after the raster.
        simplify: no border moves further than this many metres; 0 keeps pixels' outlines. By
            default half a pixel's staircase is removed.
        smooth: round corners off, within half a pixel.
        classes: the classes wanted, by name or code; all when None.
        confidence: a raster of confidences on the same pixels, for the fields conf_mean and
            conf_min; by default NAME_confidence.tif beside NAME_classes.tif, where it is there.
        nodata: the value that stands for no data, the raster's own when None.
        max_pixels: rasters with more pixels are refused.
        overwrite: replace results that exist.

    Returns:
        Where the polygons are and how many.

    Raises:
        SceneError: if a raster cannot be read, or does not hold class codes.
        InputError: if results exist, a class is unknown, or an option makes no sense.
        OutputError: if the polygons cannot be written; nothing is left then.
    """
    generalization = _generalization(simplify, smooth)
    source = Path(raster)
    with closing(ClassRaster(source, nodata=nodata, max_pixels=max_pixels)) as opened:
        meanings = read_meanings(source)
        wanted = None if classes is None else meanings.codes_of(map(str, classes))
        target = Path(f"{_stem(source)}_polygons.gpkg" if output is None else output)
        names = layer_file_names(target.name, georeferenced=opened.grid.crs is not None)
        with staged(target.parent, target.name, names, overwrite=overwrite) as staging:
            count = write_map_polygons(
                staging.path(target.name),
                opened,
                meanings,
                layer=target.stem,
                confidence=confidence or _sibling_confidence(source),
                generalization=generalization,
                classes=wanted,
            )
            paths = staging.put_in_place(names)
    return Vectorization(str(target), count, tuple(paths))


def write_map_polygons(
    path: Path,
    raster: ClassRaster,
    meanings: Meanings,
    *,
    layer: str,
    confidence: str | Path | None = None,
    generalization: Generalization | None = None,
    classes: frozenset[int] | None = None,
) -> int:
    """Write the polygons of a class raster into a new file and return how many there are.

    Raises:
        SceneError: if a raster cannot be read.
        InputError: if the format cannot hold the map.
        OutputError: when the file cannot be written in full.
    """
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_MB), _opened(confidence, raster) as known:
        batches = _polygons(raster, known, generalization, classes)
        return write_layer(
            path, batches, meanings, raster.grid.crs, layer=layer, with_confidence=known is not None
        )


def _opened(
    confidence: str | Path | None, raster: ClassRaster
) -> closing[ConfidenceRaster] | nullcontext[None]:
    if confidence is None:
        return nullcontext()
    return closing(ConfidenceRaster(confidence, raster.grid))


def _polygons(
    raster: ClassRaster,
    confidence: ConfidenceRaster | None,
    generalization: Generalization | None,
    classes: frozenset[int] | None,
) -> Iterator[PolygonBatch]:
    return trace_polygons(
        _strips(raster, confidence), raster.grid, generalization=generalization, classes=classes
    )


def _strips(raster: ClassRaster, confidence: ConfidenceRaster | None) -> Iterable[ClassStrip]:
    for window, codes, known in read_strips(raster, confidence):
        yield ClassStrip(codes, known, window.row_stop == raster.grid.height)


def _generalization(simplify: float | None, smooth: bool) -> Generalization:
    if simplify is None:
        return Generalization("smooth" if smooth else "middles")
    if not 0 <= simplify < float("inf"):
        raise InputError(f"--simplify {simplify:g} makes no sense; give metres, 0 for outlines")
    if smooth:
        raise InputError("--smooth rounds the default line off; leave --simplify away")
    return Generalization("outline") if simplify == 0 else Generalization("middles", simplify)


def _stem(raster: Path) -> str:
    return raster.stem.removesuffix("_classes")


def _sibling_confidence(raster: Path) -> Path | None:
    sibling = raster.with_name(f"{_stem(raster)}_confidence.tif")
    return sibling if raster.stem.endswith("_classes") and sibling.is_file() else None
