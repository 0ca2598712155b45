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
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.decision import PERCENT, UNDECIDED, Decision, decide, percent

__all__ = ["PERCENT", "Join", "ScoredChip", "Strip", "rows_read", "stitch"]

Join: TypeAlias = Literal["crop", "blend"]
Scalar = TypeVar("Scalar", bound=np.generic)

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
    hann = _hann(plan.chip_shape)
    rows = list(plan.rows())
    next_starts = [*(row[0].window.row for row in rows[1:]), height]
    read = rows_read(plan, wanted, "blend")
    held = Window(rows[read.start][0].window.row, 0, 0, width)
    total = np.zeros((len(codes), 0, width), np.float32)
    weight, valid = np.zeros((0, width), np.float32), np.zeros((0, width), np.bool_)
    for number in read:
        row, next_start = rows[number], next_starts[number]
        window = row[0].window
        grown = min(window.row_stop, height) - held.row_stop
        held = Window(held.row, 0, held.height + grown, width)
        total, weight = _with_rows(total, grown), _with_rows(weight, grown)
        valid = _with_rows(valid, grown)
        for _, chip in zip(row, chips, strict=False):
            shared = chip.planned.window.intersect(held)
            if chip.scores is None or shared is None:
                continue
            there, here = shared.within(held), shared.within(chip.planned.window)
            total[:, *there] += chip.scores[:, *here] * hann[here]
            weight[there] += hann[here]
            valid[there] |= chip.valid[here]
        done = Window.from_stops(held.row, 0, next_start, width)
        if number in wanted:
            strip = _empty(done, len(codes), scores)
            rows_done = slice(0, done.height)
            mean = total[:, rows_done] / np.maximum(weight[rows_done], LEAST_WEIGHT)
            joined = mean.astype(np.float32, copy=False)
            _fill(strip, done, decide(joined), joined, valid[rows_done], codes)
            yield strip
        held = Window.from_stops(done.row_stop, 0, held.row_stop, width)
        total = total[:, done.height :]
        weight, valid = weight[done.height :], valid[done.height :]


def _with_rows(array: npt.NDArray[Scalar], rows: int) -> npt.NDArray[Scalar]:
    more = [(0, 0)] * (array.ndim - 2) + [(0, rows), (0, 0)]
    return np.pad(array, more)


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
