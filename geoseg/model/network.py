"""The network of a card as one torch module: values in the card's units in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoseg.errors import ModelError
from geoseg.model.card import Card
from geoseg.nets.zoo import build_model

__all__ = ["ScoringNetwork", "scoring_network"]


class ScoringNetwork(nn.Module):
    """Scaling, network and softmax in one, so that every runtime computes the same.

    Args:
        network: takes scaled values, gives logits.
        card: says how values are scaled.

    Shape:
        (N, card.planes, H, W) float32 in the card's units -> (N, K, H, W) float32, sums to 1
        over K.
    """

    mean: Tensor
    stddev: Tensor

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network, self._plus, self._temperature = network, card.logarithm, card.temperature
        self.register_buffer("mean", torch.from_numpy(card.mean)[None, :, None, None])
        self.register_buffer("stddev", torch.from_numpy(card.stddev)[None, :, None, None])

    def forward(self, values: Tensor) -> Tensor:
        """Probabilities of each class."""
        if self._plus is None:
            centred = values - self.mean
        else:  # NaN stays: it stands for a band that is missing
            centred = self.centred_logarithm(torch.where(values < 0, 0.0, values) + self._plus)
        logits: Tensor = self.network(centred / self.stddev)
        return (logits / self._temperature).softmax(dim=1)

    def centred_logarithm(self, values: Tensor) -> Tensor:
        """The logarithm of positive values, less the card's mean."""
        return values.log() - self.mean


def scoring_network(card: Card, weights: dict[str, Tensor]) -> ScoringNetwork:
    """Rebuild the network of a card with its weights, strictly.

    Raises:
        ModelError: if a weight is missing, left over or of another shape than the card says.
    """
    if {"name", "bands", "classes", "pretrained"} & set(card.hyperparameters):
        raise ModelError(f"{card.name}: name, bands, classes and pretrained are no hyperparameters")
    bands, classes = len(card.bands), len(card.legend)
    with torch.device("meta"):  # shapes only: a card that lies takes no memory
        network = build_model(
            card.architecture, bands=bands, classes=classes, **card.hyperparameters
        )
    if network.dates != card.dates:
        raise ModelError(
            f"the card of {card.name} says {card.dates} dates, {card.architecture} sees "
            f"{network.dates}"
        )
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(f"the weights of {card.name} do not fit its card: {first}") from error
    return ScoringNetwork(network, card).eval()
