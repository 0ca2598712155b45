"""Convolutions of what is upsampled, computed from what there was before.

A 3 x 3 convolution of features doubled by nearest neighbours meets each of them up to four times.
A transposed convolution of 4 x 4, whose weights are those sums, says the same with four
multiplications for nine, and the doubled features are never made.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["merge_upsampling"]

CONVOLUTION = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
"""Of 3 x 3, which keeps the size."""

NEAREST = {
    "mode": "nearest",
    "shape_calculation_mode": "sizes",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
    "pads_begin": [0, 0, 0, 0],
    "pads_end": [0, 0, 0, 0],
}
"""Upsampling to a given size that repeats pixels."""


def merge_upsampling(graph: Any) -> None:
    """Rewrite an OpenVINO graph of fixed shapes so, in place; other operations stay as they are."""
    for node in graph.get_ordered_ops():
        if not _keeps_the_size(node):
            continue
        parts = _parts(node.input_value(0))
        smalls = [_before_doubling(part) for part in parts]
        plain = sum(small is None for small in smalls)
        if plain <= 1 and plain < len(parts):
            weights = node.input_value(1).get_node().get_data()
            node.output(0).replace(_merged(parts, smalls, weights))


def _keeps_the_size(node: Any) -> bool:
    if not _is(node, "Convolution", CONVOLUTION):
        return False
    weights = node.input_value(1)
    return weights.get_node().get_type_name() == "Constant" and [*weights.shape[2:]] == [3, 3]


def _is(node: Any, kind: str, how: Mapping[str, Any]) -> bool:
    told = node.get_attributes()
    return node.get_type_name() == kind and all(told.get(name) == how[name] for name in how)


def _parts(features: Any) -> list[Any]:
    """What features were concatenated of, along their channels."""
    node = features.get_node()
    return list(node.input_values()) if _is(node, "Concat", {"axis": 1}) else [features]


def _before_doubling(features: Any) -> Any | None:
    """What was doubled along its sides, for this use alone; None where something else was done."""
    node = features.get_node()
    if not _is(node, "Interpolate", NEAREST) or len(features.get_target_inputs()) > 1:
        return None
    small = node.input_value(0)
    count, channels, height, width = small.shape
    return small if [*features.shape] == [count, channels, 2 * height, 2 * width] else None


def _merged(parts: list[Any], smalls: list[Any], weights: npt.NDArray[np.float32]) -> Any:
    """The convolution of all parts together, as the sum of one each."""
    from openvino import opset13 as ops
    from openvino.op import Constant

    terms, first = [], 0
    for part, small in zip(parts, smalls, strict=True):
        own = weights[:, first : first + part.shape[1]]
        first += part.shape[1]
        if small is None:
            terms.append(ops.convolution(part, Constant(own.copy()), **CONVOLUTION))
        else:
            doubling = CONVOLUTION | {"strides": [2, 2]}
            kernel = Constant(_transposed(own))
            terms.append(ops.convolution_backprop_data(small, kernel, **doubling))
    return reduce(ops.add, terms).output(0)


def _transposed(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(out, in, 3, 3) of the doubled features to (in, out, 4, 4) of those before.

    Along a side, an even pixel is a copy of the same feature as the next one, an odd pixel as the
    one before it: weights that fall on copies are summed.
    """
    for axis in (2, 3):
        before, here, after = np.moveaxis(weights, axis, 0)
        weights = np.stack([after, here + after, before + here, before], axis)
    return np.ascontiguousarray(weights.swapaxes(0, 1))
