"""PSPNet: means over coarse grids of the whole image beside what the trunk sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoseg.nets.deeplab import dilated_encoder
from geoseg.nets.heads import AuxiliaryHead, PooledNorm, conv_norm_relu, resized_like
from geoseg.nets.network import Encoder, Network

BINS = (1, 2, 3, 6)


class PSPNet(Network):
    """The pyramid scene parsing network of Zhao et al.

    The trunk's last two stages are dilated, so that its features are an 8th of the image's size.
    Their means over grids of 1, 4, 9 and 36 bins are projected to a quarter of the channels
    each, enlarged and put beside them. With ResNet-50, 3 bands and 21 classes it has 46,592,597
    parameters, 48,957,802 with an auxiliary head. (Their ResNet starts with three 3 x 3
    convolutions, this one with the usual 7 x 7; and bins are enlarged with pixels taken as
    areas, where theirs align the corners.)

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        encoder: Such as "resnet50" or "efficientnet-lite0".
        output_stride: 8 or 16: how much smaller the trunk's features are than the image.
        bins: Bins along each side, a number for each grid.
        width: Channels behind the pyramid.
        dropout: Share of channels dropped there.
        auxiliary: Score the fourth stage (res4), too, for a second loss in training.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits; see Network for the auxiliary head.

    Reference:
        Zhao, Shi, Qi, Wang, Jia: "Pyramid Scene Parsing Network", CVPR 2017.
        https://arxiv.org/abs/1612.01105
    """

    encoder: Encoder

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str = "resnet50",
        output_stride: int = 8,
        bins: Sequence[int] = BINS,
        width: int = 512,
        dropout: float = 0.1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ValueError(f"bins are positive numbers, not {bins}")
        trunk = dilated_encoder(encoder, bands, output_stride)
        self.encoder_name = encoder
        self.encoder = trunk
        self.stride = output_stride
        channels = trunk.out_channels[-1]
        share = channels // len(bins)
        self.pyramid = nn.ModuleList(_bin_means(channels, share, each) for each in bins)
        self.head = nn.Sequential(
            conv_norm_relu(channels + len(bins) * share, width, 3),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, classes, 1),
        )
        self.auxiliary = AuxiliaryHead(trunk.out_channels[-2], classes) if auxiliary else None

    def score(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The logits, in training those of the auxiliary head too."""
        features = self.encoder(image)
        last = features[-1]
        means = [resized_like(level(last), last) for level in self.pyramid]
        logits = resized_like(self.head(torch.cat([last, *means], 1)), image)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, resized_like(self.auxiliary(features[-2]), image)


def _bin_means(channels: int, outputs: int, bins: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(bins),
        nn.Conv2d(channels, outputs, 1, bias=False),
        PooledNorm(outputs),
        nn.ReLU(inplace=True),
    )
