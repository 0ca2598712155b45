"""A scene to the strips of its map: read, computed and stitched at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.background import ahead
from geoseg.errors import InputError, SceneError
from geoseg.model.card import Card
from geoseg.model.loading import Model
from geoseg.model.runtime import Array
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.scene import Chip, Scene
from geoseg.raster.stitch import Join, ScoredChip, Strip, rows_read, stitch
from geoseg.stopwatch import Stopwatch

__all__ = ["SeeChip", "Tiling", "predict_strips"]

SeeChip: TypeAlias = Callable[[PlannedChip, Chip], None]

MOST_CHIP_PX = 1 << 14

CHIPS_AHEAD, STRIPS_AHEAD = 4, 1
"""How many may wait to be computed, and to be written."""

BASE_BYTES = 260 << 20
"""Of a process that has loaded its libraries, and GDAL's cache."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How chips are cut and joined; None where the model's card says it."""

    join: Join | None = None
    """Keep chips' cores, or blend what overlaps; the card knows which is right."""
    chip_px: int | None = None
    """Side of a chip, at most."""
    halo_px: int | None = None
    """The rim of a chip that is read but not kept; when blending, half of what overlaps."""

    def __str__(self) -> str:
        most = "up to " if self.join == "crop" else ""
        return f"chips of {most}{self.chip_px} px, halo {self.halo_px} px, {self.join}"

    def plan(self, shape: tuple[int, int], card: Card) -> tuple[ChipPlan, Join]:
        """The chips of a scene and how to join them."""
        join = self.join or ("crop" if card.exact else "blend")
        chip_px = card.chip_px if self.chip_px is None else self.chip_px
        if chip_px > MOST_CHIP_PX:
            raise InputError(f"a chip of {chip_px} px is too large; {MOST_CHIP_PX} is the most")
        quarter = chip_px // 4 // card.stride * card.stride
        halo_px = card.halo_px if join == "crop" else quarter
        if self.halo_px is not None:
            halo_px = self.halo_px
        # what is blended comes from networks that see the whole chip, which keeps its size
        return ChipPlan(shape, chip_px, halo_px, card.stride, fitted=join == "crop"), join

    def settled(
        self, shape: tuple[int, int], model: Model, memory_bytes: int | None = None
    ) -> Tiling:
        """The same with nothing left open, in smaller chips where the memory asks for them.

        Only of a network that is exact under tiling may chips be of another size: its map stays
        the same. They are never made larger than the card says: on CPUs that saves less halo than
        it loses in the processor's caches (docs/pages/performance.md).

        Args:
            shape: (height, width) of the scene.
            model: what maps it.
            memory_bytes: of the whole process; None: what the card's own chips take.

        Raises:
            InputError: if the memory is too small for the smallest chips there may be, or what
                the runtime takes is not known.
        """
        plan, join = self.plan(shape, model.card)
        sizes, needed = [plan.chip_px], 0
        if self.chip_px is None and self.halo_px is None and join == "crop" and model.card.exact:
            sizes += _smaller(plan)
        for chip_px in sizes if memory_bytes is not None else ():
            side = replace(plan, chip_px=chip_px).chip_shape
            taken = model.runtime.memory_bytes((model.card.planes, *side))
            if taken is None:
                raise InputError("--memory is counted for openvino alone; choose a --chip instead")
            needed = BASE_BYTES + taken
            if needed <= (memory_bytes or 0):
                return Tiling(join, chip_px, plan.halo_px)
        if memory_bytes is None:
            return Tiling(join, plan.chip_px, plan.halo_px)
        raise InputError(
            f"{model.card.name} takes about {needed / 1e9:.1f} GB with chips of {sizes[-1]} px; "
            "give more with --memory, or choose smaller chips with --chip"
        )


def predict_strips(
    scene: Scene,
    model: Model,
    *,
    tiling: Tiling | None = None,
    scores: bool = False,
    see_chip: SeeChip | None = None,
    watch: Stopwatch | None = None,
    rows: range | None = None,
) -> Generator[Strip, None, None]:
    """Map a scene strip by strip, top to bottom, in memory that does not grow with its height.

    Reading and stitching have a thread each, and the network its own: while a strip is worked on,
    the next is made. Close the iterator to end them early.

    Args:
        scene: read in the bands and units of the model's card.
        model: what maps it.
        tiling: how chips are cut and joined.
        scores: whether strips carry every class's probability.
        see_chip: shown each chip as it is read, by the thread that reads.
        watch: counts the seconds of reading, network and stitching.
        rows: which rows of chips to make strips of; None: all.

    Raises:
        SceneError: if the scene is damaged, or smaller than the network's coarsest cell.
    """
    card, watch = model.card, watch or Stopwatch()
    if min(scene.grid.shape) < card.stride:
        raise SceneError(
            f"{scene.name} has {scene.grid.height} x {scene.grid.width} pixels; {card.name} needs "
            f"at least {card.stride} x {card.stride} to see anything"
        )
    plan, join = (tiling or Tiling()).plan(scene.grid.shape, card)
    wanted = range(plan.row_count) if rows is None else rows
    needed = rows_read(plan, wanted, join)
    read = watch.each("read", _read(scene, plan, needed, model, see_chip))

    def stitched() -> Iterator[Strip]:
        with closing(ahead(read, CHIPS_AHEAD, "geoseg-read")) as chips:
            scored = watch.each("network", _score(chips, model, join == "crop" and not scores))
            codes = card.legend.codes
            yield from stitch(plan, scored, codes, join=join, scores=scores, rows=wanted)

    yield from ahead(watch.each("stitch", stitched()), STRIPS_AHEAD, "geoseg-stitch")


@dataclass(frozen=True, slots=True)
class _ReadChip:
    planned: PlannedChip
    valid: npt.NDArray[np.bool_]
    values: Array | None
    """What the network sees; None where there is nothing to see."""


def _read(
    scene: Scene, plan: ChipPlan, rows: range, model: Model, see_chip: SeeChip | None
) -> Iterator[_ReadChip]:
    for planned in chain.from_iterable(islice(plan.rows(), rows.start, rows.stop)):
        chip = scene.read(planned.window)
        if see_chip is not None:
            see_chip(planned, chip)
        if chip.valid.any():
            yield _ReadChip(planned, chip.valid, model.filled(chip, scene.bands))
        else:  # there may be very many before the next that holds data: they take no memory
            yield _ReadChip(planned, np.broadcast_to(np.False_, chip.valid.shape), None)


def _score(chips: Iterable[_ReadChip], model: Model, decide: bool) -> Iterator[ScoredChip]:
    """Compute the chips that hold data; the others pass by, in their place."""
    waiting: deque[_ReadChip] = deque()

    def with_data() -> Iterator[Array]:
        for each in chips:
            waiting.append(each)
            if each.values is not None:
                yield each.values

    def passed_by() -> Iterator[ScoredChip]:
        while waiting and waiting[0].values is None:
            empty = waiting.popleft()
            yield ScoredChip(empty.planned, None, empty.valid)

    if decide:
        for decision in model.runtime.decisions(with_data()):
            yield from passed_by()
            first = waiting.popleft()
            yield ScoredChip(first.planned, None, first.valid, decision)
    else:
        for scores in model.runtime.scores(with_data()):
            yield from passed_by()
            first = waiting.popleft()
            yield ScoredChip(first.planned, scores, first.valid)
    yield from passed_by()


def _smaller(plan: ChipPlan) -> list[int]:
    """Halves, quarters and so on of the chip, as long as they leave half a side."""
    sizes, half = [], plan.chip_px // 2 // plan.stride * plan.stride
    while half >= max(4 * plan.halo_px, plan.stride):
        sizes.append(half)
        half = half // 2 // plan.stride * plan.stride
    return sizes
