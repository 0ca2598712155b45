"""Boundary F1: how much of the boundaries a map draws is where they are.

A pixel is on the boundary of its class where one of its four neighbours is of another class. A
boundary pixel of the map is matched where the reference has one of the same class within the
tolerance, and the other way round; the shares are precision and recall.

A pixel that has no class, on the map or in the reference, says nothing: no boundary runs along
it, and boundary pixels within the tolerance of one are not counted, since what they should be
matched with may lie where nobody looked. What lies beyond the scene is such a pixel. They still
match others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.legend import NODATA

__all__ = ["MOST_TOLERANCE_PX", "BoundaryCount", "BoundaryCounter"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

MOST_TOLERANCE_PX = 100
"""Rows this far above and below a strip are held in memory."""

ROUNDING = 1.005
"""1.2 m reach two pixels of 0.6 m also where the map's projection makes them 0.6002 m."""

CLASSES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryCount:
    """Boundary pixels of each class, and how many of them are matched.

    Reference:
        Csurka, Larlus, Perronnin: "What is a good evaluation measure for semantic segmentation?",
        BMVC 2013, whose score of an image this is; pixels are counted over all scenes instead.
    """

    names: tuple[str, ...]
    mapped: Counts
    """(K,), of the map."""
    mapped_matched: Counts
    """(K,), those with a boundary pixel of the same class in the reference within reach."""
    reference: Counts
    """(K,), of the reference."""
    reference_matched: Counts
    """(K,), those with a boundary pixel of the same class on the map within reach."""

    def __add__(self, other: BoundaryCount) -> BoundaryCount:
        if other.names != self.names:
            raise InputError(f"boundaries of {self.names} and {other.names} cannot be added")
        return BoundaryCount(
            self.names,
            self.mapped + other.mapped,
            self.mapped_matched + other.mapped_matched,
            self.reference + other.reference,
            self.reference_matched + other.reference_matched,
        )

    @property
    def precision(self) -> Floats:
        """(K,), matched share of the map's boundary; NaN where the map draws none."""
        return _share(self.mapped_matched, self.mapped)

    @property
    def recall(self) -> Floats:
        """(K,), matched share of the reference's boundary; NaN where it has none."""
        return _share(self.reference_matched, self.reference)

    @property
    def f1(self) -> Floats:
        """(K,), harmonic mean of the two; NaN for classes without a boundary in the reference."""
        precision, recall = np.nan_to_num(self.precision), self.recall
        both = precision + recall
        return np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), both * 0)

    @property
    def mean_f1(self) -> float:
        """Mean over the classes that have a boundary in the reference; NaN without any."""
        known = self.f1[self.reference > 0]
        return float(known.mean()) if len(known) else float("nan")


class BoundaryCounter:
    """Counts the boundaries of one scene as its strips pass, in memory of strip and tolerance.

    Args:
        width: of the scene in pixels.
        names: the classes.
        reach: the tolerance in pixels, along rows (down) and along columns (across).

    Raises:
        InputError: if the tolerance is negative, or more than 100 pixels.
    """

    def __init__(self, width: int, names: Sequence[str], reach: tuple[float, float]) -> None:
        if not all(0 <= px <= MOST_TOLERANCE_PX for px in reach):
            raise InputError(
                f"a boundary tolerance of {max(reach):g} pixels makes no sense; "
                f"give 0 to {MOST_TOLERANCE_PX} pixels' worth of metres"
            )
        self._reach = reach
        self._margin, side = (math.floor(px * ROUNDING) + 1 for px in reach)
        self._beside = ((0, 0), (0, 0), (side, side))
        self._held = np.full((2, self._margin, width + 2 * side), NODATA, np.uint8)
        none = np.zeros(len(names), np.int64)
        self._count = BoundaryCount(tuple(names), none, none, none, none)

    def add(self, mapped: Bytes, reference: Bytes) -> None:
        """Take the next rows.

        Args:
            mapped: (H, W), places of classes in `names`, 255 for none.
            reference: (H, W), likewise.
        """
        nothing = (mapped == NODATA) | (reference == NODATA)
        rows = np.where(nothing, np.uint8(NODATA), np.stack((mapped, reference)))
        self._add(np.pad(rows, self._beside, constant_values=NODATA))

    def _add(self, rows: Bytes) -> None:
        held = np.concatenate((self._held, rows), axis=1)
        if held.shape[1] > 2 * self._margin:
            self._count += self._counted(held)
        self._held = held[:, max(0, held.shape[1] - 2 * self._margin) :]

    def finish(self) -> BoundaryCount:
        """The counts, after the last row."""
        self._add(np.full((2, self._margin, self._held.shape[2]), NODATA, np.uint8))
        return self._count

    def _counted(self, held: Bytes) -> BoundaryCount:
        """Of all but the margins, which only say what lies near."""
        names, rows = self._count.names, slice(self._margin, held.shape[1] - self._margin)
        known = held[0] != NODATA
        judged = _spread((~known).view(np.uint8), self._reach)[rows] == 0
        edges = [_on_boundary(classes, known) for classes in held]
        counts = np.zeros((4, len(names)), np.int64)
        for first in range(0, len(names), CLASSES_AT_ONCE):
            bit_of = np.zeros(NODATA + 1, np.uint8)
            group = np.arange(first, min(first + CLASSES_AT_ONCE, len(names)))
            bit_of[group] = 1 << (group - first)
            bits = [bit_of[classes] * edge for classes, edge in zip(held, edges, strict=True)]
            for this, other in ((0, 1), (1, 0)):
                here = bits[this][rows] * judged
                near = _spread(bits[other], self._reach)[rows]
                for row, kept in ((2 * this, here != 0), (2 * this + 1, (here & near) != 0)):
                    counts[row] += np.bincount(held[this][rows][kept], minlength=len(names))
        return BoundaryCount(names, *counts)


def _on_boundary(classes: Bytes, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(H, W), True where a neighbour above, below, left or right is of another class."""
    edge = np.zeros(classes.shape, np.bool_)
    for one, two in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (classes[one] != classes[two]) & known[one] & known[two]
        edge[one] |= differ
        edge[two] |= differ
    return edge


def _spread(bits: Bytes, reach: tuple[float, float]) -> Bytes:
    """Every pixel's bits, on all pixels of an ellipse around it.

    The ellipse is made of rows. Bits are spread along rows first, a pixel further each time, and
    copied up and down to the rows that are as wide.
    """
    down, across = (px * ROUNDING for px in reach)
    wide, result = bits.copy(), np.zeros_like(bits)
    half_widths = [
        math.floor(across * math.sqrt(max(0.0, 1 - (row / down) ** 2))) if row else int(across)
        for row in range(math.floor(down) + 1)
    ]
    for col in range(half_widths[0] + 1):
        if col:
            wide[:, col:] |= bits[:, :-col]
            wide[:, :-col] |= bits[:, col:]
        for row in (r for r, half_width in enumerate(half_widths) if half_width == col):
            if row:
                result[row:] |= wide[:-row]
                result[:-row] |= wide[row:]
            else:
                result |= wide
    return result


def _share(part: Counts, whole: Counts) -> Floats:
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
