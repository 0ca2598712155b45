"""What every architecture is: multiples of a stride in, logits at full size out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AUXILIARY", "COUNTER", "Encoder", "Network", "plane_bands", "which_planes"]

AUXILIARY = "auxiliary."
"""What the parameters of an auxiliary head are called first."""

COUNTER = "num_batches_tracked"
"""What a training counter of batch norm is called last, which says nothing about the function."""

LEAST_DEVIATION = 0.1
"""Added to a chip's own deviation, in those of the training scenes: where a chip shows one thing
alone, what is left of its contrast is noise."""


class Encoder(nn.Module):
    """The part of a network that goes down, as segmentation-models-pytorch has it.

    Shape:
        - Input: (N, bands, H, W).
        - Output: a list: the image itself, then features of half the size, a quarter and so on,
          down to the output stride, of `out_channels` channels.
    """

    out_channels: Sequence[int]

    def forward(self, image: Tensor) -> list[Tensor]:
        """The image, then features from fine to coarse."""
        raise NotImplementedError


class Network(nn.Module):
    """A network that scores every class at every pixel of an image.

    Whatever an auxiliary head learns lies in the attribute ``auxiliary``, which is None unless
    the network was built with ``auxiliary=True``: it serves training only, and the rest of the
    parameters are a network of the same kind built without it.

    Shape:
        - Input: (N, dates * bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits. In training mode, with an auxiliary head: the
          logits and those of the auxiliary head, both of that shape.
    """

    stride: int
    """H and W must be multiples of it."""
    reach_px: int | None = None
    """How far, along a row or a column, an output pixel can see the input.

    None where there is no bound or none is known."""
    dates: int = 1
    """How many images of one place go in, stacked: all bands of the earlier one come first."""
    encoder_name: str | None = None
    """What the encoder is called, for weights to be found."""
    relative: bool = False
    """Whether the network also sees each band at mean 0 and deviation 1 of the image itself."""
    band_sets: tuple[tuple[int, ...], ...] = ()
    """Places of bands that it manages with alone; those that are missing are NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Encoder | None = None
        self.auxiliary: nn.Module | None = None

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """What pretrained weights fill, for training to go easy on; none without an encoder."""
        if self.encoder is not None:
            yield from self.encoder.parameters()

    def take_classifier(self, tensors: Mapping[str, Tensor]) -> None:
        """Use what a published classifier learned behind its encoder; few have a place for it."""

    def score(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The logits of an image whose sides are multiples of ``stride``."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Score every class at every pixel.

        Raises:
            ValueError: if a side of the image is no multiple of ``stride``.
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"{height} x {width} pixels: not multiples of {self.stride}")
        if self.relative:
            image = torch.cat([image, _relative(image)], dim=1)
        return self.score(_by_set(image, self.band_sets) if self.band_sets else image)


def _by_set(image: Tensor, band_sets: Sequence[Sequence[int]]) -> Tensor:
    """An image in planes for all bands, planes for each set, and one for each that tells which.

    Only those of the set that is there hold its bands, and its last plane is 1; the others are 0.
    So the first convolution has weights of its own for each set. Which it is, the first pixel
    tells: a band that is missing is NaN everywhere.
    """
    missing = image[:, :, :1, :1].isnan()
    shown = plane_bands(image.shape[1], band_sets)
    # A 1 x 1 convolution that copies: quicker than indexing in every runtime, and no tensor comes
    # from the host, which a CUDA graph could not hold.
    number = torch.arange(image.shape[1], device=image.device)
    nothing = torch.zeros_like(number, dtype=torch.bool)
    taps = [nothing if band is None else number == band for band in shown]
    plus = [nothing[0].logical_not() if band is None else nothing[0] for band in shown]
    known = torch.where(missing, 0.0, image)
    kernel = torch.stack(taps)[:, :, None, None].to(image.dtype)
    planes = F.conv2d(known, kernel, torch.stack(plus).to(image.dtype))
    return planes * which_planes(missing, band_sets).to(planes.dtype)


def plane_bands(bands: int, band_sets: Sequence[Sequence[int]]) -> list[int | None]:
    """The band that each plane of bands in sets shows; None of those that tell which set it is."""
    sets = (range(bands), *band_sets)
    return [*(band for chosen in sets for band in chosen), *(None for _ in sets)]


def which_planes(missing: Tensor, band_sets: Sequence[Sequence[int]]) -> Tensor:
    """Which planes of bands in sets hold something: those of the set that is there.

    Args:
        missing: (N, bands, 1, 1), whether a band is missing.
        band_sets: places of bands in each set but that of all bands, which comes first.

    Returns:
        (N, planes, 1, 1): the planes of each set, then one for each that tells which it is.
    """
    lacks = missing.unbind(dim=1)
    sets = (range(len(lacks)), *band_sets)
    there = []
    for chosen in sets:
        signs = [lack.logical_not() if n in chosen else lack for n, lack in enumerate(lacks)]
        there.append(torch.stack(signs, dim=1).all(dim=1, keepdim=True))
    gate = [is_it for is_it, chosen in zip(there, sets, strict=True) for _ in chosen]
    return torch.cat([*gate, *there], dim=1)


def _relative(image: Tensor) -> Tensor:
    """An image without its light: each band minus its mean, over its deviation.

    Pixels that are 0 in every band hold no data: they do not count, and stay 0.
    """
    known = (image != 0).any(dim=1, keepdim=True)
    count = known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    apart = torch.where(known, image - image.sum(dim=(2, 3), keepdim=True) / count, 0.0)
    deviation = (apart.square().sum(dim=(2, 3), keepdim=True) / count).sqrt()
    return apart / (deviation + LEAST_DEVIATION)
