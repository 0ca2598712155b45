"""What the benchmark of prediction maps, and with what: a trained model and a made scene.

Both come from real Sentinel-2 chips (`s2_landcover` in the folder of test imagery) and are kept in
a cache folder. The model is a U-Net with a ResNet-34 encoder that learns, for a few hundred
steps, to say of four bands what the shipped model says of six.
"""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

import geoseg
from geoseg.recipe import make_recipe

BANDS = ("blue", "green", "red", "nir")
CHIP_PX, HALO_PX = 512, 64
EPOCHS, BATCH = 8, 8
SNOW = 9
"""Hardly ever seen in these chips; without it eight classes are left."""
BORDER = 1 / 8
"""How far the swath's edge leans into the scene, as a part of its width."""


def trained_model(cache: Path, data: Path, steps: int = 320) -> Path:
    """The bundle of a network that learnt for some hundred steps; made once."""
    run = cache / "unet_r34"
    if (run / "model" / "card.json").is_file():
        return run / "model"
    chips, labels = data / "s2_landcover" / "images", cache / "labels"
    _label(chips, labels)
    places = _one_a_place(chips.parent)
    recipe = make_recipe(
        {
            "name": "benchmark-unet-r34",
            "data": str(chips.parent.resolve()),
            "scenes": [f"images/{name}.tif" for name in places],
            "labels": [str(labels.resolve() / f"{name}.tif") for name in places],
            "classes": {c.code: {"name": c.name, "colour": c.colour} for c in _legend()},
            "bands": list(BANDS),
            "units": "reflectance",
            "network": {"encoder": "resnet34"},
            "chip_px": 256,
            "predict_chip_px": CHIP_PX,
            "halo_px": HALO_PX,
            "chips_per_epoch": steps * BATCH // EPOCHS,
            "epochs": EPOCHS,
            "batch": BATCH,
        }
    )
    return geoseg.train(recipe, output=run, overwrite=True).bundle.path


def quantized_model(cache: Path, model: Path, data: Path) -> Path | None:
    """The same in int8, made once; None where NNCF is not installed.

    Calibrated, validated and tested on a mosaic of every second place, of which the scenes that are
    measured hold about as much as of the others.
    """
    folder = cache / "unet_r34" / "int8"
    if (folder / "card.json").is_file():
        return folder
    if find_spec("nncf") is None:
        return None
    side = 9 * CHIP_PX
    scene = make_scene(cache / "scene_calibration.tif", (side, side), data, every=2)
    return geoseg.quantize(model, [scene], output=folder).bundle.path


def make_scene(path: Path, shape: tuple[int, int], data: Path, every: int = 1) -> Path:
    """A mosaic of real chips, uint16 in four bands, nodata 0 beyond a slanting swath edge.

    Args:
        path: the file, left as it is where it exists.
        shape: (height, width).
        data: the folder of test imagery.
        every: 2 takes chips of every second place alone.
    """
    if path.exists():
        return path
    tiles = _mosaic_tiles(data, every)
    height, width = shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 4, "dtype": "uint16",
               "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 3e5, 0, -10, 5e6),
               "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
               "zlevel": 6, "predictor": 2, "interleave": "band", "nodata": 0,
               "num_threads": 2, "bigtiff": "if_safer"}  # fmt: skip
    partial = path.with_suffix(".partial.tif")
    rng = np.random.default_rng(0)
    with rasterio.open(partial, "w", **profile) as out:
        out.descriptions = BANDS
        for row in range(0, height, 512):
            drawn = rng.integers(0, len(tiles), (2, -(-width // 256)))
            pixels = np.concatenate([np.concatenate(tiles[each], axis=2) for each in drawn], axis=1)
            pixels = pixels[:, : min(512, height - row), :width]
            rows = np.arange(row, row + pixels.shape[1])
            edge = np.round(BORDER * width * (1 - rows / height)).astype(int)
            pixels[:, np.arange(width)[None] < edge[:, None]] = 0
            out.write(pixels, window=Window(0, row, width, pixels.shape[1]))
    partial.replace(path)
    return path


def _one_a_place(folder: Path) -> list[str]:
    """Chips of one place overlap; learning and judging on the same ground is refused."""
    with (folder / "index.csv").open(newline="") as file:
        return list({row["group"]: row["name"] for row in csv.DictReader(file)}.values())


def chips_of_places(folder: Path, every: int, begin: int = 0) -> list[Path]:
    """The chips of every nth place, in the order of their names."""
    with (folder / "index.csv").open(newline="") as file:
        groups = {row["name"]: row["group"] for row in csv.DictReader(file)}
    places = set(sorted(set(groups.values()))[begin::every])
    return sorted(folder / "images" / f"{n}.tif" for n, group in groups.items() if group in places)


def _mosaic_tiles(data: Path, every: int) -> np.ndarray:
    """(N, 4, 256, 256), pieces of chips without a hole."""
    tiles = []
    for path in chips_of_places(data / "s2_landcover", every):
        with rasterio.open(path) as dataset:
            numbers = [dataset.descriptions.index(band) + 1 for band in BANDS]
            pixels = dataset.read(numbers)
        for row in range(0, pixels.shape[1] - 255, 256):
            for col in range(0, pixels.shape[2] - 255, 256):
                tile = pixels[:, row : row + 256, col : col + 256]
                if (tile > 0).all():
                    tiles.append(tile)
    return np.stack(tiles)


def _label(chips: Path, folder: Path) -> None:
    """What the shipped model says of every chip, where it may be learnt from; snow left out."""
    folder.mkdir(parents=True, exist_ok=True)
    model = geoseg.load_model()
    for path in sorted(chips.glob("*.tif")):
        if (folder / path.name).exists():
            continue
        made = geoseg.predict(
            path, model=model, output=folder / "made", gsd=0, polygons=False, preview=False,
            overwrite=True,
        )  # fmt: skip
        with rasterio.open(made.files["classes"]) as dataset:
            classes, profile = dataset.read(), dataset.profile
        classes[classes == SNOW] = 255
        profile |= {"driver": "GTiff", "tiled": False}
        for key in ("blockxsize", "blockysize", "interleave"):
            profile.pop(key, None)
        with rasterio.open(folder / path.name, "w", **profile) as out:
            out.write(classes)


def _legend() -> list[geoseg.LegendClass]:
    return [each for each in geoseg.load_bundle("landcover").card.legend if each.code != SNOW]
