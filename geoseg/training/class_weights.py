"""What a pixel of each class counts in a loss, so that rare classes are learned too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError

__all__ = ["WeightScheme", "absent_classes", "class_weights"]

Floats: TypeAlias = npt.NDArray[np.float64]

WeightScheme: TypeAlias = Literal[
    "none", "inverse", "sqrt_inverse", "median_frequency", "enet", "effective_number"
]

CAP = 10.0
BETA = 1 - 1e-6


def class_weights(
    counts: npt.ArrayLike,
    scheme: WeightScheme,
    *,
    cap: float | None = CAP,
    beta: float = BETA,
) -> Floats:
    """Weights of classes from how many pixels are labelled as each.

    With n_k pixels of class k, n in all and p_k = n_k / n, before cap and normalisation:

    ==================  ==========================================================================
    none                1
    inverse             1 / p_k
    sqrt_inverse        1 / sqrt(p_k)
    median_frequency    median(f) / f_k; f_k = n_k / pixels of the images that hold k (Eigen and
                        Fergus 2015; SegNet, 2017)
    enet                1 / ln(1.02 + p_k) (Paszke et al. 2016)
    effective_number    (1 - beta) / (1 - beta^n_k) (Cui et al. 2019, equation 3)
    ==================  ==========================================================================

    Weights are first capped: none is more than `cap` times the smallest. Then they are scaled so
    that the mean over labelled **pixels** is 1, sum_k p_k w_k = 1. A loss that divides by the
    number of pixels then stays as large as without weights, and so do its gradients beside a
    second loss; a mean of 1 over *classes* would make cross-entropy fade as classes get rarer.

    Args:
        counts: (K,) labelled pixels of each class, or (S, K) of each class in each of S images.
            Only median_frequency knows the difference: counts of a whole data set say nothing
            about which images hold a class, and it is then the same as inverse.
        scheme: one of the above.
        cap: how many times the smallest weight the largest may be; None: as the scheme says.
        beta: of effective_number. Beyond about 1 / (1 - beta) pixels, more of them add nothing:
            the default is for classes of up to a million pixels, which are not a million
            independent samples. At 0 all weigh the same, towards 1 it becomes inverse.

    Returns:
        (K,), 0 for classes without pixels, which nothing can be learned about; never infinite.

    Raises:
        InputError: if there are no pixels, or an argument makes no sense.

    Reference:
        Eigen, Fergus: "Predicting Depth, Surface Normals and Semantic Labels", ICCV 2015.
        Badrinarayanan, Kendall, Cipolla: "SegNet", TPAMI 2017. Paszke et al.: "ENet",
        arXiv:1606.02147. Cui et al.: "Class-Balanced Loss Based on Effective Number of Samples",
        CVPR 2019.

    Example:
        >>> class_weights([900, 100, 0], "inverse").round(3).tolist()
        [0.556, 5.0, 0.0]
    """
    if scheme not in _RAW:
        raise InputError(f"no class weights are called {scheme!r}; there are {', '.join(_RAW)}")
    if cap is not None and not cap >= 1:
        raise InputError(f"a cap of {cap:g} makes no sense; give 1 or more times the smallest")
    if not 0 <= beta < 1:
        raise InputError(f"a beta of {beta:g} is not within [0, 1)")
    by_image = _checked(counts)
    present = by_image.sum(axis=0) > 0
    raw = _RAW[scheme](by_image[:, present], beta)
    if cap is not None:
        raw = np.minimum(raw, cap * raw.min())
    pixels = by_image.sum(axis=0)
    weights = np.zeros(len(pixels))
    weights[present] = raw * pixels.sum() / (pixels[present] @ raw)
    return weights


def absent_classes(counts: npt.ArrayLike, names: Sequence[str]) -> tuple[str, ...]:
    """The classes without a labelled pixel, which weigh 0 and are worth a word to people.

    Args:
        counts: as of `class_weights`.
        names: (K,).
    """
    pixels = _checked(counts).sum(axis=0)
    return tuple(name for name, amount in zip(names, pixels, strict=True) if not amount)


def _checked(counts: npt.ArrayLike) -> Floats:
    """(S, K), S = 1 where only sums are known."""
    by_image = np.atleast_2d(np.asarray(counts, np.float64))
    if by_image.ndim != 2:
        raise InputError(f"counts of pixels are (K,) or (images, K), not {by_image.shape}")
    if not (np.isfinite(by_image).all() and (by_image >= 0).all()):
        raise InputError("counts of pixels hold a negative or missing number")
    if not by_image.sum() > 0:
        raise InputError("no pixel is labelled: there is nothing to weigh classes by")
    return by_image


def _inverse(by_image: Floats) -> Floats:
    return np.asarray(by_image.sum() / by_image.sum(axis=0))


def _median_frequency(by_image: Floats) -> Floats:
    seen_in = (by_image > 0) * by_image.sum(axis=1, keepdims=True)
    frequency = by_image.sum(axis=0) / seen_in.sum(axis=0)
    return np.asarray(np.median(frequency) / frequency)


def _effective_number(by_image: Floats, beta: float) -> Floats:
    if beta == 0:
        return np.ones(by_image.shape[1])
    return np.asarray((beta - 1) / np.expm1(by_image.sum(axis=0) * np.log(beta)))


_RAW: dict[str, Callable[[Floats, float], Floats]] = {
    "none": lambda by_image, _: np.ones(by_image.shape[1]),
    "inverse": lambda by_image, _: _inverse(by_image),
    "sqrt_inverse": lambda by_image, _: np.sqrt(_inverse(by_image)),
    "median_frequency": lambda by_image, _: _median_frequency(by_image),
    "enet": lambda by_image, _: 1 / np.log(1.02 + 1 / _inverse(by_image)),
    "effective_number": _effective_number,
}
"""Each scheme, given pixels (S, K) of the classes that have any, and beta."""
