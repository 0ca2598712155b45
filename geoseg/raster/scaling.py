"""What the numbers stored in a raster mean: as told, as it says itself, or as is customary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError, SceneError
from geoseg.raster.products.sentinel2 import offset_told
from geoseg.raster.scene import Reading
from geoseg.raster.source import Header

__all__ = ["EIGHT_BIT", "Scaling", "reflectance_scaling", "told_scaling"]

Scaling: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[str, ...]]
"""Value = stored value * scale + offset: both (C,), and what was taken for granted."""

EIGHT_BIT = (
    "8-bit values / 255 taken as reflectance: a stretched picture is none, so expect a worse map"
)
"""What is taken for granted of 8-bit values; a warning rather than an assumption like others."""


def told_scaling(header: Header, numbers: Sequence[int], reading: Reading) -> Scaling | None:
    """The scaling that a person tells; what they leave out comes from the raster.

    Raises:
        InputError: if it makes no sense.
    """
    if reading.scale is None and reading.offset is None:
        return None
    for name, value in (("scale", reading.scale), ("offset", reading.offset)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{name} {value} is no number to calculate with")
    if reading.scale == 0:
        raise InputError("--scale 0 would make every value the same")
    scales, offsets = _own(header, numbers)
    scales = scales if reading.scale is None else np.full_like(scales, reading.scale)
    offsets = offsets if reading.offset is None else np.full_like(offsets, reading.offset)
    return scales, offsets, (f"values x {scales[0]:g} + {offsets[0]:g}, as told",)


def reflectance_scaling(
    header: Header,
    numbers: Sequence[int],
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Scaling:
    """The scaling to reflectance that a raster has, or that is customary for its data type.

    Args:
        header: of the raster.
        numbers: 1-based, of its bands.
        name: of the product that it was made from, where that is not the raster's own.
        tags: what is known of that product, as `offset_told` takes it, for the raster's own.

    Raises:
        SceneError: if nothing is customary for the type.
    """
    scales, offsets = _own(header, numbers)
    if (scales != 1).any() or (offsets != 0).any():
        return scales, offsets, ()
    if header.dtype.kind == "f":
        return scales, offsets, ("values taken as reflectance 0-1",)
    if header.dtype == np.uint8:
        return *_constant(len(numbers), 1 / 255, 0), (EIGHT_BIT,)
    if header.dtype.itemsize == 2:
        told = offset_told(
            header.name if name is None else name, header.tags if tags is None else tags
        )
        if told is not None:
            said = f"{header.dtype} values / 10000 - 0.1 taken as reflectance, as of {told[1]}"
            return *_constant(len(numbers), 1e-4, told[0]), (said,)
        said = f"{header.dtype} values taken as reflectance x 10000"
        return *_constant(len(numbers), 1e-4, 0), (said,)
    raise SceneError(
        f"{header.name} holds {header.dtype} values; say with --scale how they become reflectance"
    )


def _own(
    header: Header, numbers: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return (
        np.array([header.scales[n - 1] for n in numbers], np.float32),
        np.array([header.offsets[n - 1] for n in numbers], np.float32),
    )


def _constant(
    count: int, scale: float, offset: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return np.full(count, scale, np.float32), np.full(count, offset, np.float32)
