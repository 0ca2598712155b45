"""Borders to polygons: rings put together patch by patch, written as well-known binary.

Around a patch, its borders follow each other from node to node with the patch on their left.
Where a patch meets itself across a corner, two of its borders begin at one node; turning right
there keeps what lies beyond the corner in rings of its own, so that no ring touches itself and
holes touch at single points only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geoseg.vector.borders import UNITS
from geoseg.vector.compiled import compiled

__all__ = ["Halves", "Numbers", "write_polygons"]

POLYGON = 3
"""What well-known binary calls one."""


Numbers = npt.NDArray[np.int64]


class Halves(NamedTuple):
    """Borders as their patches see them, in a form that compiled loops take: (M,) each."""

    places: Numbers
    """Place of the patch among those asked for, ascending."""
    borders: Numbers
    """Which border."""
    backwards: Numbers
    """1 where the patch walks it from its end."""
    starts: Numbers
    """Key of the first vertex on that walk, ascending for each patch."""
    ends: Numbers
    """Key of the last vertex."""
    start_ways: Numbers
    """Direction of travel at the start."""
    end_ways: Numbers
    """Direction of travel at the end."""


@compiled
def _follower(half: int, begin: int, stop: int, halves: Halves) -> int:
    """The half in [begin, stop) that goes on where `half` ends."""
    key, starts = halves.ends[half], halves.starts
    low, high = begin, stop
    while low < high:
        middle = (low + high) // 2
        if starts[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low + 1 < stop and starts[low + 1] == key:
        right_turn = (halves.end_ways[half] + 1) & 3
        if halves.start_ways[low] != right_turn:
            return low + 1
    return low


@compiled
def _add_border(
    xy: npt.NDArray[np.int32],
    begin: int,
    end: int,
    backwards: bool,
    fixed: bool,
    ring: Numbers,
    size: int,
) -> int:
    """Add a border's vertices but the last to a ring of (x, y, kept); return the ring's size."""
    for k in range(end - begin - 1):
        at = end - 1 - k if backwards else begin + k
        x, y = xy[at, 0], xy[at, 1]
        ring[size, 0], ring[size, 1] = x, y
        node = k == 0 and x % UNITS == 0 and y % UNITS == 0
        ring[size, 2] = 2 if node else 1 if fixed else 0
        size += 1
    return size


@compiled
def _cut_corners(ring: Numbers, size: int, target: Numbers) -> int:
    """Chaikin's corner cutting, once; vertices that are kept stay. Returns the new size."""
    count = 0
    for k in range(size):
        x, y, kept = ring[k, 0], ring[k, 1], ring[k, 2]
        if kept:
            target[count, 0], target[count, 1], target[count, 2] = x, y, kept
            count += 1
            continue
        for other in (k - 1 if k else size - 1, k + 1 if k + 1 < size else 0):
            target[count, 0] = (ring[other, 0] + 3 * x) // 4
            target[count, 1] = (ring[other, 1] + 3 * y) // 4
            target[count, 2] = 0
            count += 1
    return count


@compiled
def _straighten(ring: Numbers, size: int, target: Numbers) -> int:
    """Leave out what lies on the line between its neighbours, but no node."""
    count = 0
    for k in range(size):
        before, after = (k - 1 if k else size - 1), (k + 1 if k + 1 < size else 0)
        x, y = ring[k, 0], ring[k, 1]
        across = (x - ring[before, 0]) * (ring[after, 1] - y)
        if ring[k, 2] == 2 or across != (y - ring[before, 1]) * (ring[after, 0] - x):
            for part in range(3):  # a whole row takes seconds to compile, for its error's text
                target[count, part] = ring[k, part]
            count += 1
    return count


@compiled
def _double_area(ring: Numbers, size: int) -> int:
    """Twice the signed area, negative for shells: rows count downwards."""
    total = 0
    for k in range(size):
        after = k + 1 if k + 1 < size else 0
        total += ring[k, 0] * ring[after, 1] - ring[after, 0] * ring[k, 1]
    return total


@compiled
def _length(
    ring: Numbers,
    size: int,
    spacing: npt.NDArray[np.float64],
    metric: npt.NDArray[np.float64],
) -> float:
    """The length on the ground, each line by the metric at its middle."""
    total = 0.0
    for k in range(size):
        after = k + 1 if k + 1 < size else 0
        dc, dr = (ring[after, 0] - ring[k, 0]) / UNITS, (ring[after, 1] - ring[k, 1]) / UNITS
        row = ((ring[after, 1] + ring[k, 1]) / (2 * UNITS) - 0.5) / spacing[0]
        col = ((ring[after, 0] + ring[k, 0]) / (2 * UNITS) - 0.5) / spacing[1]
        i = min(max(int(row), 0), metric.shape[0] - 2)
        j = min(max(int(col), 0), metric.shape[1] - 2)
        v, u = row - i, col - j
        square = 0.0
        for part, weight in ((0, dc * dc), (1, 2 * dc * dr), (2, dr * dr)):
            upper = metric[i, j, part] * (1 - u) + metric[i, j + 1, part] * u
            lower = metric[i + 1, j, part] * (1 - u) + metric[i + 1, j + 1, part] * u
            square += weight * (upper * (1 - v) + lower * v)
        total += np.sqrt(max(square, 0.0))
    return total


@compiled
def _put_number(wkb: npt.NDArray[np.uint8], at: int, number: int) -> int:
    """Write 32 bits, little-endian."""
    for k in range(4):
        wkb[at + k] = (number >> (8 * k)) & 255
    return at + 4


@compiled
def _put_ring(
    ring: Numbers,
    size: int,
    transform: npt.NDArray[np.float64],
    wkb: npt.NDArray[np.uint8],
    at: int,
) -> int:
    """Write a ring in map coordinates, closed, its inside on the left; return where it ends."""
    at = _put_number(wkb, at, size + 1)
    point = np.empty(2, np.float64)
    octets = point.view(np.uint8)
    a, b, c, d, e, f = transform
    mirrored = a * e - b * d > 0
    for k in range(size + 1):
        n = (size - k if mirrored else k) % size
        col, row = ring[n, 0] / UNITS, ring[n, 1] / UNITS
        point[0], point[1] = a * col + b * row + c, d * col + e * row + f
        for octet in range(16):
            wkb[at + octet] = octets[octet]
        at += 16
    return at


@compiled
def _widest(border_starts: Numbers, halves: Halves) -> int:
    """The most vertices that one patch has, over all its rings."""
    widest = vertices = 0
    for half in range(len(halves.places)):
        if half and halves.places[half] != halves.places[half - 1]:
            vertices = 0
        border = halves.borders[half]
        vertices += border_starts[border + 1] - border_starts[border]
        widest = max(widest, vertices)
    return widest


@compiled
def write_polygons(
    xy: npt.NDArray[np.int32],
    border_starts: Numbers,
    fixed: npt.NDArray[np.bool_],
    halves: Halves,
    smooth: bool,
    transform: npt.NDArray[np.float64],
    spacing: npt.NDArray[np.float64],
    metric: npt.NDArray[np.float64],
    wkb: npt.NDArray[np.uint8],
    offsets: Numbers,
    perimeters: npt.NDArray[np.float64],
) -> None:
    """Walk each patch's rings; the shell goes first."""
    widest = _widest(border_starts, halves)
    passed = np.zeros(len(halves.places), np.bool_)
    ring = np.empty((widest, 3), np.int64)
    cut = np.empty((2 * widest if smooth else 0, 3), np.int64)
    line = np.empty((2 * widest if smooth else widest, 3), np.int64)
    begin = 0
    for place in range(len(perimeters)):
        stop = begin
        while stop < len(halves.places) and halves.places[stop] == place:
            stop += 1
        at = offsets[place]
        wkb[at] = 1  # little-endian
        count_at = _put_number(wkb, at + 1, POLYGON)
        rings, body = 0, count_at + 4
        at = body
        for first in range(begin, stop):
            if passed[first]:
                continue
            size, half = 0, first
            while not passed[half]:
                passed[half] = True
                border = halves.borders[half]
                size = _add_border(
                    xy,
                    border_starts[border],
                    border_starts[border + 1],
                    halves.backwards[half] == 1,
                    fixed[border],
                    ring,
                    size,
                )
                half = _follower(half, begin, stop, halves)
            shell = _double_area(ring, size) < 0
            if smooth:
                size = _straighten(cut, _cut_corners(ring, size, cut), line)
            else:
                size = _straighten(ring, size, line)
            perimeters[place] += _length(line, size, spacing, metric)
            ring_at, at = at, _put_ring(line, size, transform, wkb, at)
            if shell and ring_at > body:  # to the front, before the holes already written
                _rotate(wkb, body, ring_at, at)
            rings += 1
        _put_number(wkb, count_at, rings)
        offsets[place + 1] = at
        begin = stop


@compiled
def _rotate(wkb: npt.NDArray[np.uint8], begin: int, middle: int, end: int) -> None:
    """Bring [middle, end) before [begin, middle)."""
    moved = wkb[middle:end].copy()
    for k in range(middle - begin):
        wkb[end - 1 - k] = wkb[middle - 1 - k]
    for k in range(len(moved)):
        wkb[begin + k] = moved[k]
