"""DeepLabV3 and V3+: dilated convolutions of several rates side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoseg.nets.encoders import build_encoder
from geoseg.nets.heads import AuxiliaryHead, PooledNorm, conv_norm_relu, resized_like
from geoseg.nets.network import Encoder, Network

RATES = (6, 12, 18)
"""Of the three dilated branches at output stride 16; twice that at 8."""
MULTI_GRID = (1, 2, 4)
"""Of the blocks of a ResNet's last stage, as multiples of the stage's dilation."""


class DeepLabV3(Network):
    """The DeepLabV3 of Chen et al.

    The encoder's last stages are dilated instead of strided. Five branches look at its features
    side by side: a 1 x 1 convolution, three 3 x 3 convolutions dilated by 6, 12 and 18 pixels
    (twice that at output stride 8), and the mean of the whole image. With ResNet-50, 3 bands and
    21 classes it has 39,638,869 parameters, 42,004,074 with an auxiliary head.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        encoder: Such as "resnet50" or "efficientnet-lite0".
        output_stride: 8 or 16: how much smaller the encoder's last features are than the image.
        rates: Dilations of the three branches; None for the paper's.
        multi_grid: Dilations of the blocks of the last stage, as multiples of the stage's own;
            empty for the same in all. Encoders other than ResNets have no such blocks.
        dropout: Share of activations dropped behind the branches.
        auxiliary: Score the stage before the last, too, for a second loss in training.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits; see Network for the auxiliary head.

    Reference:
        Chen, Papandreou, Schroff, Adam: "Rethinking Atrous Convolution for Semantic Image
        Segmentation", 2017. https://arxiv.org/abs/1706.05587
    """

    encoder: Encoder

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str = "resnet50",
        output_stride: int = 16,
        rates: Sequence[int] | None = None,
        multi_grid: Sequence[int] = MULTI_GRID,
        dropout: float = 0.1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        trunk = dilated_encoder(encoder, bands, output_stride, multi_grid)
        self.encoder_name = encoder
        self.encoder = trunk
        self.stride = output_stride
        self.pyramid = AtrousPyramid(
            trunk.out_channels[-1], rates or published_rates(output_stride), dropout
        )
        self.head = nn.Sequential(conv_norm_relu(256, 256, 3), nn.Conv2d(256, classes, 1))
        self.auxiliary = AuxiliaryHead(trunk.out_channels[-2], classes) if auxiliary else None

    def score(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The logits, in training those of the auxiliary head too."""
        features = self.encoder(image)
        logits = resized_like(self.head(self.pyramid(features[-1])), image)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, resized_like(self.auxiliary(features[-2]), image)


class DeepLabV3Plus(Network):
    """The DeepLabV3+ of Chen et al.

    DeepLabV3's encoder and branches, with separable convolutions; then a decoder that enlarges
    them to a quarter of the image's size, puts 48 channels of the encoder's features of that
    size beside them and convolves twice. With ResNet-50, 3 bands and 21 classes it has
    26,682,725 parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        encoder: Such as "resnet50" or "efficientnet-lite0".
        output_stride: 8 or 16: how much smaller the encoder's last features are than the image.
        rates: Dilations of the three branches; None for the paper's.
        multi_grid: Dilations of the blocks of the last stage, as multiples of the stage's own;
            empty for the same in all. Encoders other than ResNets have no such blocks.
        dropout: Share of activations dropped behind the branches.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Chen, Zhu, Papandreou, Schroff, Adam: "Encoder-Decoder with Atrous Separable Convolution
        for Semantic Image Segmentation", ECCV 2018. https://arxiv.org/abs/1802.02611
    """

    encoder: Encoder

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str = "resnet50",
        output_stride: int = 16,
        rates: Sequence[int] | None = None,
        multi_grid: Sequence[int] = MULTI_GRID,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        trunk = dilated_encoder(encoder, bands, output_stride, multi_grid)
        self.encoder_name = encoder
        self.encoder = trunk
        self.stride = output_stride
        self.pyramid = AtrousPyramid(
            trunk.out_channels[-1],
            rates or published_rates(output_stride),
            dropout,
            separable=True,
        )
        self.detail = conv_norm_relu(trunk.out_channels[2], 48, 1)
        self.decoder = nn.Sequential(
            conv_norm_relu(256 + 48, 256, 3, separable=True),
            conv_norm_relu(256, 256, 3, separable=True),
        )
        self.head = nn.Conv2d(256, classes, 1)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        features = self.encoder(image)
        detail = self.detail(features[2])
        context = resized_like(self.pyramid(features[-1]), detail)
        logits = self.head(self.decoder(torch.cat([context, detail], 1)))
        return resized_like(logits, image)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: rates side by side, and the image's mean.

    Args:
        channels: Channels in.
        rates: Dilations of the 3 x 3 convolutions.
        dropout: Share of activations dropped at the end.
        separable: Convolve channels apart, then across.
        width: Channels of each branch and out.

    Shape:
        - Input: (N, channels, h, w).
        - Output: (N, width, h, w).
    """

    def __init__(
        self,
        channels: int,
        rates: Sequence[int],
        dropout: float,
        *,
        separable: bool = False,
        width: int = 256,
    ) -> None:
        super().__init__()
        if min(rates) < 1:
            raise ValueError(f"rates are positive, not {list(rates)}")
        self.branches = nn.ModuleList([conv_norm_relu(channels, width, 1)])
        for rate in rates:
            self.branches.append(
                conv_norm_relu(channels, width, 3, dilation=rate, separable=separable)
            )
        self.whole = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, width, 1, bias=False),
            PooledNorm(width),
            nn.ReLU(inplace=True),
        )
        self.project = conv_norm_relu((len(self.branches) + 1) * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """What all branches see."""
        seen = [branch(features) for branch in self.branches]
        seen.append(self.whole(features).expand_as(seen[0]))
        projected: Tensor = self.dropout(self.project(torch.cat(seen, 1)))
        return projected


def published_rates(output_stride: int) -> tuple[int, ...]:
    """The same distances on the ground at either output stride."""
    return tuple(rate * 16 // output_stride for rate in RATES)


def dilated_encoder(
    encoder: str, bands: int, output_stride: int, multi_grid: Sequence[int] = ()
) -> Encoder:
    """An encoder whose last one or two stages are dilated.

    Raises:
        ValueError: if the output stride is neither 8 nor 16, or the encoder cannot have it.
    """
    if output_stride not in (8, 16):
        raise ValueError(f"output_stride is 8 or 16, not {output_stride}")
    if min(multi_grid, default=1) < 1:
        raise ValueError(f"multi_grid holds positive numbers, not {list(multi_grid)}")
    trunk = build_encoder(encoder, bands, output_stride=output_stride)
    last_stage = getattr(getattr(trunk, "model", None), "layer4", None)
    for block, unit in zip(last_stage or (), multi_grid, strict=False):
        rate = unit * 32 // output_stride
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (rate, rate)
    return trunk
