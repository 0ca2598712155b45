"""A scene to the strips of its map: read, computed and stitched at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from geoseg.background import ahead
from geoseg.errors import InputError, SceneError
from geoseg.model.card import Card
from geoseg.model.runtime import Array, Model
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.scene import Chip, Scene
from geoseg.raster.stitch import Join, ScoredChip, Strip, stitch
from geoseg.stopwatch import Stopwatch

__all__ = ["SeeChip", "Tiling", "predict_strips"]

SeeChip: TypeAlias = Callable[[PlannedChip, Chip], None]

MOST_CHIP_PX = 1 << 14

CHIPS_AHEAD, STRIPS_AHEAD = 4, 1
"""How many may wait to be computed, and to be written."""

USUAL_MEMORY_BYTES = 1200 << 20

BASE_BYTES = 450 << 20
"""Of a process that has loaded its libraries, and GDAL's cache."""

WORTH_IT = 0.85
"""Chips are not made larger when this share of them is kept."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How chips are cut and joined; None where the model's card says it."""

    join: Join | None = None
    """Keep chips' cores, or blend what overlaps; the card knows which is right."""
    chip_px: int | None = None
    """Side of a chip."""
    halo_px: int | None = None
    """The rim of a chip that is read but not kept; when blending, half of what overlaps."""

    def __str__(self) -> str:
        return f"chips of {self.chip_px} px, halo {self.halo_px} px, {self.join}"

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
        return ChipPlan(shape, chip_px, halo_px, card.stride), join

    def settled(
        self, shape: tuple[int, int], model: Model, memory_bytes: int | None = None
    ) -> Tiling:
        """The same with nothing left open, fit to the memory where the map does not depend on it.

        Only for a network that is exact under tiling may the size of chips be chosen: the larger
        they are, the less is computed twice.

        Args:
            shape: (height, width) of the scene.
            model: what maps it.
            memory_bytes: of the whole process; None: 1.2 GB, or what the card's own chips take.

        Raises:
            InputError: if the memory is too small for chips that may not be made smaller.
        """
        plan, join = self.plan(shape, model.card)
        free = (USUAL_MEMORY_BYTES if memory_bytes is None else memory_bytes) - BASE_BYTES
        sizes = [plan.chip_px]
        if self.chip_px is None and self.halo_px is None and join == "crop" and model.card.exact:
            sizes = list(_chip_sizes(plan))
        needed: int | None = None
        for chip_px in sizes:
            side = replace(plan, chip_px=chip_px).chip_shape
            needed = model.runtime.memory_bytes((len(model.card.bands), *side))
            if needed is None or needed <= free:
                return Tiling(join, chip_px, plan.halo_px)
        if memory_bytes is None or needed is None:
            return Tiling(join, plan.chip_px, plan.halo_px)
        raise InputError(
            f"{model.card.name} takes about {(needed + BASE_BYTES) / 1e9:.1f} GB with chips of "
            f"{sizes[-1]} px; give more with --memory, or smaller chips with --chip"
        )


def predict_strips(
    scene: Scene,
    model: Model,
    *,
    tiling: Tiling | None = None,
    scores: bool = False,
    see_chip: SeeChip | None = None,
    watch: Stopwatch | None = None,
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
    read = watch.each("read", _read(scene, plan, model, see_chip))
    chips = ahead(read, CHIPS_AHEAD, "geoseg-read")
    decide = join == "crop" and not scores
    scored = watch.each("network", _score(chips, model, decide))
    strips = stitch(plan, scored, card.legend.codes, join=join, scores=scores)
    yield from ahead(watch.each("stitch", strips), STRIPS_AHEAD, "geoseg-stitch")


@dataclass(frozen=True, slots=True)
class _ReadChip:
    planned: PlannedChip
    chip: Chip
    values: Array | None
    """What the network sees; None where there is nothing to see."""


def _read(
    scene: Scene, plan: ChipPlan, model: Model, see_chip: SeeChip | None
) -> Iterator[_ReadChip]:
    for planned in plan:
        chip = scene.read(planned.window)
        if see_chip is not None:
            see_chip(planned, chip)
        yield _ReadChip(planned, chip, model.filled(chip) if chip.valid.any() else None)


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
            yield ScoredChip(empty.planned, None, empty.chip.valid)

    if decide:
        for decision in model.runtime.decisions(with_data()):
            yield from passed_by()
            first = waiting.popleft()
            yield ScoredChip(first.planned, None, first.chip.valid, decision)
    else:
        for scores in model.runtime.scores(with_data()):
            yield from passed_by()
            first = waiting.popleft()
            yield ScoredChip(first.planned, scores, first.chip.valid)
    yield from passed_by()


def _chip_sizes(plan: ChipPlan) -> Iterator[int]:
    """Sides to choose from for an exact network, the best first: large enough, then smaller."""
    larger = [plan.chip_px]
    while ((larger[-1] - 2 * plan.halo_px) / larger[-1]) ** 2 < WORTH_IT and (
        larger[-1] < max(plan.shape)
    ):
        larger.append(larger[-1] + plan.chip_px)
    yield from reversed(larger)
    smaller = plan.chip_px // 2 // plan.stride * plan.stride
    while smaller > 4 * plan.halo_px:
        yield smaller
        smaller = smaller // 2 // plan.stride * plan.stride
