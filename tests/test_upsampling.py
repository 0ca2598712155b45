"""Convolutions of upsampled features are merged where that is the same, and nowhere else."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.model.upsampling import merge_upsampling


class Decoder(nn.Module):
    """Upsampled features, concatenated with others, and a convolution."""

    def __init__(
        self,
        *,
        times: int = 2,
        mode: str = "nearest",
        others: int = 1,
        seen: bool = False,
        **how: Any,
    ) -> None:
        super().__init__()
        self.times, self.mode, self.others, self.seen = times, mode, others, seen
        self.convolution = nn.Conv2d(5 + 3 * others, 7, **({"kernel_size": 3} | how))

    def forward(self, image: Tensor) -> Tensor:
        small, fine = image[:, :5, : 8 // self.times, : 12 // self.times], image[:, :3]
        upsampled = F.interpolate(small, size=(8, 12), mode=self.mode)
        others = [fine, -fine][: self.others]
        scores = self.convolution(torch.cat([*others[1:], upsampled, *others[:1]], dim=1))
        return scores + upsampled.mean() if self.seen else scores


def scores_and_operations(decoder: nn.Module, image: Tensor) -> tuple[np.ndarray, Counter[str]]:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(decoder, example_input=image, input=[tuple(image.shape)])
    merge_upsampling(graph)
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    operations = Counter(node.get_type_name() for node in graph.get_ops())
    return compiled([image.numpy()])[0], operations


@pytest.mark.parametrize(
    ("how", "merged"),
    [
        ({"padding": 1}, True),
        ({"padding": 1, "others": 0, "bias": False}, True),
        ({"padding": 1, "others": 2}, False),
        ({"padding": 1, "seen": True}, False),
        ({"padding": 1, "mode": "bilinear"}, False),
        ({"padding": 1, "times": 4}, False),
        ({"padding": 0}, False),
        ({"padding": 1, "stride": 2}, False),
        ({"padding": 2, "dilation": 2}, False),
        ({"padding": 2, "kernel_size": 5}, False),
        ({"padding": 0, "kernel_size": 1}, False),
    ],
)
def test_a_merged_convolution_says_what_torch_says(how: dict[str, Any], merged: bool) -> None:
    torch.manual_seed(1)
    decoder, image = Decoder(**how), torch.randn(1, 6, 8, 12)
    with torch.inference_mode():
        told = decoder(image).numpy()
    scores, operations = scores_and_operations(decoder, image)
    np.testing.assert_allclose(scores, told, atol=1e-5)
    assert operations["ConvolutionBackpropData"] == merged
    assert operations["Interpolate"] == (not merged)


@pytest.mark.parametrize(
    ("how", "sizes", "merged"),
    [
        ({}, [1, 4, 8, 12], True),
        ({}, [1, 5, 8, 12], False),
        ({"pads_end": [0, 0, 1, 1]}, [1, 4, 8, 12], False),
        ({"nearest_mode": "ceil"}, [1, 4, 8, 12], False),
        ({"shape_calculation_mode": "scales"}, [1.0, 1.0, 2.1, 2.1], False),
    ],
)
def test_only_pixels_repeated_twice_are_merged(
    how: dict[str, Any], sizes: list[float], merged: bool
) -> None:
    image = ops.parameter([1, 4, 4, 6], np.float32)
    upsampled = ops.interpolate(
        image,
        np.array(sizes, np.float32 if "shape_calculation_mode" in how else np.int64),
        **{
            "mode": "nearest",
            "shape_calculation_mode": "sizes",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
            "pads_begin": [0, 0, 0, 0],
            "pads_end": [0, 0, 0, 0],
        }
        | how,
    )
    weights = np.ones((2, upsampled.output(0).shape[1], 3, 3), np.float32)
    scores = ops.convolution(upsampled, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    graph = openvino.Model([scores], [image])
    merge_upsampling(graph)
    assert any(n.get_type_name() == "ConvolutionBackpropData" for n in graph.get_ops()) == merged
