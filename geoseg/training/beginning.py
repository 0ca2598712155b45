"""Learning on from a model that exists, in place of chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load

from geoseg.errors import InputError
from geoseg.model.bundle import WEIGHTS, load_bundle
from geoseg.model.card import Card
from geoseg.nets.network import AUXILIARY, COUNTER, Network
from geoseg.recipe import Recipe

__all__ = ["Beginning", "begin_with"]


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """What a training has of the model that it began with, besides the weights."""

    label: str
    """Its name and the start of its hash."""
    statistics: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """Mean and standard deviation of each band, (C,) both, as the model takes them: what it has
    learnt holds for values scaled by those."""


def begin_with(model: str | Path, network: Network, recipe: Recipe) -> Beginning:
    """Give a network the weights of a model that sees the same bands in the same way.

    A last layer for another number of classes keeps the weights that it has.

    Raises:
        ModelError: if there is no such model.
        InputError: if it is not of the recipe's kind.
    """
    bundle = load_bundle(model)
    _compare(bundle.card, recipe)
    weights, own = load(bundle.parts[WEIGHTS]), network.state_dict()
    classes = len(recipe.legend)
    taken = {
        name: tensor
        for name, tensor in own.items()
        if not (name.startswith(AUXILIARY) or name.endswith(COUNTER))  # bundles hold neither
        and not _of_classes(name, own, weights)
    }
    fits = all(name in weights and weights[name].shape == own[name].shape for name in taken)
    if not fits or set(weights) - set(own):
        raise InputError(
            f"begin_with: the weights of {bundle.card.name} are not those of the recipe's "
            f"{recipe.architecture} for {classes} classes; give it the same network"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            tensor.copy_(weights[name])
    card, bands = bundle.card, len(recipe.bands)
    mean, stddev = (np.asarray(each[:bands], np.float64) for each in (card.mean, card.stddev))
    return Beginning(bundle.label, (mean, stddev))


def _of_classes(name: str, own: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> bool:
    """Whether a parameter belongs to a last layer for another number of classes."""
    theirs = weights.get(name)
    return theirs is not None and (
        theirs.shape[1:] == own[name].shape[1:] and theirs.shape[:1] != own[name].shape[:1]
    )


def _compare(card: Card, recipe: Recipe) -> None:
    """The first thing in which a model and a recipe differ that must be the same."""
    for what, theirs, ours in (
        ("architecture", card.architecture, recipe.architecture),
        ("dates", card.dates, recipe.dates),
        ("bands", card.bands, recipe.bands),
        ("band_sets", card.band_sets, recipe.band_sets),
        ("units", card.units, recipe.units),
        ("logarithm", card.logarithm, recipe.logarithm),
    ):
        if theirs != ours:
            raise InputError(
                f"begin_with: {card.name} and the recipe differ in {what}: {theirs} and {ours}"
            )
