"""FCN: class scores of a classifier's trunk, summed with those of finer features, then enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.nets.encoders import build_encoder, encoder_path
from geoseg.nets.network import Encoder, Network
from geoseg.nets.reach import Step, Transposed, reach_px, sliding_steps
from geoseg.nets.vgg import initialize_for_relu

VARIANTS = {"32s": (), "16s": (4,), "8s": (4, 3)}
"""Each variant and which features, halved so many times, add their scores."""


class FCN(Network):
    """The fully convolutional network of Long, Shelhamer and Darrell.

    A 1 x 1 convolution scores the classes on the trunk's last features, at a 32nd of the image's
    size. FCN-16s enlarges the scores twofold and adds those of the features at a 16th, FCN-8s
    does so once more at an 8th. Enlarging is a transposed convolution that starts as bilinear
    interpolation. With VGG16, 3 bands and 21 classes, FCN-32s has 134,346,581 parameters and
    FCN-8s 134,362,751, which counts no upsampling: as in the authors' published networks, it
    stays bilinear unless ``learned_upsampling`` is set. Then the twofold steps are learned and
    the last one stays bilinear, as the paper says.

    Unlike theirs, the network pads fc6 by 3 pixels instead of the image by 100, so that the map
    is as large as the image without a crop; the parameters are the same.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        variant: "32s", "16s" or "8s".
        encoder: The trunk: "vgg16" or "vgg16_bn", with fc6 and fc7 as convolutions; or such as
            "resnet50" or "efficientnet-lite0", scored as they end.
        fc_width: Channels of fc6 and fc7, with VGG.
        dropout: Share of activations dropped after fc6 and fc7, or of a trunk without them.
        learned_upsampling: Learn the twofold steps.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Shelhamer, Long, Darrell: "Fully Convolutional Networks for Semantic Segmentation", PAMI
        2017. https://arxiv.org/abs/1605.06211
    """

    encoder: Encoder
    encoder_name: str
    stride = 32

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        variant: str = "8s",
        encoder: str = "vgg16",
        fc_width: int = 4096,
        dropout: float = 0.5,
        learned_upsampling: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is none of {', '.join(VARIANTS)}")
        self.encoder_name = encoder
        self.encoder = build_encoder(encoder, bands)
        channels = self.encoder.out_channels
        self.levels = VARIANTS[variant]
        self.classifier, width = _classifier(encoder, channels[-1], fc_width, dropout)
        self.classifier.append(nn.Conv2d(width, classes, 1))
        self.skips = nn.ModuleList(nn.Conv2d(channels[level], classes, 1) for level in self.levels)
        for skip in self.skips:  # so that FCN-16s starts from FCN-32s
            nn.init.zeros_(cast("nn.Conv2d", skip).weight)
        self.twofold = nn.ModuleList(
            BilinearUpsampling(classes, 2, learned=learned_upsampling) for _ in self.levels
        )
        self.enlarge = BilinearUpsampling(classes, self.stride >> len(self.levels))
        self.reach_px = self._reach()

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        features = self.encoder(image)
        scores = self.classifier(features[-1])
        for twofold, skip, level in zip(self.twofold, self.skips, self.levels, strict=True):
            scores = twofold(scores) + skip(features[level])
        logits: Tensor = self.enlarge(scores)
        return logits

    def take_classifier(self, tensors: Mapping[str, Tensor]) -> None:
        """Cast a published VGG's fully connected layers into fc6 and fc7, where widths agree."""
        layers = [layer for layer in self.classifier[:-1] if isinstance(layer, nn.Conv2d)]
        for layer, name in zip(layers, ("classifier.0", "classifier.3"), strict=False):
            weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
            if weight is None or bias is None or weight.numel() != layer.weight.numel():
                return
            with torch.no_grad():
                layer.weight.copy_(weight.view_as(layer.weight))
                cast("Tensor", layer.bias).copy_(bias)

    def _reach(self) -> int | None:
        down = encoder_path(self.encoder, self.encoder_name)
        if down is None:
            return None
        factors = [2] * len(self.levels) + [self.enlarge.factor]
        up: list[Step] = [Transposed(2 * f, stride=f, padding=f // 2) for f in factors]
        return reach_px([*down, *sliding_steps(self.classifier), *up], self.stride)


class BilinearUpsampling(nn.Module):
    """A transposed convolution that starts as, or stays, bilinear interpolation.

    Pixels are areas (align_corners=False), and what lies beyond the border counts as zero.

    Args:
        classes: Score planes.
        factor: How much larger they become; even.
        learned: Make it parameters, across classes too.

    Shape:
        - Input: (N, classes, h, w).
        - Output: (N, classes, factor * h, factor * w).
    """

    weight: Tensor

    def __init__(self, classes: int, factor: int, *, learned: bool = False) -> None:
        super().__init__()
        self.factor = factor
        offsets = (torch.arange(2 * factor) - (factor - 0.5)) / factor
        profile = 1 - offsets.abs()
        plane = torch.outer(profile, profile)
        if learned:
            diagonal = torch.eye(classes)[:, :, None, None]
            self.weight = nn.Parameter(diagonal * plane)
        else:
            self.register_buffer("weight", plane.expand(classes, 1, -1, -1).clone())
        self.groups = 1 if learned else classes

    def forward(self, scores: Tensor) -> Tensor:
        """The enlarged scores."""
        return F.conv_transpose2d(
            scores, self.weight, stride=self.factor, padding=self.factor // 2, groups=self.groups
        )


def _classifier(
    encoder: str, channels: int, fc_width: int, dropout: float
) -> tuple[nn.Sequential, int]:
    """What stands between the trunk and the scores, and how many channels it ends with."""
    if not encoder.startswith("vgg"):
        return nn.Sequential(nn.Dropout(dropout)), channels
    layers = nn.Sequential(
        nn.Conv2d(channels, fc_width, 7, padding=3),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(fc_width, fc_width, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
    )
    initialize_for_relu(layers)
    return layers, fc_width
