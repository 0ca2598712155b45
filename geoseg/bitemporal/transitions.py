"""What became of what: transitions of classes counted, named and coloured."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geoseg.bitemporal.change_legend import ChangeLegend
from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS, NODATA
from geoseg.vector.tables import names_of

__all__ = [
    "CODES",
    "UNCHANGED",
    "KindOfChange",
    "Transition",
    "TransitionAttributes",
    "TransitionCount",
    "changed_codes",
    "transition_codes",
    "write_matrix",
]

UNCHANGED = 0
"""The transition of pixels whose class did not change."""

CODES = NODATA + 1
"""A transition is the code before times this, plus the code after."""

Codes = npt.NDArray[np.uint8]
Transitions = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class KindOfChange:
    """How much there is of a kind of change."""

    name: str
    pixels: int
    hectares: float | None
    """True area on the ellipsoid; None when the CRS does not tell it."""


@dataclass(frozen=True, slots=True)
class Transition:
    """How much changed from one class to another."""

    before: str
    after: str
    pixels: int
    hectares: float | None
    """True area on the ellipsoid; None when the CRS does not tell it."""


def transition_codes(before: Codes, after: Codes) -> Transitions:
    """One number for each pair of codes; a kind of change is that from `unchanged` to itself.

    Args:
        before: class codes, 255 where there is no data.
        after: likewise.
    """
    codes = before.astype(np.int32) * CODES + after
    codes[before == after] = UNCHANGED
    codes[(before == NODATA) | (after == NODATA)] = NO_CLASS
    return codes


def changed_codes(legend: ChangeLegend) -> frozenset[int]:
    """All transitions that are change."""
    if legend.unchanged is not None:
        return frozenset(legend.unchanged * CODES + kind.code for kind in legend.kinds)
    codes = legend.legend.codes
    return frozenset(one * CODES + other for one in codes for other in codes if one != other)


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
        return float(areas[~np.eye(NODATA, dtype=np.bool_)].sum()) / 1e4

    def pixels(self, before: int, after: int) -> int:
        """How many went from one code to another."""
        return int(self._pixels[before, after])

    def hectares(self, before: int, after: int) -> float | None:
        """Their true area; None when the CRS does not tell it."""
        return float(self._square_metres[before, after]) / 1e4 if self._known else None

    def transitions(self, legend: ChangeLegend) -> list[Transition]:
        """From what to what things changed, the most first; nothing where that is not known."""
        if legend.unchanged is not None:
            told = legend.kinds if legend.tells_ends else ()
            ends = [(*legend.ends(kind), (legend.unchanged, kind.code)) for kind in told]
        else:
            pairs = permutations(legend.legend, 2)
            ends = [(one.name, other.name, (one.code, other.code)) for one, other in pairs]
        found = [
            Transition(before, after, pixels, self.hectares(*codes))
            for before, after, codes in ends
            if (pixels := self.pixels(*codes))
        ]
        return sorted(found, key=lambda each: -each.pixels)

    def kinds(self, legend: ChangeLegend) -> list[KindOfChange]:
        """How much there is of each kind of change, the most first; nothing of classes."""
        if legend.unchanged is None:
            return []
        found = [
            KindOfChange(kind.name, pixels, self.hectares(legend.unchanged, kind.code))
            for kind in legend.kinds
            if (pixels := self.pixels(legend.unchanged, kind.code))
        ]
        return sorted(found, key=lambda each: -each.pixels)


class TransitionAttributes:
    """A polygon went from one class to another between two dates, or changed in some way.

    Args:
        legend: the classes, or the kinds of change.
        dates: of the earlier and the later scene, ISO 8601; None where unknown.
    """

    def __init__(self, legend: ChangeLegend, dates: Sequence[str | None]) -> None:
        self._legend, self._dates = legend, dates
        if legend.unchanged is None:
            told = [("from_id", pa.int32()), ("from", pa.utf8()),
                    ("to_id", pa.int32()), ("to", pa.utf8())]  # fmt: skip
        elif legend.tells_ends:
            told = [("change", pa.utf8()), ("from", pa.utf8()), ("to", pa.utf8())]
        else:
            told = [("change", pa.utf8())]
        told += [("date_before", pa.utf8()), ("date_after", pa.utf8())]
        self.fields = tuple(pa.field(name, kind) for name, kind in told)
        """See Attributes."""

    def columns(self, codes: Transitions) -> list[pa.Array]:
        """See Attributes."""
        dates = [pa.array([date] * len(codes), pa.utf8()) for date in self._dates]
        if self._legend.unchanged is not None:
            return [*self._kinds(codes % CODES), *dates]
        columns: list[pa.Array] = []
        for each in (codes // CODES, codes % CODES):
            columns += [pa.array(each), names_of(each, self._name)]
        return [*columns, *dates]

    def _kinds(self, codes: Transitions) -> list[pa.Array]:
        """The name of each kind, and from what to what where it tells."""
        names = [names_of(codes, self._name)]
        if not self._legend.tells_ends:
            return names
        for side in (0, 1):
            ends = {kind.code: self._legend.ends(kind)[side] for kind in self._legend.kinds}
            names.append(names_of(codes, ends.__getitem__))
        return names

    def drawn(self, codes: Collection[int]) -> tuple[str, list[tuple[str, str]]]:
        """See Attributes: by the class that a place has become, or the kind of change."""
        if self._legend.unchanged is not None:
            return "change", [(kind.name, kind.colour) for kind in self._legend.kinds]
        became = {code % CODES for code in codes}
        classes = self._legend.legend
        return "to", [(each.name, each.colour) for each in classes if each.code in became]

    def _name(self, code: int) -> str:
        return self._legend.legend.by_code(code).name


def write_matrix(path: Path, counts: TransitionCount, legend: ChangeLegend) -> None:
    """Write a table for spreadsheets: hectares by class before (rows) and after (columns).

    Pixels where the map has no CRS. Without classes: how much did not change, and how much of
    each kind of change there is.
    """
    classes, unchanged = legend.legend, legend.unchanged
    amount = counts.hectares if counts.hectares(0, 0) is not None else counts.pixels
    unit = "hectares" if amount == counts.hectares else "pixels"
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        if unchanged is not None:
            writer.writerow(("", unit))
            for each in (classes.by_code(unchanged), *legend.kinds):
                writer.writerow((each.name, _figure(amount(unchanged, each.code))))
            return
        writer.writerow((f"from \\ to ({unit})", *classes.names, "total before"))
        rows = [[amount(one, other) or 0 for other in classes.codes] for one in classes.codes]
        for each, row in zip(classes, rows, strict=True):
            writer.writerow((each.name, *map(_figure, row), _figure(sum(row))))
        totals = [sum(column) for column in zip(*rows, strict=True)]
        writer.writerow(("total after", *map(_figure, totals), _figure(sum(totals))))


def _figure(amount: float | None) -> str:
    return "" if amount is None else f"{amount:.4f}" if isinstance(amount, float) else str(amount)
