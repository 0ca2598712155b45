"""U-Net: an encoder, a decoder, and skips that carry the detail across."""

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 1024)


class UNet(nn.Module):
    """The U-Net of Ronneberger et al., padded so that the map is as large as the image.

    Every level is two 3 x 3 convolutions; levels are joined by 2 x 2 max pooling on the way down
    and by 2 x 2 transposed convolutions on the way up, where the encoder's features of the same
    level are concatenated. With the default widths, ``UNet(1, 2)`` has 31,030,658 parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        widths: Channels of each level, finest first.
        batch_norm: Normalize after every 3 x 3 convolution, which then has no bias.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image
        Segmentation", MICCAI 2015. https://arxiv.org/abs/1505.04597

    Example:
        >>> net = UNet(bands=6, classes=9, widths=(8, 16, 32), batch_norm=True)
        >>> tuple(net(torch.zeros(1, 6, 64, 96)).shape)
        (1, 9, 64, 96)
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        widths: tuple[int, ...] = WIDTHS,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if bands < 1 or classes < 1 or not widths or min(widths) < 1:
            raise ValueError(f"every number must be positive: {bands=}, {classes=}, {widths=}")
        self.widths = tuple(widths)
        self.down = nn.ModuleList(
            _double_conv(a, b, batch_norm) for a, b in pairwise((bands, *self.widths))
        )
        self.pool = nn.MaxPool2d(2)
        steps = list(pairwise(reversed(self.widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.merge = nn.ModuleList(_double_conv(2 * b, b, batch_norm) for _, b in steps)
        self.head = nn.Conv2d(self.widths[0], classes, 1)

    @property
    def stride(self) -> int:
        """The factor by which the coarsest level is smaller than the image."""
        return 1 << (len(self.widths) - 1)

    @property
    def reach_px(self) -> int:
        """How far, along a row or a column, an output pixel can see the input."""
        return max(_reach(x, len(self.widths)) for x in range(self.stride))

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (N, bands, H, W), with H and W multiples of ``stride``.

        Returns:
            The logits, (N, classes, H, W).
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"{height} x {width} pixels: not multiples of {self.stride}")
        features = self.down[0](image)
        skips = []
        for level in self.down[1:]:
            skips.append(features)
            features = level(self.pool(features))
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            features = merge(torch.cat([skip, up(features)], 1))
        logits: Tensor = self.head(features)
        return logits


def _double_conv(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (inputs, outputs):
        layers.append(nn.Conv2d(a, outputs, 3, padding=1, bias=not batch_norm))
        layers.extend([nn.BatchNorm2d(outputs)] if batch_norm else [])
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _reach(pixel: int, levels: int) -> int:
    """Follow one output pixel down the decoder and up the encoder; its farthest input pixel."""
    first, last = pixel, pixel
    for _ in range(levels - 1):
        first, last = (first - 2) // 2, (last + 2) // 2
    first, last = first - 2, last + 2
    for _ in range(levels - 1):
        first, last = 2 * first - 2, 2 * last + 1 + 2
    return max(pixel - first, last - pixel)
