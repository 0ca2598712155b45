"""A bundle's graph computed in whole numbers of eight bits, as far as its answers bear that.

Post-training quantization by NNCF: ranges and corrected biases come from calibration chips,
weights do not learn anew. Two things stay as precise as they were from the start: what comes
before and in the first convolution, since the steps of eight bits are too coarse for dark bands
beside bright ones, and sums of a residual block, where errors add up from block to block. Then as
many layers as it takes, the most harmful first, are taken back, until few enough pixels have
another class.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.model.bundle import GRAPH, GRAPH_WEIGHTS, Bundle
from geoseg.model.card import GRAPH_NOTE
from geoseg.model.openvino_runtime import read_graph
from geoseg.model.runtime import Array, Runtime
from geoseg.model.saved_graph import graph_bytes
from geoseg.quick_start import import_nncf

__all__ = ["Filled", "nncf_or_refuse", "quantized_graph"]

CONVOLUTIONS = ("Convolution", "GroupConvolution")


Filled: TypeAlias = tuple[Array, npt.NDArray[np.bool_]]
"""A chip (C, H, W) as a runtime takes it, and where it holds data (H, W)."""


def quantized_graph(
    bundle: Bundle,
    exact: Runtime,
    calibration: Sequence[Filled],
    validation: Sequence[Filled],
    most_changed: float,
) -> tuple[bytes, bytes]:
    """The content of graph_int8.xml and graph_int8.bin.

    Args:
        bundle: holds the graph.
        exact: computes it in float32.
        calibration: chips to take ranges and biases from, all of one shape; a few dozen that show
            what there is to see.
        validation: other chips, by which layers are taken back.
        most_changed: share of their pixels that may have another class than in float32; as long
            as there is a layer to take back.

    Raises:
        InputError: if NNCF is not installed.
        ModelError: if the graph cannot be read.
    """
    nncf = nncf_or_refuse()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    graph = read_graph(bundle, GRAPH, GRAPH_WEIGHTS)
    any_shape = graph.input(0).partial_shape
    graph.reshape([1, *calibration[0][0].shape])
    expected = exact.scores(chip for chip, _ in validation)
    answers = [
        (chip[None], scores.argmax(axis=0), valid)
        for scores, (chip, valid) in zip(expected, validation, strict=True)
    ]
    quantize = partial(
        nncf.quantize_with_accuracy_control,
        graph,
        nncf.Dataset([chip[None] for chip, _ in calibration]),
        nncf.Dataset(answers, lambda answer: answer[0]),
        _same_class,
        max_drop=most_changed,
        drop_type=nncf.DropType.ABSOLUTE,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        fast_bias_correction=False,
        # of all chips: by the mean of each one's, a snowfield among forests was another class
        advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
        ignored_scope=nncf.IgnoredScope(names=_kept(graph), validate=False),
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=len(answers)
        ),
    )
    # NNCF makes cores and drops them, which leaves their thread a stack for signals that is gone
    # (see openvino_runtime): it gets a thread of its own. Its bars are not ours.
    with ThreadPoolExecutor(1) as pool, redirect_stdout(io.StringIO()):
        made = pool.submit(quantize).result()
    made.reshape(any_shape)
    made.set_rt_info(bundle.card.function_sha256, list(GRAPH_NOTE))
    return graph_bytes(made)


def nncf_or_refuse() -> Any:
    """NNCF, quiet.

    Raises:
        InputError: if it is not installed.
    """
    try:
        nncf = import_nncf()
    except ImportError as error:
        raise InputError("to quantize takes NNCF: pip install 'geoseg[quantize]'") from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def _same_class(compiled: Any, answers: Iterable[Any]) -> tuple[float, list[float]]:
    """The share of pixels with the class that they should have, of all chips and of each."""
    shares = [
        float((compiled(chip)[0][0].argmax(axis=0) == winner)[valid].mean())
        for chip, winner, valid in answers
    ]
    return sum(shares) / len(shares), shares


def _kept(graph: Any) -> list[str]:
    """Names of the operations that stay as they are."""
    kept, before = [], set()
    for node in graph.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        sources = [end.get_node() for end in node.input_values()]
        if kind == "Parameter":
            before.add(name)
        elif kind == "ShapeOf":
            continue  # leads to sizes, not to pixels
        elif any(source.get_friendly_name() in before for source in sources):
            kept.append(name)
            if kind not in CONVOLUTIONS:
                before.add(name)
        elif kind == "Add" and not any(map(_is_constant, sources)):
            kept.append(name)
    return kept


def _is_constant(node: Any) -> bool:
    sources = [end.get_node() for end in node.input_values()]
    return node.get_type_name() == "Constant" or (bool(sources) and all(map(_is_constant, sources)))
