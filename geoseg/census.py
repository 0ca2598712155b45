"""A map against a reference that covers ground in full: a raster, or polygons."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.accuracy.design import MappedClass
from geoseg.accuracy.judgement import Judgement, census
from geoseg.accuracy.matrix import ErrorMatrix, count_pairs
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN
from geoseg.map_survey import MapSurvey, check_grid, mapped_classes
from geoseg.raster.class_map import ClassMap
from geoseg.vector.class_polygons import ClassPolygons
from geoseg.vector.samples import LabelledSamples

__all__ = ["judge_by_polygons", "judge_by_raster"]

Codes: TypeAlias = npt.NDArray[np.uint8]
Reading: TypeAlias = Callable[[Window], Codes]


def judge_by_raster(
    mapped: ClassMap, seen: MapSurvey, picture: bytes, path: str | Path, confidence: float
) -> Judgement:
    """Compare a map with a reference raster on its grid, pixel by pixel where both have data.

    Raises:
        SceneError: if the reference is no class raster.
        GridError: if it is not on the map's grid.
        InputError: if it holds codes, or names for them, that are not the map's, or no data.
    """
    with ClassMap(path, max_pixels=sys.maxsize) as reference:
        check_grid(mapped, reference)
        names = {each.code: each.name for each in mapped_classes(seen)}
        for code, name in reference.meanings.names.items():
            if mapped.meanings.names and names.get(code, name) != name:
                raise InputError(
                    f"code {code} is {name!r} in {reference.name} and {names[code]!r} in "
                    f"{mapped.name}; give the reference the map's codes"
                )
        return _judge(mapped, seen, picture, reference.read, reference.name, confidence)


def judge_by_polygons(
    mapped: ClassMap,
    seen: MapSurvey,
    picture: bytes,
    polygons: LabelledSamples,
    source: str,
    confidence: float,
) -> Judgement:
    """Compare a map with reference polygons: every pixel whose centre they cover.

    Raises:
        InputError: if a label is not in the legend, polygons of different classes overlap, they
            have no CRS, or cover nothing of the map.
    """
    codes = _codes(polygons, mapped_classes(seen), source)
    labelled = codes != NODATA
    burnt = ClassPolygons(
        polygons.shapes[labelled], codes[labelled], polygons.crs, mapped.grid, source, mapped.name
    )

    def read(window: Window) -> Codes:
        found, disputed = burnt.read(window)
        if disputed.any():
            row, col = np.argwhere(disputed)[0] + (window.row, window.col)
            raise InputError(
                f"polygons of different classes overlap in {source}, at pixel ({row}, {col}) of "
                f"{mapped.name}; a place has one reference class"
            )
        return found

    notes = [] if labelled.all() else [
        f"{int((~labelled).sum())} of {len(labelled)} polygons are not labelled and were left out."
    ]  # fmt: skip
    return _judge(mapped, seen, picture, read, source, confidence, notes)


def _judge(
    mapped: ClassMap,
    seen: MapSurvey,
    picture: bytes,
    read: Reading,
    source: str,
    confidence: float,
    notes: Sequence[str] = (),
) -> Judgement:
    legend = mapped_classes(seen)
    counts, areas = _count(mapped, legend, read, source)
    if not counts.total:
        raise InputError(f"{source} covers no valid pixel of {mapped.name}: nothing to compare")
    kept = np.flatnonzero((counts.mapped > 0) | (counts.support > 0))
    classes = tuple(legend[i] for i in kept)
    names = tuple(each.name for each in classes)
    counts, areas = (ErrorMatrix(names, m.entries[np.ix_(kept, kept)]) for m in (counts, areas))
    valid = int(seen.pixels[:NODATA].sum())
    share = counts.total / valid
    covered = (
        "The reference covers the whole map, so its figures have no sampling error."
        if share == 1
        else f"The reference covers {counts.total:,.0f} of the map's {valid:,} pixels "
        f"({share:.1%}). Its figures have no sampling error there, and say nothing of the rest."
    )
    return Judgement(
        kind="census",
        map_name=mapped.name,
        reference_name=source,
        map_sha256=seen.sha256,
        shape=mapped.grid.shape,
        figures=census(counts, areas, areas.total, confidence),
        classes=tuple(_within(each, counts, areas, i) for i, each in enumerate(classes)),
        area_unit="px" if seen.hectares is None else "ha",
        unseen=tuple(each.name for each in legend if each not in classes),
        design=None,
        labelled={"pixels": int(counts.total)},
        unlabelled=0,
        places=(),
        notes=(covered, *notes),
        picture=picture,
    )


def _within(each: MappedClass, counts: ErrorMatrix, areas: ErrorMatrix, i: int) -> MappedClass:
    """A class as mapped on the ground that was compared."""
    hectares = None if each.hectares is None else float(areas.mapped[i])
    return MappedClass(each.code, each.name, each.colour, int(counts.mapped[i]), hectares)


def _count(
    mapped: ClassMap, legend: Sequence[MappedClass], read: Reading, source: str
) -> tuple[ErrorMatrix, ErrorMatrix]:
    """Pixels, and hectares (or pixels, without a CRS), by mapped and reference class."""
    names = [each.name for each in legend]
    place = np.full(NODATA + 1, -1, np.int64)
    place[[each.code for each in legend]] = np.arange(len(legend))
    counts = areas = ErrorMatrix(tuple(names), np.zeros((len(names), len(names))))
    for window, codes, reference in _pairs(mapped, read):
        both = (codes != NODATA) & (reference != NODATA)
        strange = sorted({*np.unique(reference[both]).tolist()} - {each.code for each in legend})
        if strange:
            raise InputError(
                f"{source} holds the code {strange[0]}, which is not in the legend of "
                f"{mapped.name}: {[each.code for each in legend]}"
            )
        pairs = place[codes[both]], place[reference[both]]
        cells = mapped.grid.cell_area_m2(window)
        counts += count_pairs(*pairs, names)
        areas += count_pairs(*pairs, names, None if cells is None else cells[both] / 1e4)
    return counts, areas


def _pairs(mapped: ClassMap, read: Reading) -> Iterator[tuple[Window, Codes, Codes]]:
    for window, codes in mapped.strips():
        yield window, codes, read(window)


def _codes(
    polygons: LabelledSamples, legend: Sequence[MappedClass], source: str
) -> npt.NDArray[np.int64]:
    known = {str(each.code): each.code for each in legend if each.code < UNCERTAIN}
    known |= {each.name: each.code for each in legend if each.code < UNCERTAIN}
    for number, label in enumerate(polygons.labels, 1):
        if label is not None and label not in known:
            raise InputError(
                f"polygon {number} in {source} is labelled {label!r}; the legend has "
                f"{[each.name for each in legend]} and their codes"
            )
    return np.array([NODATA if label is None else known[label] for label in polygons.labels])
