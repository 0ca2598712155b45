"""The exported graph of a bundle on the CPU, without torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError, ModelError
from geoseg.model.bundle import GRAPH, GRAPH_WEIGHTS, INT8, INT8_WEIGHTS, Bundle
from geoseg.model.card import GRAPH_NOTE
from geoseg.model.runtime import Array, Precision, Runtime, available_cores
from geoseg.model.upsampling import merge_upsampling
from geoseg.raster.decision import Decision, decide

__all__ = ["OpenVINORuntime", "has_bf16", "read_graph"]

MOST_STREAMS = 8
"""Chips that are computed at a time; with more cores, each chip has several."""

TIMES_ALIVE, TIMES_WEIGHTS = 2.5, 2.2
"""What a process takes in memory, as measured: for each byte of tensors that are alive at a time
(scratch of the kernels, chips that wait), and for each of the graph's weights."""

IS_MISSING = "IsNaN"
"""The operation by which a graph sees whether a band is missing."""

_CORE: list[Any] = []
_CORE_LOCK = Lock()

WAITING = 1
"""Chips handed over beyond those that are computed, so that a stream never waits for the next."""


class OpenVINORuntime(Runtime):
    """The exported graph on the CPU; compiled when the shape of chips, or their bands, change.

    As many chips are computed at a time as there are streams, each stream on its own cores.

    Args:
        bundle: holds the graph.
        precision: "auto" is bf16 where the processor computes it itself and the card allows it;
            "int8" takes the bundle's quantized graph, and so for what is left of it.

    Raises:
        ModelError: if there is no such graph, or it cannot be read or does not fit the card.
        InputError: if bf16 is asked of a processor that has none.
    """

    def __init__(self, bundle: Bundle, precision: Precision = "auto") -> None:
        import openvino

        self._core = _core()
        in_int8 = precision == "int8"
        parts = (INT8, INT8_WEIGHTS) if in_int8 else (GRAPH, GRAPH_WEIGHTS)
        self._graph = read_graph(bundle, *parts)
        if precision == "bf16" and not has_bf16():
            raise InputError("this processor has no bf16; choose --precision float32")
        left_open = precision in ("auto", "int8")  # of int8, for what is not quantized
        wanted = bundle.card.allows_bf16 if left_open else precision == "bf16"
        self._bf16 = wanted and has_bf16()
        self._streams = min(available_cores(), MOST_STREAMS)
        self._compiled: tuple[Any, Any] | None = None
        version = openvino.get_version().split("-")[0]
        name = "int8" if in_int8 else "bf16" if self._bf16 else "float32"
        self._in_float32 = name == "float32"
        self.label = f"openvino {version}, cpu, {name}"

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        """See Runtime."""
        for request in self._computed(chips):
            scores: Array = request.get_output_tensor(0).data[0].copy()  # it is used again
            yield scores

    def decisions(self, chips: Iterable[Array]) -> Iterator[Decision]:
        """See Runtime; nothing is copied."""
        for request in self._computed(chips):
            yield decide(request.get_output_tensor(0).data[0])

    def rest(self) -> None:
        """See Runtime."""
        self._compiled = None

    def memory_bytes(self, shape: tuple[int, ...]) -> int | None:
        """See Runtime."""
        graph = self._graph.clone()
        graph.reshape([1, *shape])
        share = 2 if self._bf16 else 1
        ends: int = sum(port.get_tensor().size for port in (graph.input(0), graph.output(0)))
        alive = (self._streams + WAITING) * ends + self._streams * _most_alive(graph) // share
        return int(TIMES_ALIVE * alive + TIMES_WEIGHTS * _weights(graph))

    def _computed(self, chips: Iterable[Array]) -> Iterator[Any]:
        """A request that has finished for each chip, in their order."""
        running: deque[Any] = deque()
        idle: list[Any] = []
        compiled: Any = None
        for chip in chips:
            if (wanted := self._compile(chip)) is not compiled:
                yield from _finished(running)
                compiled, requests = wanted, self._streams + WAITING
                idle = [compiled.create_infer_request() for _ in range(requests)]
            if not idle:
                request = running.popleft()
                request.wait()
                yield request
                idle.append(request)
            request = idle.pop()
            request.start_async([chip[None]], share_inputs=False)
            running.append(request)
        yield from _finished(running)

    def _compile(self, chip: Array) -> Any:
        missing = np.isnan(chip[:, 0, 0])
        wanted = chip.shape, missing.tobytes()
        kept = self._compiled
        if kept is None or kept[0] != wanted:
            graph = self._graph.clone()
            graph.reshape([1, *chip.shape])
            _tell(graph, missing)
            if self._in_float32:  # what it does to other precisions has not been measured
                merge_upsampling(graph)
            options = {
                "NUM_STREAMS": self._streams,
                "INFERENCE_NUM_THREADS": available_cores(),
                "INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32",
            }
            self._compiled = kept = wanted, self._core.compile_model(graph, "CPU", options)
        return kept[1]


def _finished(running: deque[Any]) -> Iterator[Any]:
    while running:
        request = running.popleft()
        request.wait()
        yield request


def has_bf16() -> bool:
    """Whether the processor computes bf16 itself."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _core() -> Any:
    """OpenVINO's core: one for the process, never let go.

    Each core's CPU plugin gives the thread a stack for signals, and on leaving puts back the one
    it found, which by then another may have freed; Ctrl-C is then a segmentation fault.
    """
    import openvino

    with _CORE_LOCK:
        if not _CORE:
            _CORE.append(openvino.Core())
        return _CORE[0]


def read_graph(bundle: Bundle, name: str, weights: str) -> Any:
    """A graph of a bundle, by the names of its two parts.

    Raises:
        ModelError: if it is missing, cannot be read or does not fit the card.
    """
    if name not in bundle.parts or weights not in bundle.parts:
        raise ModelError(f"{bundle.path} holds no {name}; {_advice(name)}")
    try:
        graph = _core().read_model(bundle.parts[name], bundle.parts[weights])
        planes_in = graph.input(0).partial_shape[1].get_length()
        planes_out = graph.output(0).partial_shape[1].get_length()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{bundle.path}: {name} cannot be read: {reason}") from error
    expected = bundle.card.planes, len(bundle.card.legend)
    if (planes_in, planes_out) != expected:
        raise ModelError(
            f"{bundle.path}: the graph takes {planes_in} bands and gives {planes_out} "
            f"classes, the card says {expected[0]} and {expected[1]}"
        )
    if _note(graph) != bundle.card.function_sha256:
        raise ModelError(
            f"{bundle.path}: {name} was not made from this card and these weights; "
            f"export the bundle again, or {_advice(name)}"
        )
    return graph


def _advice(name: str) -> str:
    return "make one with geoseg quantize" if name == INT8 else "choose --runtime torch"


def _tell(graph: Any, missing: npt.NDArray[np.bool_]) -> None:
    """Have the bands that are missing in a graph's constants, where it would look at each chip."""
    from openvino.op import Constant

    for node in graph.get_ops():
        if node.get_type_name() == IS_MISSING:
            node.output(0).replace(Constant(missing[None, :, None, None]).output(0))


def _note(graph: Any) -> str | None:
    """The hash of what the graph computes, which its export wrote into it."""
    path = list(GRAPH_NOTE)
    return str(graph.get_rt_info(path).astype(str)) if graph.has_rt_info(path) else None


def _weights(graph: Any) -> int:
    constants = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
    return sum(node.output(0).get_tensor().size for node in constants)


def _most_alive(graph: Any) -> int:
    """Bytes of the tensors that are alive at a time, at most, when the graph runs in order."""
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() != "Constant"]
    place = {node.get_name(): number for number, node in enumerate(nodes)}
    change = np.zeros(len(nodes) + 1, np.int64)
    for number, node in enumerate(nodes):
        for port in node.outputs():
            users = [place[end.get_node().get_name()] for end in port.get_target_inputs()]
            change[number] += port.get_tensor().size
            change[max(users, default=number) + 1] -= port.get_tensor().size
    return int(np.cumsum(change).max())
