"""Drawing pixels at random from a raster that passes by in strips.

Which pixels are drawn is settled before a pixel is read: the r-th pixel of a stratum, counted
row by row. So memory holds one strip and the sample, however large the raster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.accuracy.design import Stratum
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA

__all__ = ["Drawn", "draw_stratified", "draw_systematic", "systematic_spacing"]

Strips: TypeAlias = Iterable[tuple[Window, npt.NDArray[np.uint8]]]
Ints: TypeAlias = npt.NDArray[np.int64]

NUMBERING = 1 << 32
"""Keeps the stream of random numbers that orders the samples apart from those of the strata."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Pixels that were drawn, in random order: any first few are a sample themselves."""

    rows: Ints
    """(N,)."""
    cols: Ints
    """(N,)."""
    codes: Ints
    """(N,), code of each one's stratum."""


def draw_stratified(strips: Strips, strata: Sequence[Stratum], seed: int) -> Drawn:
    """Draw from each stratum a simple random sample without replacement.

    Args:
        strips: windows and their (H, W) stratum codes, top to bottom; 255 belongs to none.
        strata: with the number of their pixels in `strips`, and of those to draw.
        seed: not negative.

    Raises:
        InputError: if the strips do not hold the pixels that the strata tell of.
    """
    ranks = {
        each.code: np.sort(
            np.random.default_rng([seed, each.code]).choice(
                each.pixels, each.samples, replace=False, shuffle=False
            )
        )
        for each in strata
    }
    drawn = _locate(strips, ranks)
    if len(drawn.rows) != sum(each.samples for each in strata):
        raise InputError("the raster changed while it was sampled; run it again")
    return _shuffled(drawn, seed)


def systematic_spacing(pixels: int, size: int) -> float:
    """The spacing, in pixels, of a square grid that meets about `size` of `pixels`.

    Raises:
        InputError: if there are fewer pixels than samples.
    """
    if size > pixels:
        raise InputError(f"{size} samples cannot be drawn from {pixels} pixels; lower --size")
    return math.sqrt(pixels / size)


def draw_systematic(strips: Strips, shape: tuple[int, int], spacing: float, seed: int) -> Drawn:
    """Draw the pixels that a square grid with a random start meets.

    Every pixel has the chance 1 / spacing^2; how many have data, the draw decides.

    Args:
        strips: windows and their (H, W) stratum codes, top to bottom; 255 is never drawn.
        shape: (height, width) of the raster.
        spacing: distance of the grid's lines in pixels, at least 1, whole or not.
        seed: not negative.
    """
    starts = np.random.default_rng(seed).uniform(0, spacing, 2)
    lines, posts = (
        np.floor(np.arange(start, size, spacing)).astype(np.int64)
        for start, size in zip(starts, shape, strict=True)
    )
    found: list[tuple[Ints, Ints, Ints]] = []
    for window, codes in strips:
        inside = lines[(lines >= window.row) & (lines < window.row_stop)]
        met = codes[np.ix_(inside - window.row, posts)]
        row_at, col_at = np.nonzero(met != NODATA)
        found.append((inside[row_at], posts[col_at], met[row_at, col_at].astype(np.int64)))
    return _shuffled(_joined(found), seed)


def _locate(strips: Strips, ranks: Mapping[int, Ints]) -> Drawn:
    """Where the r-th pixel of each code lies, for each r in its sorted ranks."""
    passed = dict.fromkeys(ranks, 0)
    found: list[tuple[Ints, Ints, Ints]] = []
    for window, codes in strips:
        flat = codes.ravel()
        here = np.bincount(flat, minlength=NODATA + 1)
        for code, wanted in ranks.items():
            first, last = np.searchsorted(wanted, (passed[code], passed[code] + here[code]))
            if first < last:
                places = np.flatnonzero(flat == code)[wanted[first:last] - passed[code]]
                rows, cols = np.divmod(places, window.width)
                found.append((rows + window.row, cols + window.col, np.full(len(rows), code)))
            passed[code] += int(here[code])
    return _joined(found)


def _joined(found: Sequence[tuple[Ints, Ints, Ints]]) -> Drawn:
    if not found:
        none = np.zeros(0, np.int64)
        return Drawn(none, none, none)
    return Drawn(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _shuffled(drawn: Drawn, seed: int) -> Drawn:
    in_reading_order = np.lexsort((drawn.cols, drawn.rows))  # however the strips were cut
    order = np.random.default_rng([seed, NUMBERING]).permutation(in_reading_order)
    return Drawn(drawn.rows[order], drawn.cols[order], drawn.codes[order])
