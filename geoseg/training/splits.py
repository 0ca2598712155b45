"""What is learnt from and what is kept apart: no pixel of one is ever seen for the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.labels import LabelledScene
from geoseg.recipe import Recipe
from geoseg.training.ground import Ground
from geoseg.training.survey import GroundSurvey

__all__ = ["Area", "Split", "check_apart", "split_grounds"]

TOLERANCE_PX = 0.5
"""Neighbours that share an edge do not overlap, whatever rounding says."""


@dataclass(frozen=True, slots=True)
class Area:
    """A part of one piece of ground that chips may be cut from."""

    ground: int
    """Its place in the list of grounds."""
    window: Window
    """Chips lie inside."""
    without: tuple[Window, ...] = ()
    """Chips touch none of these."""


Areas: TypeAlias = tuple[Area, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The areas of each purpose."""

    train: Areas
    validation: Areas
    test: Areas


def split_grounds(
    recipe: Recipe,
    pairs: Sequence[LabelledScene],
    grounds: Sequence[Ground],
    surveys: Sequence[GroundSurvey],
    reach_px: int,
) -> Split:
    """Divide grounds as the recipe says.

    Args:
        recipe: its split, shares, folds, block and buffer.
        pairs: what is kept apart already.
        grounds: the pieces of ground.
        surveys: what they hold: what is not labelled is not worth keeping apart.
        reach_px: how far the network sees; buffers must be as wide.

    Raises:
        InputError: if there is too little to divide, a buffer is too narrow, or what is to be
            kept apart overlaps what is learnt from.
    """
    labelled = [i for i, survey in enumerate(surveys) if survey.counts.sum()]
    free = [i for i in labelled if pairs[i].kept_for is None]
    divide = _by_scene if recipe.split == "scenes" else _by_block
    train, validation, test = divide(recipe, grounds, surveys, free, reach_px)
    for i in labelled:
        whole = Area(i, grounds[i].grid.window)
        if pairs[i].kept_for == "validation":
            validation = (*validation, whole)
        elif pairs[i].kept_for == "test":
            test = (*test, whole)
    split = Split(train, validation, test)
    check_apart(split, [ground.grid for ground in grounds], [ground.name for ground in grounds])
    return split


def _by_scene(
    recipe: Recipe,
    grounds: Sequence[Ground],
    surveys: Sequence[GroundSurvey],
    free: Sequence[int],
    reach_px: int,
) -> tuple[Areas, Areas, Areas]:
    areas = [(Area(i, grounds[i].grid.window),) for i in free]
    return _parts(recipe, areas, "scenes; split: blocks divides each of them")


def _by_block(
    recipe: Recipe,
    grounds: Sequence[Ground],
    surveys: Sequence[GroundSurvey],
    free: Sequence[int],
    reach_px: int,
) -> tuple[Areas, Areas, Areas]:
    least = min(reach_px, recipe.chip_px)
    buffer_px = recipe.chip_px if recipe.buffer_px is None else recipe.buffer_px
    if buffer_px < least:
        raise InputError(
            f"buffer_px {buffer_px} is narrower than the {least} px that the network sees"
        )
    blocks = [
        Area(i, block)
        for i in free
        for block in _blocks(grounds[i].grid.window, recipe.block_px)
        if surveys[i].labelled_in(block)
    ]
    grids = [ground.grid for ground in grounds]
    places = _places(blocks, grids)
    _, validation, test = _parts(recipe, places, "labelled blocks; a smaller block_px makes more")
    kept = (*validation, *test)
    train = tuple(
        Area(
            i,
            grids[i].window,
            tuple(
                found.pad(buffer_px)
                for each in kept
                if (found := _window_on(grids[i], grids[each.ground], each.window)) is not None
            ),
        )
        for i in free
    )
    return train, validation, test


def _places(blocks: Sequence[Area], grids: Sequence[Grid]) -> list[Areas]:
    """Blocks of several scenes that are the same ground for the most part, together."""
    found: list[list[Area]] = []
    earlier: dict[int, _Placed] = {}
    for ground, own in groupby(blocks, key=lambda block: block.ground):
        edges, places = [], []
        for block in own:
            place = _same_ground(block, grids, earlier)
            if place is None:
                place = len(found)
                found.append([])
            found[place].append(block)
            places.append(place)
            w = block.window
            edges.append((w.row, w.col, w.row_stop, w.col_stop))
        earlier[ground] = _Placed(np.array(edges), places)
    return [tuple(place) for place in found]


@dataclass(frozen=True, slots=True)
class _Placed:
    """The blocks of one piece of ground."""

    edges: npt.NDArray[np.int64]
    """(N, 4), first row and column of each, and those after its last."""
    places: list[int]
    """Which place each belongs to."""


def _same_ground(block: Area, grids: Sequence[Grid], earlier: Mapping[int, _Placed]) -> int | None:
    """The place whose block of an earlier scene lies under this one by more than half."""
    for ground, placed in earlier.items():
        there = _window_on(grids[ground], grids[block.ground], block.window)
        if there is None:
            continue
        first, stop = placed.edges[:, :2], placed.edges[:, 2:]
        shared = np.minimum(stop, (there.row_stop, there.col_stop)) - np.maximum(
            first, (there.row, there.col)
        )
        share = shared.clip(0).prod(axis=1) / (stop - first).prod(axis=1)
        if share.max() > 0.5:
            return placed.places[int(share.argmax())]
    return None


def _parts(recipe: Recipe, places: Sequence[Areas], what: str) -> tuple[Areas, Areas, Areas]:
    """Areas to learn from, to validate and to test, shuffled by the recipe's seed."""
    count = len(places)
    order = np.random.default_rng(recipe.split_seed).permutation(count).tolist()
    tests = 0 if recipe.test_scenes else math.ceil(round(recipe.test * count, 6))
    test, rest = order[:tests], order[tests:]
    validation: list[int] = []
    if recipe.folds is not None:
        validation = rest[recipe.fold :: recipe.folds]
    elif recipe.validation and not recipe.validation_scenes:
        validation = rest[: max(1, round(recipe.validation * count))]
    train = [each for each in rest if each not in set(validation)]
    if not train or (recipe.folds and not validation):
        raise InputError(f"too little to divide: there are {count} {what}")
    learnt, validated, tested = (
        tuple(chain.from_iterable(places[i] for i in sorted(part)))
        for part in (train, validation, test)
    )
    return learnt, validated, tested


def _blocks(window: Window, side: int) -> list[Window]:
    """Blocks of about `side` that cover the window, none much smaller than the others."""
    rows, cols = (
        np.linspace(0, size, max(1, round(size / side)) + 1).round().astype(int)
        for size in window.shape
    )
    return [
        Window.from_stops(*map(int, (r0, c0, r1, c1)))
        for r0, r1 in pairwise(rows)
        for c0, c1 in pairwise(cols)
    ]


def check_apart(split: Split, grids: Sequence[Grid], names: Sequence[str]) -> None:
    """See that nothing that is kept apart is learnt from, nor tested by what chose the epoch.

    Raises:
        InputError: naming two scenes that overlap.
    """
    learnt = "which is learnt from; leave one out, or split: blocks, which keeps ground apart"
    chosen = "by which the best epoch is chosen; leave one out, or another split_seed"
    pairs = [
        (split.train, (*split.validation, *split.test), learnt),
        (split.validation, split.test, chosen),
    ]
    for seen, kept, why in pairs:
        for apart in kept:
            for area in seen:
                _refuse_overlap(area, apart, grids, names, why)


def _refuse_overlap(
    area: Area, apart: Area, grids: Sequence[Grid], names: Sequence[str], why: str
) -> None:
    found = _window_on(grids[area.ground], grids[apart.ground], apart.window)
    shared = None if found is None else found.intersect(area.window)
    if shared is None or any(window.contains(shared) for window in area.without):
        return
    first, second = names[area.ground], names[apart.ground]
    raise InputError(
        f"{second} is to be kept apart, but {shared.height} x {shared.width} px of it lie in "
        f"{first}, {why}"
    )


def _window_on(grid: Grid, other: Grid, window: Window) -> Window | None:
    """The pixels of `grid` that a window of another grid touches, None where they do not meet."""
    if other == grid:
        return window
    if (grid.crs is None) != (other.crs is None):
        return None  # nobody knows
    t = np.linspace(0, 1, 9)
    cols = window.col + window.width * np.concatenate([t, t * 0 + 1, 1 - t, t * 0])
    rows = window.row + window.height * np.concatenate([t * 0, t, t * 0 + 1, 1 - t])
    col, row = grid.from_pixels_of(other, cols, rows)
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return None
    touched = (
        math.floor(row.min() + TOLERANCE_PX),
        math.floor(col.min() + TOLERANCE_PX),
        math.ceil(row.max() - TOLERANCE_PX),
        math.ceil(col.max() - TOLERANCE_PX),
    )
    if touched[0] >= touched[2] or touched[1] >= touched[3]:
        return None
    return Window.from_stops(*touched).intersect(grid.window)
