"""Pairs of scenes with what changed between them, made for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from made_ground import grid_at, told, write_raster

from geoseg.grid import Grid

YES_OR_NO = {0: "unchanged", 1: "changed"}


def make_pair(
    folder: Path, name: str, grid: Grid, *, seed: int = 0, later: Grid | None = None
) -> npt.NDArray[np.uint8]:
    """Two dates of two bands, and a mask of what became bright or dark; returns the mask.

    Args:
        folder: takes before/NAME.tif, after/NAME.tif and masks/NAME.tif.
        name: theirs.
        grid: of the earlier date and the mask.
        seed: of noise and ground.
        later: of the later date; what the other does not show is without data.
    """
    rng = np.random.default_rng(seed)
    bright = np.zeros(grid.shape, np.bool_)
    bright[:, grid.width // 2 :] = True
    mask = np.zeros(grid.shape, np.uint8)
    top, left = rng.integers(10, grid.height - 40), rng.integers(8, grid.width // 2 - 34)
    mask[top : top + 24, left : left + 20] = 1
    mask[top : top + 20, grid.width // 2 + 5 : grid.width // 2 + 30] = 2
    now = np.where(mask == 1, True, np.where(mask == 2, False, bright))
    for date, state, light in (("before", bright, 0), ("after", now, 6)):
        red, nir = (np.where(state, high, low) for high, low in ((150, 70), (90, 140)))
        bands = np.stack([red, nir]) + light + rng.normal(0, 6, (2, *grid.shape))
        pixels = np.clip(bands, 1, 255).astype(np.uint8)
        place = grid
        if date == "after" and later is not None:
            window, place = grid.align(later), later
            shown = np.zeros((2, *later.shape), np.uint8)
            inside = window.intersect(grid.window)
            assert inside is not None
            shown[:, *inside.within(window)] = pixels[:, *inside.within(grid.window)]
            pixels = shown
        write_raster(folder / date / f"{name}.tif", pixels, place, 0)
    mask[mask > 0] = 1
    mask[:3] = 255
    write_raster(folder / "masks" / f"{name}.tif", mask[None], grid, None)
    return mask


def make_pairs(folder: Path, count: int = 4) -> Path:
    for number in range(count):
        make_pair(folder, f"p{number}", grid_at(number), seed=number)
    return folder


def told_of_pairs(folder: Path, **more: Any) -> dict[str, Any]:
    """A recipe that learns those pairs in no time."""
    return told(
        folder,
        **{
            "scenes": "before/*.tif",
            "scenes_after": "after/*.tif",
            "labels": "masks/*.tif",
            "classes": YES_OR_NO,
            "unlabelled": [255],
            "architecture": "siamese_unet",
            **more,
        },
    )
