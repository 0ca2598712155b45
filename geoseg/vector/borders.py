"""Borders: the lines between patches, traced once for the two patches that share them.

The corners of pixels and the pixel sides between different patches make a plane graph. Corners
where three or four such sides meet are nodes; the chains of sides between nodes are borders. A
border that has no node is a loop. One that runs on into the next strip is cut there, half way
down a pixel's side, and so in the middle of a straight piece that both parts share.

Coordinates are whole numbers of 1/32 pixel, (x, y) from the raster's first corner, so that
whether points lie on a line is never a matter of rounding.

Each border is generalised once, by itself, so the two patches cannot come apart. The line of
middles joins the middles of a border's sides and keeps its nodes. Each piece of it turns around
one corner within the square of one pixel's size around that corner; no two borders have a
corner in common other than a node, where the pieces lie on the sides themselves. So lines of
middles never cross or touch, and nothing moves by more than 0.36 pixel. Borders with no data on
one side stay as they are: where the map ends is not a matter of taste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.vector.compiled import compiled
from geoseg.vector.patches import NO_PATCH, LabelledStrip

__all__ = ["UNITS", "Borders", "join", "trace_borders"]

UNITS = 32
"""Coordinates count this many to a pixel."""

HALF = UNITS // 2

UP, RIGHT, DOWN, LEFT = range(4)
"""Directions of travel; bit 1 << direction of a corner says that a side leaves it that way."""

NODE = 16
"""The bit of a corner where three or four sides meet."""

SEAMS, NODES, LOOPS = range(3)
"""Where borders are looked for, in this order: what is left in the end has no node."""

Lines = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Borders:
    """Some borders, each with its two patches."""

    xy: Lines
    """(V, 2): vertices of all borders, in 1/32 pixel."""
    starts: npt.NDArray[np.int64]
    """(N + 1,): border n has the vertices from starts[n] to starts[n + 1]."""
    sides: npt.NDArray[np.int32]
    """(N, 2): labels of the patches on its left and right, along its vertices."""
    ways: npt.NDArray[np.int8]
    """(N, 2): directions of travel at its start and at its end."""
    fixed: npt.NDArray[np.bool_]
    """(N,): whether it is to stay as it is."""

    @classmethod
    def none(cls) -> Borders:
        """No borders."""
        return cls(
            np.empty((0, 2), np.int32),
            np.zeros(1, np.int64),
            np.empty((0, 2), np.int32),
            np.empty((0, 2), np.int8),
            np.empty(0, np.bool_),
        )

    def take(self, which: npt.NDArray[np.intp]) -> Borders:
        """The borders asked for."""
        lengths = np.diff(self.starts)[which]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        xy = np.empty((starts[-1], 2), np.int32)
        _copy_lines(self.xy, self.starts, which, xy, starts)
        return Borders(xy, starts, self.sides[which], self.ways[which], self.fixed[which])


def join(one: Borders, other: Borders) -> Borders:
    """Both, in this order."""
    return Borders(
        np.concatenate((one.xy, other.xy)),
        np.concatenate((one.starts, other.starts[1:] + one.starts[-1])),
        np.concatenate((one.sides, other.sides)),
        np.concatenate((one.ways, other.ways)),
        np.concatenate((one.fixed, other.fixed)),
    )


def trace_borders(strip: LabelledStrip, *, middles: bool, straighten: bool = True) -> Borders:
    """Trace the borders in a strip: from half a pixel above its first row to its last row's middle.

    Args:
        strip: with labels resolved.
        middles: trace lines of middles; else the pixels' own outlines.
        straighten: leave out vertices that lie on the line between their neighbours.
    """
    corners, sides = _mark_corners(strip.cells)
    xy = np.empty((3 * sides + 2, 2), np.int32)  # never more; pages not used cost nothing
    starts = np.empty(sides + 1, np.int64)
    neighbours = np.empty((sides, 2), np.int32)
    ways = np.empty((sides, 2), np.int8)
    count = _trace(
        strip.cells, corners, strip.row - 1, middles, straighten, xy, starts, neighbours, ways
    )
    starts, neighbours = starts[: count + 1].copy(), neighbours[:count].copy()
    fixed = (neighbours == NO_PATCH).any(axis=1) | (not middles)
    return Borders(xy[: starts[-1]].copy(), starts, neighbours, ways[:count].copy(), fixed)


@compiled
def _copy_lines(
    source: Lines,
    source_starts: npt.NDArray[np.int64],
    which: npt.NDArray[np.intp],
    target: Lines,
    target_starts: npt.NDArray[np.int64],
) -> None:
    for n in range(len(which)):
        first, at = source_starts[which[n]], target_starts[n]
        for k in range(target_starts[n + 1] - at):
            target[at + k, 0] = source[first + k, 0]
            target[at + k, 1] = source[first + k, 1]


@compiled
def _mark_corners(cells: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.uint8], int]:
    """Which sides leave each corner, and a number of sides that is not exceeded.

    Corner (i, j) lies between the cells of rows i - 1 and i, columns j and j + 1; row 0 of the
    corners is not used.
    """
    rows, cols = cells.shape
    corners = np.zeros((rows, cols - 1), np.uint8)
    ends = 0
    for i in range(1, rows):
        for j in range(cols - 1):
            a, b, c, d = cells[i - 1, j], cells[i - 1, j + 1], cells[i, j], cells[i, j + 1]
            up, right, down, left = int(a != b), int(b != d), int(c != d), int(a != c)
            degree = up + right + down + left
            if degree:
                bits = up << UP | right << RIGHT | down << DOWN | left << LEFT
                corners[i, j] = bits | NODE if degree > 2 else bits
                ends += degree
    return corners, ends // 2 + cols + 1  # a side has two ends, one across a seam has one


@compiled
def _sides_of(cells: npt.NDArray[np.int32], i: int, j: int, way: int) -> tuple[int, int]:
    """The labels left and right of the side that leaves corner (i, j) in a direction."""
    a, b, c, d = cells[i - 1, j], cells[i - 1, j + 1], cells[i, j], cells[i, j + 1]
    if way == UP:
        return a, b
    if way == RIGHT:
        return b, d
    if way == DOWN:
        return d, c
    return c, a


@compiled
def _put(xy: Lines, first: int, at: int, x: int, y: int, straighten: bool) -> int:
    """Add a vertex to the line that began at `first`; return where the next one goes."""
    if straighten and at - first > 1:
        bx, by = np.int64(xy[at - 1, 0]), np.int64(xy[at - 1, 1])
        dx, dy = bx - xy[at - 2, 0], by - xy[at - 2, 1]
        if dx * (y - by) == dy * (x - bx):
            at -= 1
    xy[at, 0], xy[at, 1] = x, y
    return at + 1


@compiled
def _follow(
    corners: npt.NDArray[np.uint8],
    i: int,
    j: int,
    way: int,
    row: int,
    middles: bool,
    straighten: bool,
    xy: Lines,
    first: int,
    at: int,
) -> tuple[int, int]:
    """Walk on from corner (i, j), reached travelling `way`, to the border's end.

    Sides are struck off the corners as they are passed. Returns where the next vertex goes, and
    the direction of travel at the end.
    """
    last = corners.shape[0] - 1
    while True:
        bits = corners[i, j]
        if bits & NODE:
            return _put(xy, first, at, j * UNITS, (row + i) * UNITS, straighten), way
        if bits == 0:  # back where a loop began
            return _put(xy, first, at, xy[first, 0], xy[first, 1], straighten), way
        turn = UP if bits & 1 else RIGHT if bits & 2 else DOWN if bits & 4 else LEFT
        if turn != way and not middles:
            at = _put(xy, first, at, j * UNITS, (row + i) * UNITS, straighten)
        way = turn
        corners[i, j] = 0
        x, y = j * UNITS, (row + i) * UNITS
        if way == UP:
            i, y = i - 1, y - HALF
        elif way == DOWN:
            i, y = i + 1, y + HALF
        elif way == RIGHT:
            j, x = j + 1, x + HALF
        else:
            j, x = j - 1, x - HALF
        if i == 0 or i > last:
            return _put(xy, first, at, x, y, straighten), way
        corners[i, j] &= ~np.uint8(1 << ((way + 2) & 3))
        if middles:
            at = _put(xy, first, at, x, y, straighten)


@compiled
def _walk(
    cells: npt.NDArray[np.int32],
    corners: npt.NDArray[np.uint8],
    i: int,
    j: int,
    start: int,
    row: int,
    middles: bool,
    straighten: bool,
    xy: Lines,
    first: int,
    sides: npt.NDArray[np.int32],
    ways: npt.NDArray[np.int8],
) -> int:
    """Trace the border that leaves corner (i, j) towards `start`, or comes from the seam there.

    Fills in its labels and directions, and returns where the next border's vertices go.
    """
    left, right = _sides_of(cells, i, j, start)
    x, y, at, way = j * UNITS, (row + i) * UNITS, first, start
    corner = corners[i, j]
    corners[i, j] &= ~np.uint8(1 << start)
    if _is_seam(corners, i, start):
        left, right, way = right, left, (start + 2) & 3
        at = _put(xy, first, at, x, y + (HALF if start == DOWN else -HALF), False)
    middles = middles and left != NO_PATCH and right != NO_PATCH
    if way == start:
        if corner & NODE or not middles:
            at = _put(xy, first, at, x, y, False)
        down, across = (way == DOWN) - (way == UP), (way == RIGHT) - (way == LEFT)
        i, j = i + down, j + across
        corners[i, j] &= ~np.uint8(1 << ((way + 2) & 3))
        if middles:
            at = _put(xy, first, at, x + HALF * across, y + HALF * down, straighten)
    sides[0], sides[1], ways[0] = left, right, way
    at, ways[1] = _follow(corners, i, j, way, row, middles, straighten, xy, first, at)
    return at


@compiled
def _is_seam(corners: npt.NDArray[np.uint8], i: int, way: int) -> bool:
    """Whether the side that leaves a corner of row i that way leaves the strip."""
    return (i == 1 and way == UP) or (i == corners.shape[0] - 1 and way == DOWN)


@compiled
def _trace(
    cells: npt.NDArray[np.int32],
    corners: npt.NDArray[np.uint8],
    row: int,
    middles: bool,
    straighten: bool,
    xy: Lines,
    starts: npt.NDArray[np.int64],
    sides: npt.NDArray[np.int32],
    ways: npt.NDArray[np.int8],
) -> int:
    """Trace borders from the seams, then from nodes, then the loops; return how many."""
    rows, cols = corners.shape
    count = 0
    starts[0] = 0
    for stage in (SEAMS, NODES, LOOPS):
        for i in range(1, rows):
            if stage == SEAMS and 1 < i < rows - 1:
                continue
            for j in range(cols):
                if corners[i, j] == 0 or (stage == NODES and not corners[i, j] & NODE):
                    continue
                for way in range(4):
                    if not corners[i, j] & (1 << way):
                        continue
                    if stage == SEAMS and not _is_seam(corners, i, way):
                        continue
                    starts[count + 1] = _walk(
                        cells, corners, i, j, way, row, middles, straighten,
                        xy, starts[count], sides[count], ways[count],
                    )  # fmt: skip
                    count += 1
    return count
