"""A small picture of a class raster."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from geoseg.grid import Window
from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_COLOUR, Legend, rgb_of

__all__ = ["Thumbnail"]

LONGEST_PX = 480
EMPTY, GREY = (255, 255, 255), (128, 128, 128)


class Thumbnail:
    """Collects every n-th pixel of a map as its strips pass.

    Args:
        shape: (height, width) of the map.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._step = max(1, math.ceil(max(shape) / LONGEST_PX))
        height, width = (-(-size // self._step) for size in shape)
        self._codes = np.full((height, width), NODATA, np.uint8)

    def see(self, window: Window, codes: npt.NDArray[np.uint8]) -> None:
        """Take pixels of a strip that is as wide as the map."""
        first = -(-window.row // self._step)
        rows = codes[first * self._step - window.row :: self._step, :: self._step]
        self._codes[first : first + len(rows)] = rows

    def png(self, legend: Legend) -> bytes:
        """The picture in the legend's colours; white where there is no data."""
        palette = np.tile(np.array(GREY, np.uint8), (NODATA + 1, 1))
        palette[NODATA] = EMPTY
        for each in legend:
            palette[each.code] = each.rgb
        palette[UNCERTAIN] = rgb_of(UNCERTAIN_COLOUR)
        image = Image.fromarray(self._codes, mode="P")
        image.putpalette(palette.tobytes())
        file = io.BytesIO()
        image.save(file, format="PNG", optimize=True)
        return file.getvalue()
