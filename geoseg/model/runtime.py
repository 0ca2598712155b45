"""A model running: chips in, scores out, behind one small protocol."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError, ModelError
from geoseg.model.bundle import (
    DEFAULT_MODEL,
    GRAPH,
    GRAPH_WEIGHTS,
    WEIGHTS,
    Bundle,
    load_bundle,
)
from geoseg.model.card import GRAPH_NOTE, Card
from geoseg.raster.scene import Chip

__all__ = ["Model", "OpenVINORuntime", "Runtime", "RuntimeName", "TorchRuntime", "load_model"]

RuntimeName: TypeAlias = Literal["auto", "openvino", "torch"]
Array: TypeAlias = npt.NDArray[np.float32]


class Runtime(Protocol):
    """Something that computes a network."""

    @property
    def label(self) -> str:
        """What it is and where it runs, for people and provenance."""
        ...

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """Probabilities (K, H, W) for each chip (C, H, W), in their order.

        Chips are all of one shape and hold values in the card's units; H and W are multiples of
        the card's stride.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A card and something that computes it."""

    card: Card
    runtime: Runtime
    sha256: str

    def filled(self, chip: Chip) -> Array:
        """The chip's pixels, each band's mean where invalid: nothing special to the network."""
        return np.where(chip.valid, chip.pixels, self.card.mean[:, None, None])


def load_model(model: str | Path = DEFAULT_MODEL, *, runtime: RuntimeName = "auto") -> Model:
    """Load a bundle and make it run.

    Args:
        model: the path of a bundle, or the name of an installed model.
        runtime: "openvino" runs the exported graph on the CPU; "torch" rebuilds the network and
            uses a GPU when there is one; "auto" takes the graph when the bundle has one.

    Raises:
        ModelError: if the bundle is missing, damaged, or has no graph for "openvino".
    """
    bundle = load_bundle(model)
    has_graph = GRAPH in bundle.parts and GRAPH_WEIGHTS in bundle.parts
    if runtime == "openvino" and not has_graph:
        raise ModelError(f"{bundle.path} holds no graph; choose --runtime torch")
    if runtime not in ("auto", "openvino", "torch"):
        raise InputError(f"no runtime is called {runtime!r}; there are auto, openvino and torch")
    chosen: Runtime = (
        TorchRuntime(bundle) if runtime == "torch" or not has_graph else OpenVINORuntime(bundle)
    )
    return Model(bundle.card, chosen, bundle.sha256)


class OpenVINORuntime:
    """The exported graph on the CPU, in float32; compiled when the shape of chips changes.

    As many chips are computed at a time as there are streams, each stream on its own cores.

    Raises:
        ModelError: if the graph cannot be read or does not fit the card.
    """

    STREAMS = 2

    def __init__(self, bundle: Bundle) -> None:
        import openvino

        self._core = openvino.Core()
        try:
            self._graph = self._core.read_model(bundle.parts[GRAPH], bundle.parts[GRAPH_WEIGHTS])
            planes_in = self._graph.input(0).partial_shape[1].get_length()
            planes_out = self._graph.output(0).partial_shape[1].get_length()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{bundle.path}: {GRAPH} cannot be read: {reason}") from error
        expected = bundle.card.planes, len(bundle.card.legend)
        if (planes_in, planes_out) != expected:
            raise ModelError(
                f"{bundle.path}: the graph takes {planes_in} bands and gives {planes_out} "
                f"classes, the card says {expected[0]} and {expected[1]}"
            )
        made_by = _note(self._graph)
        if made_by != bundle.card.function_sha256:
            raise ModelError(
                f"{bundle.path}: the graph was not made from this card and these weights; "
                "export the bundle again, or choose --runtime torch"
            )
        self._compiled: tuple[tuple[int, ...], Any] | None = None
        version = openvino.get_version().split("-")[0]
        self.label = f"openvino {version}, cpu, float32"

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """See Runtime."""
        running: deque[Any] = deque()
        idle: list[Any] = []
        for chip in chips:
            if not idle and not running:
                compiled = self._compile(chip.shape)
                idle = [compiled.create_infer_request() for _ in range(self.STREAMS)]
            if not idle:
                request = running.popleft()
                yield _finish(request)
                idle.append(request)
            request = idle.pop()
            request.start_async([chip[None]], share_inputs=False)
            running.append(request)
        while running:
            yield _finish(running.popleft())

    def _compile(self, shape: tuple[int, ...]) -> Any:
        if self._compiled is None or self._compiled[0] != shape:
            graph = self._graph.clone()
            graph.reshape([1, *shape])
            options = {
                "NUM_STREAMS": min(self.STREAMS, os.cpu_count() or 1),
                "INFERENCE_PRECISION_HINT": "f32",
            }
            self._compiled = shape, self._core.compile_model(graph, "CPU", options)
        return self._compiled[1]


def _note(graph: Any) -> str | None:
    """The hash of what the graph computes, which its export wrote into it."""
    path = list(GRAPH_NOTE)
    return str(graph.get_rt_info(path).astype(str)) if graph.has_rt_info(path) else None


def _finish(request: Any) -> Array:
    request.wait()
    scores: Array = request.get_output_tensor(0).data[0].copy()  # the request is used again
    return scores


class TorchRuntime:
    """The network rebuilt from card and weights, in float32, on a GPU when there is one.

    Raises:
        ModelError: if the weights do not fit the card.
    """

    def __init__(self, bundle: Bundle) -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        from geoseg.model.network import scoring_network

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            weights = load(bundle.parts[WEIGHTS])
        except SafetensorError as error:
            raise ModelError(f"{bundle.path}: {WEIGHTS} cannot be read: {error}") from error
        network = scoring_network(bundle.card, weights)
        self._network = network.to(self._device)
        self.label = f"torch {torch.__version__}, {self._device.type}, float32"

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """See Runtime."""
        import torch

        for chip in chips:
            with torch.inference_mode():  # not around the yield: two streams may take turns
                batch = torch.from_numpy(np.ascontiguousarray(chip))[None].to(self._device)
                scores = self._network(batch)[0].cpu().numpy()
            yield scores
