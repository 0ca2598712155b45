"""Convolutions of upsampled features are merged where that is the same, and nowhere else."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoseg.model.upsampling import merge_upsampling


class Decoder(nn.Module):
    """Upsampled features, concatenated with others on both sides, and a convolution."""

    def __init__(self, *, times: int = 2, mode: str = "nearest", both: bool = True, **how: Any):
        super().__init__()
        self.times, self.mode, self.both = times, mode, both
        self.convolution = nn.Conv2d(11 if both else 5, 7, **({"kernel_size": 3} | how))

    def forward(self, image: Tensor) -> Tensor:
        small, fine = image[:, :5, : 8 // self.times, : 12 // self.times], image[:, :3]
        features = F.interpolate(small, size=(8, 12), mode=self.mode)
        if self.both:
            features = torch.cat([fine, features, -fine], dim=1)
        return F.relu(self.convolution(features))


def scores_and_operations(decoder: nn.Module, image: Tensor) -> tuple[np.ndarray, Counter[str]]:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(decoder, example_input=image, input=[tuple(image.shape)])
    merge_upsampling(graph)
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    operations = Counter(node.get_type_name() for node in graph.get_ops())
    return compiled([image.numpy()])[0], operations


@pytest.mark.parametrize(
    ("decoder", "merged"),
    [
        (Decoder(padding=1), True),
        (Decoder(padding=1, both=False, bias=False), True),
        (Decoder(padding=1, mode="bilinear"), False),
        (Decoder(padding=1, times=4), False),
        (Decoder(), False),
        (Decoder(padding=1, stride=2), False),
        (Decoder(padding=2, dilation=2), False),
        (Decoder(padding=2, kernel_size=5), False),
        (Decoder(padding=0, kernel_size=1), False),
    ],
)
def test_a_merged_convolution_says_what_torch_says(decoder: Decoder, merged: bool) -> None:
    torch.manual_seed(1)
    image = torch.randn(1, 6, 8, 12)
    with torch.inference_mode():
        told = decoder(image).numpy()
    scores, operations = scores_and_operations(decoder, image)
    np.testing.assert_allclose(scores, told, atol=1e-5)
    assert operations["ConvolutionBackpropData"] == merged
    assert operations["Interpolate"] == (not merged)
