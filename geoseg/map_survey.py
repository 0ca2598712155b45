"""What one pass over a class raster tells: classes, strata, areas, and which map it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.accuracy.area import AreaCount
from geoseg.accuracy.design import MappedClass
from geoseg.errors import GridError, SceneError
from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_COLOUR, UNCERTAIN_NAME, Legend
from geoseg.raster.class_map import ClassMap, MapDigest

__all__ = ["MapSurvey", "check_grid", "mapped_classes", "survey"]


Codes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class MapSurvey:
    """What one pass over a map tells."""

    legend: Legend
    """Classes that it declares or holds."""
    pixels: npt.NDArray[np.int64]
    """(256,), by code, where there is a stratum."""
    hectares: npt.NDArray[np.float64] | None
    """(256,), true areas; None when the map has no CRS."""
    stratum_legend: Legend
    """Names of the strata."""
    stratum_pixels: npt.NDArray[np.int64]
    """(256,), by code of the stratum."""
    map_name: str
    """File name of the map."""
    strata_source: str | None
    """File name of the raster of strata, if there is one."""
    sha256: str
    """Of the map's grid and pixels."""


def survey(
    mapped: ClassMap,
    strata: ClassMap | None = None,
    see: Callable[[Window, Codes], None] | None = None,
) -> MapSurvey:
    """Count a map's classes and strata, measure their areas and hash it, in one pass.

    Args:
        mapped: the map.
        strata: a raster of strata on the same grid.
        see: shown each strip as it passes.

    Raises:
        SceneError: if not a pixel is valid.
        GridError: if the grids differ.
    """
    if strata is not None:
        check_grid(mapped, strata)
    areas, digest = AreaCount(mapped.grid), MapDigest(mapped.grid)
    stratum_pixels = np.zeros(NODATA + 1, np.int64)
    for window, codes in mapped.strips():
        digest.add(codes)
        if see is not None:
            see(window, codes)
        divided = codes if strata is None else np.where(codes == NODATA, codes, strata.read(window))
        areas.add(window, np.where(divided == NODATA, np.uint8(NODATA), codes))
        stratum_pixels += np.bincount(divided.ravel(), minlength=NODATA + 1)
    pixels = areas.pixels_by_code
    if not areas.valid_pixels:
        raise SceneError(f"{mapped.name} holds no valid pixel: nothing to sample or judge")
    present = np.flatnonzero(pixels[:NODATA])
    held = np.flatnonzero(stratum_pixels[:NODATA])
    legend = mapped.legend(present)
    return MapSurvey(
        legend,
        pixels,
        areas.hectares_by_code,
        legend if strata is None else strata.legend(held),
        stratum_pixels,
        mapped.name,
        None if strata is None else strata.name,
        digest.sha256,
    )


def mapped_classes(seen: MapSurvey) -> tuple[MappedClass, ...]:
    """The map's classes with their mapped areas; what a model declined to name comes last."""
    known = [(each.code, each.name, each.colour) for each in seen.legend]
    if seen.pixels[UNCERTAIN]:
        known.append((UNCERTAIN, UNCERTAIN_NAME, UNCERTAIN_COLOUR))
    return tuple(
        MappedClass(
            code,
            name,
            colour,
            int(seen.pixels[code]),
            None if seen.hectares is None else float(seen.hectares[code]),
        )
        for code, name, colour in known
    )


def check_grid(mapped: ClassMap, strata: ClassMap) -> None:
    """Refuse another raster that is not on a map's grid.

    Raises:
        GridError: saying what differs.
    """
    try:
        window = mapped.grid.align(strata.grid)
    except GridError as error:
        raise GridError(f"{strata.name} does not fit {mapped.name}: {error}") from error
    if window != mapped.grid.window:
        raise GridError(
            f"{strata.name} and {mapped.name} do not cover the same pixels; "
            "cut one to the other with gdalwarp -te"
        )
