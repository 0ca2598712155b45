"""What computes a network: chips in, scores or decisions out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.raster.decision import Decision, decide

__all__ = ["Array", "Precision", "Runtime", "RuntimeName", "available_cores"]

RuntimeName: TypeAlias = Literal["auto", "openvino", "torch"]
Precision: TypeAlias = Literal["auto", "float32", "bf16", "int8"]
Array: TypeAlias = npt.NDArray[np.float32]


class Runtime(Protocol):
    """Something that computes a network."""

    label: str
    """What it is, where it runs and how precisely, for people and provenance."""

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """Probabilities (K, H, W) for each chip (C, H, W), in their order.

        Chips are all of one shape and hold values in the card's units; H and W are multiples of
        the card's stride.
        """
        ...

    def decisions(self, chips: Iterable[Array]) -> Iterator[Decision]:
        """The winning class of each chip, without keeping its scores."""
        for scores in self.scores(chips):
            yield decide(scores)

    def rest(self) -> None:
        """Let go of what was made for the chips of the last stream; the next makes it anew."""

    def memory_bytes(self, shape: tuple[int, ...]) -> int | None:
        """About how much memory the network takes for chips (C, H, W); None: not known."""
        return None


def available_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
