"""What training makes small: how far a network's logits are from the labels.

All losses are called alike and keep the same promises. Pixels labelled NODATA count nowhere,
whatever their logits hold; where nothing is labelled a loss is 0 and its gradients are zeros;
the arithmetic is float32 whatever autocast says; and the whole batch is one sample of the ground,
so that neither the cut into chips nor how they are batched together weighs in.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geoseg.errors import InputError
from geoseg.legend import NODATA
from geoseg.training.pixel_loss import TINY, PixelLoss, planes_of, weights_of
from geoseg.training.soft_cross_entropy import SoftCrossEntropy

__all__ = [
    "LOSSES",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Lovasz",
    "PixelLoss",
    "SoftCrossEntropy",
    "Tversky",
    "WeightedSum",
    "make_loss",
]


class CrossEntropy(PixelLoss):
    """The mean over labelled pixels of weight x cross-entropy.

    The sum is divided by the number of labelled pixels, not by the sum of their weights as torch
    does: there, a batch of one class gives the same loss whatever that class weighs. Weights
    should therefore have a mean of 1 over the pixels, as those of `class_weights` have.

    Args:
        class_weights: (K,), what a pixel of each class counts; None: all the same.
        label_smoothing: share of each label that is spread over all classes, 0 to 1.

    Reference:
        Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer
        Vision", CVPR 2016. https://arxiv.org/abs/1512.00567
    """

    weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, *, label_smoothing: float = 0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f"a label_smoothing of {label_smoothing:g} is not within [0, 1)")
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", weights_of(class_weights), persistent=False)

    def of_labelled(self, logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
        """See PixelLoss."""
        total = F.cross_entropy(
            logits,
            labels,
            self.weights,
            ignore_index=NODATA,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total / labelled.sum().clamp(min=1)


class Focal(PixelLoss):
    """Cross-entropy times (1 - p)^gamma, p the probability of the labelled class.

    Pixels that the network has right already count little. Divided as `CrossEntropy` is.

    Args:
        class_weights: (K,), what a pixel of each class counts (alpha in the paper).
        gamma: 0 is cross-entropy; the paper's choice is 2.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
        https://arxiv.org/abs/1708.02002
    """

    weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, *, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= gamma < math.inf:
            raise InputError(f"a gamma of {gamma:g} makes no sense; the usual one is 2")
        self.gamma = gamma
        self.register_buffer("weights", weights_of(class_weights), persistent=False)

    def of_labelled(self, logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
        """See PixelLoss."""
        surprise = F.cross_entropy(logits, labels, ignore_index=NODATA, reduction="none")
        missing = (1 - torch.exp(-surprise)).clamp(min=TINY)  # a power below 1 is steep at 0
        each = missing**self.gamma * surprise
        if self.weights is not None:
            each = each * self.weights[labels.masked_fill(~labelled, 0)]
        return torch.where(labelled, each, 0.0).sum() / labelled.sum().clamp(min=1)


class Tversky(PixelLoss):
    """1 - TP / (TP + alpha FP + beta FN), of probabilities, averaged over the classes labelled.

    TP, FP and FN are summed over the batch, not image by image. A class that no pixel of the batch
    is labelled as is left out of the mean: it has neither a score of 0 nor one of 1.

    Args:
        alpha: what a false positive costs.
        beta: what a false negative costs; above `alpha`, rare classes are found more often.

    Reference:
        Salehi, Erdogmus, Gholipour: "Tversky loss function for image segmentation using 3D fully
        convolutional deep networks", MLMI 2017. https://arxiv.org/abs/1706.05721
    """

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7) -> None:
        super().__init__()
        if not (0 <= alpha < math.inf and 0 <= beta < math.inf and alpha + beta > 0):
            raise InputError(f"alpha {alpha:g} and beta {beta:g} must be positive, as 0.3 and 0.7")
        self.alpha, self.beta = alpha, beta

    def of_labelled(self, logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
        """See PixelLoss."""
        mapped, reference = planes_of(logits, labels, labelled)
        over_batch = (0, 2, 3)
        support = reference.sum(over_batch)
        agreed = (mapped * reference).sum(over_batch)
        false = self.alpha * (mapped.sum(over_batch) - agreed) + self.beta * (support - agreed)
        present = support > 0
        each = 1 - agreed / (agreed + false).clamp(min=TINY)
        return torch.where(present, each, 0.0).sum() / present.sum().clamp(min=1)


class Dice(Tversky):
    """1 - 2 |A and B| / (|A| + |B|), of probabilities: `Tversky` with alpha = beta = 0.5.

    Reference:
        Milletari, Navab, Ahmadi: "V-Net", 3DV 2016 (there with squares in the denominator).
        https://arxiv.org/abs/1606.04797
    """

    def __init__(self) -> None:
        super().__init__(alpha=0.5, beta=0.5)


class Lovasz(PixelLoss):
    """Lovasz-softmax: the convex extension of 1 - IoU, averaged over the classes labelled.

    Where every probability is 0 or 1 it is 1 - IoU itself.

    Reference:
        Berman, Rannen Triki, Blaschko: "The Lovasz-Softmax loss", CVPR 2018, algorithm 1.
        https://arxiv.org/abs/1705.08790
    """

    def of_labelled(self, logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
        """See PixelLoss."""
        probabilities = logits.softmax(1).movedim(1, 0)[:, labelled]
        reference = labels[labelled]
        present = torch.bincount(reference).nonzero().flatten().tolist()
        if not present:
            return logits.sum() * 0
        each = [_lovasz(probabilities[k], reference == k) for k in present]
        return torch.stack(each).mean()


def _lovasz(probability: Tensor, is_class: Tensor) -> Tensor:
    """Errors (P,), weighed by what each adds to 1 - IoU when the largest are made first."""
    errors, order = (is_class.float() - probability).abs().sort(descending=True)
    missed = is_class[order]
    union = missed.sum() + (~missed).cumsum(0)
    still_right = missed.sum() - missed.cumsum(0)
    # One more miss takes 1 / union; one more false alarm widens the union by 1. The differences
    # of neighbouring IoUs say the same, but drown in rounding from a million pixels on.
    step = torch.where(missed, 1 / union, still_right / (union * (union - 1)).clamp(min=1))
    return (errors * step).sum()


class WeightedSum(nn.Module):
    """Several losses added up, each times its weight.

    Args:
        losses: by name; each is called with logits and labels.
        weights: by the same names, above 0.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(losses) != set(weights) or not losses:
            raise InputError(f"losses {sorted(losses)} and weights {sorted(weights)} do not pair")
        for name, weight in weights.items():
            if not 0 < weight < math.inf:
                raise InputError(f"the loss {name} cannot weigh {weight:g}; give more than 0")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def forward(self, logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        """See PixelLoss."""
        parts = [
            self.weights[name] * loss(logits, labels, shares) for name, loss in self.losses.items()
        ]
        return torch.stack(parts).sum()


LOSSES: dict[str, tuple[type[PixelLoss], frozenset[str]]] = {
    "cross_entropy": (CrossEntropy, frozenset({"class_weights", "label_smoothing"})),
    "focal": (Focal, frozenset({"class_weights", "gamma"})),
    "dice": (Dice, frozenset()),
    "tversky": (Tversky, frozenset({"alpha", "beta"})),
    "lovasz": (Lovasz, frozenset()),
    "soft_cross_entropy": (SoftCrossEntropy, frozenset({"class_weights", "sharpness"})),
}
"""Each loss by the name it has in a recipe, and what can be said about it."""


def make_loss(
    spec: Mapping[str, float] | str,
    *,
    class_weights: Tensor | None = None,
    **parameters: float,
) -> nn.Module:
    """A loss, or a weighted sum of several.

    Args:
        spec: the name of a loss, or weights by name, as {"cross_entropy": 1.0, "dice": 1.0}.
        class_weights: (K,), for cross-entropy and focal. The others average over classes, so
            that each counts the same already.
        parameters: label_smoothing of cross_entropy, gamma of focal, alpha and beta of tversky,
            sharpness of soft_cross_entropy.

    Raises:
        InputError: if a name is unknown, a parameter belongs to none of the losses, or a value
            makes no sense.

    Example:
        >>> loss = make_loss({"cross_entropy": 1.0, "dice": 1.0}, label_smoothing=0.1)
        >>> loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)).shape
        torch.Size([])
    """
    weights = {spec: 1.0} if isinstance(spec, str) else dict(spec)
    if not weights:
        raise InputError(f"no loss is given; choose from {', '.join(LOSSES)}")
    for name in weights:
        _known("loss", name, LOSSES)
    takes = frozenset().union(*(LOSSES[name][1] for name in weights))
    for name in parameters:
        _known(
            "parameter of a loss", name, frozenset().union(*(each for _, each in LOSSES.values()))
        )
        if name not in takes:
            raise InputError(f"{name} says nothing about the loss {' + '.join(weights)}")
    told: dict[str, Any] = {"class_weights": class_weights, **parameters}
    losses = {
        name: LOSSES[name][0](**{key: told[key] for key in LOSSES[name][1] if key in told})
        for name in weights
    }
    return losses[spec] if isinstance(spec, str) else WeightedSum(losses, weights)


def _known(what: str, name: str, names: Iterable[str]) -> None:
    names = sorted(names)
    if name not in names:
        nearest = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(names)}"
        raise InputError(f"no {what} is called {name!r}; {hint}")
