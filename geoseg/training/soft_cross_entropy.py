"""What is learnt from another model's doubts, not only from its answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geoseg.errors import InputError
from geoseg.training.pixel_loss import TINY, PixelLoss, weights_of

__all__ = ["SoftCrossEntropy"]


class SoftCrossEntropy(PixelLoss):
    """Cross-entropy against class probabilities, plainly and sharpened.

    A teacher that is rarely sure says little by its probabilities alone about which class comes
    first. So the same cross-entropy is added with both sides sharpened: shares to the power of
    `sharpness`, logits times it. Both are least where the network's probabilities are the shares.

    Args:
        class_weights: (K,), what a pixel of each class counts; one of several classes counts
            their mean by its shares.
        sharpness: 1 leaves the plain cross-entropy alone.

    Reference:
        Hinton, Vinyals, Dean: "Distilling the Knowledge in a Neural Network", 2015.
        https://arxiv.org/abs/1503.02531 (with temperatures above 1; sharpening is one below)
    """

    weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, *, sharpness: float = 3.0) -> None:
        super().__init__()
        if not 1 <= sharpness < math.inf:
            raise InputError(f"a sharpness of {sharpness:g} makes no sense; 1 or more does")
        self.sharpness = sharpness
        self.register_buffer("weights", weights_of(class_weights), persistent=False)

    def of_batch(
        self, logits: Tensor, labels: Tensor, labelled: Tensor, shares: Tensor | None
    ) -> Tensor:
        """See PixelLoss.

        Raises:
            InputError: if labels are not soft.
        """
        if shares is None:
            raise InputError(
                "soft_cross_entropy learns from probabilities: set labels_are: probabilities"
            )
        shares = shares.float() / shares.float().sum(1, keepdim=True).clamp(min=TINY)
        each = _cross_entropy(logits, shares)
        if self.sharpness > 1:
            sharp = shares**self.sharpness
            sharp = sharp / sharp.sum(1, keepdim=True).clamp(min=TINY)
            each = each + _cross_entropy(self.sharpness * logits, sharp)
        if self.weights is not None:
            each = each * torch.einsum("nkhw,k->nhw", shares, self.weights)
        return torch.where(labelled, each, 0.0).sum() / labelled.sum().clamp(min=1)


def _cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    return -(shares * logits.log_softmax(1)).sum(1)
