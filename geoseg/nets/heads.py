"""Parts that DeepLab and PSPNet share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AuxiliaryHead", "PooledNorm", "conv_norm_relu", "resized_like"]


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of pooled features, which leave one value a channel in a batch of one image.

    One value has no variance: it is normalized by the running statistics, in training as well.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Of the shape of the features, (N, C, H, W)."""
        if self.training and features.shape[0] * features.shape[2] * features.shape[3] == 1:
            return F.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


class AuxiliaryHead(nn.Sequential):
    """Classes from the features of an earlier stage, for a second loss in training.

    Shape:
        - Input: (N, channels, h, w).
        - Output: (N, classes, h, w), the logits.

    Reference:
        Zhao et al.: "Pyramid Scene Parsing Network", CVPR 2017, section 3.3; as torchvision has
        it, with a quarter of the channels and dropout.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            *conv_norm_relu(channels, channels // 4, 3),
            nn.Dropout(0.1),
            nn.Conv2d(channels // 4, classes, 1),
        )


def conv_norm_relu(
    inputs: int, outputs: int, kernel: int, *, dilation: int = 1, separable: bool = False
) -> nn.Sequential:
    """A convolution that keeps the size, batch norm and ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: odd, in pixels.
        dilation: pixels between two taps of the kernel.
        separable: a convolution of each channel, then a 1 x 1 convolution across them.
    """
    padding = dilation * (kernel - 1) // 2
    middle, groups = (inputs, inputs) if separable else (outputs, 1)
    first = nn.Conv2d(
        inputs, middle, kernel, padding=padding, dilation=dilation, groups=groups, bias=False
    )
    across = [nn.Conv2d(inputs, outputs, 1, bias=False)] if separable else []
    return nn.Sequential(first, *across, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resized_like(features: Tensor, larger: Tensor) -> Tensor:
    """Bilinear, with pixels taken as areas, so that nothing shifts."""
    return F.interpolate(features, size=larger.shape[-2:], mode="bilinear", align_corners=False)
