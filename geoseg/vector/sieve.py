"""Small patches given to their neighbours: the same answer for the raster and the polygons.

The raster is read twice: once to learn which patches there are and how long their shared borders
are, and once to hand out its strips with the small patches' codes replaced. In between, what is
kept is a few numbers for each patch and each pair of neighbours, no pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.grid import Grid
from geoseg.legend import NO_CLASS
from geoseg.vector.borders import Borders, trace_borders
from geoseg.vector.compiled import compiled
from geoseg.vector.ground import Ground
from geoseg.vector.patches import NO_PATCH, LabelledStrip, Labeller, PatchTable
from geoseg.vector.polygons import ClassStrip

__all__ = ["MinArea", "Sieve", "plan_sieve"]

Numbers = npt.NDArray[np.int64]

AREA = re.compile(r"(?P<amount>[0-9.]+(?:e[0-9]+)?)\s*(?P<unit>m2|ha|km2|px|)", re.IGNORECASE)
SQUARE_METRES = {"": 1.0, "m2": 1.0, "ha": 1e4, "km2": 1e6}


@dataclass(frozen=True, slots=True)
class MinArea:
    """How large a patch must be to stay."""

    amount: float
    """Square metres or pixels."""
    in_pixels: bool
    """Which of the two."""

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read 5000 (square metres), "0.5ha" or "9px".

        Raises:
            InputError: if it is none of that kind.
        """
        found = AREA.fullmatch(str(text).strip())
        try:
            amount = float(found["amount"]) if found else math.nan
        except ValueError:
            amount = math.nan
        if found is None or not 0 < amount < math.inf:
            raise InputError(f"--min-area {text} is no area; give 5000 (m2), 0.5ha or 9px")
        unit = found["unit"].lower()
        return cls(amount, True) if unit == "px" else cls(amount * SQUARE_METRES[unit], False)


class Sieve:
    """Which code each patch of a raster gets.

    Args:
        grid: the raster's.
        codes: (N,), by the numbers that patches get in the order of their first pixels.
    """

    def __init__(self, grid: Grid, codes: npt.NDArray[np.int32]) -> None:
        self._grid = grid
        self._codes = codes

    def apply(self, strips: Iterable[ClassStrip]) -> Iterator[ClassStrip]:
        """The strips that the plan was made from, with new codes."""
        numbering = _Numbering(self._grid)
        for strip in strips:
            labelled, numbers = numbering.add(strip)
            codes = np.append(self._codes[numbers], np.int32(NO_CLASS))  # [NO_PATCH]
            rows = len(strip.codes)
            yield replace(strip, codes=codes[labelled.cells[1 : rows + 1, 1:-1]])


def plan_sieve(strips: Iterable[ClassStrip], grid: Grid, minimum: MinArea) -> Sieve:
    """Find where small patches go.

    A patch below the minimum joins the neighbour with which it shares the longest border, counted
    in sides of pixels; of equals, the larger one. It waits until no neighbour is smaller (or, of
    equals, comes later), so that small ones go first. Patches of one class that meet in that way
    are one patch from then on. A patch with no data all around stays.

    Args:
        strips: the whole raster, top to bottom.
        grid: the raster's.
        minimum: how large a patch must be to stay.
    """
    numbering = _Numbering(grid)
    tables: list[PatchTable] = []
    numbers_of: list[Numbers] = []
    neighbours: list[npt.NDArray[np.int64]] = []
    for strip in strips:
        labelled, numbers = numbering.add(strip)
        finished = np.flatnonzero(labelled.finished)
        numbers_of.append(numbers[finished])
        tables.append(labelled.patches.take(finished))
        neighbours.append(_neighbours(trace_borders(labelled, middles=False), numbers))
    patch_of = numbering.patches()
    codes = np.full(len(patch_of), NO_CLASS, np.int32)
    sizes = np.zeros(len(patch_of))
    for table, which in zip(tables, numbers_of, strict=True):
        codes[which] = table.codes
        sizes[which] = table.pixels if minimum.in_pixels else table.areas
    pairs = np.concatenate(neighbours) if neighbours else np.empty((0, 3), np.int64)
    pairs[:, :2] = patch_of[pairs[:, :2]]
    merged = _merge_small(codes, sizes, pairs, minimum.amount)
    return Sieve(grid, merged[patch_of])


class _Numbering:
    """Numbers for patches that hold beyond the strip, in the order of their first pixels."""

    def __init__(self, grid: Grid) -> None:
        self._labeller = Labeller(grid.width, Ground.of(grid))
        self._open = np.empty(0, np.int64)
        self._count = 0
        self._joined: list[Numbers] = []

    def add(self, strip: ClassStrip) -> tuple[LabelledStrip, Numbers]:
        """The strip's labels, and for each label a number."""
        labelled = self._labeller.label(strip.codes, strip.confidence, last=strip.last)
        labels = len(labelled.resolve)
        known = len(self._open)
        numbers = np.zeros(labels, np.int64)
        numbers[:known] = self._open
        new = np.flatnonzero(labelled.resolve == np.arange(labels))
        new = new[new >= known]
        numbers[new] = self._count + np.arange(len(new))
        self._count += len(new)
        joined = np.flatnonzero(labelled.resolve[:known] != np.arange(known))
        into = labelled.resolve[joined]
        self._joined.append(np.stack((numbers[joined], numbers[into]), axis=1))
        self._open = numbers[labelled.open_labels]
        return labelled, numbers

    def patches(self) -> Numbers:
        """For each number, the patch that it turned out to belong to: its lowest number."""
        patches = np.arange(self._count, dtype=np.int64)
        _unite(patches, np.concatenate([np.empty((0, 2), np.int64), *self._joined]))
        return patches


def _neighbours(borders: Borders, numbers: Numbers) -> Numbers:
    """(N, 3): two patches and the length of a border between them, in 1/32 pixel."""
    shared = np.flatnonzero((borders.sides != NO_PATCH).all(axis=1))
    steps = np.abs(np.diff(borders.xy.astype(np.int64), axis=0)).sum(axis=1)
    walked = np.concatenate(([0], np.cumsum(steps)))
    lengths = walked[borders.starts[1:] - 1] - walked[borders.starts[:-1]]
    sides = numbers[borders.sides[shared]]
    return np.column_stack((sides, lengths[shared]))


def _merge_small(
    codes: npt.NDArray[np.int32], sizes: npt.NDArray[np.float64], pairs: Numbers, minimum: float
) -> npt.NDArray[np.int32]:
    """The code that each patch ends up with, round by round."""
    codes, sizes = codes.copy(), sizes.copy()
    patch_of = np.arange(len(codes), dtype=np.int64)
    while True:
        pairs = _added_up(pairs)
        leaving, target = _movers(sizes, pairs, minimum)
        if not len(leaving):
            return codes[patch_of]
        follow = np.arange(len(codes), dtype=np.int64)
        follow[leaving] = target
        codes = codes[follow]
        united = follow.copy()
        meeting = follow[pairs[:, :2]]
        _unite(united, meeting[codes[meeting[:, 0]] == codes[meeting[:, 1]]])
        sizes = np.bincount(united, sizes, len(sizes)).astype(np.float64)
        patch_of = united[patch_of]
        pairs = np.column_stack((united[pairs[:, :2]], pairs[:, 2]))


def _movers(
    sizes: npt.NDArray[np.float64], pairs: Numbers, minimum: float
) -> tuple[Numbers, Numbers]:
    """The small patches that go in this round, and where to; no two of them are neighbours."""
    one, other, lengths = np.concatenate((pairs, pairs[:, [1, 0, 2]])).T
    smaller = (sizes[other] < sizes[one]) | ((sizes[other] == sizes[one]) & (other > one))
    waits = np.bincount(one[smaller], minlength=len(sizes)) > 0
    goes = (sizes[one] < minimum) & ~waits[one]
    one, other, lengths = one[goes], other[goes], lengths[goes]
    order = np.lexsort((other, -sizes[other], -lengths, one))
    one, other = one[order], other[order]
    first = np.flatnonzero(np.diff(one, prepend=-1))
    return one[first], other[first]


def _added_up(pairs: Numbers) -> Numbers:
    """One row a pair of different patches, the lower number first."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    low, high = pairs[:, :2].min(axis=1), pairs[:, :2].max(axis=1)
    keys, which = np.unique(low << 32 | high, return_inverse=True)
    lengths = np.bincount(which, pairs[:, 2], minlength=len(keys)).astype(np.int64)
    return np.column_stack((keys >> 32, keys & (2**32 - 1), lengths))


@compiled
def _root(parents: Numbers, patch: int) -> int:
    while parents[patch] != patch:
        parents[patch] = parents[parents[patch]]
        patch = parents[patch]
    return patch


@compiled
def _unite(parents: Numbers, pairs: Numbers) -> None:
    """Make one of the patches in each pair; each patch's entry becomes the lowest of its own."""
    for k in range(len(pairs)):
        one, other = _root(parents, pairs[k, 0]), _root(parents, pairs[k, 1])
        parents[max(one, other)] = min(one, other)
    for patch in range(len(parents)):
        parents[patch] = _root(parents, patch)
