"""The error matrix of a map, and the agreement that can be read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError

__all__ = ["ErrorMatrix", "count_pairs"]

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMatrix:
    """How often each mapped class (rows) was each reference class (columns).

    The entries are counts of samples or pixels, or shares of an area: what is said of them is
    said of what they weigh. A class that the matrix does not hold has no accuracy: NaN, never 0,
    and it is left out of every mean.

    Raises:
        InputError: if names and entries do not fit, or an entry is negative or not a number.
    """

    names: tuple[str, ...]
    """The classes, K of them."""
    entries: Floats
    """(K, K), not negative."""

    def __post_init__(self) -> None:
        entries = np.asarray(self.entries, np.float64)
        if entries.shape != (len(self.names), len(self.names)):
            raise InputError(
                f"an error matrix of {len(self.names)} classes cannot have the shape "
                f"{entries.shape}; give one row and one column a class"
            )
        if not (np.isfinite(entries).all() and (entries >= 0).all()):
            raise InputError("an error matrix holds a negative or missing entry")
        object.__setattr__(self, "entries", entries)

    def __add__(self, other: ErrorMatrix) -> ErrorMatrix:
        if other.names != self.names:
            raise InputError(f"matrices of {self.names} and {other.names} cannot be added")
        return ErrorMatrix(self.names, self.entries + other.entries)

    @property
    def total(self) -> float:
        """Sum of all entries."""
        return float(self.entries.sum())

    @property
    def mapped(self) -> Floats:
        """(K,), row sums: how much was mapped as each class."""
        return np.asarray(self.entries.sum(axis=1))

    @property
    def support(self) -> Floats:
        """(K,), column sums: how much is each class by the reference."""
        return np.asarray(self.entries.sum(axis=0))

    @property
    def agreed(self) -> Floats:
        """(K,), the diagonal."""
        return np.asarray(self.entries.diagonal())

    @property
    def overall(self) -> float:
        """Share on the diagonal, 0 to 1; NaN when the matrix is empty."""
        return float(_share(self.agreed.sum(), self.entries.sum()))

    @property
    def users(self) -> Floats:
        """(K,), user's accuracy (precision): of what is mapped as a class, the share that is it."""
        return _share(self.agreed, self.mapped)

    @property
    def producers(self) -> Floats:
        """(K,), producer's accuracy (recall): of what is a class, the share that is mapped so."""
        return _share(self.agreed, self.support)

    @property
    def f1(self) -> Floats:
        """(K,), harmonic mean of user's and producer's accuracy."""
        return _share(2 * self.agreed, self.mapped + self.support)

    @property
    def iou(self) -> Floats:
        """(K,), intersection over union (Jaccard index)."""
        return _share(self.agreed, self.mapped + self.support - self.agreed)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that the reference does not hold; they count in no mean."""
        return tuple(n for n, amount in zip(self.names, self.support, strict=True) if not amount)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that the reference holds."""
        return self._mean(self.iou)

    @property
    def mean_f1(self) -> float:
        """Mean F1 of the classes that the reference holds."""
        return self._mean(self.f1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; what does not exist is None."""
        columns = {
            "users": self.users,
            "producers": self.producers,
            "f1": self.f1,
            "iou": self.iou,
            "support": self.support,
            "mapped": self.mapped,
        }
        return {
            "names": list(self.names),
            "entries": self.entries.tolist(),
            "overall": _plain(self.overall),
            "mean_iou": _plain(self.mean_iou),
            "mean_f1": _plain(self.mean_f1),
            "absent": list(self.absent),
            "classes": {
                name: {what: _plain(values[i]) for what, values in columns.items()}
                for i, name in enumerate(self.names)
            },
        }

    def _mean(self, values: Floats) -> float:
        present = self.support > 0
        return float(values[present].mean()) if present.any() else float("nan")


def count_pairs(
    mapped: npt.NDArray[np.integer[Any]],
    reference: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    sizes: Floats | None = None,
) -> ErrorMatrix:
    """Count pairs of mapped and reference class.

    Args:
        mapped: (N,), places of the mapped classes in `names`.
        reference: (N,), places of the reference classes.
        names: the classes.
        sizes: (N,), what each pair counts, such as its area; 1 by default.

    Raises:
        InputError: if a class is not one of `names`, or the lengths differ.
    """
    if mapped.shape != reference.shape:
        raise InputError(f"{mapped.size} mapped and {reference.size} reference classes do not pair")
    count = len(names)
    for what, places in (("mapped", mapped), ("reference", reference)):
        if places.size and not 0 <= places.min() <= places.max() < count:
            raise InputError(f"a {what} class is not one of the {count} of the legend")
    pairs = mapped.astype(np.int64).ravel() * count + reference.ravel()
    weights = None if sizes is None else sizes.ravel()
    counted = np.bincount(pairs, weights, minlength=count * count)
    return ErrorMatrix(tuple(names), counted.reshape(count, count).astype(np.float64))


def _share(part: Floats | np.float64, whole: Floats | np.float64) -> Floats:
    """Part of whole, NaN where there is no whole."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shares = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
