"""Two scenes checked for how well they lie on each other, and corrected where that is wanted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from geoseg.bitemporal.pair import ScenePair
from geoseg.bitemporal.registration import Shift, measure_shift
from geoseg.errors import SceneError

__all__ = ["Alignment", "align"]

WARN_PX, REFUSE_PX = 0.5, 3.0
"""Scenes shifted by more are warned of, and refused."""

MOVE_FROM_PX = 0.1
"""Smaller shifts are left as they are: interpolation would blur more than it corrects."""

WHOLE_PX = 0.05
"""A shift this close to whole pixels is taken as that: nothing has to be interpolated."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two scenes that lie on each other, as far as that was wanted."""

    pair: ScenePair
    shift: Shift | None
    """As measured before correction; None when it could not be measured."""
    corrected: bool
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What the summary says of it."""
        shift = None if self.shift is None else _rounded(self.shift)
        left = measure_shift(self.pair) if self.corrected else None
        told = {"shift_px": shift, "coregistered": self.corrected}
        return told | ({} if left is None else {"residual_shift_px": _rounded(left)})


def align(pair: ScenePair, *, coregister: bool = False, force: bool = False) -> Alignment:
    """Measure how far the later scene is shifted, and correct that if it is wanted.

    Args:
        pair: the scenes.
        coregister: whether to correct it.
        force: go on where the shift is so large that something must be wrong.

    Raises:
        SceneError: if it is, without `force`.
    """
    shift = measure_shift(pair)
    if shift is None:
        told = "the shift between the scenes could not be measured: too little in them looks alike"
        return Alignment(pair, None, False, (told,))
    told = (
        f"{pair.after.name} is shifted against {pair.before.name} by {shift.rows:+.2f} rows and "
        f"{shift.cols:+.2f} columns"
    )
    if shift.length_px > REFUSE_PX and not force:
        raise SceneError(
            f"{told}; check where they lie, or go on with --force (and --coregister corrects it)"
        )
    warnings = (told,) if shift.length_px > WARN_PX else ()
    if coregister and shift.length_px >= MOVE_FROM_PX:
        moved = pair.shifted(_to_whole(shift.rows), _to_whole(shift.cols))
        return Alignment(moved, shift, True, tuple(f"{each}: corrected" for each in warnings))
    advice = "expect false change along edges, or correct it with --coregister"
    return Alignment(pair, shift, False, tuple(f"{each}: {advice}" for each in warnings))


def _to_whole(shift: float) -> float:
    return float(round(shift)) if abs(shift - round(shift)) <= WHOLE_PX else shift


def _rounded(shift: Shift) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in asdict(shift).items()}
