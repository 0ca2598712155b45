"""From strips of class codes to polygons that share their borders to the vertex.

Strips come top to bottom; a polygon is made when no later row can reach it. What is kept
meanwhile are the patches that the last row touches, and their borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely

from geoseg.grid import Grid
from geoseg.vector.borders import Borders, join, trace_borders
from geoseg.vector.ground import Ground
from geoseg.vector.outlines import outline_patches
from geoseg.vector.patches import NO_PATCH, LabelledStrip, Labeller, PatchTable
from geoseg.vector.simplify import MIDDLES_SHIFT_PX, simplify_borders

__all__ = ["ClassStrip", "Generalization", "PolygonBatch", "trace_polygons"]

BATCH = 20_000
"""Polygons handed on together."""


@dataclass(frozen=True, slots=True)
class ClassStrip:
    """Some rows of a class raster."""

    codes: npt.NDArray[np.int32]
    """(rows, width): class codes, NO_CLASS where there is no data."""
    confidence: npt.NDArray[np.float32]
    """(rows, width), NaN where unknown; (0, 0) when there is none."""
    last: bool
    """Whether the raster ends here."""


@dataclass(frozen=True, slots=True)
class Generalization:
    """What becomes of pixels' outlines. Borders with no data on one side stay as they are."""

    line: Literal["outline", "middles", "smooth"] = "middles"
    """Keep them, join the middles of their sides, or cut the corners of that line too."""
    tolerance_m: float = 0.0
    """Take vertices away as long as no border moves further than this from the outline."""


@dataclass(frozen=True, slots=True)
class PolygonBatch:
    """Some polygons of a map. Arrays are (N,) unless said otherwise."""

    codes: npt.NDArray[np.int32]
    """Class codes."""
    wkb: npt.NDArray[np.uint8]
    """(bytes,): the polygons in map coordinates, well-known binary, one after the other."""
    offsets: npt.NDArray[np.int64]
    """(N + 1,): polygon n lies in wkb[offsets[n] : offsets[n + 1]]."""
    pixels: npt.NDArray[np.int64]
    """How many pixels each covers."""
    areas: npt.NDArray[np.float64]
    """True area of those pixels, square metres; in pixels when the map has no CRS."""
    perimeters: npt.NDArray[np.float64]
    """Length of all its rings on the ground, metres; in pixels when the map has no CRS."""
    confidence_means: npt.NDArray[np.float64] | None
    """Over its pixels, NaN where none is known; None when the map has no confidence."""
    confidence_minima: npt.NDArray[np.float64] | None
    """Likewise."""

    @property
    def shapes(self) -> npt.NDArray[np.object_]:
        """(N,), shapely polygons."""
        data = self.wkb.tobytes()
        pairs = zip(self.offsets[:-1], self.offsets[1:], strict=True)
        return np.asarray(shapely.from_wkb([data[begin:end] for begin, end in pairs]), object)


def trace_polygons(
    strips: Iterable[ClassStrip],
    grid: Grid,
    *,
    generalization: Generalization | None = None,
    classes: frozenset[int] | None = None,
) -> Iterator[PolygonBatch]:
    """Outline every patch of pixels of one class that hang together by their sides.

    Pixels without data belong to no polygon. The polygons cover the others once, and neighbours
    share every vertex of the border between them.

    Args:
        strips: the whole raster, top to bottom.
        grid: where its pixels lie.
        generalization: by default, the line of middles.
        classes: codes of the classes wanted, all when None.
    """
    generalization = generalization or Generalization()
    ground = Ground.of(grid)
    labeller = Labeller(grid.width, ground)
    borders, with_confidence = Borders.none(), False
    for strip in strips:
        with_confidence = with_confidence or bool(strip.confidence.size)
        labelled = labeller.label(strip.codes, strip.confidence, last=strip.last)
        traced = _borders(labelled, generalization, ground)
        borders = join(_resolved(borders, labelled), traced)
        wanted = np.flatnonzero(labelled.finished)
        if classes is not None:
            wanted = wanted[np.isin(labelled.patches.codes[wanted], list(classes))]
        for begin in range(0, len(wanted), BATCH):
            patches = wanted[begin : begin + BATCH]
            outlines = outline_patches(
                borders, patches, len(labelled.resolve), grid.transform, ground,
                smooth=generalization.line == "smooth",
            )  # fmt: skip
            table = labelled.patches.take(patches)
            yield _batch(
                table, outlines.wkb, outlines.offsets, outlines.perimeters, with_confidence
            )
        borders = _still_needed(borders, labelled)


def _borders(strip: LabelledStrip, generalization: Generalization, ground: Ground) -> Borders:
    line = generalization.line
    tolerance_px = generalization.tolerance_m / ground.longest_side_m
    if tolerance_px and tolerance_px < MIDDLES_SHIFT_PX:
        line = "outline"  # no step of a staircase can be left out
    borders = trace_borders(strip, middles=line != "outline", straighten=line != "smooth")
    if tolerance_px > MIDDLES_SHIFT_PX:
        return simplify_borders(borders, tolerance_px - MIDDLES_SHIFT_PX)
    return borders


def _resolved(borders: Borders, strip: LabelledStrip) -> Borders:
    """Open borders with the labels that their patches turned out to have."""
    resolve = np.append(strip.resolve, np.int32(NO_PATCH))  # [NO_PATCH] stays itself
    return replace(borders, sides=resolve[borders.sides])


def _still_needed(borders: Borders, strip: LabelledStrip) -> Borders:
    """The borders of open patches, with the labels that these have in the next strip."""
    renumbered = np.full(len(strip.resolve) + 1, NO_PATCH, np.int32)
    renumbered[strip.open_labels] = np.arange(len(strip.open_labels))
    sides = renumbered[borders.sides]
    needed = np.flatnonzero((sides != NO_PATCH).any(axis=1))
    return replace(borders, sides=sides).take(needed)


def _batch(
    table: PatchTable,
    wkb: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    perimeters: npt.NDArray[np.float64],
    with_confidence: bool,
) -> PolygonBatch:
    means = minima = None
    if with_confidence:
        known = table.confident > 0
        means = np.full(len(known), np.nan)
        np.divide(table.confidence_sums, table.confident, out=means, where=known)
        minima = np.where(known, table.confidence_minima, np.nan)
    return PolygonBatch(
        table.codes, wkb, offsets, table.pixels, table.areas, perimeters, means, minima
    )
