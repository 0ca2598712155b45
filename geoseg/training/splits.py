"""What is learnt from and what is kept apart: no pixel of one is ever seen for the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.recipe import Recipe
from geoseg.training.ground import Ground
from geoseg.training.survey import CELL_PX, GroundSurvey

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


@dataclass(frozen=True, slots=True)
class Split:
    """The areas of each purpose."""

    train: tuple[Area, ...]
    validation: tuple[Area, ...]
    test: tuple[Area, ...]


def split_grounds(
    recipe: Recipe, grounds: Sequence[Ground], surveys: Sequence[GroundSurvey], reach_px: int
) -> Split:
    """Divide grounds as the recipe says.

    Args:
        recipe: its split, shares, folds, block and buffer.
        grounds: the pieces of ground.
        surveys: what they hold: what is not labelled is not worth keeping apart.
        reach_px: how far the network sees; buffers must be as wide.

    Raises:
        InputError: if there is too little to divide, a buffer is too narrow, or what is to be
            kept apart overlaps what is learnt from.
    """
    labelled = [i for i, survey in enumerate(surveys) if survey.counts.sum()]
    if recipe.split == "scenes":
        split = _by_scene(recipe, grounds, labelled)
    else:
        split = _by_block(recipe, grounds, surveys, reach_px)
    check_apart(split, [ground.grid for ground in grounds], [ground.name for ground in grounds])
    return split


def _by_scene(recipe: Recipe, grounds: Sequence[Ground], labelled: Sequence[int]) -> Split:
    parts = _parts(recipe, len(labelled), "scenes; split: blocks divides each of them")
    areas = [
        tuple(Area(labelled[i], grounds[labelled[i]].grid.window) for i in part) for part in parts
    ]
    return Split(*areas)


def _by_block(
    recipe: Recipe, grounds: Sequence[Ground], surveys: Sequence[GroundSurvey], reach_px: int
) -> Split:
    least = min(reach_px, recipe.chip_px)
    buffer_px = recipe.chip_px if recipe.buffer_px is None else recipe.buffer_px
    if buffer_px < least:
        raise InputError(
            f"buffer_px {buffer_px} is narrower than the {least} px that the network sees"
        )
    blocks = [
        Area(i, block)
        for i, (ground, survey) in enumerate(zip(grounds, surveys, strict=True))
        for block in _blocks(ground.grid.window, recipe.block_px)
        if _labelled_in(survey, block)
    ]
    parts = _parts(recipe, len(blocks), "labelled blocks; a smaller block_px makes more")
    _, validation, test = (tuple(blocks[i] for i in part) for part in parts)
    kept = (*validation, *test)
    grids = [ground.grid for ground in grounds]
    train = tuple(
        Area(
            i,
            grid.window,
            tuple(
                found.pad(buffer_px)
                for each in kept
                if (found := _window_on(grid, grids[each.ground], each.window)) is not None
            ),
        )
        for i, grid in enumerate(grids)
    )
    return Split(train, validation, test)


def _parts(recipe: Recipe, count: int, what: str) -> tuple[list[int], list[int], list[int]]:
    """Places to learn from, to validate and to test, shuffled by the recipe's seed."""
    order = np.random.default_rng(recipe.split_seed).permutation(count).tolist()
    tests = round(recipe.test * count)
    if recipe.test and not tests:
        tests = 1
    test, rest = order[:tests], order[tests:]
    if recipe.folds is not None:
        validation = rest[recipe.fold :: recipe.folds]
    else:
        validation = rest[: max(1, round(recipe.validation * count))] if recipe.validation else []
    train = [each for each in rest if each not in set(validation)]
    wanted = bool(recipe.validation or recipe.folds)
    if not train or (wanted and not validation):
        raise InputError(f"too little to divide: there are {count} {what}")
    return sorted(train), sorted(validation), sorted(test)


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


def _labelled_in(survey: GroundSurvey, block: Window) -> bool:
    rows = slice(block.row // CELL_PX, -(-block.row_stop // CELL_PX))
    cols = slice(block.col // CELL_PX, -(-block.col_stop // CELL_PX))
    return bool(survey.cells[rows, cols].any())


def check_apart(split: Split, grids: Sequence[Grid], names: Sequence[str]) -> None:
    """See that nothing that is kept apart is learnt from, nor tested by what chose the epoch.

    Raises:
        InputError: naming two scenes that overlap.
    """
    pairs = [(split.train, (*split.validation, *split.test)), (split.validation, split.test)]
    for seen, kept in pairs:
        for apart in kept:
            for area in seen:
                _refuse_overlap(area, apart, grids, names)


def _refuse_overlap(area: Area, apart: Area, grids: Sequence[Grid], names: Sequence[str]) -> None:
    found = _window_on(grids[area.ground], grids[apart.ground], apart.window)
    shared = None if found is None else found.intersect(area.window)
    if shared is None or any(window.contains(shared) for window in area.without):
        return
    first, second = names[area.ground], names[apart.ground]
    raise InputError(
        f"{second} is to be kept apart, but {shared.height} x {shared.width} px of it lie in "
        f"{first}, which is learnt from; leave one out, or split: blocks, which keeps ground apart"
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
