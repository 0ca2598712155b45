"""Patches: pixels of one class that hang together by their sides, found strip by strip.

A strip's labels go on from those of the row above it. Labels are whole numbers that only hold
until the next strip: those of patches still open then start again from 0, in their old order, so
that no table grows with the raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from geoseg.legend import NO_CLASS
from geoseg.vector.compiled import compiled
from geoseg.vector.ground import Ground

__all__ = ["NO_PATCH", "LabelledStrip", "Labeller", "PatchTable"]

NO_PATCH = -1
"""The label of pixels without data, and of everything outside the raster."""

Labels = npt.NDArray[np.int32]


class PatchTable(NamedTuple):
    """What is known of patches, in a form that compiled loops take. All arrays are (N,)."""

    codes: npt.NDArray[np.int32]
    """Class codes."""
    pixels: npt.NDArray[np.int64]
    """How many pixels each holds."""
    areas: npt.NDArray[np.float64]
    """True areas, square metres (pixels, when the map has no CRS)."""
    confident: npt.NDArray[np.int64]
    """How many of the pixels have a confidence."""
    confidence_sums: npt.NDArray[np.float64]
    """Confidences of those pixels, added up."""
    confidence_minima: npt.NDArray[np.float64]
    """The lowest of them, infinite when there is none."""

    @classmethod
    def empty(cls, count: int) -> PatchTable:
        """A table of patches without a pixel."""
        return cls(
            np.zeros(count, np.int32),
            np.zeros(count, np.int64),
            np.zeros(count, np.float64),
            np.zeros(count, np.int64),
            np.zeros(count, np.float64),
            np.full(count, np.inf),
        )

    def take(self, which: npt.NDArray[np.intp]) -> PatchTable:
        """The rows asked for."""
        return PatchTable(*cast("Any", [column[which] for column in self]))

    def extend(self, count: int) -> PatchTable:
        """The same rows, and new ones without a pixel up to `count`."""
        more = PatchTable.empty(count - len(self.codes))
        pairs: Any = zip(self, more, strict=True)
        return PatchTable(*cast("Any", [np.concatenate(pair) for pair in pairs]))


@dataclass(frozen=True, slots=True)
class LabelledStrip:
    """A strip whose patches are known."""

    cells: Labels
    """(1 + rows + closing, 1 + width + 1): labels, with the row above (NO_PATCH at the top), a
    column of NO_PATCH on either side and, below the raster's last row, a row of it."""
    row: int
    """The raster's row that cells[1] holds."""
    resolve: Labels
    """(labels,): the label of the patch that a label turned out to belong to."""
    patches: PatchTable
    """(labels,): filled in for labels that resolve to themselves."""
    finished: npt.NDArray[np.bool_]
    """(labels,): patches that no later row can reach."""
    open_labels: npt.NDArray[np.intp]
    """The other patches' labels, ascending: their places are their labels in the next strip."""


class Labeller:
    """Labels the patches of a raster from strips of it, top to bottom.

    Args:
        width: columns of the raster.
        ground: gives true areas.
    """

    def __init__(self, width: int, ground: Ground) -> None:
        self._ground = ground
        self._codes_above = np.full((1, width), NO_CLASS, np.int32)
        self._labels_above = np.full(width + 2, NO_PATCH, np.int32)
        self._open = PatchTable.empty(0)
        self._row = 0

    def label(
        self, codes: npt.NDArray[np.int32], confidence: npt.NDArray[np.float32], *, last: bool
    ) -> LabelledStrip:
        """Label the next rows.

        Args:
            codes: (rows, width), NO_CLASS where there is no data.
            confidence: (rows, width), NaN where unknown; or (0, 0) when there is none.
            last: whether the raster ends here.
        """
        rows, width = codes.shape
        cells = np.full((rows + 1 + last, width + 2), NO_PATCH, np.int32)
        cells[0] = self._labels_above
        with_above = np.concatenate((self._codes_above, codes))
        known = len(self._open.codes)
        resolve = np.arange(known + codes.size, dtype=np.int32)
        count = _label_rows(with_above, cells, resolve, known)
        resolve = resolve[:count].copy()
        _resolve_cells(cells, resolve)
        patches = self._open.extend(count)
        _merge(resolve, known, patches)
        lines = self._ground.lines(self._row, rows)
        _count_rows(codes, cells, confidence, *lines, patches)
        is_open = np.zeros(count, np.bool_)
        if not last:
            below = cells[-1]
            is_open[below[below != NO_PATCH]] = True
        is_patch = resolve == np.arange(count)
        open_labels = np.flatnonzero(is_open)
        strip = LabelledStrip(cells, self._row, resolve, patches, is_patch & ~is_open, open_labels)
        self._carry(strip, codes)
        return strip

    def _carry(self, strip: LabelledStrip, codes: npt.NDArray[np.int32]) -> None:
        renumbered = np.full(len(strip.resolve) + 1, NO_PATCH, np.int32)  # [NO_PATCH] stays itself
        renumbered[strip.open_labels] = np.arange(len(strip.open_labels))
        self._labels_above = renumbered[strip.cells[-1]]
        self._codes_above = codes[-1:].copy()
        self._open = strip.patches.take(strip.open_labels)
        self._row += len(codes)


@compiled
def _find(parents: Labels, label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@compiled
def _label_rows(codes: npt.NDArray[np.int32], cells: Labels, parents: Labels, count: int) -> int:
    """Label pixel by pixel; where two labels meet, the larger one's parent is the smaller one."""
    for i in range(1, codes.shape[0]):
        for j in range(codes.shape[1]):
            code = codes[i, j]
            if code == NO_CLASS:
                continue
            label = NO_PATCH
            if j > 0 and codes[i, j - 1] == code:
                label = cells[i, j]
            if codes[i - 1, j] == code:
                above = cells[i - 1, j + 1]
                if label == NO_PATCH:
                    label = above
                elif label != above:
                    one, other = _find(parents, label), _find(parents, above)
                    parents[max(one, other)] = min(one, other)
            if label == NO_PATCH:
                label = count
                count += 1
            cells[i, j + 1] = label
    return count


@compiled
def _resolve_cells(cells: Labels, parents: Labels) -> None:
    for label in range(len(parents)):  # a parent is smaller, so it is resolved already
        parents[label] = parents[parents[label]]
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            if cells[i, j] != NO_PATCH:
                cells[i, j] = parents[cells[i, j]]


@compiled
def _merge(resolve: Labels, known: int, patches: PatchTable) -> None:
    """Add up the open patches that turned out to be one."""
    for label in range(known):
        patch = resolve[label]
        if patch != label:
            patches.pixels[patch] += patches.pixels[label]
            patches.areas[patch] += patches.areas[label]
            patches.confident[patch] += patches.confident[label]
            patches.confidence_sums[patch] += patches.confidence_sums[label]
            patches.confidence_minima[patch] = min(
                patches.confidence_minima[patch], patches.confidence_minima[label]
            )


@compiled
def _count_rows(
    codes: npt.NDArray[np.int32],
    cells: Labels,
    confidence: npt.NDArray[np.float32],
    lines: npt.NDArray[np.float64],
    cols: npt.NDArray[np.intp],
    parts: npt.NDArray[np.float64],
    patches: PatchTable,
) -> None:
    """Add pixels, true areas and confidences to their patches."""
    rows, width = codes.shape
    for i in range(rows):
        for j in range(width):
            patch = cells[i + 1, j + 1]
            if patch == NO_PATCH:
                continue
            before, after = lines[i, cols[j]], lines[i, cols[j] + 1]
            patches.codes[patch] = codes[i, j]
            patches.pixels[patch] += 1
            patches.areas[patch] += before + (after - before) * parts[j]
            if confidence.size and not np.isnan(confidence[i, j]):
                known = confidence[i, j]
                patches.confident[patch] += 1
                patches.confidence_sums[patch] += known
                patches.confidence_minima[patch] = min(patches.confidence_minima[patch], known)
