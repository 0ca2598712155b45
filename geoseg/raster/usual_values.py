"""Whether a scene's values are those that a network has learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geoseg.raster.chips import PlannedChip
from geoseg.raster.scene import Chip

__all__ = ["UsualValues"]

STEP = 8
"""Every so many-th row and column is looked at."""

MOST_UNUSUAL = 0.05
"""Share of pixels; of each scene that is learnt from, at most a hundredth is outside in a band."""


class UsualValues:
    """Counts pixels whose values lie outside the usual, chip by chip.

    Args:
        bands: common names of the bands of the chips.
        ranges: lowest and highest usual value of each band.
    """

    def __init__(self, bands: Sequence[str], ranges: Sequence[tuple[float, float]]) -> None:
        self._bands = tuple(bands)
        limits = np.array(ranges, np.float32).reshape(-1, 2, 1)
        self._low, self._high = limits[:, 0], limits[:, 1]
        self._pixels = self._outside = 0
        self._below = np.zeros(len(self._bands), np.int64)
        self._above = np.zeros(len(self._bands), np.int64)

    def see_chip(self, planned: PlannedChip, chip: Chip) -> None:
        """Look at the core of a chip."""
        rows, cols = planned.core.within(planned.window)
        every = (
            slice(rows.start, rows.stop, STEP),
            slice(cols.start, cols.stop, STEP),
        )
        values = chip.pixels[:, *every][:, chip.valid[every]]
        below, above = values < self._low, values > self._high
        self._pixels += values.shape[1]
        self._outside += int((below | above).any(axis=0).sum())
        self._below += below.sum(axis=1)
        self._above += above.sum(axis=1)

    @property
    def share_outside(self) -> float:
        """Share of the pixels that lie outside in at least one band, 0 to 1."""
        return self._outside / max(1, self._pixels)

    def warning(self, model: str) -> str | None:
        """What to say of a scene unlike those that the model has learnt from, if it is one."""
        if self.share_outside <= MOST_UNUSUAL:
            return None
        places: npt.NDArray[np.int64] = np.stack([self._below, self._above])
        side, band = np.unravel_index(places.argmax(), places.shape)
        limit = (self._low, self._high)[int(side)][band, 0]
        return (
            f"{self.share_outside:.0%} of the pixels are unlike all that {model} has learnt from, "
            f"most of them with {self._bands[band]} {('below', 'above')[int(side)]} {limit:.3g}: "
            "expect a worse map, and look whether bands and scale are right"
        )
