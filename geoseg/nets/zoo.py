"""Networks by name, as cards name them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoseg.errors import ModelError
from geoseg.nets.deeplab import DeepLabV3, DeepLabV3Plus
from geoseg.nets.fcn import FCN
from geoseg.nets.network import Network, plane_bands
from geoseg.nets.pretrained import fill_encoder
from geoseg.nets.pspnet import PSPNet
from geoseg.nets.residual import ResidualNet
from geoseg.nets.segnet import SegNet
from geoseg.nets.siamese import EncoderSiameseUNet, FCSiamConc, FCSiamDiff, SiameseUNet
from geoseg.nets.unet import EncoderUNet, UNet

__all__ = ["NETWORKS", "build_model", "hyperparameters_of"]

NETWORKS: dict[str, type[Network]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "pspnet": PSPNet,
    "residual": ResidualNet,
    "siamese_unet": SiameseUNet,
    "fcsiam_diff": FCSiamDiff,
    "fcsiam_conc": FCSiamConc,
}

AROUND_AN_ENCODER: dict[str, type[Network]] = {
    "unet": EncoderUNet,
    "siamese_unet": EncoderSiameseUNet,
}
"""What two of them are with an `encoder`."""


def build_model(
    name: str,
    *,
    bands: int | Sequence[str],
    classes: int,
    pretrained: str | Path | None = None,
    relative: bool = False,
    band_sets: Sequence[Sequence[int]] = (),
    **hyperparameters: Any,
) -> Network:
    """Build a network, with fresh weights or a pretrained encoder.

    Args:
        name: a key of NETWORKS.
        bands: how many bands an image has, or their common names in order. Networks of two dates
            take twice as many, see `Network.dates`.
        classes: how many score planes come out.
        pretrained: what fills the encoder, see `geoseg.nets.pretrained`; it takes the bands by
            name. Nothing that a card would know: the weights are the bundle's.
        relative: show the network each band twice, as it is and brought to mean 0 and deviation 1
            of the image itself, so that it can look through light and haze of a whole scene. It
            then sees as far as the image reaches.
        band_sets: places of bands that the network must also manage with alone, the others being
            NaN; its first layer has weights of its own for each set.
        hyperparameters: what else the network is built with; "unet" with an `encoder` is
            EncoderUNet, without UNet, and so with "siamese_unet".

    Raises:
        ModelError: if there is no such network, it does not take these hyperparameters, or the
            pretrained weights are missing or do not fit.

    Example:
        >>> network = build_model("segnet", bands=("red", "nir"), classes=3, widths=[8, 16])
        >>> network.stride, network.reach_px
        (4, 24)
    """
    if name not in NETWORKS:
        raise ModelError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    taken = hyperparameters_of(name, hyperparameters.get("encoder"))
    if unknown := sorted(set(hyperparameters) - set(taken)):
        raise ModelError(f"{name} takes no {', '.join(unknown)}; it takes {', '.join(taken)}")
    network_type = _type_of(name, hyperparameters.get("encoder"))
    if network_type is NETWORKS[name] and name in AROUND_AN_ENCODER:
        hyperparameters.pop("encoder", None)
    count = bands if isinstance(bands, int) else len(bands)
    if count < 1 or classes < 1:
        raise ModelError(f"{name} needs at least one band and one class, not {count}, {classes}")
    if bool(band_sets) + relative + (network_type.dates == 2) > 1:
        raise ModelError("relative, band_sets and two dates go one at a time")
    sets = tuple(tuple(chosen) for chosen in band_sets)
    if any(not chosen or not set(chosen) < set(range(count)) for chosen in sets):
        raise ModelError(f"band_sets {sets} are not some of {count} bands each")
    planes = len(plane_bands(count, sets)) if sets else 2 * count if relative else count
    try:
        network = network_type(planes, classes, **hyperparameters)  # type: ignore[call-arg]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be built with {hyperparameters}: {error}") from error
    if relative:
        network.relative, network.reach_px = True, None
    network.band_sets = sets
    if pretrained is not None:
        fill_encoder(network, pretrained, _plane_names(bands, relative, sets))
    return network


def _plane_names(
    bands: int | Sequence[str], relative: bool, sets: Sequence[Sequence[int]]
) -> int | list[str | None]:
    """Which band each plane of the first layer shows; None for those that say which set it is."""
    if isinstance(bands, int):
        return bands
    if relative:
        return [*bands, *bands]
    if not sets:
        return list(bands)
    return [None if band is None else bands[band] for band in plane_bands(len(bands), sets)]


def hyperparameters_of(name: str, encoder: str | None = None) -> tuple[str, ...]:
    """What a network can be built with besides bands and classes.

    Args:
        name: a key of NETWORKS.
        encoder: for U-Nets, which take other hyperparameters with an encoder than without.
    """
    parameters = inspect.signature(_type_of(name, encoder)).parameters.values()
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    if name in AROUND_AN_ENCODER:
        keywords = ["encoder", *(each for each in keywords if each != "encoder")]
    return (*keywords, "relative", "band_sets")


def _type_of(name: str, encoder: str | None) -> type[Network]:
    return NETWORKS[name] if encoder is None else AROUND_AN_ENCODER.get(name, NETWORKS[name])
