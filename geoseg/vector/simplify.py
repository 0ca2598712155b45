"""Fewer vertices by a tolerance in metres, with the coverage still whole.

A vertex may go when two things hold. The line that replaces its neighbourhood stays within the
tolerance of every vertex that the border had there at first. And no other vertex, of any border,
lies in or on the triangle that vanishes: a line that crossed the new one would have to end in
that triangle, since it crosses neither of the old ones. So each single step keeps borders from
crossing or touching, and any number of them does. The vertices of least area go first, as
M. Visvalingam and J. D. Whyatt proposed (Line generalisation by repeated elimination of points,
The Cartographic Journal 30, 1993).

Borders are cut where they leave a strip, and these points stay; so strips are independent.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geoseg.vector.borders import HALF, Borders
from geoseg.vector.compiled import compiled

__all__ = ["MIDDLES_SHIFT_PX", "simplify_borders"]

MIDDLES_SHIFT_PX = 0.5**1.5
"""How far a line of middles lies from the outline at most: half a corner's diagonal."""

Halves = npt.NDArray[np.int64]


def simplify_borders(borders: Borders, tolerance_px: float) -> Borders:
    """Take vertices away from the lines of middles in a strip.

    Args:
        borders: all of the strip, as traced.
        tolerance_px: no line moves further than this from where it is, pixels.
    """
    points = (borders.xy // HALF).astype(np.int64)  # all vertices lie on a lattice of half pixels
    if not len(points):
        return borders
    low = points.min(axis=0)
    points -= low
    taken = np.zeros(points.max(axis=0)[::-1] + 1, np.bool_)
    taken[points[:, 1], points[:, 0]] = True
    kept = np.ones(len(points), np.bool_)
    fewest = _fewest(points, borders.starts)
    fewest[borders.fixed] = len(points)
    _simplify(points, borders.starts, fewest, (2 * tolerance_px) ** 2, taken, kept)
    places = np.concatenate(([0], np.cumsum(kept)))
    return replace(borders, xy=borders.xy[kept], starts=places[borders.starts])


def _fewest(points: Halves, starts: Halves) -> Halves:
    """How many vertices each border must keep.

    A loop needs an inside. Of borders that join the same two ends, and of those that may return
    to the seam that they came from, none may become a straight line: it could fall on another.
    """
    first, last = points[starts[:-1]], points[starts[1:] - 1]
    wide = int(points[:, 0].max()) + 1
    keys = np.sort(np.stack([end[:, 1] * wide + end[:, 0] for end in (first, last)]), axis=0)
    _, which, shared = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    fewest = np.where(shared[which.ravel()] > 1, 3, 2)
    fewest[first[:, 1] == last[:, 1]] = 3
    fewest[keys[0] == keys[1]] = 4
    return fewest.astype(np.int64)


@compiled
def _double_area(points: Halves, a: int, b: int, c: int) -> int:
    """Twice the area of a triangle, positive when it turns one way."""
    dx, dy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    return int(dx * (points[c, 1] - points[a, 1]) - dy * (points[c, 0] - points[a, 0]))


@compiled
def _stays_near(points: Halves, a: int, b: int, square: float) -> bool:
    """Whether the vertices between a and b lie within a distance of the line from a to b."""
    ax, ay = points[a, 0], points[a, 1]
    dx, dy = points[b, 0] - ax, points[b, 1] - ay
    length = dx * dx + dy * dy
    for k in range(a + 1, b):
        px, py = points[k, 0] - ax, points[k, 1] - ay
        part = 0.0 if length == 0 else min(1.0, max(0.0, (px * dx + py * dy) / length))
        if (px - part * dx) ** 2 + (py - part * dy) ** 2 > square:
            return False
    return True


@compiled
def _is_free(points: Halves, a: int, b: int, c: int, taken: npt.NDArray[np.bool_]) -> bool:
    """Whether a triangle holds no vertex but its own corners, its sides included."""
    turn = 1 if _double_area(points, a, b, c) > 0 else -1
    corners = ((points[a, 0], points[a, 1]), (points[b, 0], points[b, 1]),
               (points[c, 0], points[c, 1]))  # fmt: skip
    top = min(corners[0][1], corners[1][1], corners[2][1])
    bottom = max(corners[0][1], corners[1][1], corners[2][1])
    for y in range(top, bottom + 1):
        left, right = taken.shape[1], -1
        for k in range(3):
            (x0, y0), (x1, y1) = corners[k], corners[(k + 1) % 3]
            if min(y0, y1) <= y <= max(y0, y1):
                at = x0 if y0 == y1 else x0 + (x1 - x0) * (y - y0) // (y1 - y0)
                left, right = min(left, at), max(right, at + 1)  # a level side's ends both come
        for x in range(left, min(right, taken.shape[1] - 1) + 1):
            if not taken[y, x]:
                continue
            inside, own = True, False
            for k in range(3):
                (x0, y0), (x1, y1) = corners[k], corners[(k + 1) % 3]
                inside &= turn * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) >= 0
                own |= x == x0 and y == y0
            if inside and not own:
                return False
    return True


@compiled
def _simplify(
    points: Halves,
    starts: Halves,
    fewest: Halves,
    square: float,
    taken: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.bool_],
) -> None:
    """Go through the borders one by one; `kept` and `taken` lose the vertices that go."""
    before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
    areas = np.zeros(len(points), np.int64)
    for border in range(len(starts) - 1):
        begin, end = starts[border], starts[border + 1]
        size = end - begin
        if size <= fewest[border]:
            continue
        heap = [(np.int64(0), np.int64(0)) for _ in range(0)]
        for k in range(begin + 1, end - 1):
            areas[k] = abs(_double_area(points, k - 1, k, k + 1))
            heap.append((areas[k], np.int64(k)))
        heapq.heapify(heap)
        while heap and size > fewest[border]:
            area, least = heapq.heappop(heap)
            k = int(least)
            if area != areas[k] or not kept[k]:
                continue
            a, c = before[k], after[k]
            if not _stays_near(points, a, c, square) or not _is_free(points, a, k, c, taken):
                continue
            kept[k] = False
            taken[points[k, 1], points[k, 0]] = False
            size -= 1
            after[a], before[c] = c, a
            for n in (int(a), int(c)):
                if begin < n < end - 1:
                    areas[n] = abs(_double_area(points, before[n], n, after[n]))
                    heapq.heappush(heap, (areas[n], np.int64(n)))
