"""What a training comes to: the bundle of its best network, figures and pictures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
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
from geoseg.nets.zoo import build_model
from geoseg.training.lesson import Lesson
from geoseg.training.pictures import Example, draw_curves, draw_examples, draw_matrix
from geoseg.training.splits import Area
from geoseg.training.task import count_classes

__all__ = ["conclude"]

EXAMPLES = 4
AUXILIARY = "auxiliary."


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
    for purpose in ("validation", "test"):
        areas = getattr(lesson.split, purpose)
        if not areas:
            continue
        matrix, examples = _judge(network, lesson, areas)
        summary[purpose] = matrix.to_dict()
        if purpose == "validation" or not lesson.split.validation:
            draw_matrix(folder / "matrix.png", matrix)
            draw_examples(folder / "examples.png", examples, lesson.recipe.legend)
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
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    network.load_state_dict(kept | counters, strict=True)
    return network.eval()


@torch.inference_mode()
def _judge(
    network: nn.Module, lesson: Lesson, areas: Sequence[Area]
) -> tuple[ErrorMatrix, list[Example]]:
    """One error matrix over all areas, and the chips that came out worst."""
    names = lesson.recipe.legend.names
    entries = torch.zeros(len(names), len(names), dtype=torch.float64)
    on_gpu = lesson.recipe.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    network = network.to(device)
    found: list[Example] = []
    for batch in lesson.gridded(areas):
        logits = network(batch["image"].to(device)).cpu()
        matrix = count_classes(logits, batch["mask"])
        entries += matrix
        if matrix.sum() >= batch["mask"].numel() / 10:
            agreement = float(matrix.trace() / matrix.sum())
            found.append(_example(lesson, batch, logits, agreement))
            found = sorted(found, key=lambda each: each.agreement)[:EXAMPLES]
    network.cpu()
    return ErrorMatrix(names, entries.numpy()), found


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
    card = make_card(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        architecture=recipe.architecture,
        hyperparameters=lesson.hyperparameters,
        bands=recipe.bands,
        mean=mean,
        stddev=stddev,
        legend=recipe.legend,
        dates=recipe.dates,
        unchanged=recipe.unchanged if recipe.dates == 2 else None,
        band_sets=recipe.band_sets,
        chip_px=tiling.chip_px,
        halo_px=tiling.halo_px,
        stride=lesson.stride,
        exact=tiling.exact,
        units=recipe.units,
        stored_type=lesson.stored_type,
        gsd_m=(min(gsds), max(gsds)) if known else None,
        training={
            "geoseg": version("geoseg"),
            "date": datetime.now(UTC).date().isoformat(),
            "recipe": recipe.model_dump(mode="json", exclude={"data"}),
            "scenes": lesson.seen,
            "machine": summary["machine"],
            "epochs": summary["epochs"],
            "best_epoch": summary["best_epoch"],
        },
        figures={
            purpose: {
                "mean_iou": _number(summary[purpose]["mean_iou"]),
                "accuracy": _number(summary[purpose]["overall"]),
                "iou": {
                    name: _number(each["iou"]) for name, each in summary[purpose]["classes"].items()
                },
            }
            for purpose in ("validation", "test")
            if purpose in summary
        },
        limits=tuple(f"class {name} was nowhere to be learnt" for name in summary["absent"]),
    )
    if folder.exists():
        shutil.rmtree(folder)
    partial = folder.with_name(".model.partial")
    if partial.exists():
        shutil.rmtree(partial)
    save_bundle(partial, card, network)
    partial.replace(folder)
    return load_bundle(folder)


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)
