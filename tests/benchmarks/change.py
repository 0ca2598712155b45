"""Change between two made scenes of a Sentinel-2 tile's size: seconds by stage, processor, memory.

    python tests/benchmarks/change.py FOLDER [--side 10980] [--method irmad] [--keep] [OPTIONS...]

Makes two scenes of four bands of 16 bits in FOLDER (fields of a landscape with texture and noise;
the second has other gains and offsets, and 400 patches and 40 roads that are new), runs
`geoseg change` on them in a process of its own, and prints where its seconds went, processor
seconds, the highest resident memory, and how much of what is new was found. The machine's load
is printed beside, for what else ran on it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window
from scipy import ndimage

BANDS = ("blue", "green", "red", "nir")
ROWS = 512


def landscape(side: int, seed: int) -> np.ndarray:
    """A field (side, side) of mean 0 and standard deviation 1, coarse and fine."""
    rng = np.random.default_rng(seed)
    small = rng.standard_normal((side // 16 + 3,) * 2, dtype=np.float32)
    coarse = ndimage.zoom(ndimage.gaussian_filter(small, 3), 16, order=1)[:side, :side]
    tile = ndimage.gaussian_filter(rng.standard_normal((1024, 1024), dtype=np.float32), 1.2)
    fine = np.tile(tile, (side // 1024 + 1,) * 2)[:side, :side]
    return coarse / coarse.std() + 0.6 * fine / fine.std()


def novelties(side: int) -> np.ndarray:
    """True where something is new: rectangles, and roads two pixels wide in any direction."""
    rng = np.random.default_rng(7)
    new = np.zeros((side, side), np.bool_)
    for _ in range(400):
        row, col = rng.integers(0, side, 2)
        height, width = rng.integers(5, max(6, side // 100), 2)
        new[row : row + height, col : col + width] = True
    for _ in range(40):
        (row, col), angle = rng.integers(0, side, 2), rng.uniform(0, np.pi)
        along = np.arange(side // 8)
        rows = np.round(row + np.sin(angle) * along).astype(int)
        cols = np.round(col + np.cos(angle) * along).astype(int)
        inside = (rows >= 0) & (rows < side - 1) & (cols >= 0) & (cols < side - 1)
        for down in (0, 1):
            new[rows[inside] + down, cols[inside]] = new[rows[inside], cols[inside] + down] = True
    return new


def make_scenes(folder: Path, side: int) -> tuple[Path, Path]:
    """Write both scenes and the truth."""
    fields = [landscape(side, seed) for seed in range(2)]
    new = novelties(side)
    profile = {"driver": "GTiff", "height": side, "width": side, "dtype": "uint16", "nodata": 0,
               "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "tiled": True,
               "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1,
               "predictor": 2}  # fmt: skip
    weights = np.array([[0.9, 0.3], [0.9, 0.5], [1.0, 0.2], [-0.4, 1.0]], np.float32)
    paths = folder / "before.tif", folder / "after.tif"
    for number, path in enumerate(paths):
        rng = np.random.default_rng(100 + number)
        gain, offset = ((1.0, 0.0), (1.15, 120.0))[number]
        with rasterio.open(path, "w", count=len(BANDS), **profile) as out:
            out.descriptions = BANDS
            for row in range(0, side, ROWS):
                part = slice(row, min(row + ROWS, side))
                seen = np.stack([field[part] for field in fields])
                bands = np.einsum("bf,frc->brc", weights, seen) * 300 + 1500
                if number:
                    bands += new[part] * np.array([700, 700, 800, -500], np.float32)[:, None, None]
                bands = gain * bands + offset
                bands += rng.standard_normal(bands.shape, dtype=np.float32) * 25
                window = Window(0, row, side, bands.shape[1])
                out.write(np.clip(np.rint(bands), 1, 65535).astype("uint16"), window=window)
    with rasterio.open(folder / "truth.tif", "w", count=1, **(profile | {"dtype": "uint8"})) as out:
        out.write(new.astype("uint8"), 1)
    return paths


def score(found: Path, truth: Path) -> str:
    """Precision, recall and F1 of changed pixels."""
    with rasterio.open(found) as one, rasterio.open(truth) as other:
        changed, new = one.read(1) == 1, other.read(1) == 1
    both = int((changed & new).sum())
    precision, recall = both / max(1, int(changed.sum())), both / max(1, int(new.sum()))
    f1 = 2 * both / max(1, int(changed.sum()) + int(new.sum()))
    return f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=10980)
    parser.add_argument("--method", default="irmad")
    parser.add_argument("--keep", action="store_true", help="use the scenes that are there")
    given, options = parser.parse_known_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    paths = given.folder / "before.tif", given.folder / "after.tif"
    if not given.keep:  # in a process apart: the peak of one that is begun counts its parent's
        making = multiprocessing.Process(target=make_scenes, args=(given.folder, given.side))
        making.start()
        making.join()
    command = [sys.executable, "-m", "geoseg.cli", "change", *map(str, paths), "--method",
               given.method, "-o", str(given.folder / "out"), "--overwrite", "--quiet",
               *options]  # fmt: skip
    load, began = os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    wall = time.monotonic() - began
    print(f"{wall:.1f} s, processor {usage.ru_utime:.1f} + {usage.ru_stime:.1f} s, "
          f"peak {usage.ru_maxrss / 1024:.0f} MiB; load {load:.1f} before, "
          f"{os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")  # fmt: skip
    summary = json.loads((given.folder / "out/change_summary.json").read_text(encoding="utf-8"))
    told = ("seconds", "shift_px", "changed_share", "polygons", "threshold")
    print(json.dumps({key: summary[key] for key in told}, indent=1))
    print(score(given.folder / "out/change.tif", given.folder / "truth.tif"))


if __name__ == "__main__":
    main()
