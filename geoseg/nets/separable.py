"""A small network for fine detail and little context: separable convolutions at half the size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.nets.network import Network
from geoseg.nets.reach import Bilinear, Sliding, Step, reach_px

DEPTHWISE = 3
"""Depthwise convolutions of a block."""


class SeparableNet(Network):
    """Residual blocks of depthwise separable convolutions at half the image's size.

    A 3 x 3 convolution sees the full size, everything after it half of that: two blocks, beside
    them one separable convolution that keeps what is near, and a third block over both; the
    scores are enlarged bilinearly. It sees 21 pixels far: what a pixel is must show in its
    spectrum and its surroundings, not in the shape of a landscape. The blocks and their order
    are those of the network behind Dynamic World, which has mish for ReLU, normalizes its last
    features to length 1 and halves with a wider filter. ``SeparableNet(9, 9)`` has 101,481
    parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        stem: Channels at the full size.
        widths: Channels of the three blocks.
        beside: Channels of the convolution beside the first two.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Brown et al.: "Dynamic World, Near real-time global 10 m land use land cover mapping",
        Scientific Data 9, 251, 2022, and the model published with it.
        https://doi.org/10.1038/s41597-022-01307-4
    """

    stride = 2

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        stem: int = 32,
        widths: Sequence[int] = (64, 96, 96),
        beside: int = 32,
    ) -> None:
        super().__init__()
        if len(widths) != 3 or min(bands, classes, stem, beside, *widths) < 1:
            raise ValueError(f"it takes three widths, all positive: {stem=}, {widths=}, {beside=}")
        first, second, last = widths
        self.stem = _convolution(bands, stem, 3)
        self.trunk = nn.Sequential(_Block(stem, first), _Block(first, second))
        self.beside = nn.Sequential(_convolution(stem, beside), _depthwise(beside))
        self.join = _Block(second + beside, last)
        self.head = nn.Conv2d(last, classes, 1)
        conv = Sliding(3, padding=1)
        path: list[Step] = [conv, Sliding(2, stride=2), *[conv] * (3 * DEPTHWISE), Bilinear(2)]
        self.reach_px = reach_px(path, self.stride)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        half = F.avg_pool2d(self.stem(image), 2)
        features = self.join(torch.cat([self.trunk(half), self.beside(half)], dim=1))
        return F.interpolate(
            self.head(features), scale_factor=2.0, mode="bilinear", align_corners=False
        )


class _Block(nn.Module):
    """Separable convolutions, and a 1 x 1 convolution around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(DEPTHWISE):
            layers += [_convolution(outputs if number else inputs, outputs), _depthwise(outputs)]
        self.body = nn.Sequential(*layers)
        self.around = _convolution(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.body(features) + self.around(features)
        return added


def _convolution(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _depthwise(channels: int) -> nn.Sequential:
    return _convolution(channels, channels, 3, channels)
