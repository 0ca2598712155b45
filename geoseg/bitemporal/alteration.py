"""How unlike two scenes are at a pixel, whatever gain and offset each of them has.

Iteratively reweighted multivariate alteration detection (IR-MAD): of all linear combinations of
the bands of each scene, take the pairs that are correlated most; weigh pixels by how well they
fit the others and start again, until those that did not change have found themselves.

Nielsen, Conradsen and Simpson 1998 (MAD); Nielsen 2007 (reweighting). Three things are ours:

* A pixel counts as unlike only as far as none of three explanations of noise fits it: noise in
  both scenes (the MAD variates U - V), all of it in the later, or all of it in the earlier one
  (what regression on the other scene leaves). With the first alone, a bright pixel far from all
  others looks changed as soon as one scene has more noise than the other.
* The statistic is divided by its median over that of chi-square, so that pixels are weighed by
  how they compare with the usual difference, not with the smallest; without that the weights of
  most unchanged pixels go to 0 on real scenes.
* Whole numbers are known to half a grey level only, which bounds how alike scenes can be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

from geoseg.errors import SceneError

__all__ = ["Alteration", "Comparison", "fit_alteration"]

Comparison: TypeAlias = Literal["irmad", "cva"]
Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.float32]

MOST_ROUNDS = 60
CONVERGED = 1e-4
"""Largest change of a canonical correlation from round to round."""

FLOAT_PRECISION = 1e-3
"""Of a band's standard deviation: how alike scenes of real numbers can be found."""

LEAST_PIXELS = 50
"""Fewer say nothing about what is usual."""

CHUNK = 1 << 16
"""Pixels worked on together."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """What is usual between two scenes, and so what is not. C bands, C variates."""

    means: tuple[Floats, Floats]
    """(C,), of the earlier and the later scene where nothing changed."""
    mixes: tuple[Pixels, Pixels]
    """(C, C): rows turn bands less their mean into variates of unit variance."""
    correlations: Floats
    """(C,), between the variates of a pair, 0 to 1."""
    scale: float
    """The statistic is divided by this, at least 1."""
    rounds: int
    """How often pixels were weighed."""
    converged: bool

    @property
    def variates(self) -> int:
        """How many there are: the degrees of freedom of the statistic."""
        return len(self.correlations)

    def statistic(self, before: Pixels, after: Pixels) -> Pixels:
        """How unlike pixels are: chi-square with C degrees of freedom where nothing changed.

        Args:
            before: (C, N), values of the earlier scene.
            after: (C, N), of the later one.

        Returns:
            (N,), 0 and more.
        """
        unlike = np.empty(before.shape[1], np.float32)
        for begin in range(0, len(unlike), CHUNK):
            part = slice(begin, begin + CHUNK)
            unlike[part] = self._chunk(before[:, part], after[:, part])
        return unlike

    def _chunk(self, before: Pixels, after: Pixels) -> Pixels:
        u, v = (
            mix @ (pixels - mean[:, None].astype(np.float32))
            for mix, pixels, mean in zip(self.mixes, (before, after), self.means, strict=True)
        )
        rho = self.correlations
        noise_in_both = _square_sum(v - u, 2 * (1 - rho))
        noise_after = _square_sum(v - rho.astype(np.float32)[:, None] * u, 1 - rho**2)
        noise_before = _square_sum(u - rho.astype(np.float32)[:, None] * v, 1 - rho**2)
        least = np.minimum(np.minimum(noise_in_both, noise_after), noise_before)
        return np.asarray(least / np.float32(self.scale))


def fit_alteration(
    before: Pixels,
    after: Pixels,
    steps: tuple[float, float],
    comparison: Comparison = "irmad",
) -> Alteration:
    """Learn from pixels of both scenes what is usual.

    Args:
        before: (C, N), valid pixels of the earlier scene.
        after: (C, N), of the later one, in the same places.
        steps: what a stored grey level is worth in each scene, 0 for real numbers.
        comparison: "irmad", or "cva" for bands one by one (change vector analysis after a
            relative normalization of each band by the pixels that fit).

    Raises:
        SceneError: if there are too few pixels.
    """
    bands, count = before.shape
    if count < LEAST_PIXELS:
        raise SceneError(
            f"the scenes share {count} valid pixels, too few to tell what is usual; "
            f"expected at least {LEAST_PIXELS}"
        )
    precision = np.concatenate(
        [_precision(pixels, step) for pixels, step in zip((before, after), steps, strict=True)]
    )
    weights = np.ones(count)
    usual = float(scipy.special.chdtri(bands, 0.5))
    known: Alteration | None = None
    for round_number in range(1, MOST_ROUNDS + 1):
        means, covariance = _weighted_moments(before, after, weights)
        covariance += np.diag(precision)
        mixes, correlations = _variates(covariance, comparison)
        found = Alteration(
            (means[:bands], means[bands:]), mixes, correlations, 1.0, round_number, False
        )
        unlike = found.statistic(before, after)
        scale = max(1.0, float(np.median(unlike)) / usual)
        last, known = (
            known,
            Alteration(found.means, mixes, correlations, scale, round_number, False),
        )
        if last is not None and np.abs(correlations - last.correlations).max() < CONVERGED:
            return Alteration(found.means, mixes, correlations, scale, round_number, True)
        weights = scipy.special.chdtrc(bands, unlike.astype(np.float64) / scale)
    assert known is not None  # noqa: S101  (there is at least one round)
    return known


def _precision(pixels: Pixels, step: float) -> Floats:
    """(C,), the variance that rounding alone makes."""
    if step:
        return np.full(len(pixels), step**2 / 12)
    spread = pixels.std(axis=1, dtype=np.float64)
    return np.asarray(np.maximum((FLOAT_PRECISION * spread) ** 2, np.finfo(np.float32).tiny))


def _weighted_moments(before: Pixels, after: Pixels, weights: Floats) -> tuple[Floats, Floats]:
    """Means (2C,) and covariances (2C, 2C) of the bands of both, summed chunk by chunk."""
    bands, count = before.shape
    origin = np.concatenate((before[:, :1], after[:, :1])).astype(np.float64)
    sums, products = np.zeros(2 * bands), np.zeros((2 * bands, 2 * bands))
    for begin in range(0, count, CHUNK):
        part = slice(begin, begin + CHUNK)
        both = np.concatenate((before[:, part], after[:, part])) - origin
        weighted = both * weights[part]
        sums += weighted.sum(axis=1)
        products += weighted @ both.T
    total = max(float(weights.sum()), np.finfo(np.float64).tiny)
    means = sums / total
    return means + origin[:, 0], products / total - np.outer(means, means)


def _variates(covariance: Floats, comparison: Comparison) -> tuple[tuple[Pixels, Pixels], Floats]:
    """Mixes of the bands of each scene, of unit variance, and the correlations of the pairs."""
    bands = len(covariance) // 2
    of_before, of_after = covariance[:bands, :bands], covariance[bands:, bands:]
    across = covariance[:bands, bands:]
    if comparison == "cva":
        spreads = np.sqrt(of_before.diagonal()), np.sqrt(of_after.diagonal())
        mixes = tuple(np.diag(1 / each) for each in spreads)
        correlations = np.clip(across.diagonal() / (spreads[0] * spreads[1]), -1, 1)
        mixes = mixes[0], mixes[1] * np.where(correlations < 0, -1, 1)[:, None]
        correlations = np.abs(correlations)
    else:
        explained = across @ scipy.linalg.solve(of_after, across.T, assume_a="pos")
        squares, vectors = scipy.linalg.eigh((explained + explained.T) / 2, of_before)
        correlations = np.sqrt(np.clip(squares, 1e-12, 1))
        later = scipy.linalg.solve(of_after, across.T @ vectors, assume_a="pos") / correlations
        mixes = vectors.T, later.T
    as_floats = mixes[0].astype(np.float32), mixes[1].astype(np.float32)
    return as_floats, correlations


def _square_sum(differences: Pixels, variances: Floats) -> Pixels:
    """(N,), squares over their variances; correlations of 1 have no difference to speak of."""
    inverse = (1 / np.maximum(variances, 1e-9)).astype(np.float32)
    return np.asarray(np.einsum("cn,cn,c->n", differences, differences, inverse))
