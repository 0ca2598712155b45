"""Peak memory of `geoseg predict` as the scene grows taller: python tests/benchmarks/memory.py.

Each run is a process of its own on a made scene of six bands; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")


def make_scene(path: Path, height: int, width: int) -> None:
    """Patches of a few pixels to a few hundred, with an empty swath border on the left."""
    rng = np.random.default_rng(0)
    patches = rng.integers(200, 4000, (6, 64, width // 32 + 1)).repeat(8, 1).repeat(32, 2)
    strip = patches[:, :, :width] + rng.integers(0, 80, (6, 512, width))
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 6, "dtype": "uint16",
               "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
               "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
               "zlevel": 1, "nodata": 0, "bigtiff": "if_safer"}  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.descriptions = BANDS
        for row in range(0, height, 512):
            rows = min(512, height - row)
            pixels = strip[:, :rows].astype("uint16")
            pixels[:, :, : width // 8] = 0
            out.write(pixels, window=Window(0, row, width, rows))


def run(scene: Path, folder: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak resident mebibytes of one whole process."""
    command = [sys.executable, "-m", "geoseg.cli", "predict", str(scene), "-o", str(folder),
               "--quiet", *options]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--heights", type=int, nargs="+", default=[2048, 8192, 32768])
    parser.add_argument("options", nargs="*", help="further options of geoseg predict")
    given = parser.parse_args()
    options = given.options or ["--no-polygons"]
    print(f"geoseg predict {' '.join(options)}, six bands, width {given.width}")
    print(f"{'height':>8} {'Mpx':>8} {'seconds':>9} {'Mpx/s':>7} {'peak MiB':>9} {'ratio':>6}")
    first = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for height in given.heights:
            scene = Path(folder) / "scene.tif"
            make_scene(scene, height, given.width)
            seconds, peak = run(scene, Path(folder) / str(height), *options)
            first = first or peak
            megapixels = height * given.width / 1e6
            print(
                f"{height:>8} {megapixels:>8.1f} {seconds:>9.1f} {megapixels / seconds:>7.2f} "
                f"{peak:>9.0f} {peak / first:>6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
