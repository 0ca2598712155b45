"""How far one scene is shifted against the other: phase correlation in blocks.

Blocks of both scenes are turned into edge images, so that gains, offsets and most of what the
seasons do drop out. The cross-power spectrum of two blocks, every frequency brought to the same
weight and high ones then damped, has its peak at their shift; damping by a Gaussian makes that
peak a Gaussian, whose middle three values give to a fraction of a pixel.

Kuglin and Hines 1975 (phase correlation); Foroosh, Zerubia and Berthod 2002 (to sub-pixels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from geoseg.bitemporal.pair import ScenePair
from geoseg.grid import Window

__all__ = ["Shift", "measure_shift"]

BLOCK_PX, SMALLEST_BLOCK_PX = 256, 32
MOST_BLOCKS = 7
"""Along each axis."""

DAMPING = 0.15
"""Standard deviation of the Gaussian over frequencies, cycles a pixel."""

LEAST_PEAK = 0.1
"""Of identical blocks it is 1; unlike ones of 256 pixels come to 0.04 by chance."""

LEAST_KNOWN = 0.5
"""A block with a smaller share of valid pixels is left out."""

AGREEING_PX, LEAST_AGREEING = 1.0, 0.25
"""The median counts when this share of the blocks lie this close to it."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the later scene shows what the earlier one has at a pixel."""

    rows: float
    """Pixels down."""
    cols: float
    """Pixels to the right."""
    blocks: int
    """Blocks that agree."""
    quality: float
    """Median height of their correlation peaks, 0 to 1: 1 for one scene and its copy."""

    @property
    def length_px(self) -> float:
        """How far that is."""
        return math.hypot(self.rows, self.cols)


def measure_shift(pair: ScenePair) -> Shift | None:
    """Measure the shift between two scenes, in pixels of their grid.

    The median over the blocks that have texture and show a clear peak; None when there are too
    few of them, or they do not agree.
    """
    found = np.array([peak for window in _blocks(pair) if (peak := _block_shift(pair, window))])
    if not len(found):
        return None
    middle = np.median(found[:, :2], axis=0)
    close = np.hypot(*(found[:, :2] - middle).T) <= AGREEING_PX
    if close.mean() < LEAST_AGREEING:
        return None
    rows, cols, quality = np.median(found[close], axis=0)
    return Shift(float(rows), float(cols), int(close.sum()), float(min(1.0, quality)))


def _blocks(pair: ScenePair) -> Iterator[Window]:
    """Blocks spread evenly over the pair."""
    height, width = pair.grid.shape
    side = min(BLOCK_PX, height, width)
    if side < SMALLEST_BLOCK_PX:
        return
    for row in _starts(height, side):
        for col in _starts(width, side):
            yield Window(row, col, side, side)


def _starts(size: int, side: int) -> list[int]:
    count = min(MOST_BLOCKS, max(1, 2 * size // side - 1))  # neighbours share half of each
    return sorted({round(at) for at in np.linspace(0, size - side, count)})


def _block_shift(pair: ScenePair, window: Window) -> tuple[float, float, float] | None:
    """Rows, columns and height of the peak; None where there is nothing to go by."""
    chip = pair.read(window)
    if chip.valid.mean() < LEAST_KNOWN:
        return None
    before, after = (_edges(pixels, chip.valid) for pixels in (chip.before, chip.after))
    if not (before.any() and after.any()):
        return None
    correlation = _phase_correlation(before, after)
    row, col = np.unravel_index(int(correlation.argmax()), correlation.shape)
    peak = float(correlation[row, col])
    if peak < LEAST_PEAK:
        return None
    side = len(correlation)
    rows = _centred(row + _middle(correlation[[row - 1, row, (row + 1) % side], col]), side)
    cols = _centred(col + _middle(correlation[row, [col - 1, col, (col + 1) % side]]), side)
    return rows, cols, peak


def _edges(pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Floats:
    """Strength of edges, 0 to 1, mean over the bands; 0 beside invalid pixels."""
    inside = valid.copy()
    for axis in (0, 1):
        inside &= np.roll(valid, 1, axis) & np.roll(valid, -1, axis)
    total = np.zeros(valid.shape)
    for band in pixels:
        down, across = np.gradient(band.astype(np.float64))
        strength = np.where(inside, np.hypot(down, across), 0)
        usual = float(strength[inside].mean()) if inside.any() else 0.0
        if usual > 0:
            total += strength / (strength + usual)
    return np.where(inside, total / len(pixels), 0)


def _phase_correlation(before: Floats, after: Floats) -> Floats:
    """Its value at (rows, columns) says how well `after` moved back by that fits `before`."""
    side = len(before)
    window = np.outer(np.hanning(side), np.hanning(side))
    one, other = (scipy.fft.rfft2((each - each.mean()) * window) for each in (before, after))
    power = other * np.conj(one)
    power /= np.abs(power) + 1e-9 * np.abs(power).max()
    down, across = scipy.fft.fftfreq(side)[:, None], scipy.fft.rfftfreq(side)[None]
    weight = np.exp(-(down**2 + across**2) / (2 * DAMPING**2))
    ideal = scipy.fft.irfft2(weight, s=(side, side))[0, 0]
    return np.asarray(scipy.fft.irfft2(power * weight, s=(side, side)) / ideal)


def _middle(values: Floats) -> float:
    """Where a Gaussian through three values has its peak, from the second one, -0.5 to 0.5."""
    low, top, high = np.log(np.maximum(values, 1e-6))
    bend = low - 2 * top + high
    return 0.0 if bend >= 0 else float(np.clip((low - high) / (2 * bend), -0.5, 0.5))


def _centred(place: float, side: int) -> float:
    return place - side if place > side / 2 else place
