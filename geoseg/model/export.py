"""A network's parameters and its graph, as the bytes that a bundle holds."""

from __future__ import annotations

import math
import warnings

import openvino
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.model.card import GRAPH_NOTE, Card
from geoseg.model.network import ScoringNetwork, scoring_network
from geoseg.model.saved_graph import graph_bytes
from geoseg.nets.network import COUNTER, Network, plane_bands, which_planes

__all__ = ["export_graph", "weight_bytes", "weights_of"]


class _GraphNetwork(ScoringNetwork):
    """The same function in operations that OpenVINO computes in vectors: its logarithm is not.

    log r = 2^k log s, with s the root of r taken k times, and log s = 2 artanh((s - 1)/(s + 1)),
    of whose series five terms are enough: to 1e-5 for values within a factor of 20 of their usual
    ones, to 1e-3 within one of 100 and for 0.
    """

    def __init__(self, network: nn.Module, card: Card, plus: float) -> None:
        super().__init__(network, card)
        farthest = float((self.mean - math.log(plus)).max())
        self._roots = max(2, math.ceil(math.log2(max(farthest, 1))))

    def centred_logarithm(self, values: Tensor) -> Tensor:
        root = values * torch.exp(-self.mean)
        for _ in range(self._roots):
            root = root.sqrt()
        z = (root - 1) / (root + 1)
        square = z * z
        series = square / 9 + 1 / 7
        for divisor in (5, 3, 1):
            series = series * square + 1 / divisor
        logarithm: Tensor = z * series * 2.0 ** (self._roots + 1)
        return logarithm


def _sort_in_the_first_convolution(network: nn.Module, bands: int) -> None:
    """Let a network's first convolution do what sorting bands into sets does before it.

    Its weights for bands as they come follow from the set, once for a batch. Where a runtime
    knows the set before it compiles the graph, they are constants.
    """
    if not isinstance(network, Network) or not network.band_sets:
        return
    planes = len(plane_bands(bands, network.band_sets))
    first = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and child.in_channels == planes
    ]
    if len(first) == 1:
        parent, name, convolution = first[0]
        sorting = _SortingConvolution(convolution, bands, network.band_sets)
        parent.register_module(name, sorting)
        network.band_sets = ()


class _SortingConvolution(nn.Module):
    taps: Tensor

    def __init__(
        self, convolution: nn.Conv2d, bands: int, band_sets: tuple[tuple[int, ...], ...]
    ) -> None:
        super().__init__()
        self.convolution, self._sets = convolution, band_sets
        ones = bands  # the plane that comes last
        rows = [ones if band is None else band for band in plane_bands(bands, band_sets)]
        self.register_buffer("taps", torch.eye(bands + 1)[rows], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        missing = image[:1, :, :1, :1].isnan()
        gate = which_planes(missing, self._sets).reshape(-1, 1).to(image.dtype)
        weight = self.convolution.weight
        out, planes, height, width = weight.shape
        sorted_weight = weight.permute(0, 2, 3, 1).reshape(-1, planes) @ (gate * self.taps)
        sorted_weight = sorted_weight.reshape(out, height, width, -1).permute(0, 3, 1, 2)
        known = torch.where(missing, 0.0, image)
        seen = torch.cat([known, torch.ones_like(known[:, :1])], dim=1)
        return F.conv2d(
            seen,
            sorted_weight,
            self.convolution.bias,
            self.convolution.stride,
            self.convolution.padding,
            self.convolution.dilation,
        )


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics, on the CPU, contiguous."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(COUNTER)
    }


def weight_bytes(network: nn.Module) -> bytes:
    """The content of weights.safetensors."""
    return save(weights_of(network))


def export_graph(network: nn.Module, card: Card) -> tuple[bytes, bytes]:
    """The content of graph.xml and graph.bin: scaling, network and softmax, any size of chip.

    All chips of a batch must lack the same bands. The card's own weights must be the network's: the
    graph carries `card.function_sha256`.

    Raises:
        ModelError: if the network does not fit the card.
    """
    scoring = scoring_network(card, network.state_dict())
    _sort_in_the_first_convolution(scoring.network, len(card.bands))
    if card.logarithm is not None:
        scoring = _GraphNetwork(scoring.network, card, card.logarithm).eval()
    example = torch.zeros(1, card.planes, 2 * card.stride, 2 * card.stride)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer speaks of Python values in shape checks
        graph = openvino.convert_model(
            scoring, example_input=example, input=[(-1, card.planes, -1, -1)]
        )
    graph.set_rt_info(card.function_sha256, list(GRAPH_NOTE))
    return graph_bytes(graph)
