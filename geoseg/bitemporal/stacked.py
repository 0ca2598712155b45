"""Two scenes of one place as one scene of twice the bands, as a network of two dates sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from geoseg.bitemporal.pair import ScenePair, open_pair
from geoseg.grid import Grid, Window
from geoseg.raster.scene import Chip, Reading, Units

__all__ = ["StackedPair", "open_stacked"]


class StackedPair:
    """A Scene whose chips hold the earlier scene's bands, then the later one's.

    A pixel is valid where it is on both dates, and 0 elsewhere.
    """

    def __init__(self, pair: ScenePair) -> None:
        self._pair = pair
        self.name = f"{pair.before.name} -> {pair.after.name}"
        self.grid = pair.grid
        self.bands = pair.bands
        """Of each date."""
        self.assumed = pair.assumed

    def read(self, window: Window) -> Chip:
        """See Scene; pixels are (2 C, H, W)."""
        chip = self._pair.read(window)
        stacked = np.concatenate((chip.before, chip.after))
        return Chip(np.where(chip.valid, stacked, np.float32(0)), chip.valid, window)


@contextmanager
def open_stacked(
    before: str | Path,
    after: str | Path,
    bands: Sequence[str],
    *,
    units: Units,
    stored_type: str | None = None,
    reading: Reading | None = None,
    fit: Callable[[Grid], Grid] | None = None,
) -> Iterator[StackedPair]:
    """Open two scenes as one, on the grid that they share; see `open_pair`."""
    opening = open_pair(
        before, after, bands, units=units, stored_type=stored_type, reading=reading, fit=fit
    )
    with opening as pair:
        yield StackedPair(pair)
