"""The windows of maps where they agree least with their labels, kept as strips pass."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from geoseg.accuracy.score import WorstChip
from geoseg.grid import Window
from geoseg.legend import NODATA, Legend
from geoseg.raster.pictures import map_picture, scene_picture, shown_bands
from geoseg.raster.scene import Scene

__all__ = ["MOST_CHIPS", "ChipRanking"]

Codes: TypeAlias = npt.NDArray[np.uint8]

CHIP_PX = 256

MOST_CHIPS = 8
"""Enough to look at one by one."""

LEAST_COMPARED = 0.1
"""Of a window's pixels; a handful of wrong ones at the edge of the labels is no bad chip."""

JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A chip that is not drawn yet."""

    window: Window
    agreement: float
    compared: int
    mapped: Codes
    labelled: Codes


class ChipRanking:
    """Cuts one scene's map into chips and keeps those that agree least with its labels.

    Args:
        shape: (height, width) of the scene.
        most: how many to keep.
        below: only chips with a lower agreement are kept.
        chip_px: their side; chips at the far edges are smaller.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        most: int = MOST_CHIPS,
        below: float = 1.0,
        chip_px: int = CHIP_PX,
    ) -> None:
        self._shape, self._chip_px = shape, chip_px
        self._most, self._below = most, below
        self._mapped = np.full((chip_px, shape[1]), NODATA, np.uint8)
        self._labelled = self._mapped.copy()
        self._kept: list[_Kept] = []

    def add(self, window: Window, mapped: Codes, labelled: Codes) -> None:
        """Take the next rows.

        Args:
            window: a strip as wide as the scene.
            mapped: (H, W), class codes, 255 for none.
            labelled: (H, W), likewise.
        """
        for top in range(
            window.row // self._chip_px * self._chip_px, window.row_stop, self._chip_px
        ):
            band = Window(top, 0, min(self._chip_px, self._shape[0] - top), self._shape[1])
            shared = window.intersect(band)
            if shared is None:
                continue
            here, there = shared.within(band), shared.within(window)
            self._mapped[here], self._labelled[here] = mapped[there], labelled[there]
            if shared.row_stop == band.row_stop:
                self._rank(band)

    def draw(self, scene: Scene, path: str, legend: Legend) -> tuple[WorstChip, ...]:
        """Pictures of what was kept, lowest agreement first.

        Args:
            scene: the one whose strips were added.
            path: what to call it.
            legend: gives the colours.
        """
        shown = shown_bands(scene.bands)
        return tuple(_draw(kept, scene, shown, path, legend) for kept in self._kept)

    def _rank(self, band: Window) -> None:
        for col in range(0, band.width, self._chip_px):
            window = Window(band.row, col, band.height, min(self._chip_px, band.width - col))
            cut = window.within(band)
            mapped, labelled = self._mapped[cut], self._labelled[cut]
            known = (mapped != NODATA) & (labelled != NODATA)
            compared = int(known.sum())
            right = int((known & (mapped == labelled)).sum())
            if compared < LEAST_COMPARED * known.size or right >= self._below * compared:
                continue
            chip = _Kept(window, right / compared, compared, mapped.copy(), labelled.copy())
            worst = sorted([*self._kept, chip], key=lambda each: each.agreement)
            self._kept = worst[: self._most]


def _draw(kept: _Kept, scene: Scene, shown: Sequence[int], path: str, legend: Legend) -> WorstChip:
    chip = scene.read(kept.window)
    pictures = (
        _encoded(scene_picture(chip.pixels[shown], chip.valid), "JPEG"),
        _encoded(map_picture(kept.labelled, legend), "PNG"),
        _encoded(map_picture(kept.mapped, legend), "PNG"),
    )
    return WorstChip(path, kept.window, kept.agreement, kept.compared, pictures)


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
