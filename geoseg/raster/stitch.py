"""From the scores of chips to finished strips of rows.

Two ways to join chips: `crop` keeps each chip's core and is exact for a network that reaches no
further than the halo; `blend` weights overlapping chips by a Hann window, for networks that see
their whole chip (pyramid and image pooling) and are never exact. Memory is that of one row of
chips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.decision import PERCENT, UNDECIDED, Decision, decide, percent

__all__ = ["PERCENT", "Join", "ScoredChip", "Strip", "rows_read", "stitch"]

Join: TypeAlias = Literal["crop", "blend"]
PART_PX = 1024
"""Columns of a strip whose scores are worked on at a time."""

LEAST_WEIGHT = np.float32(1e-6)
"""Of a chip's corner when blending: enough that a lone chip's scores come out as they are."""


@dataclass(frozen=True, slots=True)
class ScoredChip:
    """What a network says of a chip."""

    planned: PlannedChip
    scores: npt.NDArray[np.float32] | None
    """Probabilities (K, H, W); None for a chip without valid pixels, which is not computed, and
    where the decision is all that is wanted."""
    valid: npt.NDArray[np.bool_]
    """(H, W), True where the scene has data."""
    decision: Decision | None = None
    """Made from the scores where it is needed and missing."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Finished rows of a map, as wide as the scene."""

    window: Window
    classes: npt.NDArray[np.uint8]
    """(H, W), class codes, 255 where the scene has no data."""
    confidence: npt.NDArray[np.uint8]
    """(H, W), the winning class's probability in percent, 255 without data."""
    scores: npt.NDArray[np.uint8] | None
    """(K, H, W), every class's probability in percent, 255 without data; None if not asked for."""

    def where_sure(self, least_percent: int) -> Strip:
        """The same, with the code for uncertain pixels where the confidence is less."""
        if not least_percent:
            return self
        unsure = self.confidence < least_percent
        return replace(self, classes=np.where(unsure, np.uint8(UNCERTAIN), self.classes))


def stitch(
    plan: ChipPlan,
    chips: Iterable[ScoredChip],
    codes: Sequence[int],
    *,
    join: Join = "crop",
    scores: bool = False,
    rows: range | None = None,
) -> Iterator[Strip]:
    """Join scored chips into strips, one for each row of chips.

    Args:
        plan: the plan that the chips were made by.
        chips: all its chips, in its order, or those of the rows that `rows_read` names.
        codes: the class code of each score plane.
        join: keep the cores, or blend what overlaps.
        scores: whether strips carry every class's probability.
        rows: which rows of chips to make strips of; None: all.
    """
    wanted = range(plan.row_count) if rows is None else rows
    if join == "crop":
        yield from _crop(plan, iter(chips), codes, scores, wanted)
    elif join == "blend":
        yield from _blend(plan, iter(chips), codes, scores, wanted)
    else:
        raise InputError(f"chips cannot be joined by {join!r}; there are crop and blend")


def rows_read(plan: ChipPlan, rows: range, join: Join) -> range:
    """The rows of chips that strips of some rows are made from."""
    if join == "crop":
        return rows
    windows = [row[0].window for row in plan.rows()]
    above = sum(window.row_stop <= windows[rows.start].row for window in windows[: rows.start])
    return range(above, rows.stop)


def _crop(
    plan: ChipPlan,
    chips: Iterator[ScoredChip],
    codes: Sequence[int],
    scores: bool,
    wanted: range,
) -> Iterator[Strip]:
    for row in islice(plan.rows(), wanted.start, wanted.stop):
        first, last = row[0].core, row[-1].core
        window = Window.from_stops(first.row, 0, first.row_stop, last.col_stop)
        strip = _empty(window, len(codes), scores)
        for planned, chip in zip(row, chips, strict=False):
            inside = planned.core.within(planned.window)
            kept = None if chip.scores is None else chip.scores[:, *inside]
            if chip.decision is not None:
                decided = Decision(chip.decision.winner[inside], chip.decision.confidence[inside])
            elif kept is not None:
                decided = decide(kept)
            else:
                continue
            _fill(strip, planned.core, decided, kept, chip.valid[inside], codes)
        yield strip


def _blend(
    plan: ChipPlan,
    chips: Iterator[ScoredChip],
    codes: Sequence[int],
    scores: bool,
    wanted: range,
) -> Iterator[Strip]:
    """Sum weighted scores over overlapping chips; rows that no later chip touches are done."""
    height, width = plan.shape
    rows = list(plan.rows())
    next_starts = [*(row[0].window.row for row in rows[1:]), height]
    read = rows_read(plan, wanted, "blend")
    sums = _WeightedSums(len(codes), plan.chip_shape, rows[0][-1].window.col_stop)
    for number in read:
        top, next_start = rows[number][0].window.row, next_starts[number]
        for _, chip in zip(rows[number], chips, strict=False):
            sums.add(chip)
        if number in wanted:
            strip = _empty(Window.from_stops(top, 0, next_start, width), len(codes), scores)
            for part in _parts(strip.window):
                mean, valid = sums.mean(part.within(strip.window))
                _fill(strip, part, decide(mean), mean, valid, codes)
            yield strip
        sums.move_up(next_start - top)


class _WeightedSums:
    """Of the scores of chips that overlap, in rows as many as a chip has."""

    def __init__(self, planes: int, chip_shape: tuple[int, int], width: int) -> None:
        shape = chip_shape[0], width
        self._hann = _hann(chip_shape)
        self._total = np.zeros((planes, *shape), np.float32)
        self._weight, self._valid = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)

    def add(self, chip: ScoredChip) -> None:
        """Add a chip of the topmost row of chips."""
        if chip.scores is not None:
            window = chip.planned.window
            cols = slice(window.col, window.col_stop)
            self._total[:, :, cols] += chip.scores * self._hann
            self._weight[:, cols] += self._hann
            self._valid[:, cols] |= chip.valid

    def mean(
        self, place: tuple[slice, slice]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The weighted mean (K, h, w) at a place, and where it has data."""
        mean = self._total[:, *place].copy()
        mean /= np.maximum(self._weight[place], LEAST_WEIGHT)
        return mean, self._valid[place]

    def move_up(self, rows: int) -> None:
        """Forget the upper rows, and make room for as many below."""
        for plane in (*self._total, self._weight, self._valid):
            plane[: len(plane) - rows] = plane[rows:]
            plane[len(plane) - rows :] = 0


def _parts(window: Window) -> Iterator[Window]:
    """A strip from left to right, in pieces that take little memory."""
    for col in range(window.col, window.col_stop, PART_PX):
        stop = min(col + PART_PX, window.col_stop)
        yield Window.from_stops(window.row, col, window.row_stop, stop)


def _hann(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Highest in the middle, small but never 0 at the rim, which may be a pixel's only chip."""
    tall, wide = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in shape)
    return np.maximum(np.outer(tall, wide), LEAST_WEIGHT).astype(np.float32)


def _empty(window: Window, planes: int, scores: bool) -> Strip:
    return Strip(
        window,
        np.full(window.shape, NODATA, np.uint8),
        np.full(window.shape, NODATA, np.uint8),
        np.full((planes, *window.shape), NODATA, np.uint8) if scores else None,
    )


def _fill(
    strip: Strip,
    window: Window,
    decision: Decision,
    scores: npt.NDArray[np.float32] | None,
    valid: npt.NDArray[np.bool_],
    codes: Sequence[int],
) -> None:
    place = window.within(strip.window)
    code_of = np.full(UNDECIDED + 1, NODATA, np.uint8)
    code_of[: len(codes)] = codes
    classes, confidence = code_of[decision.winner], decision.confidence
    whole = valid.all()
    strip.classes[place] = classes if whole else np.where(valid, classes, NODATA)
    strip.confidence[place] = confidence if whole else np.where(valid, confidence, NODATA)
    if strip.scores is not None and scores is not None:
        known = valid & (decision.winner != UNDECIDED)
        strip.scores[:, *place] = np.where(known, percent(np.nan_to_num(scores)), NODATA)
