"""Whether a map's confidence can be believed: of what is said with 80 %, are 80 % right?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError

__all__ = ["BINS", "Calibration", "ReliabilityBin", "count_confidences"]

Counts: TypeAlias = npt.NDArray[np.int64]

BINS = 15
PERCENT = 100


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pixels of about the same confidence."""

    low: float
    """The bin holds confidences above this (the first also 0), 0 to 1."""
    high: float
    """Up to and with this."""
    pixels: int
    confidence: float
    """Mean of the winning class's probability, 0 to 1; NaN without pixels."""
    accuracy: float
    """Share of pixels whose class is right, 0 to 1; NaN without pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How many pixels of each confidence are right.

    Confidences are whole percent, as `geoseg predict` writes them. Bin for bin the mean is off by
    half a percent at most, and so is the expected calibration error.

    Raises:
        InputError: if the counts are not 101 numbers each.
    """

    right: Counts
    """(101,), pixels with the right class, by the confidence in percent, 0 to 100."""
    wrong: Counts
    """(101,), pixels with a wrong one."""

    def __post_init__(self) -> None:
        if self.right.shape != (PERCENT + 1,) or self.wrong.shape != (PERCENT + 1,):
            raise InputError("a calibration counts pixels for each percent from 0 to 100")

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.right + other.right, self.wrong + other.wrong)

    @property
    def pixels(self) -> int:
        """All that were counted."""
        return int(self.right.sum() + self.wrong.sum())

    def bins(self, count: int = BINS) -> tuple[ReliabilityBin, ...]:
        """The reliability table: bins of equal width, (m / count, (m + 1) / count]."""
        percents = np.arange(PERCENT + 1)
        place = np.maximum(-(-percents * count // PERCENT) - 1, 0)
        right = np.bincount(place, self.right, count)
        pixels = right + np.bincount(place, self.wrong, count)
        said = np.bincount(place, percents * (self.right + self.wrong), count) / PERCENT
        with np.errstate(invalid="ignore"):
            confidence, accuracy = said / pixels, right / pixels
        return tuple(
            ReliabilityBin(
                m / count, (m + 1) / count, int(pixels[m]), float(confidence[m]), float(accuracy[m])
            )
            for m in range(count)
        )

    def expected_error(self, count: int = BINS) -> float:
        """Expected calibration error (ECE), 0 to 1; NaN without pixels.

        sum over bins of share of pixels x |accuracy - confidence|: 0 where every confidence is
        what its bin delivers.

        Reference:
            Naeini, Cooper, Hauskrecht: "Obtaining Well Calibrated Probabilities Using Bayesian
            Binning", AAAI 2015; Guo et al., "On Calibration of Modern Neural Networks", ICML
            2017, equation 3, with its 15 bins.
        """
        if not self.pixels:
            return float("nan")
        gaps = (b.pixels * abs(b.accuracy - b.confidence) for b in self.bins(count) if b.pixels)
        return sum(gaps) / self.pixels


def count_confidences(
    percent: npt.NDArray[np.integer[Any]], right: npt.NDArray[np.bool_]
) -> Calibration:
    """Count pixels by confidence.

    Args:
        percent: (N,), the winning class's probability in whole percent, 0 to 100.
        right: (N,), whether that class is the right one.

    Raises:
        InputError: if a confidence is no percentage.
    """
    if percent.size and not 0 <= percent.min() <= percent.max() <= PERCENT:
        raise InputError("a confidence is not within 0 to 100 percent")
    told = [np.bincount(percent[mask], minlength=PERCENT + 1) for mask in (right, ~right)]
    return Calibration(told[0].astype(np.int64), told[1].astype(np.int64))
