"""U-Net: an encoder, a decoder, and skips that carry the detail across."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from geoseg.nets.encoders import encoder_path, rebuildable, timm_name
from geoseg.nets.network import Encoder, Network
from geoseg.nets.reach import Nearest, Sliding, Step, Transposed, reach_px

WIDTHS = (64, 128, 256, 512, 1024)
DECODER_WIDTHS = (256, 128, 64, 32, 16)

CONV = Sliding(3, padding=1)


class UNet(Network):
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
        widths: Sequence[int] = WIDTHS,
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
        self.stride = 1 << len(steps)
        path: list[Step] = [CONV, CONV]
        path += [Sliding(2, stride=2), CONV, CONV] * len(steps)
        path += [Transposed(2, stride=2), CONV, CONV] * len(steps)
        self.reach_px = reach_px(path, self.stride)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        return self.decode(self.encode(image))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The features of each level, finest first."""
        features = [self.down[0](image)]
        for level in self.down[1:]:
            features.append(level(self.pool(features[-1])))
        return features

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """The logits that the features of all levels come to."""
        *skips, coarsest = features
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            coarsest = merge(torch.cat([skip, up(coarsest)], 1))
        logits: Tensor = self.head(coarsest)
        return logits


class EncoderUNet(Network):
    """A U-Net around an encoder made for classification, as segmentation-models-pytorch has it.

    The decoder doubles the size by nearest neighbours, concatenates the encoder's features and
    convolves twice, with batch norm. With ``encoder="resnet34"``, 3 bands and 21 classes it has
    24,439,269 parameters.

    Args:
        bands: Bands of the image.
        classes: Classes of the map.
        encoder: Such as "resnet34" or "efficientnet-lite0"; any convolutional network of timm
            that halves the size step by step.
        decoder_widths: Channels of each level of the decoder, coarsest first: as many levels as
            the encoder has to go down, at most 5.

    Shape:
        - Input: (N, bands, H, W), with H and W multiples of ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        Ronneberger et al. (see UNet); Iakubovskii: "Segmentation Models Pytorch", 2019.
        https://github.com/qubvel-org/segmentation_models.pytorch
    """

    encoder: Encoder

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str,
        decoder_widths: Sequence[int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp  # takes seconds

        depth = len(decoder_widths)
        whole = smp.Unet(
            f"tu-{timm_name(encoder)}",
            encoder_depth=depth,
            encoder_weights=None,
            decoder_channels=tuple(decoder_widths),
            in_channels=bands,
            classes=classes,
        )
        self.encoder_name = encoder
        self.encoder = rebuildable(whole.encoder, encoder)
        self.decoder: nn.Module = whole.decoder
        self.head: nn.Module = whole.segmentation_head
        self.stride = 1 << depth
        down = encoder_path(self.encoder, encoder)
        if down is not None:
            if prod(step.stride for step in down) != self.stride:
                raise ValueError(f"{encoder} goes down all 5 levels: give 5 decoder_widths")
            up: list[Step] = [Nearest(2), CONV, CONV] * depth
            self.reach_px = reach_px([*down, *up, CONV], self.stride)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        return self.decode(self.encoder(image))

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """The logits that the image and the features of all levels come to, finest first."""
        logits: Tensor = self.head(self.decoder(list(features)))
        return logits


def _double_conv(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (inputs, outputs):
        layers.append(nn.Conv2d(a, outputs, 3, padding=1, bias=not batch_norm))
        layers.extend([nn.BatchNorm2d(outputs)] if batch_norm else [])
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
