"""The ways to compare two scenes, behind one protocol: what they read, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.alteration import Comparison as ValueMethod
from geoseg.bitemporal.change_legend import YES_OR_NO, ChangeLegend
from geoseg.bitemporal.draft import Draft, Findings
from geoseg.bitemporal.pair import ScenePair, shared_bands
from geoseg.bitemporal.semantic import WantedTransitions, compare_classes
from geoseg.bitemporal.spectral import compare_values
from geoseg.bitemporal.stacked import StackedPair
from geoseg.bitemporal.trained import PLANES, find_kinds
from geoseg.grid import Grid, Window
from geoseg.map_making import Progress
from geoseg.model.loading import Model
from geoseg.raster.chips import PlannedChip
from geoseg.raster.level import Level
from geoseg.raster.scene import Chip, Reading, Scene, Units
from geoseg.raster.stitch import Strip
from geoseg.scene_mapping import predict_strips
from geoseg.scene_opening import at_gsd, fitting_grid
from geoseg.stopwatch import Stopwatch

__all__ = ["ClassComparison", "Comparison", "PairComparison", "ValueComparison"]

See = Callable[[int, Window, npt.NDArray[np.float32]], None]
"""Shown the pixels (C, H, W) of the earlier (0) and of the later scene (1) at a window."""

DRAFT_PLANES = 4


class Comparison(Protocol):
    """A way to compare two scenes."""

    @property
    def bands(self) -> Sequence[str] | None:
        """Common names of the bands to read; None: all, in their order."""
        ...

    @property
    def or_else(self) -> Sequence[Sequence[str]]:
        """Sets of bands that will do where a scene lacks one of them."""
        ...

    @property
    def levels(self) -> Sequence[Level]:
        """Levels of reflectance that will do; empty: any."""
        ...

    @property
    def units(self) -> Units:
        """What the numbers are to mean."""
        ...

    @property
    def stored_type(self) -> str | None:
        """With units "stored", the data type wanted; None: any."""
        ...

    @property
    def legend(self) -> ChangeLegend:
        """The classes, or the kinds of change."""
        ...

    @property
    def assumed(self) -> Sequence[str]:
        """What was taken for granted, a sentence each."""
        ...

    def fit(self, grid: Grid) -> Grid:
        """The grid to compare on, made out of the one that the scenes share."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it is, for the summary."""
        ...

    def compare(
        self,
        pair: ScenePair,
        draft: Path,
        see: See,
        watch: Stopwatch,
        progress: Progress,
    ) -> Findings:
        """Compare the scenes at every pixel.

        Args:
            pair: the scenes.
            draft: a file to keep what was found in.
            see: shown what was read.
            watch: counts the seconds.
            progress: called with the share that is done, 0 to 1.
        """
        ...


class ValueComparison:
    """Compares values, without a model.

    Args:
        method: "irmad" or "cva".
        scenes: the earlier and the later one.
        reading: what a person says about both.
        gsd: metres to compare at; None and 0: as the scenes are.

    Raises:
        BandError: if it is not clear which bands to compare.
    """

    or_else: Sequence[Sequence[str]] = ()
    levels: Sequence[Level] = ()
    units: Units = "stored"
    stored_type = None
    legend = YES_OR_NO

    def __init__(
        self,
        method: ValueMethod,
        scenes: tuple[str | Path, str | Path],
        reading: Reading,
        gsd: float | None = None,
    ) -> None:
        self._method, self._reading, self._gsd = method, reading, gsd
        self.bands, self.assumed = shared_bands(*scenes, reading)

    def fit(self, grid: Grid) -> Grid:
        """See Comparison."""
        return at_gsd(grid, "the pair", self._gsd, self._reading.max_pixels)

    def facts(self) -> dict[str, Any]:
        """See Comparison."""
        return {"method": self._method, "model": None}

    def compare(
        self,
        pair: ScenePair,
        draft: Path,
        see: See,
        watch: Stopwatch,
        progress: Progress,
    ) -> Findings:
        """See Comparison."""
        with watch.stage("compare"):
            return compare_values(pair, self._method, draft, see, progress)


class _ModelComparison:
    """What comparing with a model takes, however many dates it sees."""

    assumed: Sequence[str] = ()

    def __init__(self, model: Model, reading: Reading, gsd: float | None) -> None:
        self._model = model
        self._fit = partial(
            fitting_grid, name="the pair", card=model.card, gsd=gsd, max_pixels=reading.max_pixels
        )
        self.bands = model.card.bands
        self.or_else, self.levels = model.card.band_sets, model.card.levels
        self.units = model.card.units
        self.stored_type = model.card.stored_type

    def fit(self, grid: Grid) -> Grid:
        """See Comparison."""
        return self._fit(grid)

    def facts(self) -> dict[str, Any]:
        """See Comparison."""
        model = self._model
        label = model.runtime.label
        told = {"name": model.card.name, "sha256": model.sha256, "runtime": label}
        return {"method": "model", "model": told}


class ClassComparison(_ModelComparison):
    """Compares the classes that a model sees on each date.

    Args:
        model: it.
        wanted: the transitions that count.
        reading: what a person says about both scenes.
        gsd: metres to read at; None: within the model's range; 0: as the scenes are.
    """

    def __init__(
        self, model: Model, wanted: WantedTransitions, reading: Reading, gsd: float | None = None
    ) -> None:
        super().__init__(model, reading, gsd)
        self._wanted = wanted
        self.legend = ChangeLegend(model.card.legend)

    def compare(
        self,
        pair: ScenePair,
        draft: Path,
        see: See,
        watch: Stopwatch,
        progress: Progress,
    ) -> Findings:
        """See Comparison."""
        earlier = self._map(0, pair.before, see, watch)
        later = self._map(1, pair.after, see, watch)
        with watch.stage("compare"):
            return compare_classes(
                _in_lock_step(earlier, later, pair.grid.height, progress),
                self.legend.legend,
                self._wanted,
                Draft(draft, pair.grid, DRAFT_PLANES, np.uint8),
                calibrated=self._model.card.temperature != 1,
            )

    def _map(self, number: int, scene: Scene, see: See, watch: Stopwatch) -> Iterator[Strip]:
        def see_chip(planned: PlannedChip, chip: Chip) -> None:
            see(number, planned.core, chip.pixels[:, *planned.core.within(planned.window)])

        return predict_strips(scene, self._model, scores=True, see_chip=see_chip, watch=watch)


class PairComparison(_ModelComparison):
    """Finds the kinds of change that a model of two dates sees.

    Args:
        model: it.
        wanted: codes of the kinds that count.
        reading: what a person says about both scenes.
        gsd: see ClassComparison.
    """

    def __init__(
        self, model: Model, wanted: Collection[int], reading: Reading, gsd: float | None = None
    ) -> None:
        super().__init__(model, reading, gsd)
        self._wanted = wanted
        self.legend = ChangeLegend(model.card.legend, model.card.unchanged)

    def compare(
        self,
        pair: ScenePair,
        draft: Path,
        see: See,
        watch: Stopwatch,
        progress: Progress,
    ) -> Findings:
        """See Comparison."""

        def see_chip(planned: PlannedChip, chip: Chip) -> None:
            both = chip.pixels[:, *planned.core.within(planned.window)]
            for date, pixels in enumerate(np.split(both, 2)):
                see(date, planned.core, pixels)

        strips = predict_strips(
            StackedPair(pair), self._model, scores=True, see_chip=see_chip, watch=watch
        )
        return find_kinds(
            _told(strips, pair.grid.height, progress),
            self.legend,
            self._wanted,
            Draft(draft, pair.grid, PLANES, np.uint8),
        )


def _told(strips: Iterator[Strip], height: int, progress: Progress) -> Iterator[Strip]:
    for strip in strips:
        yield strip
        progress(strip.window.row_stop / height)


def _in_lock_step(
    earlier: Iterator[Strip], later: Iterator[Strip], height: int, progress: Progress
) -> Iterator[tuple[Strip, Strip]]:
    """Strips of two maps of one grid, which come in the same windows."""
    for strips in zip(earlier, later, strict=True):
        yield strips
        progress(strips[0].window.row_stop / height)
