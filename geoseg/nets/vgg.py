"""VGG's convolutions, the trunk of FCN and SegNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from geoseg.nets.network import Encoder

__all__ = ["VGG", "VGG16_DEPTHS", "VGG16_WIDTHS"]

VGG16_WIDTHS = (64, 128, 256, 512, 512)
VGG16_DEPTHS = (2, 2, 3, 3, 3)


class VGG(Encoder):
    """Stages of 3 x 3 convolutions, each followed by 2 x 2 max pooling.

    Layers are numbered as in torchvision, so that its weights fit.

    Args:
        bands: Bands of the image.
        widths: Channels of each stage, finest first.
        depths: Convolutions of each stage.
        batch_norm: Normalize after every convolution, which keeps its bias.

    Shape:
        - Input: (N, bands, H, W).
        - Output: a list: the image itself, then (N, widths[i], H / 2^(i+1), W / 2^(i+1)).

    Reference:
        Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        ICLR 2015. https://arxiv.org/abs/1409.1556
    """

    def __init__(
        self,
        bands: int,
        *,
        widths: Sequence[int] = VGG16_WIDTHS,
        depths: Sequence[int] = VGG16_DEPTHS,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if bands < 1 or not widths or min(*widths, *depths) < 1 or len(widths) != len(depths):
            raise ValueError(f"one positive depth for each positive width: {widths=}, {depths=}")
        self.out_channels = [bands, *widths]
        layers: list[nn.Module] = []
        inputs = bands
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, width, 3, padding=1))
                layers.extend([nn.BatchNorm2d(width)] if batch_norm else [])
                layers.append(nn.ReLU(inplace=True))
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        initialize_for_relu(self)

    def stages(self) -> Iterator[nn.Sequential]:
        """The layers between one pooling and the next."""
        start = 0
        for end, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d):
                yield self.features[start:end]
                start = end + 1

    def forward(self, image: Tensor) -> list[Tensor]:
        """The image, then what comes out of every pooling."""
        features = [image]
        for layer in self.features:
            image = layer(image)
            if isinstance(layer, nn.MaxPool2d):
                features.append(image)
        return features


def initialize_for_relu(module: nn.Module) -> None:
    """He et al. 2015, which keeps the scale of what passes a stack of ReLUs without batch norm."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
