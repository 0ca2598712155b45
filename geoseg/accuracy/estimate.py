"""Accuracy and area from a probability sample, each with its standard error.

Every figure here is a ratio of two means over the whole map, R = Y / X: user's accuracy, for one,
is the area mapped as a class and truly so, over the area mapped as it. A stratified random sample
estimates both means, and the standard error follows from how much the residuals y - R x scatter
within each stratum (Stehman 2014, after the combined ratio estimator of Cochran 1977, 6.11):

    R     = sum_h W_h ybar_h / sum_h W_h xbar_h
    V(R)  = 1 / X^2  sum_h W_h^2 (1 - n_h / N_h) s_h^2(y - R x) / n_h

W_h is the share of the population in stratum h, n_h its sample, N_h its size; the factor
(1 - n_h / N_h) is left out where the sizes are not given, as the published examples do. When the
strata are the map's classes these are the estimators of Olofsson et al. (2013; 2014, eqs. 5-11).

Sources:
    Cochran, W. G. (1977). Sampling Techniques, 3rd ed. Wiley.
    Olofsson, P. et al. (2013). Remote Sensing of Environment 129, 122-131.
    Olofsson, P. et al. (2014). Remote Sensing of Environment 148, 42-57.
    Stehman, S. V. (2014). International Journal of Remote Sensing 35, 4923-4939.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.accuracy.matrix import ErrorMatrix, count_pairs
from geoseg.accuracy.strata import StratifiedSample
from geoseg.errors import InputError

__all__ = ["CONFIDENCE", "ClassEstimate", "Estimate", "MapEstimate", "estimate", "estimate_strata"]

CONFIDENCE = 0.95

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimated figure; NaN where the sample says nothing of it."""

    value: float
    """The estimate."""
    standard_error: float
    """Square root of its estimated variance."""
    low: float
    """Lower end of the confidence interval, cut at what is possible."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True)
class ClassEstimate:
    """What is estimated of one class."""

    name: str
    users: Estimate
    """User's accuracy, 0 to 1."""
    producers: Estimate
    """Producer's accuracy, 0 to 1."""
    f1: Estimate
    """Harmonic mean of the two."""
    iou: Estimate
    """Intersection over union."""
    share: Estimate
    """Share of the map that truly is this class, 0 to 1."""
    area: Estimate
    """That share of the total area, in the unit of the total area."""
    samples: int
    """Samples whose reference is this class."""


@dataclass(frozen=True, slots=True)
class MapEstimate:
    """What a sample says of a map."""

    counts: ErrorMatrix
    """Samples by mapped and reference class."""
    proportions: ErrorMatrix
    """Estimated shares of the area by mapped and reference class; they sum to 1."""
    overall: Estimate
    """Overall accuracy."""
    classes: tuple[ClassEstimate, ...]
    """One a class, in the matrix's order."""
    total_area: float
    """Area of the map, in the caller's unit."""
    confidence: float
    """Level of the intervals, such as 0.95."""

    def by_name(self, name: str) -> ClassEstimate:
        """The estimates of one class.

        Raises:
            InputError: if there is none of that name.
        """
        for each in self.classes:
            if each.name == name:
                return each
        raise InputError(f"no class is called {name!r}; there are {list(self.counts.names)}")


def estimate(
    matrix: npt.ArrayLike,
    strata_weights: npt.ArrayLike,
    total_area: float = 1.0,
    *,
    names: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> MapEstimate:
    """Estimate accuracies and areas from a sample stratified by the map's own classes.

    The estimators of Olofsson et al. (2014, eqs. 1-11).

    Args:
        matrix: (K, K), sample counts; rows are mapped classes (the strata), columns reference.
        strata_weights: (K,), the mapped share of each class; they sum to 1, or are scaled to.
        total_area: of the map, in any unit.
        names: of the classes; "1", "2", ... by default.
        confidence: level of the intervals.

    Returns:
        Estimates with standard errors and intervals; areas in the unit of `total_area`.

    Raises:
        InputError: if shapes differ, counts are not whole, or a stratum has fewer than two samples.

    Example:
        >>> found = estimate([[97, 0, 3], [3, 279, 18], [2, 1, 97]], [22353, 1122543, 610228])
        >>> round(found.overall.value, 5)
        0.94442
    """
    counts = np.asarray(matrix, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise InputError(f"an error matrix must be square, not of the shape {counts.shape}")
    if not np.array_equal(counts, np.rint(counts)) or (counts < 0).any():
        raise InputError("an error matrix of samples holds whole counts; give counts, not shares")
    labels = list(names or [str(number) for number in range(1, len(counts) + 1)])
    mapped, reference = np.nonzero(counts)
    times = counts[mapped, reference].astype(np.int64)
    mapped, reference = np.repeat(mapped, times), np.repeat(reference, times)
    return estimate_strata(
        mapped,
        mapped,
        reference,
        strata_weights,
        total_area,
        names=labels,
        strata_names=labels,
        confidence=confidence,
    )


def estimate_strata(
    stratum: Ints,
    mapped: Ints,
    reference: Ints,
    strata_weights: npt.ArrayLike,
    total_area: float = 1.0,
    *,
    names: Sequence[str],
    strata_names: Sequence[str] | None = None,
    strata_sizes: npt.ArrayLike | None = None,
    unit_sizes: npt.ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> MapEstimate:
    """Estimate accuracies and areas from a sample whose strata may differ from the map's classes.

    The estimators of Stehman (2014); with one stratum, those of a simple random sample.

    Args:
        stratum: (N,), place of each sample's stratum in `strata_weights`.
        mapped: (N,), place of its mapped class in `names`.
        reference: (N,), place of its reference class in `names`.
        strata_weights: (H,), share of the population's units in each stratum, scaled to sum to 1.
        total_area: of the map, in any unit.
        names: the K classes.
        strata_names: of the strata, for messages.
        strata_sizes: (H,), units in each stratum: the error then shrinks as the sample comes near
            them, and is 0 where all were looked at.
        unit_sizes: (N,), how large each sampled unit is where units differ, as pixels do in
            degrees; only their relative size counts.
        confidence: level of the intervals, above 0 and below 1.

    Raises:
        InputError: if lengths differ, a weight is not positive, or a stratum has fewer than two
            samples and more than one unit.
    """
    if not 0 < confidence < 1:
        raise InputError(f"a confidence level of {confidence:g} makes no sense; give 0.95, say")
    if not (math.isfinite(total_area) and total_area > 0):
        raise InputError(f"a total area of {total_area:g} makes no sense")
    counts = count_pairs(mapped, reference, names)
    sample = StratifiedSample.of(
        stratum, strata_weights, strata_names, strata_sizes, unit_sizes, len(mapped)
    )
    spread = NormalDist().inv_cdf(0.5 + confidence / 2)

    def ratio(y: Floats | npt.NDArray[np.bool_], x: Floats | npt.NDArray[np.bool_]) -> Estimate:
        return _interval(*sample.ratio(y.astype(float), x.astype(float)), spread, highest=1.0)

    everywhere = np.ones(len(mapped))
    classes = []
    for place, name in enumerate(names):
        is_mapped, is_true = mapped == place, reference == place
        both = is_mapped & is_true
        share = ratio(is_true, everywhere)
        classes.append(
            ClassEstimate(
                name,
                users=ratio(both, is_mapped),
                producers=ratio(both, is_true),
                f1=ratio(2.0 * both, 1.0 * is_mapped + is_true),
                iou=ratio(both, is_mapped | is_true),
                share=share,
                area=_scaled(share, total_area),
                samples=int(is_true.sum()),
            )
        )
    return MapEstimate(
        counts=counts,
        proportions=count_pairs(mapped, reference, names, sample.shares()),
        overall=ratio(mapped == reference, everywhere),
        classes=tuple(classes),
        total_area=total_area,
        confidence=confidence,
    )


def _interval(value: float, error: float, spread: float, highest: float) -> Estimate:
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, math.nan)
    low, high = max(0.0, value - spread * error), min(highest, value + spread * error)
    return Estimate(value, error, low, high)


def _scaled(share: Estimate, total: float) -> Estimate:
    return Estimate(
        *(total * v for v in (share.value, share.standard_error, share.low, share.high))
    )
