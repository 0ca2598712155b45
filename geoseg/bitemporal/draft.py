"""What a comparison found at each pixel, kept on disk until it is known what counts as change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.vector.area import Area

__all__ = ["ConfinedFindings", "Differences", "Draft", "Findings"]

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Differences:
    """What was found on some rows, as wide as the grid; arrays are (H, W)."""

    window: Window
    probability: Codes
    """Of change, in percent; 255 without data."""
    rim: npt.NDArray[np.bool_]
    """Where a pixel belongs to a changed patch if that has a core."""
    core: npt.NDArray[np.bool_]
    """Where a pixel makes its patch changed."""
    stable: Codes
    """Code of the class if nothing changed; 255 without data."""
    before: Codes
    """Code of the class that was, if something changed; 255 without data."""
    after: Codes
    """Code of the class that is, likewise."""


class Findings(Protocol):
    """A comparison of two scenes, to be gone through as often as needed."""

    def strips(self) -> Iterator[Differences]:
        """All rows, top to bottom, the same each time."""
        ...

    def facts(self) -> dict[str, Any]:
        """The rule by which they tell change, for the summary."""
        ...


class ConfinedFindings:
    """Findings within an area alone, on the smallest grid that holds it.

    Args:
        findings: on a grid that is larger, so that what is usual is learned from surroundings too.
        area: on that grid.
    """

    def __init__(self, findings: Findings, area: Area) -> None:
        self._findings, self._area = findings, area

    def strips(self) -> Iterator[Differences]:
        """See Findings."""
        place = self._area.window
        for strip in self._findings.strips():
            shared = strip.window.intersect(place)
            if shared is None:
                continue
            cut, outside = shared.within(strip.window), ~self._area.inside(shared)
            codes = [
                np.where(outside, np.uint8(NODATA), plane[cut])
                for plane in (strip.probability, strip.stable, strip.before, strip.after)
            ]
            yield Differences(
                shared.shift(-place.row, -place.col),
                codes[0],
                strip.rim[cut] & ~outside,
                strip.core[cut] & ~outside,
                *codes[1:],
            )

    def facts(self) -> dict[str, Any]:
        """See Findings."""
        return self._findings.facts()


class Draft:
    """Planes of whole numbers, written strip by strip and read back in the same strips.

    Args:
        path: a file of its own.
        grid: as wide as the strips.
        planes: how many there are.
        dtype: of their numbers.
    """

    def __init__(self, path: Path, grid: Grid, planes: int, dtype: npt.DTypeLike) -> None:
        self._path, self._grid, self._planes = path, grid, planes
        self._dtype = np.dtype(dtype)
        self._windows: list[Window] = []
        path.unlink(missing_ok=True)

    def write(self, window: Window, planes: npt.NDArray[Any]) -> None:
        """Take the next rows, (P, H, W)."""
        with self._path.open("ab") as out:
            np.ascontiguousarray(planes, self._dtype).tofile(out)
        self._windows.append(window)

    def strips(self) -> Iterator[tuple[Window, npt.NDArray[Any]]]:
        """All rows, top to bottom."""
        with self._path.open("rb") as file:
            for window in self._windows:
                shape = self._planes, window.height, window.width
                yield window, np.fromfile(file, self._dtype, int(np.prod(shape))).reshape(shape)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
