"""What a training comes to: the bundle of its best network, figures and pictures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from geoseg.accuracy.matrix import ErrorMatrix
from geoseg.legend import NODATA
from geoseg.model.bundle import Bundle, load_bundle, save_bundle
from geoseg.model.card import make_card
from geoseg.nets.network import AUXILIARY, COUNTER
from geoseg.nets.zoo import build_model
from geoseg.training.lesson import Lesson
from geoseg.training.pictures import Example, draw_curves, draw_examples, draw_matrix
from geoseg.training.splits import Area
from geoseg.training.survey import usual_values
from geoseg.training.task import count_classes
from geoseg.training.temperature import calibration_at, fit_temperature

__all__ = ["conclude"]

EXAMPLES = 4

PIXELS_A_CHIP, PIXELS = 1 << 13, 1 << 22
"""How many at most of a chip, and about how many in all, tell how far confidences can be
believed."""

NOT_ON_THE_CARD = {"data", "sources", "limits", "begin_with"}
"""Of the recipe: paths, and what the card has a place of its own for."""


def conclude(
    folder: Path,
    lesson: Lesson,
    rows: Sequence[Mapping[str, float]],
    best: tuple[int, float],
    seconds: float,
    machine: str,
) -> tuple[Bundle, dict[str, Any]]:
    """Make the bundle, judge it on what was kept apart, and draw pictures of it.

    Args:
        folder: of the run; holds best.safetensors.
        lesson: what was learnt.
        rows: the history.
        best: epoch and validation mean IoU of the kept network.
        seconds: how long it took, in this process.
        machine: where it ran.
    """
    network = _bare(lesson, load_file(folder / "best.safetensors"))
    summary: dict[str, Any] = {
        "name": lesson.recipe.name,
        "epochs": len(rows),
        "best_epoch": best[0],
        "seconds": seconds,
        "machine": machine,
        "parameters": sum(each.numel() for each in network.parameters()),
        "assumed": lesson.assumed,
        "absent": _absent(lesson),
    }
    draw_curves(folder / "curves.png", rows)
    temperature = 1.0
    for purpose in ("validation", "test"):
        areas = getattr(lesson.split, purpose)
        if not areas:
            continue
        seen = _judge(network, lesson, areas, lesson.recipe.bands)
        if purpose == "validation":
            temperature = summary["temperature"] = round(fit_temperature(*seen.pixels), 4)
        calibration = calibration_at(temperature, *seen.pixels)
        summary[purpose] = {
            **seen.matrix.to_dict(),
            "calibration_error": _number(calibration.expected_error()),
        }
        if lesson.recipe.band_sets:
            summary[purpose]["band_sets"] = _with_fewer_bands(network, lesson, areas, temperature)
        if purpose == "validation" or not lesson.split.validation:
            draw_matrix(folder / "matrix.png", seen.matrix)
            draw_examples(folder / "examples.png", seen.examples, lesson.recipe.legend)
    bundle = _bundle(folder / "model", lesson, network, summary)
    return bundle, summary


def _bare(lesson: Lesson, weights: dict[str, Tensor]) -> nn.Module:
    """The network as it predicts: without the head that only helps to learn."""
    recipe = lesson.recipe
    network = build_model(
        recipe.architecture,
        bands=recipe.bands,
        classes=len(recipe.legend),
        **lesson.hyperparameters,
    )
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(AUXILIARY)}
    counters = {
        name: tensor for name, tensor in network.state_dict().items() if name.endswith(COUNTER)
    }
    network.load_state_dict(kept | counters, strict=True)
    return network.eval()


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a network says of some areas, beside their labels."""

    matrix: ErrorMatrix
    """Of all pixels."""
    examples: list[Example]
    """The chips that came out worst."""
    pixels: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
    """Logits (N, K) and right classes (N,) of some pixels of every chip."""


@torch.inference_mode()
def _judge(
    network: nn.Module, lesson: Lesson, areas: Sequence[Area], bands: Sequence[str]
) -> _Judged:
    """Score areas with these bands alone; the others are missing."""
    names = lesson.recipe.legend.names
    entries = torch.zeros(len(names), len(names), dtype=torch.float64)
    on_gpu = lesson.recipe.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    network = network.to(device)
    missing = [n for n, band in enumerate(lesson.recipe.bands) if band not in bands]
    found: list[Example] = []
    pixels: list[tuple[Tensor, Tensor]] = []
    chips = lesson.gridded(areas)
    most = max(1, min(PIXELS_A_CHIP, PIXELS // len(chips)))
    for batch in chips:
        image = batch["image"].to(device)
        image[:, missing] = torch.nan
        logits = network(image).cpu()
        matrix = count_classes(logits, batch["mask"])
        entries += matrix
        pixels.append(_some_pixels(logits, batch["mask"], most))
        if matrix.sum() >= batch["mask"].numel() / 10:
            agreement = float(matrix.trace() / matrix.sum())
            found.append(_example(lesson, batch, logits, agreement))
            found = sorted(found, key=lambda each: each.agreement)[:EXAMPLES]
    network.cpu()
    logits_of, classes_of = (torch.cat(each).numpy() for each in zip(*pixels, strict=True))
    return _Judged(ErrorMatrix(names, entries.numpy()), found, (logits_of, classes_of))


def _with_fewer_bands(
    network: nn.Module, lesson: Lesson, areas: Sequence[Area], temperature: float
) -> dict[str, dict[str, float | None]]:
    """What it costs to do without bands, for each set that the network manages with."""
    figures = {}
    for bands in lesson.recipe.band_sets:
        seen = _judge(network, lesson, areas, bands)
        figures[" ".join(bands)] = {
            "mean_iou": seen.matrix.mean_iou,
            "accuracy": seen.matrix.overall,
            "calibration_error": _number(
                calibration_at(temperature, *seen.pixels).expected_error()
            ),
        }
    return figures


def _some_pixels(logits: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and labels (N,) of so many labelled pixels, in steps."""
    labelled = labels != NODATA
    step = -(-int(labelled.sum()) // most) or 1
    return logits.movedim(1, -1)[labelled][::step].float(), labels[labelled][::step]


def _example(lesson: Lesson, batch: Any, logits: Tensor, agreement: float) -> Example:
    place = batch["place"][0]
    labels = batch["mask"][0].numpy()
    mapped = logits.argmax(dim=1)[0].numpy()
    name = lesson.grounds[place.ground].name
    return Example(
        f"{name}\nrow {place.window.row}, column {place.window.col}",
        [
            _picture(image.numpy(), lesson.recipe.bands)
            for image in batch["image"][0].chunk(lesson.recipe.dates)
        ],
        labels,
        np.where(labels == NODATA, NODATA, mapped),
        agreement,
    )


def _picture(image: npt.NDArray[np.float32], bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """Red, green and blue where they are, else the first bands; two deviations to each side."""
    wanted = [bands.index(name) for name in ("red", "green", "blue") if name in bands]
    shown = wanted if len(wanted) == 3 else [min(i, len(bands) - 1) for i in range(3)]
    return np.asarray(np.clip(image[shown].transpose(1, 2, 0) / 4 + 0.5, 0, 1))


def _absent(lesson: Lesson) -> list[str]:
    """Classes that are declared but nowhere to be learnt from."""
    counts = lesson.counts.sum(axis=0)
    return [name for name, n in zip(lesson.recipe.legend.names, counts, strict=True) if not n]


def _bundle(folder: Path, lesson: Lesson, network: nn.Module, summary: dict[str, Any]) -> Bundle:
    recipe, tiling = lesson.recipe, lesson.tiling
    mean, stddev = (tuple(float(v) for v in each) for each in lesson.statistics)
    gsds = [gsd for ground in lesson.grounds if (gsd := ground.grid.gsd_m) is not None]
    known = len(gsds) == len(lesson.grounds)
    coarser = max(1.0, recipe.zoom_range[1])  # a chip that is enlarged shows no finer detail
    card = make_card(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        architecture=recipe.architecture,
        hyperparameters=lesson.hyperparameters,
        bands=recipe.bands,
        mean=mean,
        stddev=stddev,
        logarithm=recipe.logarithm,
        legend=recipe.legend,
        dates=recipe.dates,
        unchanged=recipe.unchanged if recipe.dates == 2 else None,
        band_sets=recipe.band_sets,
        temperature=summary.get("temperature", 1.0),
        value_ranges=_value_ranges(lesson),
        levels=recipe.levels,
        chip_px=tiling.chip_px,
        halo_px=tiling.halo_px,
        stride=lesson.stride,
        exact=tiling.exact,
        units=recipe.units,
        stored_type=lesson.stored_type,
        gsd_m=(min(gsds), max(gsds) * coarser) if known else None,
        training={
            "geoseg": version("geoseg"),
            "date": datetime.now(UTC).date().isoformat(),
            "sources": list(recipe.sources),
            "recipe": recipe.model_dump(mode="json", exclude=NOT_ON_THE_CARD),
            **({} if lesson.beginning is None else {"begun_with": lesson.beginning.label}),
            "scenes": lesson.seen,
            "machine": summary["machine"],
            "epochs": summary["epochs"],
            "best_epoch": summary["best_epoch"],
        },
        figures={
            purpose: _figures(summary[purpose])
            for purpose in ("validation", "test")
            if purpose in summary
        },
        limits=(
            *recipe.limits,
            *(f"class {name} was nowhere to be learnt" for name in summary["absent"]),
        ),
    )
    if folder.exists():
        shutil.rmtree(folder)
    partial = folder.with_name(".model.partial")
    if partial.exists():
        shutil.rmtree(partial)
    save_bundle(partial, card, network)
    partial.replace(folder)
    return load_bundle(folder)


def _figures(judged: Mapping[str, Any]) -> dict[str, Any]:
    """What the card tells of a purpose."""
    figures: dict[str, Any] = {
        "mean_iou": _number(judged["mean_iou"]),
        "accuracy": _number(judged["overall"]),
        "calibration_error": _number(judged["calibration_error"]),
        "iou": {name: _number(each["iou"]) for name, each in judged["classes"].items()},
    }
    for bands, of_bands in judged.get("band_sets", {}).items():
        figures[bands] = {what: _number(value) for what, value in of_bands.items()}
    return figures


def _value_ranges(lesson: Lesson) -> tuple[tuple[float, float], ...]:
    """Lowest and highest usual value of each band, in the recipe's units.

    None where a band has one value nearly everywhere: nothing could be said to be unusual.
    """
    recipe = lesson.recipe
    learnt = [lesson.surveys[area.ground] for area in lesson.split.train]
    usual = usual_values(learnt, len(recipe.bands))
    if recipe.logarithm is not None:
        usual = np.exp(usual) - recipe.logarithm
    ranges = tuple((float(f"{low:.4g}"), float(f"{high:.4g}")) for low, high in usual)
    return ranges if all(low < high for low, high in ranges) else ()


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)
