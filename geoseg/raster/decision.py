"""Which class wins at each pixel, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PERCENT", "UNDECIDED", "Decision", "decide", "percent"]

PERCENT = 100
"""Scores and confidences are stored as whole percent."""

UNDECIDED = 255
"""Where a network broke down it says nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is left of the scores of a chip when a map of classes is all that is wanted."""

    winner: npt.NDArray[np.uint8]
    """(H, W), the plane with the highest score, the first of equals; 255 where none is a number."""
    confidence: npt.NDArray[np.uint8]
    """(H, W), its probability in percent, 255 where there is none."""


def decide(scores: npt.NDArray[np.float32]) -> Decision:
    """The winners of scores (K, H, W), probabilities 0 to 1, K at most 254."""
    best = scores.max(axis=0)
    planes = len(scores)
    mark = np.zeros(best.shape, np.uint8)
    for number, plane in enumerate(scores):  # numpy's argmax along planes takes six times as long
        won = (plane == best).view(np.uint8)
        won *= np.uint8(planes - number)
        np.maximum(mark, won, out=mark)
    winner = np.uint8(planes) - mark
    broken = ~np.isfinite(best)
    if not broken.any():
        return Decision(winner, percent(best))
    best[broken] = 0
    winner[broken] = UNDECIDED
    confidence = percent(best)
    confidence[broken] = UNDECIDED
    return Decision(winner, confidence)


def percent(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Probabilities, all of them numbers, in whole percent."""
    scaled = scores * np.float32(PERCENT)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, PERCENT, out=scaled)
    return scaled.astype(np.uint8)
