"""A class raster in, polygons without gaps or overlaps out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import Meanings
from geoseg.limits import MAX_PIXELS
from geoseg.outputs import staged
from geoseg.raster.classes import ClassRaster, ConfidenceRaster, read_strips
from geoseg.raster.geotiff import MapWriter, write_category_names
from geoseg.vector.database_address import is_database_url
from geoseg.vector.layers import layer_file_names, write_layer
from geoseg.vector.polygons import ClassStrip, Generalization, PolygonBatch, trace_polygons
from geoseg.vector.postgis import DatabaseTable, write_table
from geoseg.vector.sieve import MinArea, plan_sieve
from geoseg.vector.tables import ClassAttributes, PolygonTable

__all__ = ["MapPolygons", "Vectorization", "vectorize"]

MOST_NAMED = 255
"""GDAL has a name for every code from 0 on: larger ones would make a long list of nothing."""

BLOCK_CACHE_BYTES = 64 << 20
"""GDAL keeps blocks that it has read, by default in a twentieth of all memory; strips are read
once."""


@dataclass(frozen=True, slots=True)
class Vectorization:
    """Finished polygons."""

    output: str
    """The file, or the table and its database."""
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
    min_area: str | float | None = None,
    sieve: str | Path | None = None,
    classes: Sequence[str | int] | None = None,
    confidence: str | Path | None = None,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> Vectorization:
    """Outline the patches of a class raster as one coverage: neighbours share their borders.

    Args:
        raster: one band of whole class codes; float rasters are refused.
        output: a file whose ending says the format (.gpkg, .shp, .parquet, .fgb, .geojson), or
            postgresql://USER@HOST/DATABASE?table=NAME; by default a GeoPackage in the current
            folder, named after the raster.
        simplify: no border moves further than this many metres; 0 keeps pixels' outlines. By
            default half a pixel's staircase is removed.
        smooth: round corners off, within half a pixel.
        min_area: smaller patches go to the neighbour with the longest shared border: square
            metres, or text with a unit: "5000m2", "0.5ha", "9px".
        sieve: write the class raster without the small patches to this GeoTIFF, too.
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
        InputError: if results exist, a class is unknown (neither the raster's names nor its codes
            have it), or an option makes no sense.
        OutputError: if the polygons cannot be written; nothing is left then.
    """
    generalization = _generalization(simplify, smooth)
    minimum = None if min_area is None else MinArea.parse(min_area)
    if sieve is not None and minimum is None:
        raise InputError("--sieve writes what --min-area leaves; say how much that is")
    source = Path(raster)
    target = str(output or f"{_stem(source)}_polygons.gpkg")
    with (
        rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES),
        closing(ClassRaster(source, nodata=nodata, max_pixels=max_pixels)) as opened,
    ):
        polygons = MapPolygons(
            opened,
            opened.meanings,
            confidence=confidence or _sibling_confidence(source),
            generalization=generalization,
            minimum=minimum,
            classes=classes,
        )
        with _sieved_raster(sieve, opened, overwrite) as polygons.sieved:
            if is_database_url(target):
                table = DatabaseTable.parse(target, f"{_stem(source)}_polygons")
                count, target = polygons.write_table(table, overwrite), str(table)
                files: list[Path] = []
            else:
                count, files = _write_files(polygons, Path(target), overwrite)
                target = str(files[-1])
    return Vectorization(target, count, (*files, *([] if sieve is None else [Path(sieve)])))


class MapPolygons:
    """The polygons of a class raster, ready to be written somewhere.

    Args:
        raster: what is outlined.
        meanings: names and colours of the classes.
        confidence: a raster of confidences on the same pixels.
        generalization: by default, half a pixel's staircase is removed.
        minimum: smaller patches go to their neighbours.
        classes: names or codes of the classes wanted, all when None.

    Raises:
        InputError: if a class is unknown, or the minimum needs a CRS that the raster lacks.
    """

    def __init__(
        self,
        raster: ClassRaster,
        meanings: Meanings,
        *,
        confidence: str | Path | None = None,
        generalization: Generalization | None = None,
        minimum: MinArea | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        in_metres = raster.grid.gsd_m is not None
        tolerance = generalization is not None and generalization.tolerance_m
        if not in_metres and (tolerance or (minimum is not None and not minimum.in_pixels)):
            raise InputError(
                f"{raster.path.name} has no CRS, so metres mean nothing; "
                "leave --simplify METRES away and give --min-area in pixels, such as 9px"
            )
        self._raster, self._meanings, self._minimum = raster, meanings, minimum
        self._confidence = confidence
        self._generalization = generalization
        self._classes = None if classes is None else meanings.codes_of(map(str, classes))
        self.georeferenced = in_metres
        """Whether the polygons lie somewhere on the Earth."""
        self.sieved: MapWriter | None = None
        """Takes the class raster without the small patches, when somebody wants it."""

    def write_file(self, path: Path, layer: str) -> int:
        """Write them into a new file of the format of its ending; return how many there are.

        Raises:
            SceneError: if a raster cannot be read.
            InputError: if the format cannot hold the map.
            OutputError: when the file cannot be written in full.
        """
        with self._table() as table:
            return write_layer(path, table, self._raster.grid.crs, layer=layer)

    def write_table(self, target: DatabaseTable, overwrite: bool) -> int:
        """Write them into a new table of a database; return how many there are.

        Raises:
            SceneError: if a raster cannot be read.
            InputError: if the table exists, or the database cannot hold the map.
            OutputError: when the database cannot be reached or written.
        """
        with self._table() as table:
            return write_table(target, table, self._raster.grid.crs, overwrite=overwrite)

    @contextmanager
    def _table(self) -> Iterator[PolygonTable]:
        with self._opened_confidence() as confidence:
            yield PolygonTable(
                self._batches(confidence),
                ClassAttributes(self._meanings),
                in_metres=self._raster.grid.gsd_m is not None,
                with_confidence=confidence is not None,
            )

    def _opened_confidence(self) -> closing[ConfidenceRaster] | nullcontext[None]:
        if self._confidence is None:
            return nullcontext()
        return closing(ConfidenceRaster(self._confidence, self._raster.grid))

    def _batches(self, confidence: ConfidenceRaster | None) -> Iterator[PolygonBatch]:
        grid = self._raster.grid
        strips = _strips(self._raster, confidence)
        if self._minimum is not None:
            strips = plan_sieve(_strips(self._raster, None), grid, self._minimum).apply(strips)
        if self.sieved is not None:
            strips = _written(strips, self._raster, self.sieved)
        polygons = trace_polygons(
            strips, grid, generalization=self._generalization, classes=self._classes
        )
        return self._with_classes_known(polygons)

    def _with_classes_known(self, polygons: Iterable[PolygonBatch]) -> Iterator[PolygonBatch]:
        """The same polygons; at the end, a wanted code that there is not must have a name."""
        seen: set[int] = set()
        for batch in polygons:
            seen.update(np.unique(batch.codes).tolist())
            yield batch
        for code in sorted((self._classes or frozenset()) - seen - self._meanings.names.keys()):
            raise InputError(f"{self._raster.path.name} has no patch of class {code}, and no name")


def _strips(raster: ClassRaster, confidence: ConfidenceRaster | None) -> Iterable[ClassStrip]:
    for window, codes, known in read_strips(raster, confidence):
        yield ClassStrip(codes, known, window.row_stop == raster.grid.height)


def _written(
    strips: Iterable[ClassStrip], raster: ClassRaster, writer: MapWriter
) -> Iterator[ClassStrip]:
    row = 0
    for strip in strips:
        writer.write(Window(row, 0, *strip.codes.shape), raster.stored(strip.codes)[None])
        row += len(strip.codes)
        yield strip
    writer.close()  # where it fails, the polygons are not put in place either


@contextmanager
def _sieved_raster(
    path: str | Path | None, raster: ClassRaster, overwrite: bool
) -> Iterator[MapWriter | None]:
    """Where the raster without small patches goes; it gets its name when all else went well."""
    if path is None:
        yield None
        return
    target, names = Path(path), raster.meanings.names
    files = [target.name]
    if names and 0 <= min(names) <= max(names) <= MOST_NAMED:
        files.append(f"{target.name}.aux.xml")
    with staged(target.parent, target.name, files, overwrite=overwrite) as staging:
        staged_path = staging.path(target.name)
        writer = MapWriter(staged_path, raster.grid, ("class",), tags=raster.tags, like=raster)
        try:
            yield writer
        finally:
            writer.discard()
        if len(files) > 1:
            write_category_names(staged_path, names)
        staging.put_in_place(files)


def _write_files(polygons: MapPolygons, target: Path, overwrite: bool) -> tuple[int, list[Path]]:
    target = target.with_suffix(target.suffix.lower())  # as GDAL writes it
    names = layer_file_names(target.name, georeferenced=polygons.georeferenced)
    with staged(target.parent, target.name, names, overwrite=overwrite) as staging:
        count = polygons.write_file(staging.path(target.name), target.stem)
        return count, staging.put_in_place(names)


def _generalization(simplify: float | None, smooth: bool) -> Generalization:
    if simplify is None:
        return Generalization("smooth" if smooth else "middles")
    if not 0 <= simplify < math.inf:
        raise InputError(f"--simplify {simplify:g} makes no sense; give metres, 0 for outlines")
    if smooth:
        raise InputError("--smooth rounds the default line off; leave --simplify away")
    return Generalization("outline") if simplify == 0 else Generalization("middles", simplify)


def _stem(raster: Path) -> str:
    return raster.stem.removesuffix("_classes")


def _sibling_confidence(raster: Path) -> Path | None:
    sibling = raster.with_name(f"{_stem(raster)}_confidence.tif")
    return sibling if raster.stem.endswith("_classes") and sibling.is_file() else None
