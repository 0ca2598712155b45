"""What a pixel's neighbours say of it: change comes in patches, a Markov random field.

Each pixel's own odds stay the same; its eight neighbours together are given a say that grows with
how sure they are and how much they agree. Lone doubtful pixels lose, gaps within a patch close,
and a clear pixel stands against all of its neighbours, so that roads one pixel wide are not
rubbed out and patches do not grow over their edges (mean field; Bruzzone and Fernandez Prieto
2000 use the same field with iterated conditional modes).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.special

from geoseg.grid import Window

__all__ = ["REACH_PX", "in_context", "with_halo"]

SAY = 3.0
"""Log-odds that neighbours of one mind add: as much as 20 to 1. From about 3.5 on such a field
makes up patches by itself (the Ising model's critical point is 0.44 a neighbour, of four)."""

ROUNDS = 2
"""How often pixels look around; further rounds hardly change anything."""

REACH_PX = ROUNDS

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]


def in_context(odds: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities of change, 0 to 1, neighbours considered.

    Args:
        odds: (h + 2 * REACH_PX, w + 2 * REACH_PX), log-odds of each pixel by itself.
        valid: of the same shape; invalid pixels have no say.

    Returns:
        (h, w), without the rim.
    """
    known, now = valid.astype(np.float32), odds
    for _ in range(ROUNDS):
        leaning = np.tanh(now * np.float32(0.5)) * known  # 2 p - 1
        odds, known = odds[1:-1, 1:-1], known[1:-1, 1:-1]
        now = odds + np.float32(SAY / 8) * _around(leaning)
    return np.asarray(scipy.special.expit(now), np.float32)


def _around(plane: Floats) -> Floats:
    """Sums over the eight neighbours, without the rim of the plane."""
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - plane[1:-1, 1:-1])


def with_halo(
    strips: Iterator[tuple[Window, Codes]], px: int, fill: int
) -> Iterator[tuple[Window, Codes]]:
    """Strips of a plane (h, w) with rows of their neighbours, (h + 2 * px, w + 2 * px).

    Args:
        strips: top to bottom.
        px: how many rows and columns more on each side.
        fill: what lies beyond the plane.
    """
    above: Codes | None = None
    waiting = next(strips, None)
    while waiting is not None:
        window, plane = waiting
        following = next(strips, None)
        beyond = np.full((px, plane.shape[1]), fill, plane.dtype)
        top = beyond if above is None else above
        bottom = beyond if following is None else following[1][:px]
        rows = np.concatenate((top, plane, bottom, beyond[: px - len(bottom)]))
        yield window, np.pad(rows, ((0, 0), (px, px)), constant_values=fill)
        above = np.concatenate((top, plane))[-px:]
        waiting = following
