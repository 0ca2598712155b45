"""Samples drawn by strata: what each stands for, and ratios of means with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError

__all__ = ["MergedStrata", "StratifiedSample", "merge_strata"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class StratifiedSample:
    """Which samples stand for which part of the population."""

    stratum: npt.NDArray[np.int64]
    """(N,), place of each sample's stratum."""
    weights: Floats
    """(H,), shares of the population, sum 1."""
    counts: npt.NDArray[np.int64]
    """(H,), samples in each stratum."""
    unseen: Floats
    """(H,), share of the stratum that was not looked at: 1 - n / N, or 1 when N is not known."""
    sizes: Floats
    """(N,), relative size of each sampled unit."""

    @classmethod
    def of(
        cls,
        stratum: Ints,
        weights: npt.ArrayLike,
        strata_names: Sequence[str] | None,
        strata_sizes: npt.ArrayLike | None,
        unit_sizes: npt.ArrayLike | None,
        length: int,
    ) -> StratifiedSample:
        """The sample of `length` units; the arguments are those of `estimate_strata`.

        Raises:
            InputError: as `estimate_strata`.
        """
        shares = np.asarray(weights, np.float64)
        if shares.ndim != 1 or not (np.isfinite(shares).all() and (shares > 0).all()):
            raise InputError(f"strata weights must be positive numbers, not {shares.tolist()}")
        sizes = np.ones(length) if unit_sizes is None else np.asarray(unit_sizes, np.float64)
        if len(stratum) != length or sizes.shape != (length,):
            raise InputError(
                f"{length} samples come with {len(stratum)} strata, {sizes.size} sizes"
            )
        if length and not 0 <= stratum.min() <= stratum.max() < len(shares):
            raise InputError(
                f"a sample's stratum is not one of the {len(shares)} that have a weight"
            )
        counts = np.bincount(stratum, minlength=len(shares))
        unseen = np.ones(len(shares))
        if strata_sizes is not None:
            unseen = np.clip(1 - counts / np.asarray(strata_sizes, np.float64), 0, 1)
        _refuse_thin(counts, unseen, strata_names)
        return cls(stratum.astype(np.int64), shares / shares.sum(), counts, unseen, sizes)

    def ratio(self, y: Floats, x: Floats) -> tuple[float, float]:
        """The ratio of the means of y and x over the population, and its standard error."""
        y, x = y * self.sizes, x * self.sizes
        whole = float(self.weights @ self._mean(x))
        if whole == 0:
            return math.nan, math.nan
        ratio = float(self.weights @ self._mean(y)) / whole
        residual = y - ratio * x
        scatter = (residual - self._mean(residual)[self.stratum]) ** 2
        degrees = np.maximum(self.counts - 1, 1)
        variance = np.bincount(self.stratum, scatter, minlength=len(self.counts)) / degrees
        per_stratum = self.weights**2 * self.unseen * variance / self.counts
        return ratio, math.sqrt(float(per_stratum.sum())) / whole

    def shares(self) -> Floats:
        """(N,), the share of the area that each sample stands for; they sum to 1."""
        stands_for = (self.weights / self.counts)[self.stratum] * self.sizes
        return np.asarray(stands_for / stands_for.sum())

    def _mean(self, values: Floats) -> Floats:
        return np.bincount(self.stratum, values, minlength=len(self.counts)) / self.counts


def _refuse_thin(
    counts: npt.NDArray[np.int64], unseen: Floats, strata_names: Sequence[str] | None
) -> None:
    for place, count in enumerate(counts.tolist()):
        if count == 0 or (count == 1 and unseen[place] > 0):
            name = repr(strata_names[place]) if strata_names else str(place + 1)
            raise InputError(
                f"stratum {name} has {count or 'no'} labelled sample{'' if count == 1 else 's'}; a "
                "standard error needs two: label more there, or merge it with a stratum like it"
            )


@dataclass(frozen=True, slots=True, eq=False)
class MergedStrata:
    """Strata after some were put together."""

    stratum: npt.NDArray[np.int64]
    """(N,), place of each sample's new stratum."""
    weights: Floats
    """(H,), share of the population in each new stratum."""
    factors: Floats
    """(N,), what to multiply each unit's size by, so that it stands for as much as before."""
    groups: tuple[tuple[int, ...], ...]
    """The places of the old strata in each new one."""


def merge_strata(
    stratum: Ints, weights: npt.ArrayLike, groups: Sequence[Sequence[int]]
) -> MergedStrata:
    """Put strata together, for those that have too few samples for a standard error.

    A sample keeps its weight, so estimates stay unbiased where every old stratum has a sample;
    the error then holds the difference between the strata too. What an old stratum without a
    sample weighs is shared among the samples of the strata it is merged with: that it is like
    them is an assumption, the merger's own.

    Args:
        stratum: (N,), place of each sample's stratum.
        weights: (H,), share of the population in each stratum.
        groups: places of strata to put together; strata in no group stay as they are.

    Raises:
        InputError: if a stratum stands in two groups.
    """
    shares = np.asarray(weights, np.float64)
    named = [place for group in groups for place in group]
    if len(set(named)) < len(named):
        raise InputError("a stratum cannot be merged into two groups")
    alone = [(place,) for place in range(len(shares)) if place not in named]
    together = sorted([*alone, *(tuple(sorted(group)) for group in groups)])
    new_place = np.zeros(len(shares), np.int64)
    for place, group in enumerate(together):
        new_place[list(group)] = place
    merged = new_place[stratum]
    old_counts = np.bincount(stratum, minlength=len(shares))
    new_counts = np.bincount(merged, minlength=len(together))
    factors = np.ones(len(merged))
    for place, group in enumerate(together):
        members = list(group)
        seen = float(shares[members] @ (old_counts[members] > 0))
        inside = merged == place
        stands_for = shares[stratum[inside]] / old_counts[stratum[inside]]
        factors[inside] = stands_for * new_counts[place] / seen if len(group) > 1 else 1.0
    return MergedStrata(
        merged, np.array([shares[list(g)].sum() for g in together]), factors, tuple(together)
    )
