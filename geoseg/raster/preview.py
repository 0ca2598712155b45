"""A picture of a scene beside its map, to look at before anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN_COLOUR, UNCERTAIN_NAME, Legend, rgb_of
from geoseg.raster.chips import PlannedChip
from geoseg.raster.pictures import map_picture, scene_picture, shown_bands
from geoseg.raster.scene import Chip
from geoseg.raster.stitch import Strip

__all__ = ["Preview", "Sampled", "draw_sheet"]

LONGEST_PX, SHORTEST_PX = 900, 700
MARGIN = 16
PAPER, INK, GREY = (255, 255, 255), (30, 30, 30), (128, 128, 128)


class Sampled:
    """Every n-th pixel of planes as large as a scene, so that they fit a picture.

    Args:
        shape: (height, width) of the scene.
        planes: how many there are.
        dtype: of their numbers.
        fill: what pixels are before they are seen.
    """

    def __init__(
        self, shape: tuple[int, int], planes: int, dtype: npt.DTypeLike, fill: float
    ) -> None:
        self._step = max(1, math.ceil(max(shape) / LONGEST_PX))
        height, width = (-(-size // self._step) for size in shape)
        self.planes: npt.NDArray[Any] = np.full((planes, height, width), fill, dtype)
        """(P, h, w), what was seen."""

    def see(self, window: Window, planes: npt.NDArray[Any]) -> None:
        """Take from planes (P, H, W) that hold a window of the scene."""
        inside, place = [], []
        for start, stop in (
            (window.row, window.row_stop),
            (window.col, window.col_stop),
        ):
            first = -(-start // self._step)
            inside.append(slice(first * self._step - start, stop - start, self._step))
            place.append(slice(first, -(-stop // self._step)))
        self.planes[:, *place] = planes[:, *inside]


class Preview:
    """Collects every n-th pixel of a scene and of its map as they pass, then draws them.

    Args:
        shape: (height, width) of the scene.
        bands: common names of the bands of its chips.
        legend: names and colours of the classes.
    """

    def __init__(self, shape: tuple[int, int], bands: Sequence[str], legend: Legend) -> None:
        self._shown = shown_bands(bands)
        self._legend = legend
        self._pixels = Sampled(shape, len(self._shown), np.float32, 0)
        self._classes = Sampled(shape, 1, np.uint8, NODATA)

    def see_chip(self, planned: PlannedChip, chip: Chip) -> None:
        """Take pixels of the scene."""
        rows, cols = planned.core.within(planned.window)
        self._pixels.see(planned.core, chip.pixels[self._shown][:, rows, cols])

    def see_strip(self, strip: Strip) -> None:
        """Take pixels of the map."""
        self._classes.see(strip.window, strip.classes[None])

    def save(self, path: Path, title: str, shares: dict[str, float]) -> None:
        """Draw scene, map and legend.

        Args:
            path: the PNG to write.
            title: a line above the pictures.
            shares: of each class, 0 to 1; classes without an entry are left out of the legend.
        """
        (classes,) = self._classes.planes
        pictures = (
            scene_picture(self._pixels.planes, classes != NODATA),
            map_picture(classes, self._legend),
        )
        colours = {c.name: c.rgb for c in self._legend}
        colours[UNCERTAIN_NAME] = rgb_of(UNCERTAIN_COLOUR)
        entries = [
            (rgb, f"{name}  {shares[name]:.1%}") for name, rgb in colours.items() if name in shares
        ]
        draw_sheet(path, title, pictures, entries)


def draw_sheet(
    path: Path,
    title: str,
    pictures: Sequence[Image.Image],
    entries: Sequence[tuple[tuple[int, int, int], str]],
) -> None:
    """Draw pictures of one size side by side, with a legend on their right.

    Args:
        path: the PNG to write.
        title: a line above the pictures.
        pictures: from left to right.
        entries: red, green and blue, and what they stand for.
    """
    grow = max(1, round(SHORTEST_PX / max(pictures[0].size)))
    size = pictures[0].width * grow, pictures[0].height * grow
    text, small = ImageFont.load_default(18), ImageFont.load_default(15)
    column = 2 * MARGIN + 24 + max([small.getlength(name) for _, name in entries] or [0])
    beside = MARGIN + len(pictures) * (size[0] + MARGIN)
    width = max(int(beside + column), int(text.getlength(title)) + 2 * MARGIN)
    top = MARGIN + 32
    height = int(top + max(size[1], 24 * len(entries)) + MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, text)
    for number, picture in enumerate(pictures):
        x = MARGIN + number * (size[0] + MARGIN)
        sheet.paste(picture.resize(size, Image.Resampling.NEAREST), (x, top))
    for row, (colour, name) in enumerate(entries):
        y = top + 24 * row
        draw.rectangle((beside, y, beside + 16, y + 16), colour, GREY)
        draw.text((beside + 24, y), name, INK, small)
    sheet.save(path, format="PNG")
