"""SegNet: a decoder that puts maxima back where the encoder found them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.nets.network import Network
from geoseg.nets.reach import Nearest, Step, reach_px, sliding_steps
from geoseg.nets.vgg import VGG, VGG16_DEPTHS, VGG16_WIDTHS, initialize_for_relu


class SegNet(Network):
    """The SegNet of Badrinarayanan, Kendall and Cipolla.

    The encoder is VGG16's convolutions with batch norm. The decoder mirrors it: each stage puts
    its features where the maxima of the encoder's stage were, zeros elsewhere, and convolves;
    nothing is concatenated. With the defaults, 3 bands and 21 classes it has 29,455,125
    parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        widths: Channels of each stage of the encoder, finest first.
        depths: Convolutions of each stage, in the encoder and in the decoder.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder
        Architecture for Image Segmentation", PAMI 2017. https://arxiv.org/abs/1511.00561
    """

    encoder: VGG
    encoder_name = "vgg16_bn"

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        widths: Sequence[int] = VGG16_WIDTHS,
        depths: Sequence[int] = VGG16_DEPTHS,
    ) -> None:
        super().__init__()
        self.encoder = VGG(bands, widths=widths, depths=depths, batch_norm=True)
        self.decoder = nn.ModuleList(_decoder_stages(widths, depths, classes))
        initialize_for_relu(self.decoder)
        self.stride = 1 << len(widths)
        path: list[Step] = [*sliding_steps(self.encoder)]
        for stage in self.decoder:
            path += [Nearest(2), *sliding_steps(stage)]
        self.reach_px = reach_px(path, self.stride)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        features, found = image, []
        for stage in self.encoder.stages():
            features, where = self.pool(stage(features))
            found.append(where)
        for convolve, where in zip(self.decoder, reversed(found), strict=True):
            features = convolve(self.unpool(features, where))
        return features

    def pool(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The maxima of 2 x 2 windows and where they stood; the first where several are equal."""
        if self.training:
            return F.max_pool2d(features, 2, return_indices=True)
        return F.max_pool2d(features, 2), slots_of_maxima(features)

    def unpool(self, features: Tensor, where: Tensor) -> Tensor:
        """Features where the maxima stood, zeros elsewhere; of twice the height and width."""
        if self.training:
            return F.max_unpool2d(features, where, [2, 2])
        return in_slots(features, where)


def slots_of_maxima(features: Tensor) -> Tensor:
    """Where in its 2 x 2 window each maximum stands, the first where several are equal.

    OpenVINO has no unpooling, and scattering by index is slow there; these are plain comparisons.

    Returns:
        (N, C, 4, H / 2, W / 2), one true in four, for a (N, C, H, W).
    """
    upper, lower = features[..., 0::2, :], features[..., 1::2, :]
    a, b = upper[..., 0::2], upper[..., 1::2]
    c, d = lower[..., 0::2], lower[..., 1::2]
    below = torch.maximum(c, d) > torch.maximum(a, b)
    right = torch.where(below, d > c, b > a)
    return torch.stack([~below & ~right, ~below & right, below & ~right, below & right], 2)


def in_slots(features: Tensor, slots: Tensor) -> Tensor:
    """Each value in its slot of a 2 x 2 window, zeros in the others.

    Returns:
        (N, C, 2 h, 2 w), for features (N, C, h, w) and slots (N, C, 4, h, w).
    """
    return F.pixel_shuffle((features[:, :, None] * slots).flatten(1, 2), 2)


def _decoder_stages(
    widths: Sequence[int], depths: Sequence[int], classes: int
) -> Iterator[nn.Sequential]:
    for level in reversed(range(len(widths))):
        layers: list[nn.Module] = []
        for i in reversed(range(depths[level])):
            outputs = widths[level] if i else widths[level - 1]
            if level == 0 and i == 0:
                layers.append(nn.Conv2d(widths[0], classes, 3, padding=1))
                continue
            layers.append(nn.Conv2d(widths[level], outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        yield nn.Sequential(*layers)
