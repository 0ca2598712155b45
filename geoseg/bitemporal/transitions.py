"""What became of what: transitions of classes counted, named and coloured."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS, NODATA, Legend
from geoseg.vector.tables import names_of

__all__ = [
    "CHANGED",
    "CHANGE_COLOUR",
    "CODES",
    "UNCHANGED",
    "Transition",
    "TransitionAttributes",
    "TransitionCount",
    "transition_codes",
    "write_matrix",
]

UNCHANGED = 0
"""The transition of pixels whose class did not change."""

CHANGED = 1
"""The transition of pixels that changed, when classes are not known."""

CODES = NODATA + 1
"""A transition is the code before times this, plus the code after."""

CHANGE_COLOUR = "#d7191c"
"""Of change that has no class."""

Codes = npt.NDArray[np.uint8]
Transitions = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Transition:
    """How much changed from one class to another."""

    before: str
    after: str
    pixels: int
    hectares: float | None
    """True area on the ellipsoid; None when the CRS does not tell it."""


def transition_codes(before: Codes, after: Codes) -> Transitions:
    """One number for each pair of class codes; those of (0, 1) are `CHANGED`.

    Args:
        before: class codes, 255 where there is no data.
        after: likewise.
    """
    codes = before.astype(np.int32) * CODES + after
    codes[before == after] = UNCHANGED
    codes[(before == NODATA) | (after == NODATA)] = NO_CLASS
    return codes


class TransitionCount:
    """Adds up pixels and true areas by the classes of both dates, strip by strip.

    Args:
        grid: where the pixels lie.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._known = grid.gsd_m is not None
        self._pixels = np.zeros((CODES, CODES), np.int64)
        self._square_metres = np.zeros((CODES, CODES))

    def add(self, window: Window, before: Codes, after: Codes) -> None:
        """Count class codes (H, W) of both dates that lie at a window."""
        pairs = (before.astype(np.int64) * CODES + after).ravel()
        self._pixels += np.bincount(pairs, minlength=CODES**2).reshape(CODES, CODES)
        areas = self._grid.cell_area_m2(window)
        if areas is not None:
            weights = np.nan_to_num(areas).ravel()
            found = np.bincount(pairs, weights, minlength=CODES**2)
            self._square_metres += found.reshape(CODES, CODES)

    @property
    def valid_pixels(self) -> int:
        """Pixels with data on both dates."""
        return int(self._pixels[:NODATA, :NODATA].sum())

    @property
    def changed_pixels(self) -> int:
        """Pixels whose class changed."""
        return self.valid_pixels - int(np.trace(self._pixels[:NODATA, :NODATA]))

    @property
    def changed_hectares(self) -> float | None:
        """Their true area; None when the CRS does not tell it."""
        if not self._known:
            return None
        areas = self._square_metres[:NODATA, :NODATA]
        return float(areas.sum() - np.trace(areas)) / 1e4

    def pixels(self, before: int, after: int) -> int:
        """How many went from one code to another."""
        return int(self._pixels[before, after])

    def hectares(self, before: int, after: int) -> float | None:
        """Their true area; None when the CRS does not tell it."""
        return float(self._square_metres[before, after]) / 1e4 if self._known else None

    def transitions(self, legend: Legend) -> list[Transition]:
        """What changed, the most first."""
        found = [
            Transition(one.name, other.name, pixels, self.hectares(one.code, other.code))
            for one in legend
            for other in legend
            if one is not other and (pixels := self.pixels(one.code, other.code))
        ]
        return sorted(found, key=lambda each: -each.pixels)


class TransitionAttributes:
    """A polygon went from one class to another between two dates.

    Args:
        legend: the classes; None when they are not known, and a polygon only changed.
        dates: of the earlier and the later scene, ISO 8601; None where unknown.
    """

    def __init__(self, legend: Legend | None, dates: Sequence[str | None]) -> None:
        self._legend, self._dates = legend, dates
        classes = [
            ("from_id", pa.int32()),
            ("from", pa.utf8()),
            ("to_id", pa.int32()),
            ("to", pa.utf8()),
        ]
        told = [("change", pa.utf8())] if legend is None else classes
        told += [("date_before", pa.utf8()), ("date_after", pa.utf8())]
        self.fields = tuple(pa.field(name, kind) for name, kind in told)
        """See Attributes."""

    def columns(self, codes: Transitions) -> list[pa.Array]:
        """See Attributes."""
        dates = [pa.array([date] * len(codes), pa.utf8()) for date in self._dates]
        if self._legend is None:
            return [names_of(codes, lambda _: "changed"), *dates]
        columns: list[pa.Array] = []
        for each in (codes // CODES, codes % CODES):
            columns += [pa.array(each), names_of(each, self._name)]
        return [*columns, *dates]

    def drawn(self, codes: Collection[int]) -> tuple[str, list[tuple[str, str]]]:
        """See Attributes: by the class that a place has become."""
        if self._legend is None:
            return "change", [("changed", CHANGE_COLOUR)]
        became = {code % CODES for code in codes}
        return "to", [(each.name, each.colour) for each in self._legend if each.code in became]

    def _name(self, code: int) -> str:
        assert self._legend is not None  # noqa: S101  (only then there are names)
        return self._legend.by_code(code).name


def write_matrix(path: Path, counts: TransitionCount, legend: Legend | None) -> None:
    """Write a table for spreadsheets: hectares by class before (rows) and after (columns).

    Pixels where the map has no CRS. Without classes: how much changed and how much did not.
    """
    amount = counts.hectares if counts.hectares(0, 0) is not None else counts.pixels
    unit = "hectares" if amount == counts.hectares else "pixels"
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        if legend is None:
            writer.writerow(("", unit))
            writer.writerow(("unchanged", _figure(amount(0, 0))))
            writer.writerow(("changed", _figure(amount(0, 1))))
            return
        writer.writerow((f"from \\ to ({unit})", *legend.names, "total before"))
        rows = [[amount(one, other) or 0 for other in legend.codes] for one in legend.codes]
        for each, row in zip(legend, rows, strict=True):
            writer.writerow((each.name, *map(_figure, row), _figure(sum(row))))
        totals = [sum(column) for column in zip(*rows, strict=True)]
        writer.writerow(("total after", *map(_figure, totals), _figure(sum(totals))))


def _figure(amount: float | None) -> str:
    return "" if amount is None else f"{amount:.4f}" if isinstance(amount, float) else str(amount)
