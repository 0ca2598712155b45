"""Two scenes compared by what a model says of both.

Of two dates' class probabilities alone, the probability that the class differs is not known: it
depends on how the errors of the two maps hang together. Taking them as independent would find
change wherever a model is unsure, also between a scene and itself. So what counts is the least
probability of change that both allow, the total variation distance

    1 - sum over classes of min(p_before, p_after),

which is 0 for equal probabilities and 1 for certain ones of different classes (the maximal
coupling: Lindvall 2002). What each class has lost and gained in it says from what to what.

Of a model whose confidences are calibrated, p is its own probability. Others that learned from
doubtful labels are soft: where all agree that there are trees, they may say 0.4 trees and a little
of everything. So their p is p^2 / sum p^2, the probability of the class on which two who label
independently agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.draft import Differences, Draft
from geoseg.errors import InputError
from geoseg.legend import NODATA, Legend, Meanings
from geoseg.raster.stitch import PERCENT, Strip

__all__ = ["SemanticFindings", "WantedTransitions", "compare_classes"]

CORE, RIM = 70, 50
"""Probabilities of change, in percent, that make a patch changed, and that belong to it."""

ROWS = 64
"""Rows worked on together."""

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class WantedTransitions:
    """Which transitions count as change, by the places of classes in the legend."""

    before: tuple[int, ...]
    """Classes that something may have been."""
    after: tuple[int, ...]
    """Classes that it may have become."""

    @classmethod
    def of(
        cls,
        legend: Legend,
        before: Iterable[str | int] | None = None,
        after: Iterable[str | int] | None = None,
    ) -> WantedTransitions:
        """By names or codes of classes; all when None.

        Raises:
            InputError: if a class is unknown, or the two leave nothing to look for.
        """
        meanings = Meanings.of(legend)

        def places(wanted: Iterable[str | int] | None) -> tuple[int, ...]:
            if wanted is None:
                return tuple(range(len(legend)))
            codes = meanings.codes_of(map(str, wanted))
            unknown = codes - set(legend.codes)
            if unknown:
                raise InputError(f"no class has the code {min(unknown)}, only {list(legend.codes)}")
            return tuple(place for place, code in enumerate(legend.codes) if code in codes)

        wanted = cls(places(before), places(after))
        if len({*wanted.before, *wanted.after}) < 2:
            raise InputError("nothing changes from a class to itself: give other --from or --to")
        return wanted


@dataclass(frozen=True, slots=True)
class SemanticFindings:
    """What a model's maps of both dates say."""

    draft: Draft
    calibrated: bool
    """Whether probabilities were taken as the model gives them."""

    def strips(self) -> Iterator[Differences]:
        """See Findings."""
        for window, (probability, stable, before, after) in self.draft.strips():
            known = (probability != NODATA) & (before != after)
            rim, core = known & (probability >= RIM), known & (probability >= CORE)
            yield Differences(window, probability, rim, core, stable, before, after)

    def facts(self) -> dict[str, Any]:
        """What the summary says of it."""
        kind = "calibrated" if self.calibrated else "squared, renormalized"
        statistic = f"least probability of change: 1 - sum min(p, q) of {kind} scores"
        return {"statistic": statistic, "rim": RIM / PERCENT, "core": CORE / PERCENT}


def compare_classes(
    strips: Iterable[tuple[Strip, Strip]],
    legend: Legend,
    wanted: WantedTransitions,
    draft: Draft,
    *,
    calibrated: bool = False,
) -> SemanticFindings:
    """Compare the class probabilities of both dates.

    Args:
        strips: maps of the earlier and of the later scene in lock-step, with scores.
        legend: their classes, in the order of the scores.
        wanted: transitions that count.
        draft: takes four planes of bytes.
        calibrated: whether the model's probabilities can be believed as they are.
    """
    for earlier, later in strips:
        planes = np.full((4, *earlier.window.shape), NODATA, np.uint8)
        for begin in range(0, earlier.window.height, ROWS):
            rows = slice(begin, begin + ROWS)
            planes[:, rows] = _compared(
                _scores(earlier, rows), _scores(later, rows), legend, wanted, calibrated
            )
        draft.write(earlier.window, planes)
    return SemanticFindings(draft, calibrated)


def _scores(strip: Strip, rows: slice) -> Codes:
    if strip.scores is None:
        raise ValueError("strips without scores cannot be compared")
    return strip.scores[:, rows]


def _compared(
    earlier: Codes, later: Codes, legend: Legend, wanted: WantedTransitions, calibrated: bool
) -> Codes:
    """(4, H, W): probability of change in percent, and the codes of Differences.

    Where the transition is not wanted, the class that was and the one that is are the stable one.
    """
    valid = (earlier[0] != NODATA) & (later[0] != NODATA)
    p, q = _probabilities(earlier, calibrated), _probabilities(later, calibrated)
    common = np.minimum(p, q)
    stable = common.argmax(axis=0)
    before, after = (p - common).argmax(axis=0), (q - common).argmax(axis=0)
    percent = np.rint(np.clip(1 - common.sum(axis=0), 0, 1) * PERCENT)
    counts = np.isin(before, wanted.before) & np.isin(after, wanted.after)
    places = (stable, np.where(counts, before, stable), np.where(counts, after, stable))
    codes = np.array(legend.codes, np.uint8)
    planes = np.stack((percent.astype(np.uint8), *(codes[each] for each in places)))
    return np.where(valid, planes, np.uint8(NODATA))


def _probabilities(percent: Codes, calibrated: bool) -> Floats:
    """(K, H, W), that each class is right, see above."""
    shares = percent.astype(np.float32)
    if not calibrated:
        np.square(shares, out=shares)
    return np.asarray(shares / np.maximum(shares.sum(axis=0), np.float32(1)))
