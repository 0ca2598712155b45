"""Whether learning waits for reading: steps from files, from memory, and on batches made before.

    python tests/benchmarks/training.py FOLDER [--size 2048] [--steps 12]

makes three scenes of SIZE x SIZE pixels, four bands uint16, and takes steps of a U-Net with a
ResNet-34
encoder on 256 px chips. All are timed in turns within one run; what is printed are medians of
seconds a step, and the rate as a part of the rate on batches that lie in memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS

from geoseg.recipe import Recipe, make_recipe
from geoseg.training.lesson import Lesson, prepare
from geoseg.training.task import SegmentationTask

ROUNDS = 4


def make_scenes(folder: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(1, 9, (size // 32, size // 32))
        labels = np.kron(coarse, np.ones((32, 32), np.uint8)).astype(np.uint8)
        bands = (
            labels[None].astype(np.int64) * 300 + rng.integers(0, 400, (4, size, size))
        ).astype(np.uint16)
        place = Affine(10, 0, 300_000 + number * 100_000, 0, -10, 5_000_000)
        profile = {
            "driver": "GTiff", "height": size, "width": size, "crs": CRS.from_epsg(32633),
            "transform": place, "tiled": True, "compress": "deflate",
        }  # fmt: skip
        for kind, values in (("images", bands), ("labels", labels[None])):
            path = folder / kind / f"scene{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(path, "w", count=len(values), dtype=values.dtype, **profile) as file:
                file.write(values)
                if kind == "images":
                    file.descriptions = ("blue", "green", "red", "nir")


def recipe_for(folder: Path, cache_mb: int) -> Recipe:
    return make_recipe(
        {
            "name": "benchmark",
            "data": str(folder),
            "scenes": "images/*.tif",
            "labels": "labels/*.tif",
            "classes": {code: f"class {code}" for code in range(1, 9)},
            "bands": ["blue", "green", "red", "nir"],
            "network": {"encoder": "resnet34"},
            "chips_per_epoch": 10_000,
            "rotate": 0.25,
            "zoom": 1.25,
            "cache_mb": cache_mb,
        }
    )


class Steps:
    """Steps of one task on batches from somewhere."""

    def __init__(self, lesson: Lesson, batches: Iterator[Any]) -> None:
        self._task: SegmentationTask = lesson.task()
        self._optimizer = torch.optim.AdamW(self._task.network.parameters())
        self._batches = batches
        self._task.train()

    def take(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            batch = self._task.transfer_batch_to_device(next(self._batches), torch.device("cpu"), 0)
            with torch.autocast("cpu", torch.bfloat16):
                logits = self._task.network(batch["image"])
            loss = self._task.loss(logits.float(), batch["mask"])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            seconds.append(time.perf_counter() - began)
        return seconds


def repeat(batches: list[Any]) -> Iterator[Any]:
    while True:
        yield from batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=12)
    told = parser.parse_args()
    if not (told.folder / "labels").exists():
        make_scenes(told.folder, told.size)
    with (
        prepare(recipe_for(told.folder, 0)) as on_disk,
        prepare(recipe_for(told.folder, 4096)) as in_memory,
    ):
        first = iter(in_memory.train_dataloader())
        ready = [next(first) for _ in range(4)]
        ways = {
            "batches in memory": Steps(in_memory, repeat(ready)),
            "scenes in memory": Steps(in_memory, iter(in_memory.train_dataloader())),
            "scenes on disk": Steps(on_disk, iter(on_disk.train_dataloader())),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for steps in ways.values():
            steps.take(2)
        for _ in range(ROUNDS):
            for name, steps in ways.items():
                taken[name] += steps.take(max(1, told.steps // ROUNDS))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    network = medians["batches in memory"]
    print(f"{'':<20}{'s/step':>8}{'rate':>8}")
    for name, median in medians.items():
        print(f"{name:<20}{median:>8.3f}{network / median:>8.2f}")


if __name__ == "__main__":
    main()
