"""Which windows a network sees so that the whole scene is mapped, each pixel once.

Along each axis, chips start on multiples of the network's stride and lie inside the scene padded
at its far edges to a multiple of the stride, which is how the whole image would be padded. The
last chip is moved back to end with the scene. Since it would then see again what the one before
it has seen, fitted chips are smaller: no larger than the scene needs with as many of them. A chip
keeps what is at least `halo` away from its edges, except where its edge is the scene's own: there
whole-image inference sees no more either. So a fully convolutional network that reaches no
further than the halo gives the same scores as on the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import InputError
from geoseg.grid import Window

__all__ = ["ChipPlan", "PlannedChip"]

FITTED_PX = 64
"""Sides of fitted chips are multiples of this, so that few shapes have to be compiled."""


@dataclass(frozen=True, slots=True)
class PlannedChip:
    """One chip of a plan."""

    window: Window
    """What the network sees."""
    core: Window
    """What is kept of it; the cores of a plan cover the scene once."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A chip along one axis."""

    start: int
    core_start: int
    core_stop: int


@dataclass(frozen=True, slots=True)
class ChipPlan:
    """The chips of a scene, all of one shape, row by row.

    Raises:
        InputError: if chip or halo is no multiple of the stride, or the halo leaves no core.
    """

    shape: tuple[int, int]
    """(height, width) of the scene."""
    chip_px: int
    """Side of a chip, at most."""
    halo_px: int
    """The rim of a chip that is read but not kept."""
    stride: int
    """What the network's input must be a multiple of."""
    fitted: bool = False
    """Whether chips are smaller where as many of them still cover the scene; otherwise they are
    smaller only where the padded scene is."""

    def __post_init__(self) -> None:
        for name, px in (("chip", self.chip_px), ("halo", self.halo_px)):
            if px % self.stride or px < 0:
                raise InputError(f"a {name} of {px} px is no multiple of the stride {self.stride}")
        if self.chip_px <= 2 * self.halo_px:
            raise InputError(f"a halo of {self.halo_px} px leaves nothing of {self.chip_px} px")

    @property
    def chip_shape(self) -> tuple[int, int]:
        """(height, width) of every chip."""
        height, width = map(self._side, self.shape)
        return height, width

    def rows(self) -> Iterator[list[PlannedChip]]:
        """The chips, a list for each row of them, top to bottom; left to right within."""
        cols = self._spans(self.shape[1])
        height, width = self.chip_shape
        for row in self._spans(self.shape[0]):
            yield [
                PlannedChip(
                    Window(row.start, col.start, height, width),
                    Window.from_stops(row.core_start, col.core_start, row.core_stop, col.core_stop),
                )
                for col in cols
            ]

    def __iter__(self) -> Iterator[PlannedChip]:
        for row in self.rows():
            yield from row

    @property
    def row_count(self) -> int:
        """How many rows of chips there are."""
        return len(self._spans(self.shape[0]))

    def __len__(self) -> int:
        rows, cols = (len(self._spans(size)) for size in self.shape)
        return rows * cols

    def _side(self, size: int) -> int:
        """Of the chips along an axis of the scene."""
        padded = _ceil_to(size, self.stride)
        if not self.fitted or self.chip_px >= padded:
            return min(self.chip_px, padded)
        rims = 2 * self.halo_px
        count = _ceil_to(padded - rims, self.chip_px - rims) // (self.chip_px - rims)
        needed = rims + _ceil_to(padded - rims, count) // count
        return min(self.chip_px, _ceil_to(needed, math.lcm(self.stride, FITTED_PX)))

    def _spans(self, size: int) -> list[_Span]:
        chip = self._side(size)
        last = _ceil_to(size, self.stride) - chip
        step = chip - 2 * self.halo_px if last else 1
        starts = [*range(0, last, step), last]
        ends = [start + chip - self.halo_px for start in starts[:-1]] + [size]
        cores = zip([0, *ends], ends, strict=False)
        return [
            _Span(start, core_start, core_stop)
            for start, (core_start, core_stop) in zip(starts, cores, strict=True)
        ]


def _ceil_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
