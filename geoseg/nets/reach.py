"""How far an output pixel sees: intervals followed from the map back to the image, along one axis.

Only the deepest path counts: whatever a skip sees, the path through the coarser levels sees too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

__all__ = ["Bilinear", "Nearest", "Sliding", "Step", "Transposed", "reach_px", "sliding_steps"]

Interval = tuple[int, int]
"""First and last pixel."""


class Step(Protocol):
    """One layer on the way from the image to the map."""

    def read(self, written: Interval) -> Interval:
        """The pixels of its input that it takes to write those of its output."""
        ...


@dataclass(frozen=True, slots=True)
class Sliding:
    """A convolution or a pooling."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    """Before the first pixel."""

    def read(self, written: Interval) -> Interval:
        """From the first pixel under the first window to the last under the last."""
        first, last = (end * self.stride - self.padding for end in written)
        return first, last + (self.kernel - 1) * self.dilation


@dataclass(frozen=True, slots=True)
class Transposed:
    """A transposed convolution."""

    kernel: int
    stride: int
    padding: int = 0

    def read(self, written: Interval) -> Interval:
        """The pixels whose windows are laid over those written."""
        first, last = written
        ahead = first + self.padding - self.kernel + 1
        return -(-ahead // self.stride), (last + self.padding) // self.stride


@dataclass(frozen=True, slots=True)
class Nearest:
    """Each pixel repeated `factor` times: nearest upsampling, or unpooling."""

    factor: int

    def read(self, written: Interval) -> Interval:
        """The pixels repeated."""
        return written[0] // self.factor, written[1] // self.factor


@dataclass(frozen=True, slots=True)
class Bilinear:
    """Bilinear upsampling by an even factor, pixels taken as areas."""

    factor: int

    def read(self, written: Interval) -> Interval:
        """The centres before the first and after the last."""
        before, after = ((2 * end + 1 - self.factor) // (2 * self.factor) for end in written)
        return before, after + 1


def reach_px(path: Sequence[Step], stride: int) -> int:
    """The farthest that any output pixel sees.

    Args:
        path: from the image to the map.
        stride: output pixels that lie so many apart see alike.
    """
    farthest = 0
    for pixel in range(stride):
        first = last = pixel
        for step in reversed(path):
            first, last = step.read((first, last))
        farthest = max(farthest, pixel - first, last - pixel)
    return farthest


def sliding_steps(module: nn.Module, *, besides: Iterable[str] = ()) -> list[Sliding]:
    """The convolutions and max poolings of a module whose layers run in the order of definition.

    Args:
        module: what is searched.
        besides: parts of names of layers that run beside the deepest path, such as shortcuts.
    """
    return [
        _sliding(layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and not any(b in name for b in besides)
    ]


def _sliding(layer: nn.Conv2d | nn.MaxPool2d) -> Sliding:
    kernel, stride, dilation = (
        value if isinstance(value, int) else value[0]
        for value in (layer.kernel_size, layer.stride, layer.dilation)
    )
    if type(layer).__name__ == "Conv2dSame":  # TensorFlow's padding: the odd pixel comes last
        return Sliding(kernel, stride, dilation, max((kernel - 1) * dilation + 1 - stride, 0) // 2)
    padding = layer.padding if isinstance(layer.padding, int) else layer.padding[0]
    return Sliding(kernel, stride, dilation, int(padding))
