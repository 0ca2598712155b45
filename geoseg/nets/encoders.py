"""Encoders by name: VGG of our own, any other from timm by way of segmentation-models-pytorch."""

from __future__ import annotations

import re
from typing import cast

from torch import nn

from geoseg.nets.network import Encoder
from geoseg.nets.reach import Sliding, sliding_steps
from geoseg.nets.vgg import VGG

__all__ = ["build_encoder", "encoder_path", "rebuildable", "timm_name"]

WALKED_IN_ORDER = (
    r"resnet\d+d?|resnext\d+_32x\d+d|wide_resnet\d+_2|vgg\d+(_bn)?|(tf_)?efficientnet_lite\d"
)
"""timm's networks whose layers run in the order of definition, and none of which looks at the
whole image."""


def timm_name(encoder: str) -> str:
    """What timm calls an encoder: 'efficientnet-lite0' is its 'tf_efficientnet_lite0'.

    Raises:
        ValueError: if it is no plain name; timm takes those with a colon as addresses.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", encoder):
        raise ValueError(f"encoder {encoder!r} is no name of a network of timm")
    return re.sub(r"^efficientnet-lite(\d)$", r"tf_efficientnet_lite\1", encoder)


def build_encoder(encoder: str, bands: int, *, output_stride: int = 32, depth: int = 5) -> Encoder:
    """An encoder with fresh weights.

    Args:
        encoder: 'vgg16', 'vgg16_bn', 'efficientnet-lite0' to 'efficientnet-lite4', or a
            convolutional network of timm such as 'resnet50'.
        bands: bands of the image.
        output_stride: how much smaller the coarsest features are than the image; below 32, the
            last stages are dilated instead of strided.
        depth: how many times the size is halved; 5 where `output_stride` is below 32.

    Raises:
        ValueError: if there is no such encoder, or it cannot be dilated or rebuilt from a card.
    """
    if encoder in {"vgg16", "vgg16_bn"}:
        if output_stride != 32 or depth != 5:
            raise ValueError(f"{encoder} has an output stride of 32, not {output_stride}")
        return VGG(bands, batch_norm=encoder == "vgg16_bn")
    import segmentation_models_pytorch as smp  # takes seconds

    name = timm_name(encoder)
    try:
        net = smp.encoders.get_encoder(
            f"tu-{name}", in_channels=bands, depth=depth, weights=None, output_stride=output_stride
        )
    except (AssertionError, KeyError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else f"no output stride {output_stride}"
        raise ValueError(f"encoder {encoder!r}: {reason}") from error
    return rebuildable(net, encoder)


def rebuildable(net: nn.Module, encoder: str) -> Encoder:
    """An encoder of which the weights say all, so that a card and weights make it again.

    Raises:
        ValueError: if it keeps other tensors than its weights.
    """
    kept = net.state_dict().keys()
    if any(name not in kept for name, _ in net.named_buffers()):
        raise ValueError(f"encoder {encoder!r} keeps state that is not among its weights")
    return cast("Encoder", net)


def encoder_path(encoder: Encoder, name: str) -> list[Sliding] | None:
    """The deepest path through an encoder, for its reach; None where it is not known."""
    if isinstance(encoder, VGG):
        return sliding_steps(encoder)
    if not re.fullmatch(WALKED_IN_ORDER, timm_name(name)):
        return None
    return sliding_steps(encoder, besides=("downsample",))
