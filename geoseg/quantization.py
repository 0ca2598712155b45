"""A bundle with a second graph that is computed in whole numbers of eight bits.

What that costs is measured on chips that had no part in it, and told on the card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geoseg.accuracy.matrix import ErrorMatrix, count_pairs
from geoseg.errors import InputError, ModelError, OutputError
from geoseg.grid import Window
from geoseg.limits import MAX_PIXELS
from geoseg.model.bundle import (
    GRAPH,
    GRAPH_WEIGHTS,
    INT8,
    INT8_WEIGHTS,
    Bundle,
    load_bundle,
    refuse_bundle,
    write_bundle,
)
from geoseg.model.card import Card
from geoseg.model.loading import Model
from geoseg.model.openvino_runtime import OpenVINORuntime
from geoseg.model.quantized_graph import Filled, nncf_or_refuse, quantized_graph
from geoseg.model.runtime import Array
from geoseg.raster.level import Level
from geoseg.raster.opening import SceneFiles
from geoseg.raster.scene import Reading
from geoseg.scene_opening import Opening

__all__ = ["ENOUGH", "FIGURE", "Quantization", "quantize"]

CHIPS = 48
"""Half of them calibrate, a quarter validates, a quarter tests."""

LEAST_CHIPS = 4

SIDES_PX = 512, 256, 128, 64
"""Of these chips: the first that gives enough of them, but no more than the model's own."""

LEAST_VALID = 0.5
"""Share of a chip's pixels that must hold data."""

ENOUGH = 0.99
"""Share of pixels whose class should stay."""

MOST_CHANGED = 0.006
"""Share that may change on the chips that validate: those that test fare a little worse."""

FIGURE = "int8_beside_float32"
"""What the card calls the figures."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """A quantized bundle, and what it costs."""

    bundle: Bundle
    """As written."""
    agreement: float
    """Share of pixels with the same class as in float32, of the chips that test."""
    iou: Mapping[str, float]
    """Of each class that was seen, between both."""
    chips: int
    """By which it was made: they calibrate and validate."""
    tested: int
    """Chips that were kept apart."""


def quantize(
    model: str | Path,
    scenes: Sequence[SceneFiles],
    *,
    output: str | Path,
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    gsd: float | None = None,
    level: Level | None = None,
    keep_clouds: bool = False,
    max_pixels: int = MAX_PIXELS,
    chips: int = CHIPS,
    seed: int = 0,
) -> Quantization:
    """Add a graph in int8 to a model, for `precision="int8"`.

    Args:
        model: the path of a bundle, or the name of an installed model; it is left as it is.
        scenes: some of those that the model is for, as varied as they are. No labels are needed.
        output: folder of the new bundle.
        bands: as for `predict`, and so are the next eight.
        sensor: see bands.
        scale: see bands.
        offset: see bands.
        nodata: see bands.
        gsd: see bands.
        level: see bands.
        keep_clouds: see bands.
        max_pixels: see bands.
        chips: how many are drawn from the scenes, of 512 px, or less where the model's chips are
            smaller or the scenes hold too few; half of them calibrate, a quarter validates, a
            quarter tests.
        seed: of the draw.

    Raises:
        ModelError: if the model cannot be loaded or holds no graph.
        SceneError: if a scene cannot be read.
        InputError: if the scenes hold too few chips, an option makes no sense, or NNCF is missing.
        OutputError: if the folder holds a bundle or cannot be written.
    """
    nncf_or_refuse()
    bundle, folder = load_bundle(model), Path(output)
    _refuse(bundle, folder, chips)
    reading = Reading(bands, sensor, scale, offset, nodata, max_pixels, level, keep_clouds)
    opening = Opening(reading, gsd)
    plain = Model(bundle.card, OpenVINORuntime(bundle, "float32"), bundle.sha256)
    drawn = _draw(plain, opening, scenes, chips, np.random.default_rng(seed))
    if len(drawn) < LEAST_CHIPS:
        raise InputError(
            f"the scenes hold {len(drawn)} chips with data; {LEAST_CHIPS} are the least"
        )
    quarter = len(drawn) // 4
    test, validation, calibration = np.split(np.arange(len(drawn)), (quarter, 2 * quarter))
    graph, weights = quantized_graph(
        bundle,
        plain.runtime,
        [drawn[n] for n in calibration],
        [drawn[n] for n in validation],
        MOST_CHANGED,
    )
    parts = {**bundle.parts, INT8: graph, INT8_WEIGHTS: weights}
    quick = OpenVINORuntime(replace(bundle, parts=parts), "int8")
    matrix = _compared(plain, quick, [drawn[n] for n in test])
    each = zip(matrix.names, matrix.iou, strict=True)
    iou = {name: float(value) for name, value in each if not np.isnan(value)}
    figures = {
        "same_class": round(matrix.overall, 4),
        "iou": {name: round(value, 4) for name, value in iou.items()},
        "chips": len(drawn) - quarter,
        "test_chips": quarter,
    }
    card = bundle.card.model_copy(update={"figures": {**bundle.card.figures, FIGURE: figures}})
    made = write_bundle(folder, card, parts)
    return Quantization(made, matrix.overall, iou, len(drawn) - quarter, quarter)


def _refuse(bundle: Bundle, folder: Path, chips: int) -> None:
    """What would fail after minutes, or make no sense."""
    if bundle.card.dates == 2:
        raise InputError(f"{bundle.card.name} compares two scenes; it cannot be quantized")
    if GRAPH not in bundle.parts or GRAPH_WEIGHTS not in bundle.parts:
        raise ModelError(f"{bundle.path} holds no graph that could be quantized")
    refuse_bundle(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is no folder; choose another")
    if chips < LEAST_CHIPS:
        raise InputError(f"{chips} chips are too few; {LEAST_CHIPS} are the least")


def _draw(
    model: Model,
    opening: Opening,
    scenes: Sequence[SceneFiles],
    count: int,
    rng: np.random.Generator,
) -> list[Filled]:
    """Chips as the network takes them and where they hold data, about as many of each scene.

    Where there are more scenes than chips, some of them, drawn at random.
    """
    shapes = []
    for path in scenes:
        with opening.open(path, model.card) as scene:
            shapes.append(scene.grid.shape)
    cells_of = _cells_of(shapes, model.card, count)
    order = [place for place in rng.permutation(len(scenes)) if cells_of[place]]
    drawn: list[Filled] = []
    for number, index in enumerate(order):
        share, cells = -(-(count - len(drawn)) // (len(order) - number)), cells_of[index]
        with opening.open(scenes[index], model.card) as scene:
            for place in rng.permutation(len(cells)):
                if share == 0:
                    break
                chip = scene.read(cells[place])
                if chip.valid.mean() >= LEAST_VALID:
                    drawn.append((model.filled(chip, scene.bands), chip.valid))
                    share -= 1
    return [drawn[place] for place in rng.permutation(len(drawn))]


def _cells_of(shapes: Sequence[tuple[int, int]], card: Card, count: int) -> list[list[Window]]:
    """Windows of each scene that touch but do not overlap, all of one size."""
    for side in SIDES_PX:
        fitting = max(card.stride, min(side, card.chip_px) // card.stride * card.stride)
        cells = [_cells(shape, fitting) for shape in shapes]
        if sum(map(len, cells)) >= count:
            break
    return cells


def _cells(shape: tuple[int, int], side: int) -> list[Window]:
    rows, cols = (range(0, size - side + 1, side) for size in shape)
    return [Window(row, col, side, side) for row in rows for col in cols]


def _compared(plain: Model, quick: OpenVINORuntime, test: Sequence[Filled]) -> ErrorMatrix:
    """Pixels by their class in int8 (rows) and in float32."""
    names = plain.card.legend.names
    none = np.zeros(0, np.int64)
    matrix = count_pairs(none, none, names)

    def chips() -> Iterator[Array]:
        return (chip for chip, _ in test)

    answers = zip(quick.scores(chips()), plain.runtime.scores(chips()), test, strict=True)
    for after, before, (_, valid) in answers:
        matrix += count_pairs(after.argmax(0)[valid], before.argmax(0)[valid], names)
    return matrix
