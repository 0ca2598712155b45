"""Two scenes compared by a network that was trained to see what changed between two dates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.change_legend import ChangeLegend
from geoseg.bitemporal.draft import Differences, Draft
from geoseg.legend import NODATA
from geoseg.raster.stitch import PERCENT, Strip

__all__ = ["PLANES", "TrainedFindings", "find_kinds"]

HALF = 50
"""Changed is what more probably did than did not, as the network was trained and scored."""

PLANES = 2
"""Of the draft: the probability of change, and the code of its most probable kind."""

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TrainedFindings:
    """What a network says of two scenes."""

    draft: Draft
    unchanged: int
    """The code that says that nothing changed."""

    def strips(self) -> Iterator[Differences]:
        """See Findings; every pixel decides for itself, so a rim is a core."""
        for window, (probability, kind) in self.draft.strips():
            known = probability != NODATA
            changed = known & (kind != self.unchanged) & (probability >= HALF)
            same = np.where(known, np.uint8(self.unchanged), np.uint8(NODATA))
            yield Differences(window, probability, changed, changed, same, same, kind)

    def facts(self) -> dict[str, Any]:
        """What the summary says of it."""
        statistic = "probability of change that the network gives"
        return {"statistic": statistic, "rim": HALF / PERCENT, "core": HALF / PERCENT}


def find_kinds(
    strips: Iterable[Strip], legend: ChangeLegend, wanted: Collection[int], draft: Draft
) -> TrainedFindings:
    """Take from the network's scores how probable change is, and of which kind.

    Args:
        strips: with scores.
        legend: kinds of change, in the order of the scores.
        wanted: codes of the kinds that count; others count as unchanged.
        draft: takes PLANES planes of bytes.
    """
    if legend.unchanged is None:
        raise ValueError("a legend without a code for what did not change knows no kinds")
    codes = np.array([kind.code for kind in legend.kinds], np.uint8)
    place = legend.legend.codes.index(legend.unchanged)
    for strip in strips:
        if strip.scores is None:
            raise ValueError("strips without scores tell no probability of change")
        kind = codes[np.delete(strip.scores, place, axis=0).argmax(axis=0)]
        kind = np.where(np.isin(kind, tuple(wanted)), kind, np.uint8(legend.unchanged))
        planes = np.stack((PERCENT - strip.scores[place], kind)).astype(np.uint8)
        draft.write(strip.window, np.where(strip.scores[place] == NODATA, NODATA, planes))
    return TrainedFindings(draft, legend.unchanged)
