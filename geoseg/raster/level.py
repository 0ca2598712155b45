"""Reflectance at the top of the atmosphere and at the surface, and a rough way between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError, SceneError

__all__ = ["LEVELS", "Level", "LevelChange", "between_levels", "level_named"]

Level: TypeAlias = Literal["toa", "surface"]
"""Reflectance at the top of the atmosphere, as the sensor saw it, or at the surface, with the
atmosphere corrected for."""

LEVELS: tuple[Level, ...] = get_args(Level)

LevelChange: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Factors and terms, (C,) both: value at one level = value at the other * factor + term."""

SURFACE_TO_TOA = {
    "blue": (0.643, 0.0770),
    "green": (0.694, 0.0498),
    "red": (0.792, 0.0326),
    "rededge1": (0.763, 0.0303),
    "rededge2": (0.797, 0.0327),
    "rededge3": (0.852, 0.0306),
    "nir": (0.813, 0.0257),
    "nir08": (0.813, 0.0257),
    "swir16": (0.904, 0.0038),
    "swir22": (0.836, 0.0017),
}
"""Top of atmosphere = surface * factor + term, by band: medians of straight lines through four
pairs of Sentinel-2 chips at both levels. Haze and a low sun make it worse: no line fits those."""


def level_named(name: str | None) -> Level | None:
    """A level by its name.

    Raises:
        InputError: if no level is called so.
    """
    for level in LEVELS:
        if name == level:
            return level
    if name is None:
        return None
    raise InputError(f"no level is called {name!r}; there are {' and '.join(LEVELS)}")


def between_levels(
    level: Level | None, wanted: Sequence[Level], bands: Sequence[str]
) -> tuple[LevelChange | None, tuple[str, ...]]:
    """How reflectance of one level becomes that of another, roughly.

    Args:
        level: of the scene; None: not known.
        wanted: levels that will do, the best first; empty: any.
        bands: common names.

    Returns:
        Factors and terms, None where nothing is to be done; and what was assumed.

    Raises:
        SceneError: if it takes a change that is not known for one of the bands.
    """
    if not wanted or level in wanted:
        return None, ()
    if level is None:
        if len(wanted) == len(LEVELS):
            return None, ()
        return None, (f"values taken as reflectance of level {wanted[0]} (--level says otherwise)",)
    unknown = [band for band in bands if band not in SURFACE_TO_TOA]
    if unknown:
        raise SceneError(
            f"the model wants reflectance of level {wanted[0]}, and for {unknown[0]} no way there "
            f"from {level} is known; give a scene of that level"
        )
    lines = np.array([SURFACE_TO_TOA[band] for band in bands], np.float32)
    change = lines[:, 0], lines[:, 1]
    if level == "toa":
        change = np.float32(1) / change[0], -change[1] / change[0]
    return change, (f"reflectance of level {level} brought to {wanted[0]} by one line",)
