"""A picture of a scene beside its map, to look at before anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoseg.grid import Window
from geoseg.legend import NODATA, Legend
from geoseg.raster.chips import PlannedChip
from geoseg.raster.pictures import map_picture, scene_picture, shown_bands
from geoseg.raster.scene import Chip
from geoseg.raster.stitch import Strip

__all__ = ["Preview"]

LONGEST_PX, SHORTEST_PX = 900, 700
MARGIN = 16
PAPER, INK, GREY = (255, 255, 255), (30, 30, 30), (128, 128, 128)


class Preview:
    """Collects every n-th pixel of a scene and of its map as they pass, then draws them.

    Args:
        shape: (height, width) of the scene.
        bands: common names of the bands of its chips.
        legend: names and colours of the classes.
    """

    def __init__(self, shape: tuple[int, int], bands: Sequence[str], legend: Legend) -> None:
        self._step = max(1, math.ceil(max(shape) / LONGEST_PX))
        height, width = (-(-size // self._step) for size in shape)
        self._shown = shown_bands(bands)
        self._legend = legend
        self._pixels = np.zeros((len(self._shown), height, width), np.float32)
        self._classes = np.full((height, width), NODATA, np.uint8)

    def see_chip(self, planned: PlannedChip, chip: Chip) -> None:
        """Take pixels of the scene."""
        core, place = self._every_nth(planned.core)
        rows, cols = planned.core.within(planned.window)
        kept = chip.pixels[self._shown][:, rows, cols]
        self._pixels[:, *place] = kept[:, *core]

    def see_strip(self, strip: Strip) -> None:
        """Take pixels of the map."""
        rows, place = self._every_nth(strip.window)
        self._classes[place] = strip.classes[rows]

    def save(self, path: Path, title: str, shares: dict[str, float]) -> None:
        """Draw scene, map and legend.

        Args:
            path: the PNG to write.
            title: a line above the pictures.
            shares: of each class, 0 to 1; classes without an entry are left out of the legend.
        """
        left = scene_picture(self._pixels, self._classes != NODATA)
        right = map_picture(self._classes, self._legend)
        grow = max(1, round(SHORTEST_PX / max(left.size)))
        size = left.width * grow, left.height * grow
        text, small = ImageFont.load_default(18), ImageFont.load_default(15)
        entries = [(c.rgb, f"{c.name}  {shares[c.name]:.1%}") for c in self._legend
                   if c.name in shares]  # fmt: skip
        column = 2 * MARGIN + 24 + max([small.getlength(name) for _, name in entries] or [0])
        width = int(3 * MARGIN + 2 * size[0] + column)
        width = max(width, int(text.getlength(title)) + 2 * MARGIN)
        top = MARGIN + 32
        height = int(top + max(size[1], 24 * len(entries)) + MARGIN)
        sheet = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(sheet)
        draw.text((MARGIN, MARGIN), title, INK, text)
        sheet.paste(left.resize(size, Image.Resampling.NEAREST), (MARGIN, top))
        sheet.paste(right.resize(size, Image.Resampling.NEAREST), (2 * MARGIN + size[0], top))
        x = 3 * MARGIN + 2 * size[0]
        for row, (colour, name) in enumerate(entries):
            y = top + 24 * row
            draw.rectangle((x, y, x + 16, y + 16), colour, GREY)
            draw.text((x + 24, y), name, INK, small)
        sheet.save(path, format="PNG")

    def _every_nth(self, window: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the window's pixels that are shown, and of the picture where they go."""
        inside, place = [], []
        for start, stop in (
            (window.row, window.row_stop),
            (window.col, window.col_stop),
        ):
            first = -(-start // self._step)
            inside.append(slice(first * self._step - start, stop - start, self._step))
            place.append(slice(first, -(-stop // self._step)))
        return (inside[0], inside[1]), (place[0], place[1])
