"""Where unlike begins: what did not change and what did, told apart without a label.

The statistic of what did not change is chi-square, and the cube root of that is all but normal
(Wilson and Hilferty 1931). So the histogram of the cube roots is taken as a mixture of two normal
distributions, found by expectation maximization (Bruzzone and Fernandez Prieto 2000).

A mixture finds two parts also where there is one. So something has to be more than chance allows:
changed are only patches with a core, a pixel such as a hundred scenes without change would not
show once. From there a patch reaches as far as change is more probable than not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

__all__ = ["Verdict", "judge"]

ROUNDS = 300
CHANCE = 0.01
"""Chance that a whole scene without change shows one core."""

MOST_ODDS = 14.0
"""Log-odds beyond which nothing gets surer: one in a million."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a value of the cube root means."""

    unchanged: tuple[float, float]
    """Mean and standard deviation where nothing changed."""
    changed: tuple[float, float]
    """Likewise where something did."""
    changed_share: float
    """Prior probability of change, 0 to 1; 0 where no pixel is a core."""
    core: float
    """Values from here on make a patch changed."""
    log_odds: Floats
    """(bins,), of change, of a pixel by itself."""


def judge(counts: npt.NDArray[np.int64], values: Floats, variates: int) -> Verdict:
    """Tell changed values from unchanged ones.

    Args:
        counts: (bins,), pixels by value.
        values: (bins,), the values, ascending.
        variates: degrees of freedom of the statistic.
    """
    theory = _normal_cube_root(variates)
    share, unchanged, changed = _two_normals(counts, values)
    mean, deviation = max(unchanged[0], theory[0]), max(unchanged[1], theory[1])
    total = max(1, int(counts.sum()))
    core = mean - deviation * float(scipy.special.ndtri(CHANCE / total))
    if not counts[values >= core].any():
        return Verdict(unchanged, changed, 0.0, core, np.full(len(values), -MOST_ODDS))
    odds = np.where(values >= core, MOST_ODDS, _log_odds(values, share, unchanged, changed))
    return Verdict(unchanged, changed, share, core, np.clip(odds, -MOST_ODDS, MOST_ODDS))


def _normal_cube_root(variates: int) -> tuple[float, float]:
    """Mean and standard deviation of the cube root of chi-square."""
    root, left = variates ** (1 / 3), 2 / (9 * variates)
    return root * (1 - left), root * math.sqrt(left)


def _two_normals(
    counts: npt.NDArray[np.int64], values: Floats
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """The share of the upper of two normal distributions, and both."""
    present = np.flatnonzero(counts)
    weights, values = counts[present].astype(np.float64), values[present]
    if not len(values):
        return 0.0, (0.0, 0.0), (0.0, 0.0)
    middle = _weighted_median(values, weights)
    usual = 1.4826 * _weighted_median(np.abs(values - middle), weights)
    finest = 1e-3
    belongs = np.where(values > middle + 2 * usual, 0.99, 0.01)
    lower = upper = (middle, max(usual, finest))
    share = 0.0
    for _ in range(ROUNDS):
        share = float((weights * belongs).sum() / weights.sum())
        upper = _weighted_normal(values, weights * belongs, finest)
        lower = _weighted_normal(values, weights * (1 - belongs), finest)
        last, belongs = belongs, scipy.special.expit(_log_odds(values, share, lower, upper))
        if np.abs(belongs - last).max() < 1e-5:
            break
    return share, lower, upper


def _log_odds(
    values: Floats, share: float, lower: tuple[float, float], upper: tuple[float, float]
) -> Floats:
    """Of change; they never fall as values rise."""
    if not 0 < share < 1:
        return np.full(len(values), -math.inf)
    odds = _log_density(values, upper) - _log_density(values, lower)
    odds = np.where(values <= lower[0], -math.inf, odds + math.log(share / (1 - share)))
    return np.asarray(np.maximum.accumulate(odds))


def _log_density(values: Floats, normal: tuple[float, float]) -> Floats:
    mean, deviation = normal
    return -0.5 * ((values - mean) / deviation) ** 2 - math.log(deviation)


def _weighted_normal(values: Floats, weights: Floats, finest: float) -> tuple[float, float]:
    total = max(float(weights.sum()), 1e-12)
    mean = float((weights * values).sum()) / total
    variance = float((weights * (values - mean) ** 2).sum()) / total
    return mean, max(math.sqrt(variance), finest)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
