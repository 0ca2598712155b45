"""How many samples, and how many of them in each stratum."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError

__all__ = ["Allocation", "allocate", "required_size", "required_size_simple"]

Allocation: TypeAlias = Literal["proportional", "equal", "minimum"]

FEWEST = 2
"""Samples that a stratum needs for a standard error."""

RARE_MINIMUM = 50
"""What a rare stratum gets at least, when nothing else is said (Olofsson et al. 2014, 5.1.2)."""

WHOLE = 1e-9
"""Sizes this close to a whole number are not rounded up beyond it."""


def required_size(
    weights: npt.ArrayLike, expected_users: npt.ArrayLike, standard_error: float
) -> int:
    """The stratified sample that gives overall accuracy a standard error.

    n = (sum_h W_h S_h / S(O))^2 with S_h = sqrt(U_h (1 - U_h)): Cochran (1977, eq. 5.25) for a
    large population, as Olofsson et al. (2014, eq. 13) use it.

    Args:
        weights: (H,), share of the map in each stratum, scaled to sum to 1.
        expected_users: (H,), user's accuracies that are expected or guessed, 0 to 1.
        standard_error: S(O), wanted for overall accuracy, 0 to 1.

    Returns:
        The size, rounded up.

    Raises:
        InputError: if a figure makes no sense.

    Example:
        >>> required_size([0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95], 0.01)
        641
    """
    shares, users = _checked(weights, expected_users, standard_error)
    scatter = np.sqrt(users * (1 - users))
    return _rounded_up((float(shares @ scatter) / standard_error) ** 2)


def required_size_simple(
    weights: npt.ArrayLike, expected_users: npt.ArrayLike, standard_error: float
) -> int:
    """The simple random sample that gives overall accuracy a standard error.

    n = O (1 - O) / S(O)^2 with O = sum_h W_h U_h (Cochran 1977, section 4.4).
    It takes the population to be large.
    Arguments, value and errors are those of `required_size`.
    """
    shares, users = _checked(weights, expected_users, standard_error)
    overall = float(shares @ users)
    return _rounded_up(overall * (1 - overall) / standard_error**2)


def allocate(
    size: int,
    sizes: npt.ArrayLike,
    allocation: Allocation = "minimum",
    minimum: int | None = None,
) -> npt.NDArray[np.int64]:
    """Share a sample out among strata.

    "proportional" follows the strata's sizes; "equal" gives each the same; "minimum" gives rare
    strata `minimum` and shares the rest out among the others by size (Olofsson et al. 2014,
    5.1.2). Every stratum gets two, as a standard error needs, or all it has when it is smaller;
    what a small stratum cannot take goes to the others.

    Args:
        size: samples in all.
        sizes: (H,), units in each stratum, all positive.
        allocation: how.
        minimum: for "minimum"; by default 50, or half of an equal share where that is less.

    Returns:
        (H,), samples in each stratum; their sum is `size`, or all units where there are fewer.

    Raises:
        InputError: if the size does not reach for the minimum, or a figure makes no sense.
    """
    units = np.asarray(sizes, np.int64)
    if units.ndim != 1 or not len(units) or (units < 1).any():
        raise InputError("every stratum needs at least one unit to sample from")
    floor = _floor(size, len(units), allocation, minimum)
    lowest = np.minimum(floor, units)
    if lowest.sum() > size:
        raise InputError(
            f"{size} samples cannot give {floor} to each of {len(units)} strata; "
            f"take --size {int(lowest.sum())} or more, or a lower --minimum"
        )
    wanted = np.ones(len(units)) if allocation == "equal" else units.astype(np.float64)
    return _share_out(min(size, int(units.sum())), wanted, lowest, units)


def _floor(size: int, strata: int, allocation: Allocation, minimum: int | None) -> int:
    if allocation != "minimum":
        if minimum is not None:
            raise InputError(f"--minimum goes with --allocation minimum, not {allocation}")
        return FEWEST
    if minimum is None:
        return max(FEWEST, min(RARE_MINIMUM, size // (2 * strata)))
    if minimum < FEWEST:
        raise InputError(f"a minimum of {minimum} is below the {FEWEST} a standard error needs")
    return minimum


def _share_out(
    size: int,
    wanted: npt.NDArray[np.float64],
    lowest: npt.NDArray[np.int64],
    highest: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """In proportion to `wanted`, within the limits; halves go to the largest remainders."""
    fixed = np.zeros(len(wanted), bool)
    exact = np.zeros(len(wanted))
    while True:
        left = size - exact[fixed].sum()
        free = ~fixed
        if not free.any():
            break
        exact[free] = left * wanted[free] / wanted[free].sum()
        low, high = free & (exact < lowest), free & (exact > highest)
        short, spare = (lowest - exact)[low].sum(), (exact - highest)[high].sum()
        if not (low.any() or high.any()):
            break
        # whichever limit binds more decides first, else strata freed by the other come too late
        bound = low if short >= spare else high
        exact[bound] = np.where(low, lowest, highest)[bound]
        fixed |= bound
    whole = np.floor(exact + WHOLE).astype(np.int64)
    remainders = np.where(whole < highest, exact - whole, -1.0)
    for place in np.argsort(-remainders, kind="stable")[: size - int(whole.sum())]:
        whole[place] += 1
    return whole


def _checked(
    weights: npt.ArrayLike, expected_users: npt.ArrayLike, standard_error: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    shares, users = np.asarray(weights, np.float64), np.asarray(expected_users, np.float64)
    if shares.shape != users.shape or not shares.size or not (shares > 0).all():
        raise InputError("give one positive weight and one expected accuracy a stratum")
    if not ((users >= 0) & (users <= 1)).all():
        raise InputError(f"expected accuracies lie from 0 to 1, not {users.tolist()}")
    if not 0 < standard_error < 1:
        raise InputError(f"a standard error of {standard_error:g} makes no sense; give 0.01, say")
    return shares / shares.sum(), users


def _rounded_up(size: float) -> int:
    return max(1, math.ceil(size - WHOLE))
