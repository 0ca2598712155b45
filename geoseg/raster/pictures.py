"""Scenes and maps as pictures for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_COLOUR, Legend, rgb_of

__all__ = ["map_picture", "picture", "scene_picture", "shown_bands"]

EMPTY = (235, 235, 235)
NATURAL = ("red", "green", "blue")


def shown_bands(bands: Sequence[str]) -> list[int]:
    """Places of red, green and blue among common names; of the first bands where one lacks."""
    if all(name in bands for name in NATURAL):
        return [bands.index(name) for name in NATURAL]
    return list(range(len(bands)))[: 3 if len(bands) >= 3 else 1]


def scene_picture(pixels: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> Image.Image:
    """Each band stretched from its 2nd to its 98th percentile, as GIS programs do.

    Args:
        pixels: (C, H, W), three bands in the order of red, green and blue, or fewer: the first
            is then shown in grey.
        known: (H, W), where there is data; the rest is left pale.
    """
    planes = pixels if len(pixels) == 3 else pixels[[0, 0, 0]]
    if not known.any():
        return Image.new("RGB", known.shape[::-1], EMPTY)
    low, high = np.percentile(planes[:, known], (2, 98), axis=1)[..., None, None]
    light = np.clip((planes - low) / np.maximum(high - low, 1e-9), 0, 1) * 255
    return picture(np.where(known, light, np.array(EMPTY)[:, None, None]))


def map_picture(codes: npt.NDArray[np.uint8], legend: Legend) -> Image.Image:
    """Class codes (H, W) in the legend's colours, pale where there are none."""
    colours = np.tile(np.array(EMPTY, np.uint8), (NODATA + 1, 1))
    colours[UNCERTAIN] = rgb_of(UNCERTAIN_COLOUR)
    for each in legend:
        colours[each.code] = each.rgb
    return picture(np.moveaxis(colours[codes], -1, 0))


def picture(planes: npt.NDArray[np.floating | np.uint8]) -> Image.Image:
    """Red, green and blue (3, H, W), 0 to 255."""
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(planes, 0, -1).astype(np.uint8)))
