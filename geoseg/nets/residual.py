"""A network for fine detail and little context: residual blocks at half the size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.nets.network import Network
from geoseg.nets.reach import Bilinear, Sliding, Step, reach_px

CONVOLUTIONS = 2
"""Of a block."""


class ResidualNet(Network):
    """Residual blocks at half the image's size, and no smaller one.

    A 3 x 3 convolution sees the full size; one more and the blocks, of two each, see half of that;
    the scores are enlarged bilinearly. With four blocks it sees 21 pixels far: what a pixel is
    must show in its spectrum and its surroundings, not in the shape of a landscape. All channels
    are mixed in every convolution, which processors with matrix units (AMX, tensor cores) do
    quicker than the several times fewer multiplications of depthwise separable ones.
    ``ResidualNet(9, 9)`` has 317,737 parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        stem: Channels at the full size.
        width: Channels at half the size.
        blocks: How many there are.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        The blocks: He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR
        2016. https://arxiv.org/abs/1512.03385
    """

    stride = 2

    def __init__(
        self, bands: int, classes: int, *, stem: int = 32, width: int = 64, blocks: int = 4
    ) -> None:
        super().__init__()
        if min(bands, classes, stem, width, blocks) < 1:
            raise ValueError(f"all of it must be positive: {stem=}, {width=}, {blocks=}")
        self.stem = nn.Sequential(*_convolution(bands, stem), nn.ReLU(inplace=True))
        self.first = nn.Sequential(*_convolution(stem, width), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, classes, 1)
        conv = Sliding(3, padding=1)
        halved: list[Step] = [conv] * (1 + CONVOLUTIONS * blocks)
        self.reach_px = reach_px([conv, Sliding(2, stride=2), *halved, Bilinear(2)], self.stride)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        half = F.avg_pool2d(self.stem(image), 2)
        scores = self.head(self.blocks(self.first(half)))
        return F.interpolate(scores, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Convolutions, added to what went into them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = _convolution(width, width)
        for _ in range(CONVOLUTIONS - 1):
            layers += [nn.ReLU(inplace=True), *_convolution(width, width)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.body(features))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
