"""Networks by name, as cards name them."""

from __future__ import annotations

from typing import Any

from torch import nn

from geoseg.errors import ModelError
from geoseg.nets.unet import UNet

__all__ = ["NETWORKS", "build_model"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet}


def build_model(name: str, *, bands: int, classes: int, **hyperparameters: Any) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: a key of NETWORKS.
        bands: how many bands go in.
        classes: how many score planes come out.
        hyperparameters: what else the network is built with.

    Raises:
        ModelError: if there is no such network or it does not take these hyperparameters.
    """
    if name not in NETWORKS:
        raise ModelError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](bands, classes, **hyperparameters)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be built with {hyperparameters}: {error}") from error
