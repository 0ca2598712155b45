"""A bundle loaded and made to run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from geoseg.errors import InputError, ModelError
from geoseg.model.bundle import DEFAULT_MODEL, GRAPH, GRAPH_WEIGHTS, Bundle, load_bundle
from geoseg.model.card import Card
from geoseg.model.runtime import Array, Precision, Runtime, RuntimeName
from geoseg.raster.scene import Chip
from geoseg.raster.usual_values import UsualValues

__all__ = ["Model", "load_model"]


@dataclass(frozen=True, slots=True)
class Model:
    """A card and something that computes it."""

    card: Card
    runtime: Runtime
    sha256: str

    def filled(self, chip: Chip, bands: Sequence[str] | None = None) -> Array:
        """The chip's pixels, a neutral value where invalid: nothing special to the network.

        Args:
            chip: what was read.
            bands: common names of its bands, one of the card's sets; None: all of the card's.
                Those that are missing become NaN.
        """
        given = self.card.bands if bands is None else tuple(bands)
        if not self.card.band_sets or given == self.card.bands:
            if chip.valid.all():
                return chip.pixels
            return np.where(chip.valid, chip.pixels, self.card.neutral[:, None, None])
        places = [self.card.bands.index(band) for band in given]
        planes = np.full((self.card.planes, *chip.valid.shape), np.nan, np.float32)
        planes[places] = np.where(chip.valid, chip.pixels, self.card.neutral[places, None, None])
        return planes

    def usual_values(self, bands: Sequence[str]) -> UsualValues:
        """Looks whether chips of these bands hold what the network has learnt from."""
        ranges = dict(zip(self.card.bands, self.card.value_ranges, strict=False))
        anything = -np.inf, np.inf
        return UsualValues(bands, [ranges.get(band, anything) for band in bands])


def load_model(
    model: str | Path = DEFAULT_MODEL,
    *,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
) -> Model:
    """Load a bundle and make it run.

    Args:
        model: the path of a bundle, or the name of an installed model.
        runtime: "openvino" runs the exported graph on the CPU; "torch" rebuilds the network;
            "auto" takes torch for a GPU, else the graph when the bundle has one.
        device: "cpu", "cuda" or "cuda:1"; "auto" takes a GPU when there is one, but for openvino.
        precision: "float32", "bf16" or "int8", which takes the bundle's quantized graph; "auto"
            takes bf16 where the machine is built for it and the card allows it, but for torch on
            a CPU, which is the reference.

    Raises:
        ModelError: if the bundle is missing, damaged, or has no graph for "openvino".
        InputError: if the machine has no such device, or cannot compute so.
    """
    bundle = load_bundle(model)
    if runtime not in ("auto", "openvino", "torch"):
        raise InputError(f"no runtime is called {runtime!r}; there are auto, openvino and torch")
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise InputError(f"no precision is called {precision!r}; there are {known}")
    chosen = _runtime(bundle, runtime, device, precision)
    return Model(bundle.card, chosen, bundle.sha256)


def _runtime(bundle: Bundle, runtime: RuntimeName, device: str, precision: Precision) -> Runtime:
    has_graph = precision == "int8" or {GRAPH, GRAPH_WEIGHTS} <= bundle.parts.keys()
    if runtime == "openvino" and not has_graph:
        raise ModelError(f"{bundle.path} holds no graph; choose --runtime torch")
    may_be_gpu = device == "auto" and runtime != "openvino" and precision != "int8"
    on_gpu = device.startswith("cuda") or (may_be_gpu and _gpu())
    if runtime == "openvino" or (runtime == "auto" and has_graph and not on_gpu):
        if device not in ("auto", "cpu"):
            raise InputError(f"openvino runs on the cpu, not on {device}; choose --runtime torch")
        from geoseg.model.openvino_runtime import OpenVINORuntime

        return OpenVINORuntime(bundle, precision)
    from geoseg.model.torch_runtime import TorchRuntime

    return TorchRuntime(bundle, "cuda" if device == "auto" and on_gpu else device, precision)


def _gpu() -> bool:
    """Whether torch can use a GPU; torch, which takes seconds, is asked where one is in sight."""
    if not (Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi")):
        return False
    import torch

    return torch.cuda.is_available()
