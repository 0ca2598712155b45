"""What all losses have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geoseg.errors import InputError
from geoseg.legend import NODATA

__all__ = ["TINY", "PixelLoss", "planes_of", "weights_of"]

TINY = 1e-6
"""Keeps quotients and powers from 0; far below what one pixel adds."""


class PixelLoss(nn.Module):
    """The base of all losses: sees to what is not labelled, and to float32.

    Shape:
        - logits: (N, K, H, W).
        - labels: (N, H, W), int64, places of classes in the legend, 0 to K - 1; NODATA (255)
          where nobody labelled or the scene has no data.
        - shares: (N, K, H, W), how probable each class is, for the losses that learn from that.
        - Output: (), float32.
    """

    def forward(self, logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Raises:
            ValueError: if the shapes of logits and labels do not belong together.
        """
        if logits.ndim != 4 or labels.shape != (len(logits), *logits.shape[2:]):
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not belong "
                "together: expected (N, K, H, W) and (N, H, W)"
            )
        with torch.autocast(logits.device.type, enabled=False):
            labelled = labels != NODATA
            # What stands in the others may be NaN, and NaN times zero is no zero gradient.
            seen = torch.where(labelled[:, None], logits.float(), 0.0)
            return self.of_batch(seen, labels, labelled, shares)

    def of_batch(
        self, logits: Tensor, labels: Tensor, labelled: Tensor, shares: Tensor | None
    ) -> Tensor:
        """The loss, given what `of_labelled` is, and shares where labels are soft."""
        return self.of_labelled(logits, labels, labelled)

    def of_labelled(self, logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
        """The loss, given float32 logits that are 0 wherever `labelled` (N, H, W) is False."""
        raise NotImplementedError


def weights_of(class_weights: Tensor | None) -> Tensor | None:
    """Class weights as a loss takes them.

    Raises:
        InputError: if they are no (K,) numbers that are not negative.
    """
    if class_weights is None:
        return None
    weights = torch.as_tensor(class_weights).detach().float()
    if weights.ndim != 1 or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise InputError(f"class weights are (K,) and not negative, not {weights.tolist()}")
    return weights


def planes_of(logits: Tensor, labels: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot labels, both (N, K, H, W) and 0 where nothing is labelled."""
    known = labelled[:, None].float()
    one_hot = F.one_hot(labels.masked_fill(~labelled, 0), logits.shape[1])
    return logits.softmax(1) * known, one_hot.movedim(-1, 1) * known
