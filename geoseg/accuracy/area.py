"""How much of a map is what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.grid import Grid, Window
from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_NAME, Legend

__all__ = ["AreaCount", "ClassArea"]


COUNTED_AT_ONCE = 1 << 19
"""Pixels: where each is of another class than the last, they take 64 bytes of memory each."""


@dataclass(frozen=True, slots=True)
class ClassArea:
    """What one class covers."""

    code: int
    name: str
    pixels: int
    """Number of pixels."""
    hectares: float | None
    """True area on the ellipsoid; None when the CRS does not tell it."""
    share: float | None
    """Of the valid area, 0 to 1 (of the valid pixels, when areas are not known)."""


class AreaCount:
    """Counts pixels and true areas of each class, strip by strip.

    Args:
        grid: the map's.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._pixels = np.zeros(NODATA + 1, np.int64)
        self._square_metres = np.zeros(NODATA + 1, np.float64)
        self._has_areas = grid.gsd_m is not None
        self.off_the_earth = 0
        """Valid pixels where the CRS does not reach the Earth; they have no area."""

    def add(self, window: Window, classes: npt.NDArray[np.uint8]) -> None:
        """Count a strip of class codes, (H, W), that lies at `window`."""
        rows = max(1, COUNTED_AT_ONCE // max(1, window.width))
        for part in window.row_strips(rows):
            self._add(part, classes[part.within(window)])

    def _add(self, window: Window, classes: npt.NDArray[np.uint8]) -> None:
        rows, starts, stops = _runs(classes)
        codes = classes[rows, starts]
        self._pixels += np.bincount(codes, stops - starts, NODATA + 1).astype(np.int64)
        if not self._has_areas:
            return
        areas = self._grid.run_areas_m2(window, rows, starts, stops)
        if areas is None:  # somewhere the CRS does not reach the Earth
            self._add_pixel_by_pixel(window, classes)
        else:
            self._square_metres += np.bincount(codes, areas, NODATA + 1)

    def _add_pixel_by_pixel(self, window: Window, classes: npt.NDArray[np.uint8]) -> None:
        areas = self._grid.cell_area_m2(window)
        if areas is not None:
            known = np.isfinite(areas)
            self.off_the_earth += int((~known[classes != NODATA]).sum())
            weights = np.where(known, areas, 0).ravel()
            self._square_metres += np.bincount(classes.ravel(), weights, NODATA + 1)

    @property
    def valid_pixels(self) -> int:
        """Pixels that have data."""
        return int(self._pixels[:NODATA].sum())

    @property
    def pixels_by_code(self) -> npt.NDArray[np.int64]:
        """(256,), pixels of each code; the last have no data."""
        return self._pixels.copy()

    @property
    def hectares_by_code(self) -> npt.NDArray[np.float64] | None:
        """(256,), true area of each code; None without a CRS that has a place on the Earth."""
        return self._square_metres / 1e4 if self._has_areas else None

    @property
    def valid_share(self) -> float:
        """Pixels that have data, of all that were counted."""
        return self.valid_pixels / max(1, int(self._pixels.sum()))

    def by_class(self, legend: Legend) -> list[ClassArea]:
        """One entry a class, in the legend's order, absent classes too; then what is uncertain."""
        known = self._has_areas
        amounts = self._square_metres if known else self._pixels
        total = float(amounts[:NODATA].sum())
        names = {each.code: each.name for each in legend}
        if self._pixels[UNCERTAIN]:
            names[UNCERTAIN] = UNCERTAIN_NAME
        return [
            ClassArea(
                code,
                name,
                int(self._pixels[code]),
                float(self._square_metres[code]) / 1e4 if known else None,
                float(amounts[code]) / total if total else None,
            )
            for code, name in names.items()
        ]


def _runs(
    classes: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where one class follows itself along a row: the row, the first column, one past the last."""
    begins = np.ones(classes.shape, np.bool_)
    np.not_equal(classes[:, 1:], classes[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    rows = np.repeat(np.arange(len(classes)), np.count_nonzero(begins, axis=1))
    before = rows * classes.shape[1]
    return rows, first - before, np.append(first[1:], classes.size) - before
