"""The network of a bundle in torch: on GPUs, and on the CPU as the reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from geoseg.errors import InputError, ModelError
from geoseg.model.bundle import WEIGHTS, Bundle
from geoseg.model.network import scoring_network
from geoseg.model.runtime import Array, Precision, Runtime
from geoseg.raster.decision import PERCENT, UNDECIDED, Decision

__all__ = ["TorchRuntime"]

Answer: TypeAlias = tuple[Tensor, ...]
"""Planes for each chip of a batch: scores, or winners and confidences."""

GPU_BATCH = 8
LANES = 2
"""Batches under way on a GPU: while one is computed, the next is copied there."""

HAS_BF16 = 8, 0
"""The compute capability from which GPUs multiply bf16 themselves; older ones emulate it."""

WARM_UP = 3
"""Runs before the work is captured, in which libraries choose how to compute."""


class TorchRuntime(Runtime):
    """The network rebuilt from card and weights.

    On a GPU, batches go through lanes: pinned buffers that are made once, copies that overlap with
    the work of the other lane, and the work itself captured as a CUDA graph, so that it is started
    by one call. What comes back for a map of classes is two bytes a pixel.

    Args:
        bundle: holds the weights.
        device: "cpu", "cuda" or "cuda:1"; "auto" is the CPU.
        precision: "auto" is bf16 on a GPU that has it and float32 on a CPU.
        batch: chips computed at a time; by default 8 on a GPU, 1 on the CPU.

    Raises:
        ModelError: if the weights do not fit the card.
        InputError: if the machine has no such device, or it has no bf16.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        precision: Precision = "auto",
        *,
        batch: int | None = None,
    ) -> None:
        if precision == "int8":
            raise InputError("torch computes no int8; choose --runtime openvino, on the cpu")
        self._device = _device(device)
        on_gpu = self._device.type == "cuda"
        has_bf16 = not on_gpu or torch.cuda.get_device_capability(self._device) >= HAS_BF16
        if precision == "bf16" and not has_bf16:
            raise InputError(f"{device} has no bf16; choose --precision float32")
        wanted = on_gpu and bundle.card.allows_bf16 if precision == "auto" else precision == "bf16"
        self._bf16 = wanted and has_bf16
        self._batch = batch or (GPU_BATCH if on_gpu else 1)
        try:
            weights = load(bundle.parts[WEIGHTS])
        except SafetensorError as error:
            raise ModelError(f"{bundle.path}: {WEIGHTS} cannot be read: {error}") from error
        network = scoring_network(bundle.card, weights).to(self._device)
        quick = on_gpu or self._bf16
        self._network = network.to(memory_format=torch.channels_last) if quick else network
        name = "bf16" if self._bf16 else "float32"
        self.label = f"torch {torch.__version__}, {self._device}, {name}"
        self._kept: tuple[tuple[Any, ...], list[_Lane]] | None = None

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """See Runtime."""
        for (scores,) in self._answers(chips, _as_they_are):
            yield scores

    def decisions(self, chips: Iterable[Array]) -> Iterator[Decision]:
        """See Runtime; decided on the device."""
        for winner, confidence in self._answers(chips, _decide):
            yield Decision(winner, confidence)

    def rest(self) -> None:
        """See Runtime."""
        self._kept = None

    def _answers(
        self, chips: Iterable[Array], last: Callable[[Tensor], Answer]
    ) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
        running: deque[_Lane] = deque()
        idle: list[_Lane] = []
        most = LANES if self._device.type == "cuda" else 1
        wanted: tuple[Any, ...] | None = None
        try:
            for batch in _batches(chips, self._batch):
                shape = (self._batch, *batch[0].shape)
                if wanted is None:
                    wanted, idle = (shape, last), self._take_lanes((shape, last))
                if len(running) == most:
                    yield from running[0].finish()
                    idle.append(running.popleft())
                lane = idle.pop() if idle else _Lane(self._compute(last), shape, self._device)
                lane.start(batch)
                running.append(lane)
            while running:
                yield from running[0].finish()
                idle.append(running.popleft())
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the memory of {self._device} does not hold its chips; give smaller ones with "
                "--chip, or --device cpu"
            ) from error
        if wanted is not None:
            self._kept = wanted, idle

    def _take_lanes(self, wanted: tuple[Any, ...]) -> list[_Lane]:
        """The lanes that the last stream of chips left, where they are for chips such as these.

        To make one costs several batches, which scenes of few chips would pay each time. Two
        streams at a time do not share them.
        """
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == wanted else []

    def _compute(self, last: Callable[[Tensor], Answer]) -> Callable[[Tensor], Answer]:
        def compute(values: Tensor) -> Answer:
            # not around a yield: two streams may take turns
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16),
                nullcontext() if self._bf16 else _in_full(),
            ):
                return last(self._network(values).float())

        return compute


def _as_they_are(scores: Tensor) -> Answer:
    return (scores,)


@contextmanager
def _in_full() -> Iterator[None]:
    """Convolutions in float32 proper: cuDNN may take ten bits of its fraction otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class _Lane:
    """A batch's way to the device and back, in buffers that are made once."""

    def __init__(
        self, compute: Callable[[Tensor], Answer], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._on_gpu = device.type == "cuda"
        self._compute, self._count = compute, 0
        self._stream: Any = torch.cuda.Stream(device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._host_in = torch.zeros(shape, pin_memory=self._on_gpu)
        self._values = self._host_in
        self._graph: Any = None
        if self._on_gpu:
            self._values = torch.zeros(shape, device=device).to(memory_format=torch.channels_last)
            self._graph, self._result = self._capture()
            self._host_out = tuple(
                torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in self._result
            )

    def start(self, chips: list[Array]) -> None:
        """Send chips and begin to compute them."""
        self._count = len(chips)
        for place, chip in zip(self._host_in.numpy(), chips, strict=False):
            place[:] = chip
        with self._working():
            if self._graph is None:
                self._host_out = self._compute(self._values[: self._count])
                return
            self._values.copy_(self._host_in, non_blocking=True)
            self._graph.replay()
            for here, there in zip(self._host_out, self._result, strict=True):
                here.copy_(there, non_blocking=True)

    def finish(self) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
        """Wait, and give what was computed, chip by chip."""
        if self._stream is not None:
            self._stream.synchronize()
        answers = [each[: self._count].numpy() for each in self._host_out]
        if self._stream is not None:  # the buffers are used again
            answers = [each.copy() for each in answers]
        yield from zip(*answers, strict=True)

    def _working(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _capture(self) -> tuple[Any, Answer]:
        with self._working():
            for _ in range(WARM_UP):
                self._compute(self._values)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            result = self._compute(self._values)
        return graph, result


def _decide(scores: Tensor) -> Answer:
    """As `geoseg.raster.decision.decide`, for a batch (N, K, H, W)."""
    best, winner = scores.amax(dim=1), scores.argmax(dim=1)
    known = best.isfinite()
    confidence = (best * PERCENT).round().clamp(0, PERCENT).nan_to_num(UNDECIDED)
    undecided = torch.full_like(winner, UNDECIDED, dtype=torch.uint8)
    return tuple(
        torch.where(known, each.to(torch.uint8), undecided) for each in (winner, confidence)
    )


def _batches(chips: Iterable[Array], count: int) -> Iterator[list[Array]]:
    stream = iter(chips)
    while batch := list(islice(stream, count)):
        yield batch


def _device(name: str) -> torch.device:
    try:
        device = torch.device("cpu" if name == "auto" else name)
    except RuntimeError as error:
        raise InputError(f"no device is called {name!r}; there are cpu, cuda, cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"no runtime computes on {name!r}; there are cpu, cuda, cuda:1")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"{name}: this machine has {count} GPUs that torch can use")
    return device
