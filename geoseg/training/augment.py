"""What is varied in the chips that are learnt from: place, size and light, never the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geoseg.legend import NODATA

__all__ = ["Variation", "resize", "vary"]


@dataclass(frozen=True, slots=True)
class Variation:
    """How much chips are varied."""

    flips: bool = True
    """Mirrored and turned by 90 degrees, all eight ways alike."""
    rotate: float = 0.0
    """Share of the chips that are turned by any angle; what comes from outside is unlabelled."""
    jitter: float = 0.0
    """Brightness and bands vary by so much, in standard deviations; contrast by that exponent."""
    dates: int = 1
    """How many images of one place are stacked: turned together, each under a light of its own."""
    same_date: float = 0.0
    """Share of the chips of two dates that show one date twice; nothing changed there."""
    unchanged: int = 0
    """The label of pixels where nothing changed."""
    band_sets: tuple[tuple[int, ...], ...] = ()
    """Places of the bands that are there in some of the chips, each set as often as the others."""
    fewer_bands: float = 0.5
    """Share of those chips; the rest shows all bands."""


def vary(
    image: Tensor,
    labels: Tensor,
    soft: Tensor,
    variation: Variation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """A variant of a chip.

    Args:
        image: (dates x C, S, S), scaled to mean 0 and deviation 1; 0 where invalid.
        labels: (S, S), int64; 255 where not labelled.
        soft: (K, S, S), how probable each class is, 0 where not labelled; (0, S, S) where labels
            are classes.
        variation: how much.
        generator: what chance comes from.

    Returns:
        The three, varied. Bands that are missing in the variant are NaN.
    """
    planes = torch.cat([image, soft])
    if variation.flips:
        turns, mirrored = torch.randint(4, (1,), generator=generator), _chance(generator) < 0.5
        planes, labels = (torch.rot90(each, int(turns), (-2, -1)) for each in (planes, labels))
        if mirrored:
            planes, labels = planes.flip(-1), labels.flip(-1)
    if variation.rotate and _chance(generator) < variation.rotate:
        planes, labels = _rotate(planes, labels, 2 * math.pi * _chance(generator))
    image, soft = planes[: len(image)], planes[len(image) :]
    if variation.same_date and _chance(generator) < variation.same_date:
        image, labels = _twice(image, _chance(generator) < 0.5, variation.unchanged)
    if variation.jitter:
        each_date = image.chunk(variation.dates)
        image = torch.cat([_jitter(each, variation.jitter, generator) for each in each_date])
    if variation.band_sets and _chance(generator) < variation.fewer_bands:
        image = _only(image, variation.band_sets, generator)
    return image.contiguous(), labels.contiguous(), soft.contiguous()


def resize(image: Tensor, labels: Tensor, soft: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A chip of another size: planes interpolated (averaged when they shrink), nearest labels."""
    if image.shape[-1] == side:
        return image, labels, soft
    planes = torch.cat([image, soft])[None]
    resized = F.interpolate(planes, (side, side), mode="bilinear", antialias=True)[0]
    nearest = F.interpolate(labels[None, None].float(), (side, side), mode="nearest-exact")
    return resized[: len(image)], nearest[0, 0].long(), resized[len(image) :]


def _only(image: Tensor, band_sets: Sequence[Sequence[int]], generator: torch.Generator) -> Tensor:
    """One of the sets of bands; the others are missing."""
    chosen = band_sets[int(torch.randint(len(band_sets), (1,), generator=generator))]
    there = torch.zeros(len(image), 1, 1, dtype=torch.bool)
    there[list(chosen)] = True
    return torch.where(there, image, torch.nan)


def _rotate(image: Tensor, labels: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]
    )
    places = F.affine_grid(turn[None], [1, 1, *labels.shape], align_corners=False)
    turned = F.grid_sample(image[None], places, mode="bilinear", align_corners=False)[0]
    shifted = (labels + 1) % (NODATA + 1)  # 0 is what comes from outside, and not labelled
    nearest = F.grid_sample(
        shifted[None, None].float(), places, mode="nearest", align_corners=False
    )
    return turned, (nearest[0, 0].long() + NODATA) % (NODATA + 1)


def _twice(image: Tensor, later: bool, unchanged: int) -> tuple[Tensor, Tensor]:
    """One of two dates in the place of both; all that is valid is known not to have changed."""
    one = image.chunk(2)[int(later)]
    valid = (one != 0).any(dim=0)
    return torch.cat([one, one]), torch.where(valid, unchanged, NODATA)


def _jitter(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The scene under another sun: contrast about its mean, brightness, a little of each band."""
    valid = (image != 0).any(dim=0)
    mean = image.sum(dim=(1, 2), keepdim=True) / valid.sum().clamp(min=1)
    contrast = (strength * _normal((1, 1, 1), generator)).exp()
    brightness = strength * _normal((1, 1, 1), generator)
    of_bands = strength / 2 * _normal((len(image), 1, 1), generator)
    return torch.where(valid, (image - mean) * contrast + mean + brightness + of_bands, 0.0)


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).clamp(-2, 2)
