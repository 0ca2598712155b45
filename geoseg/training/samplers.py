"""Which chips are learnt from: drawn at random, more often where classes are rare, or on a grid.

Every draw is a function of seed and epoch alone, so that a run that was cut off goes on as it
would have. A chip that is drawn always holds labelled pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.raster.chips import ChipPlan
from geoseg.training.splits import Area
from geoseg.training.survey import CELL_PX, GroundSurvey

__all__ = [
    "ChipPlace",
    "GriddedChips",
    "RandomChips",
    "RareClassChips",
    "countable",
    "covering_chips",
]

TRIES = 20
"""Places of a chip around a cell that are tried before another cell is."""


@dataclass(frozen=True, slots=True)
class ChipPlace:
    """A chip to be cut."""

    ground: int
    """Of which piece of ground."""
    window: Window
    """What is read; it is scaled to the size of a chip."""
    core: Window | None = None
    """Labels outside are not counted; None: all are."""
    seed: int | None = None
    """Of what is varied in it; None: nothing is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells that chips of one area may cover."""

    area: Area
    windows: tuple[Window, ...]
    counts: npt.NDArray[np.int32]
    """(N, K), labelled pixels of each class."""


class RandomChips(Sampler[ChipPlace]):
    """Chips around labelled ground, each labelled pixel about as often.

    Args:
        areas: where chips may lie.
        surveys: what each piece of ground holds.
        chip_px: side of a chip.
        length: chips in an epoch.
        seed: of all draws.
        zoom: windows are from so much to so much of the size of a chip.
        zoomed: share of the windows that are.
        align_px: windows begin at multiples of it.

    Raises:
        InputError: if no chip fits into the areas without touching what is kept apart.
    """

    def __init__(
        self,
        areas: Sequence[Area],
        surveys: Sequence[GroundSurvey],
        *,
        chip_px: int,
        length: int,
        seed: int = 0,
        zoom: tuple[float, float] = (1.0, 1.0),
        zoomed: float = 1.0,
        align_px: int = 1,
    ) -> None:
        self._chip_px, self._zoom, self._zoomed, self._align_px = chip_px, zoom, zoomed, align_px
        self._length, self._seed = length, seed
        self._epoch, self._share = 0, (0, 1)
        found = [_cells(area, surveys[area.ground]) for area in areas]
        self._cells = [each for each in found if each.windows]
        if not self._cells:
            raise InputError("nothing that may be learnt from is labelled: keep less apart")
        self._owner = np.concatenate(
            [np.full(len(c.windows), i) for i, c in enumerate(self._cells)]
        )
        self._counts = np.concatenate([each.counts for each in self._cells])
        self._by_cell = np.cumsum(self._counts.sum(axis=1), dtype=np.float64)
        self._first = np.cumsum([0, *(len(each.windows) for each in self._cells[:-1])])

    def __len__(self) -> int:
        return -(-self._length // self._share[1])

    def __iter__(self) -> Iterator[ChipPlace]:
        rng = np.random.default_rng([self._seed, self._epoch])
        first, step = self._share
        for number in range(len(self) * step):
            place = self._draw(rng)
            if number % step == first:
                yield place

    def at(self, epoch: int, share: tuple[int, int] = (0, 1)) -> Self:
        """The same sampler in another epoch, or for one of several processes."""
        other = copy(self)
        other._epoch, other._share = epoch, share
        return other

    def _bounds(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """(N,), running sums of how likely each cell is the next."""
        return self._by_cell

    def _draw(self, rng: np.random.Generator) -> ChipPlace:
        bounds = self._bounds(rng)
        for _ in range(TRIES * TRIES):
            cell = int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
            times = np.exp(rng.uniform(*np.log(self._zoom)))
            side = round(self._chip_px * (times if rng.random() < self._zoomed else 1))
            window = self._around(cell, max(CELL_PX, side), rng)
            if window is not None:
                ground = self._cells[self._owner[cell]].area.ground
                return ChipPlace(ground, window, seed=int(rng.integers(2**62)))
        raise InputError(
            f"chips of {self._chip_px} px find no place that touches nothing kept apart; "
            "make chip_px, buffer_px or the shares kept apart smaller"
        )

    def _around(self, cell: int, side: int, rng: np.random.Generator) -> Window | None:
        """A window of the area that covers the cell and touches nothing kept apart."""
        owner = self._owner[cell]
        area = self._cells[owner].area
        covered = self._cells[owner].windows[cell - self._first[owner]]
        for _ in range(TRIES):
            row, col = (
                self._start(rng, side, low=low, size=size, cell=cell, cell_size=cell_size)
                for low, size, cell, cell_size in (
                    (area.window.row, area.window.height, covered.row, covered.height),
                    (area.window.col, area.window.width, covered.col, covered.width),
                )
            )
            window = Window(row, col, side, side)
            if not any(window.intersect(kept) for kept in area.without):
                return window
        return None

    def _start(
        self, rng: np.random.Generator, side: int, *, low: int, size: int, cell: int, cell_size: int
    ) -> int:
        """Where a chip begins that covers a cell inside [low, low + size), if it fits there."""
        if side >= size:
            first, last = low + size - side, low
        else:
            first, last = max(low, cell + cell_size - side), min(low + size - side, cell)
        first, last = -(-first // self._align_px), last // self._align_px
        return self._align_px * int(rng.integers(first, max(first, last) + 1))


class RareClassChips(RandomChips):
    """Chips drawn class by class, a rare class more often: P(c) ~ exp((1 - f(c)) / temperature).

    f(c) is the class's share of all labelled pixels. A chip covers a cell of 32 x 32 px that holds
    `min_class_px` of the class drawn at least, where there is such a cell. What else it takes,
    RandomChips tells.

    Reference:
        Rare class sampling of Hoyer, Dai, Van Gool: "DAFormer", CVPR 2022.
        https://arxiv.org/abs/2111.14887
    """

    def __init__(
        self,
        areas: Sequence[Area],
        surveys: Sequence[GroundSurvey],
        *,
        temperature: float,
        min_class_px: int,
        chip_px: int,
        length: int,
        seed: int = 0,
        **more: Any,
    ) -> None:
        super().__init__(areas, surveys, chip_px=chip_px, length=length, seed=seed, **more)
        self.probabilities = class_probabilities(self._counts.sum(axis=0), temperature)
        """(K,), how often each class is drawn; 0 where it is absent."""
        enough = self._counts >= min_class_px
        some = np.where(enough.any(axis=0), enough, self._counts > 0)
        likely = np.where(some, self._counts, 0)
        self._by_class = np.cumsum(likely.T, axis=1, dtype=np.float64)

    def _bounds(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        drawn = rng.choice(len(self.probabilities), p=self.probabilities)
        return np.asarray(self._by_class[drawn])


def class_probabilities(
    counts: npt.NDArray[np.integer], temperature: float
) -> npt.NDArray[np.float64]:
    """(K,), how often rare-class sampling draws each class; absent classes never."""
    present = counts > 0
    share = counts / counts.sum()
    score = np.exp((share[present].min() - share) / temperature)  # the largest is 1
    score[~present] = 0
    return np.asarray(score / score.sum())


def countable(areas: Sequence[Area], surveys: Sequence[GroundSurvey]) -> npt.NDArray[np.int64]:
    """(N, K), labelled pixels of each class that chips may cover, for each piece of ground."""
    counts: dict[int, npt.NDArray[np.int64]] = {}
    for area in areas:
        found = _cells(area, surveys[area.ground]).counts.sum(axis=0, dtype=np.int64)
        counts[area.ground] = counts.get(area.ground, 0) + found
    return np.stack([counts[ground] for ground in sorted(counts)])


class GriddedChips(Sampler[ChipPlace]):
    """Chips side by side over whole areas, each pixel counted once.

    Args:
        areas: what is covered; chips reach beyond an area only to fill up the stride, and are
            smaller where the area is.
        surveys: what each piece of ground holds; chips without labels are left out.
        chip_px: side of a chip, a multiple of the stride.
        halo_px: rim of a chip that is not counted, a multiple of the stride.
        stride: of the network.
        share: (i, n) takes every n-th chip from the i-th, for the i-th of n processes.
    """

    def __init__(
        self,
        areas: Sequence[Area],
        surveys: Sequence[GroundSurvey],
        *,
        chip_px: int,
        halo_px: int,
        stride: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._places = [
            place
            for area in areas
            for place in _gridded(area, chip_px, halo_px, stride)
            if place.core is not None and surveys[area.ground].labelled_in(place.core)
        ][share[0] :: share[1]]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[ChipPlace]:
        return iter(self._places)


def _gridded(area: Area, chip_px: int, halo_px: int, stride: int) -> Iterator[ChipPlace]:
    for planned in ChipPlan(area.window.shape, chip_px, halo_px, stride):
        window, core = (
            each.shift(area.window.row, area.window.col) for each in (planned.window, planned.core)
        )
        yield ChipPlace(area.ground, window, core)


def covering_chips(areas: Sequence[Area], surveys: Sequence[GroundSurvey], chip_px: int) -> int:
    """How many chips, side by side, cover all that is labelled once."""
    return sum(
        len({(w.row // chip_px, w.col // chip_px) for w in _cells(a, surveys[a.ground]).windows})
        for a in areas
    )


def _cells(area: Area, survey: GroundSurvey) -> _Cells:
    windows, counts = [], []
    for row, col in np.argwhere(survey.cells.any(axis=2)).tolist():
        cell = Window(row * CELL_PX, col * CELL_PX, CELL_PX, CELL_PX).intersect(area.window)
        if cell is None or any(cell.intersect(kept) for kept in area.without):
            continue
        windows.append(cell)
        counts.append(survey.cells[row, col])
    shape = (0, survey.cells.shape[2])
    return _Cells(area, tuple(windows), np.array(counts) if counts else np.zeros(shape, np.int32))
