"""Finished patches and their borders to polygons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from geoseg.vector.borders import Borders
from geoseg.vector.ground import Ground
from geoseg.vector.rings import Halves, Numbers, write_polygons

__all__ = ["Outlines", "outline_patches"]

RING_BYTES, VERTEX_BYTES, POLYGON_BYTES = 4, 16, 9
"""What well-known binary takes for each."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons of some patches, in order."""

    wkb: npt.NDArray[np.uint8]
    """All polygons, little-endian well-known binary, in map coordinates."""
    offsets: Numbers
    """(N + 1,): polygon n lies in wkb[offsets[n] : offsets[n + 1]]."""
    perimeters: npt.NDArray[np.float64]
    """(N,): length of all rings on the ground, metres (pixels, when the map has no CRS)."""


def outline_patches(
    borders: Borders,
    patches: npt.NDArray[np.intp],
    label_count: int,
    transform: Affine,
    ground: Ground,
    *,
    smooth: bool,
) -> Outlines:
    """Put the polygons of finished patches together.

    Args:
        borders: at least all of theirs, with vertices in 1/32 pixel.
        patches: (N,), the labels of the patches, ascending.
        label_count: labels are smaller than this.
        transform: from (column, row) to map coordinates.
        ground: gives lengths.
        smooth: cut corners at a quarter of the lines to the next vertices.
    """
    place = np.full(label_count + 1, -1, np.int64)  # one more: NO_PATCH finds -1 there
    place[patches] = np.arange(len(patches))
    halves = _halves(borders, place)
    size = _byte_bound(borders, halves, len(patches), smooth)
    wkb = np.empty(size, np.uint8)
    offsets = np.zeros(len(patches) + 1, np.int64)
    perimeters = np.zeros(len(patches), np.float64)
    write_polygons(
        borders.xy, borders.starts, borders.fixed, halves, smooth,
        np.array(transform[:6]), np.array(ground.spacing), ground.metric,
        wkb, offsets, perimeters,
    )  # fmt: skip
    return Outlines(wkb[: offsets[-1]].copy(), offsets, perimeters)


def _halves(borders: Borders, place: Numbers) -> Halves:
    """The borders of the patches that have a place, in both directions where both do."""
    count = len(borders.sides)
    xy = borders.xy.astype(np.int64)
    first, last = xy[borders.starts[:-1]], xy[borders.starts[1:] - 1]
    wide = int(xy[:, 0].max(initial=0)) + 1
    ends = np.stack((first[:, 1] * wide + first[:, 0], last[:, 1] * wide + last[:, 0]))
    start_ways, end_ways = borders.ways.T.astype(np.int64)
    both = Halves(
        np.concatenate((place[borders.sides[:, 0]], place[borders.sides[:, 1]])),
        np.tile(np.arange(count), 2),
        np.repeat(np.arange(2), count),
        np.concatenate((ends[0], ends[1])),
        np.concatenate((ends[1], ends[0])),
        np.concatenate((start_ways, (end_ways + 2) % 4)),
        np.concatenate((end_ways, (start_ways + 2) % 4)),
    )
    wanted = np.flatnonzero(both.places >= 0)
    order = wanted[np.lexsort((both.starts[wanted], both.places[wanted]))]
    return Halves._make(column[order] for column in both)


def _byte_bound(borders: Borders, halves: Halves, count: int, smooth: bool) -> int:
    vertices = int(np.diff(borders.starts)[halves.borders].sum()) * (2 if smooth else 1)
    rings = len(halves.places)
    return POLYGON_BYTES * count + (RING_BYTES + VERTEX_BYTES) * rings + VERTEX_BYTES * vertices
