"""Labelled samples on a map: which pixel each of them judges, and what map and person say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from geoseg.accuracy.design import MappedClass
from geoseg.errors import InputError
from geoseg.grid import Window, between_crs
from geoseg.legend import NODATA, UNCERTAIN
from geoseg.raster.class_map import ClassMap
from geoseg.vector.samples import LabelledSamples

__all__ = ["SampledPixels", "classes_in_use", "look_up"]

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SampledPixels:
    """The samples that have a label."""

    kept: Ints
    """(N,), their places in the file."""
    rows: Ints
    cols: Ints
    mapped: Ints
    """(N,), codes on the map."""
    reference: Ints
    """(N,), codes of the labels."""


def look_up(
    mapped: ClassMap, samples: LabelledSamples, classes: Sequence[MappedClass], source: str
) -> SampledPixels:
    """Find each labelled sample's pixel, and what map and label say of it.

    Args:
        mapped: the map.
        samples: as read; labels are class names or codes.
        classes: what labels may say.
        source: what the samples' file is called.

    Raises:
        InputError: if samples lie outside the map, on nodata, twice on a pixel or where they were
            not drawn, if a label is not in the legend, or there is none.
    """
    rows, cols = _pixels(mapped, samples, source)
    _refuse_twins(rows, cols, source)
    codes = np.array([_code_at(mapped, int(r), int(c)) for r, c in zip(rows, cols, strict=True)],
                     np.int64)  # fmt: skip
    bare = np.flatnonzero(codes == NODATA)
    if len(bare):
        raise InputError(
            f"{len(bare)} of the samples in {source}, first number {bare[0] + 1} at pixel "
            f"({rows[bare[0]]}, {cols[bare[0]]}), lie where {mapped.name} has no data; remove them"
        )
    legend = {each.name: each.code for each in classes if each.code < UNCERTAIN}
    by_code = {str(code): code for code in legend.values()}
    labels = [
        None if label is None else legend.get(label, by_code.get(label, -1))
        for label in samples.labels
    ]
    if -1 in labels:
        first = labels.index(-1)
        raise InputError(
            f"sample {first + 1} in {source} is labelled {samples.labels[first]!r}; the legend has "
            f"{list(legend)} and their codes"
        )
    kept = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    if not len(kept):
        raise InputError(
            f"not one of the {len(labels)} samples in {source} is labelled; fill in their "
            "reference class first"
        )
    reference = np.array([label for label in labels if label is not None], np.int64)
    return SampledPixels(kept, rows[kept], cols[kept], codes[kept], reference)


def _pixels(mapped: ClassMap, samples: LabelledSamples, source: str) -> tuple[Ints, Ints]:
    """(row, column) of the pixel that each sample judges."""
    points = shapely.get_coordinates(shapely.centroid(samples.shapes))
    grid = mapped.grid
    x, y = points[:, 0], points[:, 1]
    if grid.crs is not None:
        if samples.crs is None:
            raise InputError(f"{source} has no CRS, {mapped.name} has; give the samples one")
        x, y = between_crs(samples.crs, grid.crs.to_wkt()).transform(x, y)
    col, row = grid.to_pixels(x, y)
    height, width = grid.shape
    outside = np.flatnonzero(~((row >= 0) & (row < height) & (col >= 0) & (col < width)))
    if len(outside):
        at = points[outside[0]]
        raise InputError(
            f"{len(outside)} of the samples in {source}, first number {outside[0] + 1} at "
            f"({at[0]:g}, {at[1]:g}), lie outside {mapped.name}; remove them, or check their CRS"
        )
    rows, cols = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
    if samples.rows is not None and samples.cols is not None:
        moved = np.flatnonzero((rows != samples.rows) | (cols != samples.cols))
        if len(moved):
            raise InputError(
                f"sample {moved[0] + 1} in {source} is not where it was drawn; the design holds "
                "for the drawn places alone, so move it back or draw anew"
            )
    return rows, cols


def _code_at(mapped: ClassMap, row: int, col: int) -> int:
    return int(mapped.read(Window(row, col, 1, 1))[0, 0])


def _refuse_twins(rows: Ints, cols: Ints, source: str) -> None:
    first: dict[tuple[int, int], int] = {}
    for number, pixel in enumerate(zip(rows.tolist(), cols.tolist(), strict=True), 1):
        twin = first.setdefault(pixel, number)
        if twin != number:
            raise InputError(
                f"samples {twin} and {number} in {source} lie on the same pixel {pixel}; "
                "remove one of them"
            )


def classes_in_use(
    classes: Sequence[MappedClass], found: SampledPixels
) -> tuple[tuple[MappedClass, ...], tuple[str, ...]]:
    """Classes that the map or a label holds, and the names of the others."""
    held = {*found.mapped.tolist(), *found.reference.tolist()}
    used = tuple(each for each in classes if each.pixels or each.code in held)
    return used, tuple(each.name for each in classes if each not in used)
