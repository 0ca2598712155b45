"""Scenes with labels, made for tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import yaml
from affine import Affine
from rasterio.crs import CRS

from geoseg.grid import Grid
from geoseg.recipe import Recipe, make_recipe

UTM = CRS.from_epsg(32633)
CLASSES = {1: "dark", 2: "bright", 3: "road"}


def grid_at(number: int, shape: tuple[int, int] = (96, 128)) -> Grid:
    """Places far from each other."""
    return Grid(UTM, Affine(10, 0, 400_000 + 20_000 * number, 0, -10, 5_000_000), shape)


def write_raster(path: Path, bands: npt.NDArray[Any], grid: Grid, nodata: float | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), dtype=bands.dtype, height=grid.height,
        width=grid.width, crs=grid.crs, transform=grid.transform, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(bands)
        file.descriptions = ("red", "nir") if len(bands) == 2 else (None,) * len(bands)


def make_scene(
    folder: Path, name: str, grid: Grid, *, seed: int = 0, labels: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.uint8]:
    """A scene of two bands whose values follow its labels; returns the labels, 0 unlabelled."""
    rng = np.random.default_rng(seed)
    if labels is None:
        labels = np.ones(grid.shape, np.uint8)
        labels[:, grid.width // 2 :] = 2
        labels[grid.height // 3 : grid.height // 3 + 3, :] = 3
        labels[:4, :] = 0
    red = np.choose(labels, [90, 60, 140, 200]) + rng.normal(0, 8, grid.shape)
    nir = np.choose(labels, [90, 180, 100, 60]) + rng.normal(0, 8, grid.shape)
    bands = np.clip(np.stack([red, nir]), 1, 255).astype(np.uint8)
    bands[:, -6:, :10] = 0  # no data
    write_raster(folder / "images" / f"{name}.tif", bands, grid, 0)
    write_raster(folder / "labels" / f"{name}.tif", labels[None].astype(np.uint8), grid, None)
    return labels


def told(folder: Path, **more: Any) -> dict[str, Any]:
    """A recipe that learns those scenes in no time."""
    return {
        "name": "made",
        "data": str(folder),
        "scenes": "images/*.tif",
        "labels": "labels/*.tif",
        "classes": CLASSES,
        "unlabelled": [0],
        "bands": ["red", "nir"],
        "architecture": "unet",
        "network": {"widths": [4, 8], "batch_norm": True},
        "chip_px": 64,
        "predict_chip_px": 64,
        "halo_px": 16,
        "batch": 2,
        "epochs": 3,
        "chips_per_epoch": 4,
        "lr": 0.01,
        "average": 0.5,
        "precision": "float32",
        "device": "cpu",
        **more,
    }


def recipe_of(folder: Path, **more: Any) -> Recipe:
    return make_recipe(told(folder, **more))


def write_recipe(path: Path, folder: Path, **more: Any) -> Path:
    path.write_text(yaml.safe_dump(told(folder, **more)))
    return path
