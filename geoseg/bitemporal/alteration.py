"""How unlike two scenes are at a pixel, whatever gain and offset each of them has.

Iteratively reweighted multivariate alteration detection (IR-MAD): of all linear combinations of
the bands of each scene, take the pairs that are correlated most; weigh pixels by how well they
fit the others and start again, until those that did not change have found themselves.

Nielsen, Conradsen and Simpson 1998 (MAD); Nielsen 2007 (reweighting). Four things are ours:

* What a scene stores as its lowest or highest number was cut off there. Such a band is taken for
  what the other scene predicts, if that lies beyond.
* Variates are told apart by what is left when one is predicted from the other with a slope that
  noise of two grey levels in either scene explains, not by their difference alone. Otherwise a
  pixel far from all others looks changed as soon as one scene has a little more noise.
* The statistic is divided by its median over that of chi-square, so that pixels are weighed by
  how they compare with the usual difference, not with the smallest; without that the weights of
  most unchanged pixels go to 0 on real scenes.
* Whole numbers are known to half a grey level only, which bounds how alike scenes can be found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

from geoseg.bitemporal.pair import StoredRange
from geoseg.errors import SceneError

__all__ = ["Alteration", "Comparison", "fit_alteration"]

Comparison: TypeAlias = Literal["irmad", "cva"]
Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.float32]

MOST_ROUNDS = 60
CONVERGED = 1e-4
"""Largest change of a canonical correlation from round to round."""

FLOAT_GRAIN = 0.01
"""Of a band's standard deviation: what counts as a grey level in scenes of real numbers."""

GRAINS = 2.0
"""Grey levels of noise that either scene may have more than the other."""

LEAST_PIXELS = 50
"""Fewer say nothing about what is usual."""

LEAST_WHOLE = 0.02
"""Share of pixels without a value that was cut off, from which on the others are left out."""

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
    slopes: tuple[Floats, Floats]
    """(C,), the least and the greatest that noise in one of the scenes explains; 1 without any."""
    predictions: tuple[Pixels, Pixels]
    """(C, C): bands less their mean of the later scene from the earlier one's, and back."""
    ranges: tuple[StoredRange, StoredRange]
    """What numbers each scene can hold."""
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
        means = [each[:, None].astype(np.float32) for each in self.means]
        later = self._uncut(1, after, means[1], before - means[0])
        earlier = self._uncut(0, before, means[0], after - means[1])
        u, v = self.mixes[0] @ (earlier - means[0]), self.mixes[1] @ (later - means[1])
        one, other = (u * slope[:, None].astype(np.float32) for slope in self.slopes)
        left = v - np.clip(v, np.minimum(one, other), np.maximum(one, other))
        inverse = 1 / np.maximum(2 * self.scale * (1 - self.correlations), 1e-9)
        return np.asarray(np.einsum("cn,cn,c->n", left, left, inverse.astype(np.float32)))

    def _uncut(self, scene: int, pixels: Pixels, mean: Pixels, other: Pixels) -> Pixels:
        """Pixels with values that were cut off replaced by what the other scene predicts."""
        limits = self.ranges[scene]
        low, high = pixels <= limits.low, pixels >= limits.high
        cut = np.flatnonzero((low | high).any(axis=0))
        if not len(cut):
            return pixels
        low, high, known = low[:, cut], high[:, cut], pixels[:, cut]
        predicted = self.predictions[1 - scene] @ other[:, cut] + mean
        beyond = (low & (predicted < known)) | (high & (predicted > known))
        uncut = pixels.copy()
        uncut[:, cut] = np.where(beyond, predicted, known)
        return uncut


def fit_alteration(
    before: Pixels,
    after: Pixels,
    ranges: tuple[StoredRange, StoredRange] = (StoredRange(), StoredRange()),
    comparison: Comparison = "irmad",
) -> Alteration:
    """Learn from pixels of both scenes what is usual.

    Args:
        before: (C, N), valid pixels of the earlier scene.
        after: (C, N), of the later one, in the same places.
        ranges: what numbers each scene can hold.
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
    grain = _grain(before, ranges[0].step), _grain(after, ranges[1].step)
    whole = _not_cut(before, ranges[0]) & _not_cut(after, ranges[1])
    whole |= whole.sum() < max(LEAST_PIXELS, LEAST_WHOLE * count)
    weights = whole.astype(np.float64)
    usual = float(scipy.special.chdtri(bands, 0.5))
    last: Alteration | None = None
    for rounds in range(1, MOST_ROUNDS + 1):
        means, covariance = _weighted_moments(before, after, weights)
        known = _alteration(means, covariance, grain, ranges, comparison)
        unlike = known.statistic(before, after)
        known = replace(known, scale=max(1.0, float(np.median(unlike)) / usual), rounds=rounds)
        if last is not None and np.abs(known.correlations - last.correlations).max() < CONVERGED:
            return replace(known, converged=True)
        weights = whole * scipy.special.chdtrc(bands, unlike.astype(np.float64) / known.scale)
        last = known
    return known


def _grain(pixels: Pixels, step: float) -> Floats:
    """(C,), the square of a grey level; of real numbers, of a small part of their spread."""
    if step:
        return np.full(len(pixels), step**2)
    spread = pixels.std(axis=1, dtype=np.float64)
    return np.asarray(np.maximum((FLOAT_GRAIN * spread) ** 2, np.finfo(np.float32).tiny))


def _not_cut(pixels: Pixels, limits: StoredRange) -> npt.NDArray[np.bool_]:
    return np.asarray(((pixels > limits.low) & (pixels < limits.high)).all(axis=0))


def _alteration(
    means: Floats,
    covariance: Floats,
    grain: tuple[Floats, Floats],
    ranges: tuple[StoredRange, StoredRange],
    comparison: Comparison,
) -> Alteration:
    bands = len(means) // 2
    covariance = covariance + np.diag(np.concatenate(grain)) / 12  # what rounding makes
    of_before, of_after = covariance[:bands, :bands], covariance[bands:, bands:]
    across = covariance[:bands, bands:]
    mixes, correlations = _variates(of_before, of_after, across, comparison)
    signal = [
        np.sqrt(np.maximum(1 - (mix**2) @ noise * GRAINS**2, correlations**2))
        for mix, noise in zip(mixes, grain, strict=True)
    ]  # deviation of variates without noise, which have one of 1 with it
    return Alteration(
        means=(means[:bands], means[bands:]),
        mixes=(mixes[0].astype(np.float32), mixes[1].astype(np.float32)),
        correlations=correlations,
        slopes=(signal[1], 1 / signal[0]),
        predictions=(
            scipy.linalg.solve(of_before, across, assume_a="pos").T.astype(np.float32),
            scipy.linalg.solve(of_after, across.T, assume_a="pos").T.astype(np.float32),
        ),
        ranges=ranges,
        scale=1.0,
        rounds=0,
        converged=False,
    )


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


def _variates(
    of_before: Floats, of_after: Floats, across: Floats, comparison: Comparison
) -> tuple[tuple[Floats, Floats], Floats]:
    """Mixes of the bands of each scene, of unit variance, and the correlations of the pairs."""
    if comparison == "cva":
        spreads = np.sqrt(of_before.diagonal()), np.sqrt(of_after.diagonal())
        correlations = np.clip(across.diagonal() / (spreads[0] * spreads[1]), -1, 1)
        signs = np.where(correlations < 0, -1, 1)
        return (np.diag(1 / spreads[0]), np.diag(signs / spreads[1])), np.abs(correlations)
    explained = across @ scipy.linalg.solve(of_after, across.T, assume_a="pos")
    squares, vectors = scipy.linalg.eigh((explained + explained.T) / 2, of_before)
    correlations = np.sqrt(np.clip(squares, 1e-12, 1))
    later = scipy.linalg.solve(of_after, across.T @ vectors, assume_a="pos") / correlations
    return (vectors.T, later.T), correlations
